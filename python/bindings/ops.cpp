#include "python/bindings/ops.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "kernels/embedding.h"
#include "kernels/error.h"
#include "kernels/parallel.h"
#include "kernels/softmax_loss.h"
#include "kernels/topk.h"
#include "kernels/topk_device_index.h"
#include "kernels/topk_index.h"
#include "python/bindings/memory.h"

namespace hypertower::bindings {

Pool pool(const std::string& mode) {
  if (mode == "sum") return Pool::kSum;
  if (mode == "mean") return Pool::kMean;
  throw Error(ErrorKind::kArgument, "mode: expected 'sum' or 'mean', got '" + mode + "'", "mode");
}

namespace {

namespace py = pybind11;

// Values and offsets; absent offsets = no lists at all.
JaggedView<int64_t> jagged(const Memory& values, const Memory& offsets) {
  if (std::get<0>(offsets) == 0) return {};
  return {pointer<const int64_t>(values), pointer<const int64_t>(offsets), length(offsets) - 1};
}

// Masks, lists and the place of the answer, as ops.py hands them over.
struct TopKArguments {
  Memory masks, mask_of_row, exclude, exclude_offsets, adjust, adjust_offsets, adjust_delta;
  Memory ids, scores, count, status;

  TopKInput input(const Memory& queries, int64_t k) const {
    TopKInput in;
    in.queries = matrix<const float>(queries);
    in.k = k;
    in.masks = pointer<const uint64_t>(masks);
    in.num_masks = length(masks);
    in.mask_words = std::get<2>(masks);
    in.mask_of_row = pointer<const int32_t>(mask_of_row);
    in.exclude = jagged(exclude, exclude_offsets);
    in.adjust = jagged(adjust, adjust_offsets);
    in.adjust_delta = pointer<const float>(adjust_delta);
    return in;
  }
  TopKOutput output() const {
    return {matrix<int64_t>(ids), matrix<float>(scores), pointer<int32_t>(count),
            pointer<RowStatus>(status)};
  }
};

// Booleans [masks, items] as bits, 64 to a word; bits past the end are 0.
py::array_t<uint64_t> pack_masks(const py::array_t<bool, py::array::c_style>& masks, int threads) {
  const int64_t rows = masks.shape(0), items = masks.shape(1);
  const int64_t words = std::max<int64_t>(1, (items + 63) / 64);
  py::array_t<uint64_t> packed({rows, words});
  const auto* from = reinterpret_cast<const uint8_t*>(masks.data());
  uint64_t* to = packed.mutable_data();
  const py::gil_scoped_release release;
  parallel_for(threads, rows * words, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t first = at % words * 64, count = std::min<int64_t>(64, items - first);
      uint8_t bytes[64] = {};
      std::memcpy(bytes, from + at / words * items + first, static_cast<size_t>(count));
      uint64_t word = 0;
      for (int i = 0; i < 8; ++i) {
        uint64_t eight;
        std::memcpy(&eight, bytes + i * 8, 8);
        // Byte j is 0 or 1; this product moves it to bit 56 + j, and no sums carry into those.
        word |= (eight * 0x0102040810204080U) >> 56 << (i * 8);
      }
      to[at] = word;
    }
  });
  return packed;
}

// Keeps a Python object alive; let go of under the lock of the interpreter.
std::shared_ptr<const void> keep(py::object object) {
  return {new py::object(std::move(object)), [](const py::object* kept) {
            const py::gil_scoped_acquire lock;
            delete kept;
          }};
}

// What an index has on either device.
template <class Index>
void bind_search(py::class_<Index>& index) {
  index
      .def(
          "search",
          [](const Index& self, const Memory& queries, int64_t k, const TopKArguments& arguments,
             const Place& where) {
            const py::gil_scoped_release release;
            self.search(arguments.input(queries, k), arguments.output(), place(where));
          },
          py::arg("queries"), py::arg("k"), py::arg("arguments"), py::arg("place"))
      .def_property_readonly("size", &Index::size)
      .def_property_readonly("num_live", &Index::num_live)
      .def_property_readonly("dim", &Index::dim)
      .def_property_readonly("bytes", &Index::bytes);
}

void bind_topk(py::module_& m) {
  m.def("pack_masks", pack_masks, py::arg("masks"), py::arg("threads"));
  py::class_<TopKArguments>(m, "TopKArguments")
      .def(py::init<Memory, Memory, Memory, Memory, Memory, Memory, Memory, Memory, Memory, Memory,
                    Memory>(),
           py::arg("masks"), py::arg("mask_of_row"), py::arg("exclude"), py::arg("exclude_offsets"),
           py::arg("adjust"), py::arg("adjust_offsets"), py::arg("adjust_delta"), py::arg("ids"),
           py::arg("scores"), py::arg("count"), py::arg("status"));
  m.def(
      "topk",
      [](const Memory& queries, const Memory& items, int64_t k, const TopKArguments& arguments,
         const Place& where) {
        TopKInput in = arguments.input(queries, k);
        in.items = matrix<const float>(items);
        const py::gil_scoped_release release;
        topk(in, arguments.output(), place(where));
      },
      py::arg("queries"), py::arg("items"), py::arg("k"), py::arg("arguments"), py::arg("place"));
  py::class_<TopKIndex> index(m, "TopKIndex");
  index
      .def(py::init([](const Memory& items, py::object owner, int threads) {
             const auto rows = matrix<const float>(items);
             const auto kept = keep(std::move(owner));
             const py::gil_scoped_release release;
             return TopKIndex::build(rows, kept, threads);
           }),
           py::arg("items"), py::arg("owner"), py::arg("threads"))
      .def(
          "appended",
          [](const TopKIndex& index, const Memory& items, py::object owner, int threads) {
            const auto rows = matrix<const float>(items);
            const auto kept = keep(std::move(owner));
            const py::gil_scoped_release release;
            return index.appended(rows, kept, threads);
          },
          py::arg("items"), py::arg("owner"), py::arg("threads"))
      .def(
          "without",
          [](const TopKIndex& index, const Memory& ids) {
            return index.without({pointer<const int64_t>(ids), static_cast<size_t>(length(ids))});
          },
          py::arg("ids"));
  bind_search(index);
  py::class_<TopKDeviceIndex> device_index(m, "TopKDeviceIndex");
  device_index.def(py::init([](const Memory& items, py::object owner, const Place& where) {
                     const auto rows = matrix<const float>(items);
                     const auto kept = keep(std::move(owner));
                     const py::gil_scoped_release release;
                     return TopKDeviceIndex::build(rows, kept, place(where));
                   }),
                   py::arg("items"), py::arg("owner"), py::arg("place"));
  bind_search(device_index);
}

void bind_embedding(py::module_& m) {
  m.def(
      "embedding_bag",
      [](const Memory& table, const Memory& ids, const Memory& offsets, const Memory& weights,
         const std::string& mode, const Memory& out, const Place& where) {
        const Pool p = pool(mode);
        py::gil_scoped_release release;
        embedding_bag(matrix<const float>(table), bags(ids, offsets, weights), p, BadIds::kThrow,
                      matrix<float>(out), place(where));
      },
      py::arg("table"), py::arg("ids"), py::arg("offsets"), py::arg("weights"), py::arg("mode"),
      py::arg("out"), py::arg("place"));
  py::class_<EmbeddingPlan>(m, "EmbeddingPlan")
      .def(py::init([](int64_t table_rows, const Memory& ids, const Memory& offsets,
                       const Memory& weights, const Place& where) {
             return EmbeddingPlan(table_rows, bags(ids, offsets, weights), BadIds::kThrow,
                                  place(where));
           }),
           py::arg("table_rows"), py::arg("ids"), py::arg("offsets"), py::arg("weights"),
           py::arg("place"))
      .def_property_readonly("unique_rows", &EmbeddingPlan::unique_rows);
  m.def(
      "embedding_row_gradient",
      [](const EmbeddingPlan& plan, const Memory& ids, const Memory& offsets, const Memory& weights,
         const std::string& mode, const Memory& grad, const Memory& row_grad, const Place& where) {
        const Pool p = pool(mode);
        py::gil_scoped_release release;
        embedding_row_gradient(plan, bags(ids, offsets, weights), p, matrix<const float>(grad),
                               matrix<float>(row_grad), place(where));
      },
      py::arg("plan"), py::arg("ids"), py::arg("offsets"), py::arg("weights"), py::arg("mode"),
      py::arg("grad"), py::arg("row_grad"), py::arg("place"));
  m.def(
      "embedding_weight_gradient",
      [](const Memory& table, const Memory& ids, const Memory& offsets, const Memory& weights,
         const std::string& mode, const Memory& grad, const Memory& out, const Place& where) {
        const Pool p = pool(mode);
        py::gil_scoped_release release;
        embedding_weight_gradient(matrix<const float>(table), bags(ids, offsets, weights), p,
                                  matrix<const float>(grad), pointer<float>(out), place(where));
      },
      py::arg("table"), py::arg("ids"), py::arg("offsets"), py::arg("weights"), py::arg("mode"),
      py::arg("grad"), py::arg("out"), py::arg("place"));
}

SoftmaxLossInput softmax_input(const Memory& queries, const Memory& columns, const Memory& target,
                               float scale, const Memory& logq, const Memory& weight,
                               const Memory& column_item, const Memory& column_user,
                               const Memory& row_user) {
  SoftmaxLossInput in;
  in.queries = matrix<const float>(queries);
  in.columns = matrix<const float>(columns);
  in.target = pointer<const int64_t>(target);
  in.scale = scale;
  in.logq = pointer<const float>(logq);
  in.weight = pointer<const float>(weight);
  in.column_item = pointer<const int64_t>(column_item);
  in.column_user = pointer<const int64_t>(column_user);
  in.row_user = pointer<const int64_t>(row_user);
  return in;
}

void bind_softmax_loss(py::module_& m) {
  m.def(
      "softmax_loss_forward",
      [](const Memory& queries, const Memory& columns, const Memory& target, float scale,
         const Memory& logq, const Memory& weight, const Memory& column_item,
         const Memory& column_user, const Memory& row_user, const Memory& loss, const Memory& log_z,
         const Place& where) {
        py::gil_scoped_release release;
        softmax_loss_forward(softmax_input(queries, columns, target, scale, logq, weight,
                                           column_item, column_user, row_user),
                             pointer<float>(loss), pointer<float>(log_z), place(where));
      },
      py::arg("queries"), py::arg("columns"), py::arg("target"), py::arg("scale"), py::arg("logq"),
      py::arg("weight"), py::arg("column_item"), py::arg("column_user"), py::arg("row_user"),
      py::arg("loss"), py::arg("log_z"), py::arg("place"));
  m.def(
      "softmax_loss_backward",
      [](const Memory& queries, const Memory& columns, const Memory& target, float scale,
         const Memory& logq, const Memory& weight, const Memory& column_item,
         const Memory& column_user, const Memory& row_user, const Memory& log_z,
         const Memory& grad_loss, const Memory& d_query, const Memory& d_column,
         const Place& where) {
        py::gil_scoped_release release;
        softmax_loss_backward(softmax_input(queries, columns, target, scale, logq, weight,
                                            column_item, column_user, row_user),
                              pointer<const float>(log_z), pointer<const float>(grad_loss),
                              matrix<float>(d_query), matrix<float>(d_column), nullptr,
                              place(where));
      },
      py::arg("queries"), py::arg("columns"), py::arg("target"), py::arg("scale"), py::arg("logq"),
      py::arg("weight"), py::arg("column_item"), py::arg("column_user"), py::arg("row_user"),
      py::arg("log_z"), py::arg("grad_loss"), py::arg("d_query"), py::arg("d_column"),
      py::arg("place"));
}

}  // namespace

void bind_ops(py::module_& m) {
  m.def("cuda_available", &cuda_available);
  m.def("share_openmp_threads", &share_openmp_threads);
  bind_topk(m);
  bind_embedding(m);
  bind_softmax_loss(m);
}

}  // namespace hypertower::bindings
