// The dense layers on the device: one tiled matrix product with an epilogue, and row-wise kernels.
// Each output of the product is one chain of fused multiply-adds over the inner dimension in
// order, so its bits depend on its two rows alone.
#include "kernels/cuda/dense.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"

namespace hypertower::cuda {
namespace {

constexpr int kTile = 64;      // rows and columns of out that a block computes
constexpr int kInner = 16;     // inner columns that are in shared memory at once
constexpr int kPerThread = 4;  // a thread computes 4 x 4 of them
constexpr int kProductThreads = 256;
constexpr int kPitch = kTile + 4;  // fewer bank conflicts where the tile is written
constexpr int kRowThreads = 128;   // row-wise kernels: a warp per row

__device__ float activate(Activation act, float x) {
  if (act == Activation::kRelu) return x < 0.0F ? 0.0F : x;  // a NaN stays one
  if (act == Activation::kGelu) return 0.5F * x * (1.0F + erff(x * 0.70710678F));
  return x;
}

// What becomes of sum (r, o) of the product.
struct LinearEpilogue {
  const float* bias;
  Activation act;
  bool accumulate;
  MatrixView<float> out;

  __device__ void operator()(int64_t r, int64_t o, float sum) const {
    const float y = activate(act, bias == nullptr ? sum : sum + bias[o]);
    float* to = out.data + r * out.ld + o;
    *to = accumulate ? *to + y : y;
  }
};

struct GateEpilogue {
  MatrixView<const float> gate;
  MatrixView<float> out;

  __device__ void operator()(int64_t r, int64_t o, float sum) const {
    out.data[r * out.ld + o] = sum * gate.data[r * gate.ld + o];
  }
};

struct ResidualEpilogue {
  MatrixView<const float> state;
  MatrixView<const float> shift;
  MatrixView<float> query;  // may be state: each thread reads what it then writes

  __device__ void operator()(int64_t r, int64_t o, float sum) const {
    const float base = state.data[r * state.ld + o] + shift.data[r * shift.ld + o];
    query.data[r * query.ld + o] = base + sum;
  }
};

// Columns [j, j + 16) of rows [first, first + 64), transposed; zeros beyond the matrix.
__device__ void load_tile(MatrixView<const float> m, int64_t first, int64_t j,
                          float (&tile)[kInner][kPitch]) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kInner; i += kProductThreads) {
    const int64_t r = first + i / kInner;
    const int64_t c = j + i % kInner;
    tile[i % kInner][i / kInner] = r < m.rows && c < m.cols ? m.data[r * m.ld + c] : 0.0F;
  }
}

// Block (r, o): a 64 x 64 tile of x W^T. Bound: float arithmetic for many rows, the read of the
// weights for few.
template <class Epilogue>
__global__ void __launch_bounds__(kProductThreads, 2)
    dense_product_kernel(MatrixView<const float> x, MatrixView<const float> weight,
                         Epilogue epilogue) {
  SHARED(float, x_tile, [kInner][kPitch]);
  SHARED(float, w_tile, [kInner][kPitch]);
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t first_out = static_cast<int64_t>(blockIdx.y) * kTile;
  const int thread_row = static_cast<int>(threadIdx.x) / (kTile / kPerThread) * kPerThread;
  const int thread_out = static_cast<int>(threadIdx.x) % (kTile / kPerThread) * kPerThread;
  float sum[kPerThread][kPerThread] = {};
  for (int64_t j = 0; j < x.cols; j += kInner) {
    load_tile(x, first_row, j, x_tile);
    load_tile(weight, first_out, j, w_tile);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kInner; ++i) {
      const float4 a = *reinterpret_cast<const float4*>(&x_tile[i][thread_row]);
      const float4 b = *reinterpret_cast<const float4*>(&w_tile[i][thread_out]);
      const float rows[kPerThread] = {a.x, a.y, a.z, a.w};
      const float outs[kPerThread] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int r = 0; r < kPerThread; ++r) {
#pragma unroll
        for (int o = 0; o < kPerThread; ++o) sum[r][o] = __fmaf_rn(rows[r], outs[o], sum[r][o]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < kPerThread; ++r) {
#pragma unroll
    for (int o = 0; o < kPerThread; ++o) {
      if (first_row + thread_row + r < x.rows && first_out + thread_out + o < weight.rows) {
        epilogue(first_row + thread_row + r, first_out + thread_out + o, sum[r][o]);
      }
    }
  }
}

// Warp per row. Reads the row three times, from cache after the first.
__global__ void __launch_bounds__(kRowThreads)
    dense_layer_norm_kernel(MatrixView<const float> x, const float* gamma, const float* beta,
                            float eps, MatrixView<float> out) {
  const int64_t r = (static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x) / 32;
  if (r >= x.rows) return;  // whole warps
  const float* from = x.data + r * x.ld;
  float sum = 0.0F;
  for (int64_t j = lane_index(); j < x.cols; j += 32) sum += from[j];
  const float mean = warp_reduce_sum(sum) / static_cast<float>(x.cols);
  float squares = 0.0F;
  for (int64_t j = lane_index(); j < x.cols; j += 32) {
    const float d = from[j] - mean;
    squares += d * d;
  }
  const float variance = warp_reduce_sum(squares) / static_cast<float>(x.cols);
  const float scale = 1.0F / sqrtf(variance + eps);
  for (int64_t j = lane_index(); j < x.cols; j += 32) {
    out.data[r * out.ld + j] = (from[j] - mean) * scale * gamma[j] + beta[j];
  }
}

// Warp per row.
__global__ void __launch_bounds__(kRowThreads)
    dense_l2_normalize_kernel(MatrixView<const float> x, float eps, MatrixView<float> out) {
  const int64_t r = (static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x) / 32;
  if (r >= x.rows) return;  // whole warps
  const float* from = x.data + r * x.ld;
  double squares = 0.0;
  for (int64_t j = lane_index(); j < x.cols; j += 32) {
    squares += static_cast<double>(from[j]) * static_cast<double>(from[j]);
  }
  const double norm = sqrt(warp_reduce_sum(squares));
  const double scale = 1.0 / (norm < eps ? static_cast<double>(eps) : norm);
  for (int64_t j = lane_index(); j < x.cols; j += 32) {
    out.data[r * out.ld + j] = static_cast<float>(from[j] * scale);
  }
}

// Thread per output.
__global__ void __launch_bounds__(kRowThreads)
    dense_piecewise_linear_kernel(const float* x, const float* edges, MatrixView<float> out) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (at >= out.rows * out.cols) return;
  const int64_t r = at / out.cols;
  const int64_t e = at % out.cols;
  const float fraction = (x[r] - edges[e]) / (edges[e + 1] - edges[e]);
  // Written so that a NaN becomes zero.
  out.data[r * out.ld + e] = fraction > 0.0F ? fminf(fraction, 1.0F) : 0.0F;
}

template <class Epilogue>
void product(MatrixView<const float> x, MatrixView<const float> weight, const Epilogue& epilogue,
             cudaStream_t stream) {
  if (x.rows == 0 || weight.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(x.rows, kTile)),
                  static_cast<unsigned>(ceil_div<int64_t>(weight.rows, kTile)));
  check(launch(dense_product_kernel<Epilogue>,
               {.grid = grid, .block = kProductThreads, .stream = stream, .name = "dense_product"},
               x, weight, epilogue),
        "dense product");
}

// Enough blocks for `threads` threads in all.
LaunchConfig row_config(int64_t threads, cudaStream_t stream, const char* name) {
  return {.grid = static_cast<unsigned>(ceil_div<int64_t>(threads, kRowThreads)),
          .block = kRowThreads,
          .stream = stream,
          .name = name};
}

cudaStream_t as_stream(void* stream) {
  return static_cast<cudaStream_t>(stream);
}

}  // namespace

void linear(MatrixView<const float> x, MatrixView<const float> weight, const float* bias,
            Activation act, bool accumulate, MatrixView<float> out, void* stream) {
  product(x, weight, LinearEpilogue{bias, act, accumulate, out}, as_stream(stream));
}

void layer_norm(MatrixView<const float> x, const float* gamma, const float* beta, float eps,
                MatrixView<float> out, void* stream) {
  if (x.rows == 0) return;
  check(launch(dense_layer_norm_kernel,
               row_config(x.rows * 32, as_stream(stream), "dense_layer_norm"), x, gamma, beta, eps,
               out),
        "layer_norm");
}

void l2_normalize(MatrixView<const float> x, float eps, MatrixView<float> out, void* stream) {
  if (x.rows == 0) return;
  check(launch(dense_l2_normalize_kernel,
               row_config(x.rows * 32, as_stream(stream), "dense_l2_normalize"), x, eps, out),
        "l2_normalize");
}

void bilinear_head(MatrixView<const float> state, MatrixView<const float> shift,
                   MatrixView<const float> gate, MatrixView<const float> w_in,
                   MatrixView<const float> w_out, MatrixView<float> query, void* stream) {
  const Scratch<float> memory(gate.rows * gate.cols, as_stream(stream));
  const MatrixView<float> gated(memory.data(), gate.rows, gate.cols);
  product(state, w_in, GateEpilogue{gate, gated}, as_stream(stream));
  product(gated, w_out, ResidualEpilogue{state, shift, query}, as_stream(stream));
}

void piecewise_linear(const float* x, const float* edges, int64_t, MatrixView<float> out,
                      void* stream) {
  if (out.rows == 0) return;
  check(launch(dense_piecewise_linear_kernel,
               row_config(out.rows * out.cols, as_stream(stream), "dense_piecewise_linear"), x,
               edges, out),
        "piecewise_linear");
}

}  // namespace hypertower::cuda
