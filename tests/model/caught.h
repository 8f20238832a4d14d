// What a call threw, for tests of exact sentences.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "kernels/error.h"

namespace hypertower {

struct Caught {
  ErrorKind kind = ErrorKind::kIo;
  std::string message;
  std::string field;
};

template <class Call>
Caught caught(const Call& call) {
  try {
    call();
  } catch (const Error& e) {
    return {e.kind(), e.what(), e.field()};
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

}  // namespace hypertower
