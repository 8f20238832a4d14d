// Runs a check on every SIMD instruction set that this machine and this build have, instead of the
// best one alone.
#pragma once

#include <gtest/gtest.h>

#include "hwy/highway.h"

namespace hypertower::testing {

template <class Check>
void for_each_simd_target(const Check& check) {
  const auto use = [](int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  };
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    use(target);
    check();
  }
  use(0);  // back to the best
}

}  // namespace hypertower::testing
