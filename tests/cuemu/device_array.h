// Device memory for tests: owns it, copies in at construction and out on request.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace hypertower::testing {

// Not thread-safe. Throws std::runtime_error when the runtime refuses. An empty array is null.
template <class T>
class DeviceArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  DeviceArray() = default;
  explicit DeviceArray(size_t size) : size_(size) {
    if (size_ != 0) expect(cudaMalloc(reinterpret_cast<void**>(&data_), size_ * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    if (size_ != 0) {
      expect(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
    }
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  T* data() const { return data_; }
  size_t size() const { return size_; }
  // Waits for the device, so faults of earlier kernels surface here.
  std::vector<T> to_host() const {
    std::vector<T> values(size_);
    expect(cudaDeviceSynchronize());
    if (size_ != 0) {
      expect(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    }
    return values;
  }

 private:
  static void expect(cudaError_t status) {
    if (status != cudaSuccess) {
      throw std::runtime_error(std::string("DeviceArray: ") + cudaGetErrorString(status));
    }
  }

  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace hypertower::testing
