// Python values <-> the JSON tree that model/json.h defines, so that a dict given to Python and a
// body posted to the server run through the same checks. All functions need the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/value.h"

namespace hypertower::bindings {

namespace py = pybind11;

// None, bool, int, float, str, datetime (becomes seconds, UTC when naive), numpy scalars and
// arrays, lists, tuples and dicts with text keys. Other types throw Error(kSchema) naming `path`.
nlohmann::json to_json(py::handle value, const std::string& path);
py::object from_json(const nlohmann::json& value);

// A list of dicts; one dict alone is an error that says to wrap it.
std::vector<Request> to_requests(py::handle requests);
std::vector<Event> to_events(py::handle events);
std::optional<Filter> to_filter(py::handle where);

// A new float32 array [rows, cols] that owns a copy of `data`.
py::array_t<float> to_matrix(const std::vector<float>& data, int64_t rows, int64_t cols);

// Makes hypertower::Error arrive as the class of hypertower.errors that fits its kind.
void register_errors();

}  // namespace hypertower::bindings
