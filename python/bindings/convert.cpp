#include "python/bindings/convert.h"

#include <cstring>
#include <exception>
#include <limits>

#include "kernels/error.h"
#include "model/json.h"

namespace hypertower::bindings {
namespace {

[[noreturn]] void wrong_type(py::handle value, const std::string& path) {
  throw Error(ErrorKind::kSchema,
              path + ": expected None, a number, text, a list or a dict, got " +
                  std::string(py::str(py::type::handle_of(value).attr("__name__"))),
              path);
}

nlohmann::json list_to_json(py::handle list, const std::string& path) {
  nlohmann::json out = nlohmann::json::array();
  int64_t i = 0;
  for (py::handle element : list) {
    out.push_back(to_json(element, path + "[" + std::to_string(i++) + "]"));
  }
  return out;
}

nlohmann::json dict_to_json(const py::dict& dict, const std::string& path) {
  nlohmann::json out = nlohmann::json::object();
  for (auto [key, value] : dict) {
    if (!py::isinstance<py::str>(key)) {
      throw Error(ErrorKind::kSchema,
                  path + ": expected text as keys, got the key " + std::string(py::repr(key)),
                  path);
    }
    auto name = key.cast<std::string>();
    out[name] = to_json(value, path.empty() ? name : path + "." + name);
  }
  return out;
}

// parse(element, "requests[3]") for each of them.
template <class T, class Parse>
std::vector<T> parse_list(py::handle list, const std::string& name, Parse parse) {
  if (py::isinstance<py::dict>(list) || py::isinstance<py::str>(list) ||
      !(py::isinstance<py::sequence>(list) || py::hasattr(list, "__iter__"))) {
    throw Error(ErrorKind::kSchema,
                name + ": expected a list of dicts, got " +
                    std::string(py::str(py::type::handle_of(list).attr("__name__"))) +
                    "; one of them goes into a list: [{...}]",
                name);
  }
  std::vector<T> out;
  for (py::handle element : list) {
    const std::string path = name + "[" + std::to_string(out.size()) + "]";
    out.push_back(parse(to_json(element, path), path));
  }
  return out;
}

bool is_datetime64(py::handle value) {
  if (!py::hasattr(value, "dtype") || !py::hasattr(value.attr("dtype"), "kind")) return false;
  return py::str(value.attr("dtype").attr("kind")).equal(py::str("M"));
}

// Seconds, as of a datetime without a zone (UTC); NaT is missing. `tolist` would give integers for
// nanoseconds and dates for days.
nlohmann::json datetime64_to_json(py::handle value, const std::string& path) {
  if (value.attr("ndim").cast<int>() > 0) return list_to_json(value, path);
  const auto microseconds = value.attr("astype")("datetime64[us]").attr("astype")("int64");
  const auto since_1970 = microseconds.cast<int64_t>();
  if (since_1970 == std::numeric_limits<int64_t>::min()) return nullptr;  // NaT
  return static_cast<double>(since_1970) / 1e6;
}

}  // namespace

nlohmann::json to_json(py::handle value, const std::string& path) {
  if (value.is_none()) return nullptr;
  if (py::isinstance<py::bool_>(value)) return value.cast<bool>();
  if (py::isinstance<py::int_>(value)) {
    try {
      return value.cast<int64_t>();
    } catch (const py::cast_error&) {
      throw Error(ErrorKind::kSchema,
                  path + ": expected a 64-bit integer, got " + std::string(py::str(value)), path);
    }
  }
  if (py::isinstance<py::float_>(value)) return value.cast<double>();
  if (py::isinstance<py::str>(value)) return value.cast<std::string>();
  if (py::isinstance<py::dict>(value)) return dict_to_json(value.cast<py::dict>(), path);
  if (py::isinstance<py::list>(value) || py::isinstance<py::tuple>(value) ||
      py::isinstance<py::set>(value)) {
    return list_to_json(value, path);
  }
  if (py::hasattr(value, "timestamp")) {  // datetime.datetime, pandas.Timestamp
    py::object when = py::reinterpret_borrow<py::object>(value);
    if (py::hasattr(when, "tzinfo") && when.attr("tzinfo").is_none()) {
      when = when.attr("replace")(py::arg("tzinfo") =
                                      py::module_::import("datetime").attr("timezone").attr("utc"));
    }
    return when.attr("timestamp")().cast<double>();
  }
  if (is_datetime64(value)) return datetime64_to_json(value, path);
  if (py::hasattr(value, "tolist")) {  // numpy scalars and arrays
    return to_json(value.attr("tolist")(), path);
  }
  wrong_type(value, path);
}

py::object from_json(const nlohmann::json& value) {
  switch (value.type()) {
    case nlohmann::json::value_t::boolean:
      return py::bool_(value.get<bool>());
    case nlohmann::json::value_t::number_integer:
      return py::int_(value.get<int64_t>());
    case nlohmann::json::value_t::number_unsigned:
      return py::int_(value.get<uint64_t>());
    case nlohmann::json::value_t::number_float:
      return py::float_(value.get<double>());
    case nlohmann::json::value_t::string:
      return py::str(value.get<std::string>());
    case nlohmann::json::value_t::array: {
      py::list out;
      for (const auto& element : value) out.append(from_json(element));
      return out;
    }
    case nlohmann::json::value_t::object: {
      py::dict out;
      for (const auto& [key, element] : value.items()) out[py::str(key)] = from_json(element);
      return out;
    }
    default:
      return py::none();
  }
}

std::vector<Request> to_requests(py::handle requests) {
  return parse_list<Request>(requests, "requests",
                             [](const nlohmann::json& j, const std::string& path) {
                               return request_from_json(j, {}, path);
                             });
}

std::vector<Event> to_events(py::handle events) {
  return parse_list<Event>(events, "events", [](const nlohmann::json& j, const std::string& path) {
    return event_from_json(j, path);
  });
}

std::optional<Filter> to_filter(py::handle where) {
  if (where.is_none()) return std::nullopt;
  return filter_from_json(to_json(where, "where"));
}

py::array_t<float> to_matrix(const std::vector<float>& data, int64_t rows, int64_t cols) {
  py::array_t<float> out({rows, cols});
  if (!data.empty()) std::memcpy(out.mutable_data(), data.data(), data.size() * sizeof(float));
  return out;
}

void register_errors() {
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const Error& e) {
      const char* name = "HypertowerError";
      switch (e.kind()) {
        case ErrorKind::kArgument:
          name = "ArgumentError";
          break;
        case ErrorKind::kSchema:
          name = "SchemaError";
          break;
        case ErrorKind::kData:
          name = "DataError";
          break;
        case ErrorKind::kModel:
          name = "ModelError";
          break;
        case ErrorKind::kIo:
          name = "IoError";
          break;
        case ErrorKind::kNumeric:
          name = "NumericError";
          break;
      }
      py::object cls = py::module_::import("hypertower.errors").attr(name);
      py::object instance = cls(e.what());
      instance.attr("field") = e.field();
      PyErr_SetObject(cls.ptr(), instance.ptr());
    }
  });
}

}  // namespace hypertower::bindings
