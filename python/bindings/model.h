// Config, schema, recommender, people: everything of the `model` room that Python sees.
#pragma once

#include <pybind11/pybind11.h>

namespace hypertower::bindings {

void bind_model(pybind11::module_& m);

}  // namespace hypertower::bindings
