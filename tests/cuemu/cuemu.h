// CUDA for a host compiler: kernels/cuda/launch.cuh includes this in place of the toolkit. See
// README.md. Needs nothing but the C++ library, so machines without a toolkit can test kernels.
#pragma once

#include "tests/cuemu/async.h"
#include "tests/cuemu/atomics.h"
#include "tests/cuemu/core.h"
#include "tests/cuemu/device.h"
#include "tests/cuemu/intrinsics.h"
#include "tests/cuemu/launch.h"
#include "tests/cuemu/mma.h"
#include "tests/cuemu/numeric.h"
#include "tests/cuemu/runtime.h"
#include "tests/cuemu/types.h"
