#include "python/bindings/tables.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/embedding.h"
#include "kernels/error.h"
#include "kernels/huge_buffer.h"
#include "kernels/id_table.h"
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

Eviction eviction(const std::string& name) {
  using enum Eviction;
  const auto& words = kEvictionWords;
  return by_name<Eviction, 3>(
      "evict", name, {{{words[0], kNone}, {words[1], kLeastRecent}, {words[2], kLeastFrequent}}});
}

template <class T>
py::array_t<T> array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

template <class T>
std::vector<T> member(const py::dict& saved, const char* name) {
  const auto values = saved[name].cast<py::array_t<T, py::array::c_style | py::array::forcecast>>();
  return {values.data(), values.data() + values.size()};
}

py::dict to_dict(const IdTable::Saved& saved) {
  py::dict out;
  out["ids"] = array(saved.ids);
  out["rows"] = array(saved.rows);
  out["last_used"] = array(saved.last_used);
  out["uses"] = array(saved.uses);
  out["step"] = saved.step;
  out["sightings"] = array(saved.sightings);
  out["sighted"] = saved.sighted;
  return out;
}

IdTable::Saved from_dict(const py::dict& saved) {
  return {member<int64_t>(saved, "ids"),        member<int64_t>(saved, "rows"),
          member<uint32_t>(saved, "last_used"), member<uint32_t>(saved, "uses"),
          saved["step"].cast<uint32_t>(),       member<uint8_t>(saved, "sightings"),
          saved["sighted"].cast<int64_t>()};
}

std::span<const int64_t> ids_of(const Memory& ids) {
  return {pointer<const int64_t>(ids), static_cast<size_t>(length(ids))};
}

void bind_id_table(py::module_& m) {
  m.def(
      "initial_rows",
      [](const std::vector<int64_t>& ids, int64_t dim, uint64_t seed) {
        py::array_t<float> rows({static_cast<py::ssize_t>(ids.size()), dim});
        for (size_t i = 0; i < ids.size(); ++i) {
          initial_row(
              ids[i], seed,
              {rows.mutable_data(static_cast<py::ssize_t>(i), 0), static_cast<size_t>(dim)});
        }
        return rows;
      },
      py::arg("ids"), py::arg("dim"), py::arg("seed"));
  py::class_<IdTable>(m, "IdTable")
      .def(py::init([](int64_t rows, int64_t admit_after, const std::string& evict,
                       const std::optional<py::dict>& saved) {
             const IdTableOptions options{rows, admit_after, eviction(evict)};
             return saved ? std::make_unique<IdTable>(options, from_dict(*saved))
                          : std::make_unique<IdTable>(options);
           }),
           py::arg("rows"), py::arg("admit_after"), py::arg("evict"), py::arg("saved"))
      .def_property_readonly("rows", &IdTable::rows)
      .def_property_readonly("size", &IdTable::size)
      .def("begin_step", &IdTable::begin_step)
      .def("save", [](const IdTable& table) { return to_dict(table.save()); })
      .def(
          "find",
          [](const IdTable& table, const Memory& ids, const Memory& rows, int threads) {
            const py::gil_scoped_release release;
            table.find(ids_of(ids), pointer<int64_t>(rows), threads);
          },
          py::arg("ids"), py::arg("rows"), py::arg("threads"))
      // The rows that got owners, their ids, and how many ids lost rows, wait, and failed.
      .def(
          "assign",
          [](IdTable& table, const Memory& ids, const Memory& rows, int threads) {
            std::vector<IdTableChange> changes;
            IdTableReport report;
            {
              const py::gil_scoped_release release;
              report = table.assign(ids_of(ids), pointer<int64_t>(rows), &changes, threads);
            }
            std::vector<int64_t> changed, owners;
            for (const IdTableChange& change : changes) {
              changed.push_back(change.row);
              owners.push_back(change.id);
            }
            return std::tuple(array(changed), array(owners), report.evicted, report.waiting,
                              report.failed);
          },
          py::arg("ids"), py::arg("rows"), py::arg("threads"));
}

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
  bind_id_table(m);
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
