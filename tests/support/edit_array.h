// Shared arrays do not change; tests that need another number make another array.
#pragma once

#include <utility>
#include <vector>

#include "model/shared_array.h"

namespace hypertower {

// Puts a changed copy into its place: change(std::vector<T>&).
template <class T, class Change>
void edit(SharedArray<T>& array, const Change& change) {
  std::vector<T> values(array.begin(), array.end());
  change(values);
  array = std::move(values);
}

}  // namespace hypertower
