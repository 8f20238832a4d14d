// Embedding tables of several formats, many in one call, with the optimizer fused into the step.
#pragma once

#include <pybind11/pybind11.h>

namespace hypertower::bindings {

void bind_tables(pybind11::module_& m);

}  // namespace hypertower::bindings
