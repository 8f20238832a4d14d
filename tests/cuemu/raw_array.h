// A growing array of trivial values whose memory comes straight from the kernel: growing it inside
// a CUDA thread must be invisible to the sanitizers' malloc and memcpy. Never shrinks, never freed
// (its owners live as long as the process).
#pragma once

#include <cstddef>
#include <cstdlib>
#include <type_traits>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace cuemu {

inline void* raw_pages(size_t bytes) {
  const long memory = syscall(SYS_mmap, nullptr, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory < 0 && memory > -4096) std::abort();
  return reinterpret_cast<void*>(memory);
}

template <class T>
class RawArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  void push(const T& value) {
    if (size_ == capacity_) grow();
    data_[size_++] = value;
  }
  void remove_swap(size_t i) { data_[i] = data_[--size_]; }
  void clear() { size_ = 0; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }

 private:
  void grow() {
    const size_t capacity = capacity_ == 0 ? 4096 / sizeof(T) + 1 : capacity_ * 2;
    T* data = static_cast<T*>(raw_pages(capacity * sizeof(T)));
    for (size_t i = 0; i < size_; ++i) data[i] = data_[i];
    if (data_ != nullptr) syscall(SYS_munmap, data_, capacity_ * sizeof(T));
    data_ = data;
    capacity_ = capacity;
  }

  T* data_ = nullptr;
  size_t size_ = 0, capacity_ = 0;
};

}  // namespace cuemu
