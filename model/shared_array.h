// Numbers that nobody changes any more: a vector that was given up, or memory of somebody whom the
// array keeps alive, such as a mapped file. Copies share them, so that a model of gigabytes is
// handed around for nothing. Thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace hypertower {

template <class T>
class SharedArray {
 public:
  SharedArray() = default;
  SharedArray(std::vector<T> values)  // implicit: a vector is one
      : SharedArray(std::make_shared<const std::vector<T>>(std::move(values))) {}
  SharedArray(std::initializer_list<T> values) : SharedArray(std::vector<T>(values)) {}
  SharedArray(std::span<const T> values, std::shared_ptr<const void> owner)
      : values_(values), owner_(std::move(owner)) {}

  const T* data() const { return values_.data(); }
  size_t size() const { return values_.size(); }
  bool empty() const { return values_.empty(); }
  const T& operator[](size_t i) const { return values_[i]; }
  auto begin() const { return values_.begin(); }
  auto end() const { return values_.end(); }
  operator std::span<const T>() const { return values_; }

  friend bool operator==(const SharedArray& a, const SharedArray& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  explicit SharedArray(std::shared_ptr<const std::vector<T>> values)
      : values_(*values), owner_(std::move(values)) {}

  std::span<const T> values_;
  std::shared_ptr<const void> owner_;
};

}  // namespace hypertower
