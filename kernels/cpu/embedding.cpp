// Embedding bags on the CPU. Bound by memory: a lookup reads n rows of D numbers once; a step reads
// n rows of the gradient (mostly from cache) and reads and writes each touched row once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cpp"
#include "hwy/foreach_target.h"  // compiles this file once per SIMD target

#include <algorithm>
#include <cstring>
#include <vector>

#include "hwy/highway.h"
#include "kernels/cpu/bag_check.h"
#include "kernels/cpu/embedding_lists.h"
#include "kernels/cpu/gather_reduce-inl.h"
#include "kernels/cpu/row_optimizer-inl.h"
#include "kernels/finite_rows.h"
#include "kernels/parallel.h"

#ifndef HYPERTOWER_CPU_EMBEDDING_RUNS_
#define HYPERTOWER_CPU_EMBEDDING_RUNS_
namespace hypertower::cpu {

// Gradients of table rows that are still to be summed: one for each run of a plan.
struct RunGradients {
  const EmbeddingPlan::Data& plan;
  const Bags& bags;
  Pool pool;
  MatrixView<const float> grad;
};

}  // namespace hypertower::cpu
#endif  // HYPERTOWER_CPU_EMBEDDING_RUNS_

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace {

// Calls body(E()) with the type of the numbers in rows of a format.
template <class Body>
HWY_INLINE void with_element(RowFormat format, const Body& body) {
  switch (format) {
    case RowFormat::kFloat32:
      return body(float());
    case RowFormat::kBfloat16:
      return body(Bfloat16());
    case RowFormat::kFloat16:
      return body(Float16());
    case RowFormat::kInt8:
      return body(uint8_t());
  }
}

// Rows of a table, named by the ids of a lookup.
template <class E, bool kWeighted, bool kMayBeBad>
struct TableRows {
  static constexpr bool kBiased = std::is_same_v<E, uint8_t>;
  static constexpr bool kScaled = kWeighted || kBiased;

  const std::byte* data;
  int64_t stride, rows, bytes, scale_at, n;
  const int64_t* ids;
  const float* weights;

  TableRows(const ConstTable& table, const Bags& bags)
      : data(table.row(0)),
        stride(table.stride),
        rows(table.rows),
        bytes(row_bytes(table.format, table.cols)),
        scale_at(int8_scale_offset(table.cols)),
        n(bags.n),
        ids(bags.ids),
        weights(bags.weights) {}

  HWY_INLINE bool valid(int64_t e) const { return !kMayBeBad || is_row(ids[e], rows); }
  HWY_INLINE const std::byte* at(int64_t e) const { return data + ids[e] * stride; }
  HWY_INLINE const E* row(int64_t e) const { return reinterpret_cast<const E*>(at(e)); }
  HWY_INLINE float weight(int64_t e) const { return kWeighted ? weights[e] : 1.0F; }
  HWY_INLINE float int8_scale(int64_t e) const { return number(at(e) + scale_at); }
  HWY_INLINE float int8_bias(int64_t e) const { return number(at(e) + scale_at + 4); }
  HWY_INLINE float scale(int64_t e) const {
    return kBiased ? weight(e) * int8_scale(e) : weight(e);
  }
  HWY_INLINE float bias(int64_t e) const { return weight(e) * int8_bias(e); }
  HWY_INLINE void prefetch(int64_t e) const {
    if (e < n && valid(e)) prefetch_row(at(e), bytes);
  }

 private:
  static HWY_INLINE float number(const std::byte* at) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
};

// Rows of the output gradient, named by the entries of a plan.
template <bool kScaledRows>
struct GradientRows {
  static constexpr bool kScaled = kScaledRows;
  static constexpr bool kBiased = false;
  MatrixView<const float> grad;
  const EmbeddingPlan::Data& plan;
  const Bags& bags;
  Pool pool;

  HWY_INLINE uint32_t bag(int64_t e) const { return static_cast<uint32_t>(plan.entry[e]); }
  HWY_INLINE bool valid(int64_t) const { return true; }
  HWY_INLINE const float* row(int64_t e) const { return grad.data + bag(e) * grad.ld; }
  HWY_INLINE float scale(int64_t e) const {
    const float weight = bags.weights != nullptr ? bags.weights[plan.entry[e] >> 32] : 1.0F;
    if (pool == Pool::kSum) return weight;
    return weight / static_cast<float>(bags.offsets[bag(e) + 1] - bags.offsets[bag(e)]);
  }
  HWY_INLINE void prefetch(int64_t e) const {
    if (e < plan.entries) prefetch_row(row(e), grad.cols * int64_t{sizeof(float)});
  }
};

// Sums of pieces, one after the other.
struct PieceRows {
  static constexpr bool kScaled = false;
  static constexpr bool kBiased = false;
  const float* data;
  int64_t dim;

  HWY_INLINE bool valid(int64_t) const { return true; }
  HWY_INLINE const float* row(int64_t e) const { return data + e * dim; }
  HWY_INLINE void prefetch(int64_t) const {}
};

template <class Rows>
void sum_pieces_of(const Rows& rows, const LongList& list, int64_t dim, float* pieces,
                   int64_t begin, int64_t end) {
  for (int64_t piece = begin; piece < end; ++piece) {
    const int64_t from = list.begin + piece * kPieceIds;
    gather_reduce(rows, from, std::min(from + kPieceIds, list.end), dim, pieces + piece * dim);
  }
}

// For the lists that begin in [begin, end) of the work: the sum of each, written to target(list),
// then done(list, sum). `pieces` has the sums of the pieces of the long ones. kInPlace: a list of
// one row is not copied, its sum is the row itself.
template <bool kInPlace, class Rows, class Start, class Target, class Done>
HWY_INLINE void sum_lists(const Rows& rows, const Lists<Start>& lists,
                          const std::vector<LongList>& longs, const float* pieces, int64_t dim,
                          int64_t begin, int64_t end, const Target& target, const Done& done) {
  const int64_t first = lists.at(begin), last = lists.at(end);
  auto next_long = std::partition_point(longs.begin(), longs.end(),
                                        [&](const LongList& l) { return l.list < first; });
  std::vector<float> scratch;  // only lists of several pieces need it
  for (int64_t i = first; i < last; ++i) {
    const int64_t from = lists.begin(i), to = lists.end(i);
    if constexpr (kInPlace) {
      if (to - from == 1) {
        rows.prefetch(from + kPrefetchDistance);
        done(i, rows.row(from));
        continue;
      }
    }
    if (to - from <= kPieceIds) {
      gather_reduce(rows, from, to, dim, target(i));
    } else {
      scratch.resize(kPieceLevels * dim);
      if (next_long != longs.end() && next_long->list == i) {
        const PieceRows sums{pieces + next_long->first_piece * dim, dim};
        sum_in_pieces(sums, 0, next_long->pieces(), dim, target(i), scratch.data());
        ++next_long;
      } else {
        sum_in_pieces(rows, from, to, dim, target(i), scratch.data());
      }
    }
    done(i, target(i));
  }
}

// Calls body(rows) with the rows of a lookup.
template <class Body>
HWY_INLINE void with_table_rows(const TableLookup& lookup, bool may_be_bad, const Body& body) {
  with_element(lookup.table.format, [&](auto element) HWY_ATTR {
    using E = decltype(element);
    if (lookup.bags.weights != nullptr) {
      if (may_be_bad) return body(TableRows<E, true, true>(lookup.table, lookup.bags));
      return body(TableRows<E, true, false>(lookup.table, lookup.bags));
    }
    if (may_be_bad) return body(TableRows<E, false, true>(lookup.table, lookup.bags));
    return body(TableRows<E, false, false>(lookup.table, lookup.bags));
  });
}

void forward_pieces(const TableLookup& lookup, bool may_be_bad, const LongList& list, float* pieces,
                    int64_t begin, int64_t end) {
  with_table_rows(lookup, may_be_bad, [&](const auto& rows) HWY_ATTR {
    sum_pieces_of(rows, list, lookup.table.cols, pieces, begin, end);
  });
}

void forward_bags(const TableLookup& lookup, bool may_be_bad, const std::vector<LongList>& longs,
                  const float* pieces, int64_t begin, int64_t end) {
  const Lists<int64_t> bags{lookup.bags.offsets, lookup.bags.bags};
  const int64_t dim = lookup.table.cols;
  with_table_rows(lookup, may_be_bad, [&](const auto& rows) HWY_ATTR {
    sum_lists<false>(
        rows, bags, longs, pieces, dim, begin, end,
        [&](int64_t b) HWY_ATTR { return lookup.out.data + b * lookup.out.ld; },
        [&](int64_t b, const float*) HWY_ATTR {
          const int64_t length = bags.end(b) - bags.begin(b);
          if (lookup.pool != Pool::kMean || length < 2) return;
          float* sum = lookup.out.data + b * lookup.out.ld;
          const auto count = static_cast<float>(length);
          for_each_vector(dim, [&](auto d, int64_t c) HWY_ATTR {
            hn::StoreU(hn::Div(hn::LoadU(d, sum + c), hn::Set(d, count)), d, sum + c);
          });
        });
  });
}

// Calls body(rows) with the gradient rows of a plan.
template <class Body>
HWY_INLINE void with_gradient_rows(const RunGradients& g, const Body& body) {
  if (g.pool == Pool::kSum && g.bags.weights == nullptr) {
    return body(GradientRows<false>{g.grad, g.plan, g.bags, g.pool});
  }
  body(GradientRows<true>{g.grad, g.plan, g.bags, g.pool});
}

void backward_pieces(const RunGradients& g, const LongList& list, float* pieces, int64_t begin,
                     int64_t end) {
  with_gradient_rows(g, [&](const auto& rows) HWY_ATTR {
    sum_pieces_of(rows, list, g.grad.cols, pieces, begin, end);
  });
}

void update_runs(const TableUpdate& update, const RunGradients& g,
                 const std::vector<LongList>& longs, const float* pieces, int64_t begin,
                 int64_t end) {
  constexpr int64_t kAhead = 8;  // runs; a row is written back, so it is asked for early
  const Lists<int32_t> runs{g.plan.run_start, g.plan.runs};
  std::vector<float> sum(g.grad.cols);
  with_optimizer(update.table, update.state0, update.state1, update.step,
                 [&](const auto& optimizer) HWY_ATTR {
                   with_gradient_rows(g, [&](const auto& rows) HWY_ATTR {
                     sum_lists<!std::remove_cvref_t<decltype(rows)>::kScaled>(
                         rows, runs, longs, pieces, g.grad.cols, begin, end,
                         [&](int64_t) HWY_ATTR { return sum.data(); },
                         [&](int64_t run, const float* total) HWY_ATTR {
                           if (run + kAhead < g.plan.runs) {
                             optimizer.prefetch(g.plan.row[run + kAhead]);
                           }
                           optimizer.apply(g.plan.row[run], total);
                         });
                   });
                 });
}

void gradient_runs(const RunGradients& g, MatrixView<float> row_grad,
                   const std::vector<LongList>& longs, const float* pieces, int64_t begin,
                   int64_t end) {
  const Lists<int32_t> runs{g.plan.run_start, g.plan.runs};
  with_gradient_rows(g, [&](const auto& rows) HWY_ATTR {
    sum_lists<false>(
        rows, runs, longs, pieces, g.grad.cols, begin, end,
        [&](int64_t run) HWY_ATTR { return row_grad.data + run * row_grad.ld; },
        [](int64_t, const float*) {});
  });
}

void update_rows(Table table, MatrixView<float> state0, MatrixView<float> state1,
                 const int64_t* rows, MatrixView<const float> row_grad, const OptimizerStep& step,
                 int64_t begin, int64_t end) {
  with_optimizer(table, state0, state1, step, [&](const auto& optimizer) HWY_ATTR {
    for (int64_t i = begin; i < end; ++i) optimizer.apply(rows[i], row_grad.row(i));
  });
}

void weight_gradient_bags(ConstTable table, const Bags& bags, Pool pool,
                          MatrixView<const float> grad, float* out, int64_t begin, int64_t end) {
  with_element(table.format, [&](auto element) HWY_ATTR {
    using E = decltype(element);
    const TableRows<E, false, true> rows(table, bags);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t length = bags.offsets[b + 1] - bags.offsets[b];
      const float divisor = pool == Pool::kMean ? static_cast<float>(length) : 1.0F;
      for (int64_t e = bags.offsets[b]; e < bags.offsets[b + 1]; ++e) {
        rows.prefetch(e + kPrefetchDistance);
        out[e] = 0.0F;
        if (!rows.valid(e)) continue;
        float product;
        if constexpr (rows.kBiased) {
          product =
              dot(grad.row(b), rows.row(e), table.cols, rows.int8_scale(e), rows.int8_bias(e));
        } else {
          product = dot(grad.row(b), rows.row(e), table.cols);
        }
        out[e] = product / divisor;
      }
    }
  });
}

}  // namespace
}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hypertower::cpu {
namespace {

HWY_EXPORT(forward_pieces);
HWY_EXPORT(forward_bags);
HWY_EXPORT(backward_pieces);
HWY_EXPORT(update_runs);
HWY_EXPORT(gradient_runs);
HWY_EXPORT(update_rows);
HWY_EXPORT(weight_gradient_bags);

// Ids and lists per block of a parallel loop: short enough to balance a skewed batch.
constexpr int64_t kBlock = 2048;

// Starting threads costs more than a small lookup.
int threads_for(const Exec& exec, int64_t floats) {
  constexpr int64_t kMinFloats = int64_t{1} << 17;
  return floats < kMinFloats ? 1 : exec.threads;
}

// One of several lookups or steps: its long lists, and room for their pieces.
struct Part {
  std::vector<LongList> longs;
  std::vector<float> pieces;

  template <class Start>
  Part(const Lists<Start>& lists, int64_t dim) : longs(long_lists(lists)) {
    if (!longs.empty()) {
      pieces.resize((longs.back().first_piece + longs.back().pieces()) * dim);
    }
  }
};

// Sums the pieces of every long list of every part: sum(part, list, pieces, begin, end).
template <class Dim, class Sum>
void sum_all_pieces(std::vector<Part>& parts, int threads, const Dim& dim, const Sum& sum) {
  struct Job {
    size_t part;
    const LongList* list;
  };
  std::vector<Job> jobs;
  std::vector<int64_t> counts;
  for (size_t p = 0; p < parts.size(); ++p) {
    for (const LongList& list : parts[p].longs) {
      jobs.push_back({p, &list});
      counts.push_back(list.pieces());
    }
  }
  parallel_for_all(threads, counts, kBlock / kPieceIds, [&](size_t j, int64_t begin, int64_t end) {
    const Job& job = jobs[j];
    sum(job.part, *job.list, parts[job.part].pieces.data() + job.list->first_piece * dim(job.part),
        begin, end);
  });
}

}  // namespace

std::vector<IdReport> embedding_bag(std::span<const TableLookup> lookups, BadIds policy,
                                    const Exec& exec) {
  std::vector<PlanInput> checked;
  std::vector<Part> parts;
  std::vector<int64_t> work;
  int64_t floats = 0;
  for (const TableLookup& l : lookups) {
    checked.push_back({l.table.rows, l.bags});
    floats += l.bags.n * l.table.cols;
  }
  const int threads = threads_for(exec, floats);
  std::vector<IdReport> reports = check_bags(checked, policy, threads);
  for (const TableLookup& l : lookups) {
    const Lists<int64_t> bags{l.bags.offsets, l.bags.bags};
    parts.emplace_back(bags, l.table.cols);
    work.push_back(bags.work());
  }
  sum_all_pieces(
      parts, threads, [&](size_t i) { return lookups[i].table.cols; },
      [&](size_t i, const LongList& list, float* pieces, int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(forward_pieces)
        (lookups[i], reports[i].dropped > 0, list, pieces, begin, end);
      });
  parallel_for_all(threads, work, kBlock, [&](size_t i, int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(forward_bags)
    (lookups[i], reports[i].dropped > 0, parts[i].longs, parts[i].pieces.data(), begin, end);
  });
  return reports;
}

namespace {

std::span<const float> row_of(MatrixView<const float> m, int64_t row) {
  return {m.row(row), static_cast<size_t>(m.cols)};
}

// Sums all runs of several plans and hands each to run(i, part, begin, end) for blocks of work.
template <class Run>
void for_all_runs(std::span<const RunGradients> gradients, const Exec& exec, const Run& run) {
  std::vector<Part> parts;
  std::vector<int64_t> work;
  int64_t floats = 0;
  for (const RunGradients& g : gradients) {
    const Lists<int32_t> runs{g.plan.run_start, g.plan.runs};
    parts.emplace_back(runs, g.grad.cols);
    work.push_back(runs.work());
    floats += g.plan.entries * g.grad.cols;
  }
  const int threads = threads_for(exec, floats);
  sum_all_pieces(
      parts, threads, [&](size_t i) { return gradients[i].grad.cols; },
      [&](size_t i, const LongList& list, float* pieces, int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(backward_pieces)(gradients[i], list, pieces, begin, end);
      });
  parallel_for_all(threads, work, kBlock,
                   [&](size_t i, int64_t begin, int64_t end) { run(i, parts[i], begin, end); });
}

}  // namespace

void embedding_backward(std::span<const TableUpdate> updates, const Exec& exec) {
  std::vector<RunGradients> gradients;
  for (const TableUpdate& u : updates) {
    const int64_t bad = first_non_finite_row(u.grad, exec.threads);
    if (bad >= 0) throw_bad_gradient(bags_label(u.bags), "bag", bad, row_of(u.grad, bad));
    gradients.push_back({u.plan->data(), u.bags, u.pool, u.grad});
  }
  for_all_runs(gradients, exec, [&](size_t i, const Part& part, int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(update_runs)
    (updates[i], gradients[i], part.longs, part.pieces.data(), begin, end);
  });
}

void embedding_row_gradient(const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                            MatrixView<const float> grad, MatrixView<float> row_grad,
                            const Exec& exec) {
  const RunGradients gradients{plan, bags, pool, grad};
  for_all_runs({&gradients, 1}, exec, [&](size_t, const Part& part, int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(gradient_runs)
    (gradients, row_grad, part.longs, part.pieces.data(), begin, end);
  });
}

void embedding_weight_gradient(ConstTable table, const Bags& bags, Pool pool,
                               MatrixView<const float> grad, float* out, const Exec& exec) {
  check_offsets(bags);
  constexpr int64_t kGrain = 256;  // bags
  parallel_for(
      threads_for(exec, bags.n * table.cols), bags.bags, kGrain, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(weight_gradient_bags)(table, bags, pool, grad, out, begin, end);
      });
}

void apply_row_gradient(Table table, MatrixView<float> state0, MatrixView<float> state1,
                        const int64_t* rows, MatrixView<const float> row_grad,
                        const OptimizerStep& step, const Exec& exec) {
  constexpr int64_t kGrain = 256;  // rows
  const int64_t bad = first_non_finite_row(row_grad, exec.threads);
  if (bad >= 0) throw_bad_gradient("apply_row_gradient: ", "row", bad, row_of(row_grad, bad));
  parallel_for(threads_for(exec, row_grad.rows * table.cols), row_grad.rows, kGrain,
               [&](int64_t begin, int64_t end) {
                 HWY_DYNAMIC_DISPATCH(update_rows)
                 (table, state0, state1, rows, row_grad, step, begin, end);
               });
}

}  // namespace hypertower::cpu
#endif  // HWY_ONCE
