// The streamed softmax loss on CUDA. A block owns 64 rows (or, for the gradient of the columns, 64
// columns) and walks over tiles of the other side, computing each 64 x 64 tile of logits in
// registers by tensor cores (softmax_tile.cuh); nothing of size B x C exists. Forward is one
// product, backward four (each gradient recomputes the logits, once more per 64 dimensions). Bound
// by tensor cores, three products each. The walk is cut into parts that depend on the shapes only,
// and their results are added in order.
#include <algorithm>
#include <string>

#include "kernels/cuda/scratch.h"
#include "kernels/cuda/softmax_tile.cuh"
#include "kernels/softmax_loss_backend.h"

namespace hypertower::cuda {
namespace {

constexpr unsigned long long kNone = ~0ULL;
constexpr int kThreads = 256;
constexpr int64_t kForwardParts = 32;   // 16 bytes per row and part
constexpr int64_t kBackwardParts = 16;  // D floats per row and part

// First offenders, or kNone.
struct LossErrors {
  unsigned long long target;    // row
  unsigned long long offset;    // index into row_exclude.offsets
  unsigned long long unsorted;  // row of row_exclude
  unsigned long long loss;      // row

  __device__ __forceinline__ bool any_in_input() const {
    return target != kNone || offset != kNone || unsorted != kNone;
  }
};

__device__ __forceinline__ void report(unsigned long long* first, int64_t at) {
  atomicMin(first, static_cast<unsigned long long>(at));
}

__global__ void __launch_bounds__(kThreads)
    check_input_kernel(SoftmaxLossInput in, LossErrors* errors) {
  const int64_t b = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (b < in.queries.rows && (in.target[b] < 0 || in.target[b] >= in.columns.rows)) {
    report(&errors->target, b);
  }
  const int64_t* offsets = in.row_exclude.offsets;
  if (offsets == nullptr || b > in.queries.rows) return;
  if (b == 0 ? offsets[0] != 0 : offsets[b] < offsets[b - 1]) report(&errors->offset, b);
}

// After the check of offsets, which say where to read.
__global__ void __launch_bounds__(kThreads)
    check_sorted_kernel(SoftmaxLossInput in, LossErrors* errors) {
  const int64_t b = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (b >= in.queries.rows || errors->offset != kNone) return;
  for (int64_t i = in.row_exclude.offsets[b] + 1; i < in.row_exclude.offsets[b + 1]; ++i) {
    if (in.row_exclude.values[i] < in.row_exclude.values[i - 1]) report(&errors->unsorted, b);
  }
}

// A log-sum-exp under way: max + log(sum).
struct LogSum {
  double sum = 0.0;
  float max = -INFINITY;

  // The shift that keeps exp(z - shift) from NaN while every z is -inf.
  __device__ __forceinline__ static float shift(float max) { return max == -INFINITY ? 0.0F : max; }

  __device__ __forceinline__ void raise(float new_max) {
    if (new_max > max) sum *= expf(max - new_max);
    max = fmaxf(max, new_max);
  }
  // Symmetric, so both partners of a butterfly get the same bits.
  __device__ __forceinline__ void add(const LogSum& other) {
    const float top = fmaxf(max, other.max);
    sum = sum * expf(max - shift(top)) + other.sum * expf(other.max - shift(top));
    max = top;
  }
};

// partial[part][row] over the part's columns; target_logit[row] from the part that holds it.
template <bool kVector>
__global__ void __launch_bounds__(kTileThreads)
    loss_forward_kernel(SoftmaxLossInput in, const LossErrors* errors, int64_t part_columns,
                        LogSum* partial, float* target_logit) {
  if (errors->any_in_input()) return;
  SHARED(float, left, [kTile * kDepthStride]);
  SHARED(float, right, [kTile * kDepthStride]);
  SHARED(RowKeys, rows, );
  SHARED(ColumnKeys, columns, );
  const int64_t first_row = int64_t{blockIdx.x} * kTile;
  const int64_t begin = blockIdx.y * part_columns;
  const int64_t end = min(begin + part_columns, in.columns.rows);
  load_row_keys(in, nullptr, nullptr, first_row, &rows);
  LogSum total[2];
  for (int64_t first = begin; first < end; first += kTile) {
    __syncthreads();
    load_column_keys(in, first, &columns);
    TileSums z;
    dot_tile<kVector>(in.queries, first_row, in.columns, first, left, right, z);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r = tile_row(h);
      float top = total[h].max;
#pragma unroll
      for (int i = 0; i < 2 * kTileBlocks; ++i) {
        float& logit = z[i / 2][2 * h + i % 2];
        const int c = tile_column(i / 2, i % 2);
        logit = __fmaf_rn(logit, in.scale, -columns.logq[c]);
        if (first + c == rows.target[r]) target_logit[first_row + r] = logit;
        if (masked(in, rows, r, columns, c, first + c)) logit = -INFINITY;
        top = fmaxf(top, logit);
      }
      total[h].raise(top);
      float sum = 0.0F;
#pragma unroll
      for (int i = 0; i < 2 * kTileBlocks; ++i) {
        sum += expf(z[i / 2][2 * h + i % 2] - LogSum::shift(top));
      }
      total[h].sum += sum;
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    for (int offset = 2; offset > 0; offset /= 2) {  // over the 4 threads that share the rows
      LogSum other;
      other.sum = __shfl_xor_sync(kFullMask, total[h].sum, offset);
      other.max = __shfl_xor_sync(kFullMask, total[h].max, offset);
      total[h].add(other);
    }
    const int64_t row = first_row + tile_row(h);
    if (lane_index() % 4 == 0 && row < in.queries.rows) {
      partial[blockIdx.y * in.queries.rows + row] = total[h];
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    loss_finish_kernel(SoftmaxLossInput in, LossErrors* errors, int64_t parts,
                       const LogSum* partial, const float* target_logit, float* loss,
                       float* log_z) {
  if (errors->any_in_input()) return;
  const int64_t row = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row >= in.queries.rows) return;
  LogSum total;
  for (int64_t part = 0; part < parts; ++part) total.add(partial[part * in.queries.rows + row]);
  const double z = double{total.max} + log(total.sum);
  const double weight = in.weight != nullptr ? double{in.weight[row]} : 1.0;
  const auto value = static_cast<float>((z - double{target_logit[row]}) * weight);
  log_z[row] = static_cast<float>(z);
  loss[row] = value;
  if (!isfinite(value)) report(&errors->loss, row);
}

// out[part] [outer rows, D] = sum over the part's inner rows of probability * their vectors, for 64
// dimensions per blockIdx.y. kQuery: outer = queries, inner = columns; else the other way round.
template <bool kQuery, bool kVector>
__global__ void __launch_bounds__(kTileThreads)
    loss_gradient_kernel(SoftmaxLossInput in, const LossErrors* errors, const float* log_z,
                         const float* grad_loss, int64_t part_inner, MatrixView<float> out) {
  if (errors->any_in_input()) return;
  SHARED(float, left, [kTile * kDepthStride]);
  SHARED(float, right, [kTile * kDepthStride]);
  SHARED(float, vectors, [kTile * kVectorStride]);  // [inner][dimension]
  SHARED(RowKeys, rows, );
  SHARED(ColumnKeys, columns, );
  const MatrixView<const float>& outer = kQuery ? in.queries : in.columns;
  const MatrixView<const float>& inner = kQuery ? in.columns : in.queries;
  const int64_t first_outer = int64_t{blockIdx.x} * kTile;
  const int64_t first_dim = int64_t{blockIdx.y} * kTile;
  const int64_t begin = blockIdx.z * part_inner;
  const int64_t end = min(begin + part_inner, inner.rows);
  if constexpr (kQuery) {
    load_row_keys(in, log_z, grad_loss, first_outer, &rows);
  } else {
    load_column_keys(in, first_outer, &columns);
  }
  TileSums sum = {};
  for (int64_t first = begin; first < end; first += kTile) {
    __syncthreads();
    if constexpr (kQuery) {
      load_column_keys(in, first, &columns);
    } else {
      load_row_keys(in, log_z, grad_loss, first, &rows);
    }
    load_rows<kVector, kTile>(inner, first, first_dim, vectors);
    TileSums z;  // logits, then probabilities
    dot_tile<kVector>(outer, first_outer, inner, first, left, right, z);
#pragma unroll
    for (int i = 0; i < 4 * kTileBlocks; ++i) {
      float& number = z[i / 4][i % 4];
      const int o = tile_row(i % 4 / 2), n = tile_column(i / 4, i % 2);
      const int r = kQuery ? o : n, c = kQuery ? n : o;
      const int64_t column = (kQuery ? first : first_outer) + c;
      const float shifted = __fmaf_rn(number, in.scale, -columns.logq[c]) - rows.log_z[r];
      number = 0.0F;
      if (!masked(in, rows, r, columns, c, column)) number = rows.coefficient[r] * expf(shifted);
      if (column == rows.target[r]) number -= rows.coefficient[r];
    }
    multiply_tile(z, vectors, sum);
  }
#pragma unroll
  for (int i = 0; i < 4 * kTileBlocks; ++i) {
    const int64_t o = first_outer + tile_row(i % 4 / 2), d = first_dim + tile_column(i / 4, i % 2);
    if (o < outer.rows && d < outer.cols) {
      out.data[(blockIdx.z * outer.rows + o) * out.ld + d] = sum[i / 4][i % 4];
    }
  }
}

// A warp per row: d_query[row] = sum of its parts in order, slope[row] = <d_query[row],
// query[row]>.
__global__ void __launch_bounds__(kThreads)
    sum_parts_kernel(MatrixView<const float> queries, const LossErrors* errors,
                     const float* partial, int64_t parts, MatrixView<float> d_query,
                     double* slope) {
  if (errors->any_in_input()) return;
  const int64_t row = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
  const bool alive = row < queries.rows;  // all lanes stay for the shuffles
  double dot = 0.0;
  for (int64_t d = lane_index(); alive && d < queries.cols; d += 32) {
    float sum = 0.0F;
    for (int64_t part = 0; part < parts; ++part) {
      sum += partial[(part * queries.rows + row) * queries.cols + d];
    }
    d_query.data[row * d_query.ld + d] = sum;
    dot += double{sum} * double{queries.data[row * queries.ld + d]};
  }
  dot = warp_reduce_sum(dot);
  if (alive && lane_index() == 0) slope[row] = dot;
}

// One block. A logit is linear in the query and in the scale: d loss / d scale =
// <d loss / d query, query> / scale.
__global__ void __launch_bounds__(kThreads)
    scale_gradient_kernel(const double* slope, const LossErrors* errors, int64_t rows, float scale,
                          double* d_scale) {
  if (errors->any_in_input()) return;
  SHARED(double, scratch, [33]);
  double sum = 0.0;
  for (int64_t b = threadIdx.x; b < rows; b += kThreads) sum += slope[b];
  sum = block_reduce_sum<kThreads>(sum, scratch);
  if (threadIdx.x == 0) *d_scale = sum / double{scale};
}

// One call: its errors on the device, and how to launch.
class Call {
 public:
  Call(const SoftmaxLossInput& in, const Exec& exec)
      : in_(in), stream_(static_cast<cudaStream_t>(exec.stream)), errors_(1, stream_) {
    check(cudaMemsetAsync(errors_.data(), 0xFF, sizeof(LossErrors), stream_), "softmax_loss");
    per_item("check_input", check_input_kernel, in.queries.rows + 1, in, errors_.data());
    if (in.row_exclude.offsets != nullptr) {
      per_item("check_sorted", check_sorted_kernel, in.queries.rows, in, errors_.data());
    }
  }

  cudaStream_t stream() const { return stream_; }
  LossErrors* errors() const { return errors_.data(); }

  // Whether every row of both matrices can be read 16 bytes at a time.
  bool vector() const {
    const auto aligned = [](const MatrixView<const float>& m) {
      return reinterpret_cast<uintptr_t>(m.data) % 16 == 0 && m.ld % 4 == 0;
    };
    return in_.queries.cols % 4 == 0 && aligned(in_.queries) && aligned(in_.columns);
  }

  // Enough threads for `count` items.
  template <class... P, class... A>
  void per_item(const char* name, void (*kernel)(P...), int64_t count, const A&... args) const {
    if (count == 0) return;
    const auto blocks = static_cast<unsigned>(ceil_div<int64_t>(count, kThreads));
    run(name, kernel, blocks, kThreads, args...);
  }

  template <class... P, class... A>
  void run(const char* name, void (*kernel)(P...), dim3 grid, int block, const A&... args) const {
    check(launch(kernel, {.grid = grid, .block = dim3(block), .stream = stream_, .name = name},
                 args...),
          name);
  }

 private:
  const SoftmaxLossInput& in_;
  cudaStream_t stream_;
  Scratch<LossErrors> errors_;
};

unsigned tiles(int64_t size) {
  return static_cast<unsigned>(ceil_div<int64_t>(size, kTile));
}

// Size of a part, in whole tiles, so that there are at most `most` parts.
int64_t part_size(int64_t size, int64_t most) {
  return ceil_div<int64_t>(tiles(size), most) * kTile;
}

template <bool kQuery>
void enqueue_gradient(const Call& call, const SoftmaxLossInput& in, const float* log_z,
                      const float* grad_loss, int64_t part, int64_t parts, MatrixView<float> out) {
  const int64_t outer = kQuery ? in.queries.rows : in.columns.rows;
  if (outer == 0) return;
  call.run("softmax_loss_gradient",
           call.vector() ? loss_gradient_kernel<kQuery, true> : loss_gradient_kernel<kQuery, false>,
           dim3(tiles(outer), tiles(in.queries.cols), static_cast<unsigned>(parts)), kTileThreads,
           in, call.errors(), log_z, grad_loss, part, out);
}

}  // namespace

void softmax_loss_forward(const SoftmaxLossInput& in, float* loss, float* log_z, const Exec& exec) {
  const Call call(in, exec);
  const int64_t rows = in.queries.rows, columns = in.columns.rows;
  const int64_t part = std::max<int64_t>(part_size(columns, kForwardParts), kTile);
  const int64_t parts = std::max<int64_t>(ceil_div(columns, part), 1);
  const Scratch<LogSum> partial(parts * rows, call.stream());
  const Scratch<float> target_logit(rows, call.stream());
  if (rows > 0 && columns > 0) {
    call.run("softmax_loss_forward",
             call.vector() ? loss_forward_kernel<true> : loss_forward_kernel<false>,
             dim3(tiles(rows), static_cast<unsigned>(parts)), kTileThreads, in, call.errors(), part,
             partial.data(), target_logit.data());
    call.per_item("softmax_loss_finish", loss_finish_kernel, rows, in, call.errors(), parts,
                  partial.data(), target_logit.data(), loss, log_z);
  }

  const LossErrors errors = to_host(call.errors(), 1, call.stream())[0];
  const auto at = [&](const auto* data, unsigned long long i, int64_t size) {
    return to_host(data + i, size, call.stream());
  };
  if (errors.target != kNone) {
    throw_bad_target(static_cast<int64_t>(errors.target), at(in.target, errors.target, 1)[0],
                     columns);
  }
  if (errors.offset != kNone) {
    throw_bad_exclude(static_cast<int64_t>(errors.offset),
                      at(in.row_exclude.offsets, errors.offset, 1)[0]);
  }
  if (errors.unsorted != kNone) throw_unsorted_exclude(static_cast<int64_t>(errors.unsorted));
  if (errors.loss != kNone) {
    const auto row = static_cast<int64_t>(errors.loss);
    throw_bad_loss(row, at(loss, errors.loss, 1)[0],
                   at(in.queries.data, row * in.queries.ld, in.queries.cols).data(),
                   in.queries.cols);
  }
}

void softmax_loss_backward(const SoftmaxLossInput& in, const float* log_z, const float* grad_loss,
                           MatrixView<float> d_query, MatrixView<float> d_column, double* d_scale,
                           const Exec& exec) {
  const Call call(in, exec);
  const int64_t rows = in.queries.rows, columns = in.columns.rows, dim = in.queries.cols;
  const int64_t part = std::max<int64_t>(part_size(columns, kBackwardParts), kTile);
  const int64_t parts = std::max<int64_t>(ceil_div(columns, part), 1);
  const Scratch<float> partial(parts * rows * dim, call.stream());
  const Scratch<double> slope(rows, call.stream());
  enqueue_gradient<true>(call, in, log_z, grad_loss, part, parts,
                         {partial.data(), parts * rows, dim});
  enqueue_gradient<false>(call, in, log_z, grad_loss, rows, 1, d_column);
  call.per_item("softmax_loss_sum_parts", sum_parts_kernel, rows * 32, in.queries, call.errors(),
                partial.data(), parts, d_query, slope.data());
  if (d_scale != nullptr) {
    call.run("softmax_loss_scale_gradient", scale_gradient_kernel, 1, kThreads, slope.data(),
             call.errors(), rows, in.scale, d_scale);
  }
}

}  // namespace hypertower::cuda
