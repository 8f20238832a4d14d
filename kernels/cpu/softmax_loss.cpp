// The streamed softmax loss on the CPU. Forward is one product (the logits), backward three (the
// logits again, and one for each gradient); every tile of logits stays in cache. Bound: the
// multiplies, 4 * B * C * D in all; masks cost a hash lookup per row, key and span of columns.
//
// Columns are cut into parts that different threads may take; a part into spans that share one hash
// index; a span into tiles. The cuts depend on the number of columns only.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "hwy/aligned_allocator.h"
#include "kernels/cpu/column_mask.h"
#include "kernels/cpu/softmax_tile.h"
#include "kernels/parallel.h"
#include "kernels/softmax_loss_backend.h"

namespace hypertower::cpu {
namespace {

constexpr int64_t kTileColumns = 128;
constexpr int64_t kSpanTiles = 8;
constexpr int64_t kSpanColumns = kTileColumns * kSpanTiles;
// Each part keeps its own sum of d_query; more parts would feed more threads and take more memory.
constexpr int64_t kMaxParts = 16;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

using Floats = hwy::AlignedFreeUniquePtr<float[]>;
Floats zeros(int64_t count) {
  Floats floats = hwy::AllocateAligned<float>(std::max<int64_t>(count, 1));
  std::fill_n(floats.get(), count, 0.0F);
  return floats;
}

int64_t round_up(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}

// What the tiles of one call share.
class Problem {
 public:
  Problem(const SoftmaxLossInput& in, const Exec& exec)
      : in(in),
        kernels(softmax_tile_kernels()),
        rows(in.queries.rows),
        columns(in.columns.rows),
        dim(in.queries.cols),
        ld(round_up(dim, 16)),
        blocks((rows + kTileRows - 1) / kTileRows),
        tiles((columns + kTileColumns - 1) / kTileColumns),
        parts(std::min(tiles, kMaxParts)),
        threads(rows * columns * dim < (int64_t{1} << 21) ? 1 : exec.threads),
        queries(zeros(blocks * kTileRows * ld)),
        queries_t(zeros(blocks * kTileRows * dim)) {
    for (int64_t b = 0; b < rows; ++b) {
      const float* row = in.queries.row(b);
      std::copy_n(row, dim, queries.get() + b * ld);
      float* lane = queries_t.get() + b / kTileRows * kTileRows * dim + b % kTileRows;
      for (int64_t j = 0; j < dim; ++j) lane[j * kTileRows] = row[j];
    }
  }

  int64_t part_begin(int64_t part) const {
    return std::min(columns, part * tiles / parts * kTileColumns);
  }

  const SoftmaxLossInput& in;
  const SoftmaxTileKernels kernels;
  const int64_t rows, columns, dim;
  const int64_t ld;  // of padded vectors: a multiple of the widest register
  const int64_t blocks, tiles, parts;
  const int threads;
  const Floats queries;    // [blocks * kTileRows][ld]
  const Floats queries_t;  // [blocks][dim][kTileRows]
};

// A walk over one part: z holds the masked logits of one tile when `visit` is called.
class Walk {
 public:
  explicit Walk(const Problem& problem)
      : columns_(zeros(kSpanColumns * problem.ld)),
        z_(zeros(kTileColumns * kTileRows)),
        p_(problem),
        mask_(problem.in) {}

  // A tile: rows [row, row + rows) x columns [column, column + count).
  struct Tile {
    int64_t block, row, rows;
    int64_t column, count;
    int64_t in_span;      // of its first column
    float* z;             // [count][kTileRows]
    const float* packed;  // its columns [count][ld]

    // Position of the target of row `row + r` in the tile, or -1.
    int64_t target(const SoftmaxLossInput& in, int64_t r) const {
      const int64_t c = in.target[row + r] - column;
      return c >= 0 && c < count ? c : -1;
    }
  };

  // begin_span(first column, count), visit(Tile) for each tile of it, end_span(first, count).
  template <class Begin, class Visit, class End>
  void run(int64_t part, const Begin& begin_span, const Visit& visit, const End& end_span) {
    const int64_t end = p_.part_begin(part + 1);
    for (int64_t first = p_.part_begin(part); first < end; first += kSpanColumns) {
      const int64_t count = std::min(kSpanColumns, end - first);
      mask_.select(first, count);
      for (int64_t c = 0; c < count; ++c) {
        std::copy_n(p_.in.columns.row(first + c), p_.dim, columns_.get() + c * p_.ld);
      }
      begin_span(first, count);
      for (int64_t block = 0; block < p_.blocks; ++block) {
        find_masked(block);
        for (int64_t c = 0; c < count; c += kTileColumns) {
          visit(fill(block, first, c, std::min(kTileColumns, count - c)));
        }
      }
      end_span(first, count);
    }
  }

 private:
  struct Hit {
    int16_t column, row;  // in their tile
  };

  void find_masked(int64_t block) {
    for (std::vector<Hit>& hits : hits_) hits.clear();
    const int64_t rows = std::min(kTileRows, p_.rows - block * kTileRows);
    for (int64_t r = 0; r < rows; ++r) {
      mask_.for_each(block * kTileRows + r, [&](int64_t c) {
        hits_[c / kTileColumns].push_back(
            {static_cast<int16_t>(c % kTileColumns), static_cast<int16_t>(r)});
      });
    }
  }

  Tile fill(int64_t block, int64_t span, int64_t c, int64_t count) {
    const int64_t row = block * kTileRows;
    const Tile tile{block, row,      std::min(kTileRows, p_.rows - row), span + c, count,
                    c,     z_.get(), columns_.get() + c * p_.ld};
    p_.kernels.logits(tile.packed, count, p_.ld, p_.queries_t.get() + row * p_.dim, p_.dim,
                      p_.in.scale, p_.in.logq != nullptr ? p_.in.logq + tile.column : nullptr,
                      tile.z);
    for (const Hit& hit : hits_[c / kTileColumns]) {
      tile.z[hit.column * kTileRows + hit.row] = -kInfinity;
    }
    return tile;
  }

  const Floats columns_;  // of the span, padded
  const Floats z_;
  const Problem& p_;
  ColumnMask mask_;
  std::vector<Hit> hits_[kSpanTiles];
};

void nothing(int64_t, int64_t) {}

void check_values(const SoftmaxLossInput& in) {
  for (int64_t b = 0; b < in.queries.rows; ++b) {
    if (in.target[b] < 0 || in.target[b] >= in.columns.rows) {
      throw_bad_target(b, in.target[b], in.columns.rows);
    }
  }
  const int64_t* offsets = in.row_exclude.offsets;
  if (offsets == nullptr) return;
  for (int64_t b = 0; b <= in.queries.rows; ++b) {
    if (b == 0 ? offsets[0] != 0 : offsets[b] < offsets[b - 1]) throw_bad_exclude(b, offsets[b]);
  }
  for (int64_t b = 0; b < in.queries.rows; ++b) {
    const int64_t* items = in.row_exclude.values;
    if (!std::is_sorted(items + offsets[b], items + offsets[b + 1])) throw_unsorted_exclude(b);
  }
}

// A log-sum-exp under way: max + log(sum).
struct LogSum {
  float max = -kInfinity;
  double sum = 0.0;

  // Adds other_sum * exp(new_max), where new_max >= max.
  void add(float new_max, double other_sum) {
    if (new_max > max) sum *= std::exp(double{max} - double{new_max});
    // Not inside the branch: a NaN must spread.
    max = new_max;
    sum += other_sum;
  }
};

}  // namespace

void softmax_loss_forward(const SoftmaxLossInput& in, float* loss, float* log_z, const Exec& exec) {
  check_values(in);
  const Problem problem(in, exec);
  std::vector<LogSum> sums(problem.parts * problem.rows);
  std::vector<float> target_logit(problem.rows);  // each row's target lies in one part

  parallel_for(problem.threads, problem.parts, 1, [&](int64_t part, int64_t) {
    LogSum* of_row = sums.data() + part * problem.rows;
    alignas(64) float max[kTileRows], sum[kTileRows];
    const auto visit = [&](const Walk::Tile& tile) {
      for (int64_t r = 0; r < kTileRows; ++r) {
        max[r] = r < tile.rows ? of_row[tile.row + r].max : 0.0F;
      }
      problem.kernels.exp_sum(tile.z, tile.count, max, sum);
      for (int64_t r = 0; r < tile.rows; ++r) {
        of_row[tile.row + r].add(max[r], sum[r]);
        const int64_t c = tile.target(in, r);
        if (c >= 0) target_logit[tile.row + r] = tile.z[c * kTileRows + r];
      }
    };
    Walk(problem).run(part, nothing, visit, nothing);
  });

  int64_t bad = -1;
  for (int64_t b = problem.rows - 1; b >= 0; --b) {
    LogSum total;
    for (int64_t part = 0; part < problem.parts; ++part) {
      const LogSum& other = sums[part * problem.rows + b];
      if (other.max > total.max) {
        total.add(other.max, other.sum);
      } else if (other.sum != 0.0) {
        total.sum += other.sum * std::exp(double{other.max} - double{total.max});
      }
    }
    const double z = double{total.max} + std::log(total.sum);
    log_z[b] = static_cast<float>(z);
    loss[b] = static_cast<float>((z - double{target_logit[b]}) *
                                 (in.weight != nullptr ? double{in.weight[b]} : 1.0));
    if (!std::isfinite(loss[b])) bad = b;
  }
  if (bad >= 0) throw_bad_loss(bad, loss[bad], in.queries.row(bad), problem.dim);
}

void softmax_loss_backward(const SoftmaxLossInput& in, const float* log_z, const float* grad_loss,
                           MatrixView<float> d_query, MatrixView<float> d_column, double* d_scale,
                           const Exec& exec) {
  check_values(in);
  const Problem problem(in, exec);
  const int64_t padded_rows = problem.blocks * kTileRows;
  const int64_t ld = problem.ld;
  const Floats shift = zeros(padded_rows), coefficient = zeros(padded_rows);
  for (int64_t b = 0; b < problem.rows; ++b) {
    shift[b] = log_z[b];
    coefficient[b] = grad_loss[b] * (in.weight != nullptr ? in.weight[b] : 1.0F) * in.scale;
  }
  const Floats partial = zeros(problem.parts * padded_rows * ld);

  parallel_for(problem.threads, problem.parts, 1, [&](int64_t part, int64_t) {
    float* query_sum = partial.get() + part * padded_rows * ld;
    const Floats column_sum = zeros(kSpanColumns * ld);
    const auto begin = [&](int64_t, int64_t count) {
      std::fill_n(column_sum.get(), count * ld, 0.0F);
    };
    const auto visit = [&](const Walk::Tile& tile) {
      problem.kernels.probabilities(tile.z, tile.count, shift.get() + tile.row,
                                    coefficient.get() + tile.row);
      for (int64_t r = 0; r < tile.rows; ++r) {
        const int64_t c = tile.target(in, r);
        if (c >= 0) tile.z[c * kTileRows + r] -= coefficient[tile.row + r];
      }
      problem.kernels.add_d_query(tile.z, tile.count, tile.packed, ld, query_sum + tile.row * ld);
      problem.kernels.add_d_column(tile.z, tile.count, problem.queries.get() + tile.row * ld,
                                   tile.rows, ld, column_sum.get() + tile.in_span * ld);
    };
    const auto end = [&](int64_t first, int64_t count) {
      for (int64_t c = 0; c < count; ++c) {
        std::copy_n(column_sum.get() + c * ld, problem.dim, d_column.row(first + c));
      }
    };
    Walk(problem).run(part, begin, visit, end);
  });

  double scale_sum = 0.0;
  for (int64_t b = 0; b < problem.rows; ++b) {
    float* out = d_query.row(b);
    std::fill_n(out, problem.dim, 0.0F);
    for (int64_t part = 0; part < problem.parts; ++part) {
      const float* sum = partial.get() + (part * padded_rows + b) * ld;
      for (int64_t j = 0; j < problem.dim; ++j) out[j] += sum[j];
    }
    // A logit is linear in the query and in the scale: d loss / d scale = <d loss / d q, q> /
    // scale.
    const float* query = in.queries.row(b);
    for (int64_t j = 0; j < problem.dim; ++j) scale_sum += double{out[j]} * double{query[j]};
  }
  if (d_scale != nullptr) *d_scale = scale_sum / in.scale;
}

}  // namespace hypertower::cpu
