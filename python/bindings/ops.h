// Kernels for experiments. Python prepares memory (numpy or torch, CPU or CUDA) and hands over
// addresses and shapes; `python/hypertower/ops.py` is the only caller.
#pragma once

#include <pybind11/pybind11.h>

namespace hypertower::bindings {

void bind_ops(pybind11::module_& m);

}  // namespace hypertower::bindings
