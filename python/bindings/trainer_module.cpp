// hypertower._trainer: training from Python. Links torch and Arrow; Python imports both first.
#include <arrow/c/bridge.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>

#include "kernels/error.h"
#include "kernels/parallel.h"
#include "python/bindings/convert.h"
#include "trainer/train.h"

namespace hypertower::bindings {
namespace {

template <class T>
T take(arrow::Result<T> result, const std::string& name) {
  if (!result.ok()) {
    throw Error(ErrorKind::kData, name + ": " + result.status().message(), name);
  }
  return std::move(result).ValueUnsafe();
}

// A path, or any object with __arrow_c_stream__ (zero copy).
DataSource to_source(py::handle source, const std::string& name) {
  if (py::isinstance<py::str>(source))
    return {.path = source.cast<std::string>(), .table = nullptr};
  const py::capsule capsule = source.attr("__arrow_c_stream__")();
  auto* stream = capsule.get_pointer<ArrowArrayStream>();
  auto reader = take(arrow::ImportRecordBatchReader(stream), name);
  return {.path = "", .table = take(reader->ToTable(), name)};
}

// Calls the Python observer with the GIL held; an exception in Python ends the training.
class PythonObserver : public TrainObserver {
 public:
  explicit PythonObserver(py::object observer) : observer_(std::move(observer)) {}

  void on_message(const std::string& text) override {
    notify({{"event", "message"}, {"text", text}});
  }
  void on_progress(const Progress& p) override {
    notify({{"event", "progress"},
            {"stage", p.stage},
            {"unit", "steps"},
            {"done", p.done},
            {"total", p.total},
            {"epoch", p.epoch}});
  }
  bool on_epoch(const nlohmann::json& metrics) override {
    nlohmann::json event = metrics;
    event["event"] = "epoch";
    return notify(event);
  }

 private:
  bool notify(const nlohmann::json& event) {
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();  // Ctrl-C
    return observer_.attr("notify")(from_json(event)).cast<bool>();
  }
  py::object observer_;
};

py::tuple train_model(const ConfigTree& config, const py::dict& sources,
                      const std::string& directory, const py::object& observer, int threads) {
  TrainData data;
  if (!sources.contains("events")) data = data_from_config(config, directory);
  const std::pair<const char*, DataSource*> places[] = {{"events", &data.events},
                                                        {"items", &data.items},
                                                        {"users", &data.users},
                                                        {"valid", &data.valid},
                                                        {"test", &data.test}};
  for (const auto& [name, place] : places) {
    if (sources.contains(name)) *place = to_source(sources[name], name);
  }
  ConfigTree settings = config;
  if (!settings.has("training.threads")) {
    settings.set("training.threads", nlohmann::json(threads));
  }
  PythonObserver callbacks(observer);
  auto model = std::make_shared<ModelData>();
  nlohmann::json report;
  {
    const py::gil_scoped_release release;
    TrainResult result = train(settings, data, callbacks);
    *model = std::move(result.model);
    report = std::move(result.report);
  }
  return py::make_tuple(model, from_json(report));
}

py::object evaluate_model(const Recommender& model, const py::object& events,
                          const PeopleInMemory* people, const std::string& by, int threads) {
  const DataSource source = to_source(events, "test");
  EvaluateOptions options;
  options.by = by;
  options.people = people;
  options.exec.threads = threads;
  nlohmann::json metrics;
  {
    const py::gil_scoped_release release;
    metrics = evaluate(model, source, options);
  }
  return from_json(metrics);
}

}  // namespace
}  // namespace hypertower::bindings

PYBIND11_MODULE(_trainer, m) {
  namespace py = pybind11;
  using namespace hypertower::bindings;
  m.doc() = "Compiled part of hypertower that trains: needs torch and pyarrow.";
  py::module_::import("hypertower._core");  // Config, ModelData, Recommender, People live there
  register_errors();
  hypertower::share_openmp_threads();
  m.def("train", &train_model, py::arg("config"), py::arg("sources"), py::arg("directory"),
        py::arg("observer"), py::arg("threads"));
  m.def("evaluate", &evaluate_model, py::arg("model"), py::arg("events"), py::arg("people"),
        py::arg("by"), py::arg("threads"));
}
