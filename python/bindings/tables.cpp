#include "python/bindings/tables.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/embedding.h"
#include "kernels/error.h"
#include "kernels/huge_buffer.h"
#include "python/bindings/memory.h"

namespace hypertower::bindings {
namespace {

namespace py = pybind11;

template <class Value, size_t kCount>
Value by_name(const char* what, const std::string& name,
              const std::array<std::pair<const char*, Value>, kCount>& values) {
  std::string known;
  for (const auto& [text, value] : values) {
    if (name == text) return value;
    known += (known.empty() ? "'" : ", '") + std::string(text) + "'";
  }
  throw Error(ErrorKind::kArgument,
              std::string(what) + ": expected one of " + known + ", got '" + name + "'.", what);
}

RowFormat row_format(const std::string& name) {
  using enum RowFormat;
  return by_name<RowFormat, 3>(
      "dtype", name, {{{"float32", kFloat32}, {"bfloat16", kBfloat16}, {"float16", kFloat16}}});
}

Optimizer optimizer(const std::string& name) {
  using enum Optimizer;
  return by_name<Optimizer, 4>("optimizer", name,
                               {{{"sgd", kSgd},
                                 {"rowwise_adagrad", kRowWiseAdagrad},
                                 {"adagrad", kAdagrad},
                                 {"adam", kAdam}}});
}

// The memory of one table: (address, rows, cols, bytes from row to row), its format, its state.
struct TableMemory {
  Table table;
  MatrixView<float> state0, state1;

  TableMemory(const Memory& m, const std::string& format, const Memory& s0, const Memory& s1)
      : table(pointer<void>(m), std::get<1>(m), std::get<2>(m), std::get<3>(m), row_format(format)),
        state0(matrix<float>(s0)),
        state1(matrix<float>(s1)) {}
};

// One lookup as it is handed over; its name is kept for messages.
struct LookupMemory {
  std::string name;
  Memory ids, offsets, weights;

  Bags bags() const { return bindings::bags(ids, offsets, weights, name.c_str()); }
};

class Plans {
 public:
  Plans(const std::vector<int64_t>& rows, const std::vector<LookupMemory>& lookups,
        const Place& where) {
    std::vector<PlanInput> inputs;
    for (size_t i = 0; i < lookups.size(); ++i) inputs.push_back({rows.at(i), lookups[i].bags()});
    plans_ = EmbeddingPlan::make(inputs, BadIds::kThrow, place(where));
  }
  const EmbeddingPlan& operator[](size_t i) const { return plans_.at(i); }

 private:
  std::vector<EmbeddingPlan> plans_;
};

}  // namespace

void bind_tables(py::module_& m) {
  py::class_<TableMemory>(m, "TableMemory")
      .def(py::init<const Memory&, const std::string&, const Memory&, const Memory&>(),
           py::arg("rows"), py::arg("dtype"), py::arg("state0"), py::arg("state1"));
  py::class_<LookupMemory>(m, "LookupMemory")
      .def(py::init([](std::string name, const Memory& ids, const Memory& offsets,
                       const Memory& weights) {
             return LookupMemory{std::move(name), ids, offsets, weights};
           }),
           py::arg("name"), py::arg("ids"), py::arg("offsets"), py::arg("weights"));
  py::class_<OptimizerStep>(m, "OptimizerStep")
      .def(py::init([](const std::string& kind, float lr, float eps, float beta1, float beta2,
                       float weight_decay, uint64_t seed) {
             return OptimizerStep{optimizer(kind), lr, eps, beta1, beta2, weight_decay, 1, seed};
           }),
           py::arg("kind"), py::arg("lr"), py::arg("eps"), py::arg("beta1"), py::arg("beta2"),
           py::arg("weight_decay"), py::arg("seed"))
      .def_readwrite("step", &OptimizerStep::step)
      .def_readwrite("lr", &OptimizerStep::lr);
  py::class_<Plans>(m, "EmbeddingPlans")
      .def(py::init([](const std::vector<int64_t>& rows, const std::vector<LookupMemory>& lookups,
                       const Place& where) {
             const py::gil_scoped_release release;
             return std::make_unique<Plans>(rows, lookups, where);
           }),
           py::arg("rows"), py::arg("lookups"), py::arg("place"));
  m.def(
      "optimizer_state_cols",
      [](const std::string& kind, int64_t dim) {
        return std::pair(state0_cols(optimizer(kind), dim), state1_cols(optimizer(kind), dim));
      },
      py::arg("kind"), py::arg("dim"));
  m.def(
      "advise_huge_pages",
      [](uintptr_t data, size_t bytes) { advise_huge_pages(reinterpret_cast<void*>(data), bytes); },
      py::arg("data"), py::arg("bytes"));
  m.def(
      "embedding_lookup",
      [](const std::vector<TableMemory>& tables, const std::vector<LookupMemory>& lookups,
         const std::string& mode, const std::vector<Memory>& out, const Place& where) {
        std::vector<TableLookup> calls;
        for (size_t i = 0; i < tables.size(); ++i) {
          calls.push_back(
              {tables[i].table, lookups.at(i).bags(), pool(mode), matrix<float>(out.at(i))});
        }
        const py::gil_scoped_release release;
        embedding_bag(calls, BadIds::kThrow, place(where));
      },
      py::arg("tables"), py::arg("lookups"), py::arg("mode"), py::arg("out"), py::arg("place"));
  m.def(
      "embedding_step",
      [](const std::vector<TableMemory>& tables, const std::vector<LookupMemory>& lookups,
         const Plans& plans, const std::string& mode, const std::vector<Memory>& grad,
         const OptimizerStep& step, const Place& where) {
        std::vector<TableUpdate> updates;
        for (size_t i = 0; i < tables.size(); ++i) {
          updates.push_back({tables[i].table, tables[i].state0, tables[i].state1, &plans[i],
                             lookups.at(i).bags(), pool(mode), matrix<const float>(grad.at(i)),
                             step});
        }
        const py::gil_scoped_release release;
        embedding_backward(updates, place(where));
      },
      py::arg("tables"), py::arg("lookups"), py::arg("plans"), py::arg("mode"), py::arg("grad"),
      py::arg("step"), py::arg("place"));
}

}  // namespace hypertower::bindings
