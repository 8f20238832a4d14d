// Dense layers on the CPU. Rows go in blocks through one matrix product and the elementwise rest
// while the block is in cache; threads take blocks.
#include "kernels/cpu/dense.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/matmul.h"
#include "kernels/parallel.h"

namespace hypertower::cpu {
namespace {

constexpr int64_t kRowBlock = 16;
constexpr int64_t kOutBlock = 64;

// Work below this many multiplications is done before a thread has started.
int useful_threads(int threads, int64_t rows, int64_t multiplications_per_row) {
  constexpr int64_t kPerThread = int64_t{1} << 20;
  const int64_t wanted = rows * multiplications_per_row / kPerThread + 1;
  return static_cast<int>(std::min<int64_t>(threads, wanted));
}

template <class T>
MatrixView<T> rows_of(MatrixView<T> m, int64_t begin, int64_t end) {
  return {m.data + begin * m.ld, end - begin, m.cols, m.ld};
}

float activate(Activation act, float x) {
  switch (act) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x < 0.0F ? 0.0F : x;  // a NaN stays one
    case Activation::kGelu:
      return 0.5F * x * (1.0F + std::erf(x * 0.70710678F));
  }
  return x;
}

// Sum of f(j) over [0, n) in 16 interleaved lanes, so that the compiler may use vectors.
template <class F>
float lane_sum(int64_t n, const F& f) {
  constexpr int kLanes = 16;
  float lane[kLanes] = {};
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    for (int l = 0; l < kLanes; ++l) lane[l] += f(j + l);
  }
  for (int l = 0; j < n; ++j, ++l) lane[l] += f(j);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lane[l] += lane[l + half];
  }
  return lane[0];
}

}  // namespace

void linear(MatrixView<const float> x, MatrixView<const float> weight, const float* bias,
            Activation act, bool accumulate, MatrixView<float> out, int threads) {
  const int64_t out_blocks = (out.cols + kOutBlock - 1) / kOutBlock;
  const int64_t row_blocks = (out.rows + kRowBlock - 1) / kRowBlock;
  threads = useful_threads(threads, x.rows, x.cols * out.cols);
  parallel_for(threads, row_blocks * out_blocks, 1, [&](int64_t block, int64_t) {
    const int64_t r = block / out_blocks * kRowBlock;
    const int64_t o = block % out_blocks * kOutBlock;
    const int64_t r_end = std::min(out.rows, r + kRowBlock);
    const int64_t o_end = std::min(out.cols, o + kOutBlock);
    float product[kRowBlock * kOutBlock];
    matmul_transposed(rows_of(x, r, r_end), rows_of(weight, o, o_end),
                      {product, r_end - r, o_end - o, kOutBlock});
    for (int64_t i = r; i < r_end; ++i) {
      const float* sums = product + (i - r) * kOutBlock;
      float* to = out.row(i) + o;
      for (int64_t j = 0; j < o_end - o; ++j) {
        const float y = activate(act, bias == nullptr ? sums[j] : sums[j] + bias[o + j]);
        to[j] = accumulate ? to[j] + y : y;
      }
    }
  });
}

void layer_norm(MatrixView<const float> x, const float* gamma, const float* beta, float eps,
                MatrixView<float> out, int threads) {
  const int64_t n = x.cols;
  threads = useful_threads(threads, x.rows, 8 * n);
  parallel_for(threads, x.rows, kRowBlock, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* from = x.row(r);
      float* to = out.row(r);
      const float count = static_cast<float>(n);
      const float mean = lane_sum(n, [&](int64_t j) { return from[j]; }) / count;
      const float variance =
          lane_sum(n, [&](int64_t j) { return (from[j] - mean) * (from[j] - mean); }) / count;
      const float scale = 1.0F / std::sqrt(variance + eps);
      for (int64_t j = 0; j < n; ++j) to[j] = (from[j] - mean) * scale * gamma[j] + beta[j];
    }
  });
}

void l2_normalize(MatrixView<const float> x, float eps, MatrixView<float> out, int threads) {
  threads = useful_threads(threads, x.rows, 4 * x.cols);
  parallel_for(threads, x.rows, kRowBlock, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* from = x.row(r);
      float* to = out.row(r);
      double squares = 0.0;
      for (int64_t j = 0; j < x.cols; ++j) squares += double{from[j]} * double{from[j]};
      const double scale = 1.0 / std::max(std::sqrt(squares), double{eps});
      for (int64_t j = 0; j < x.cols; ++j) to[j] = static_cast<float>(from[j] * scale);
    }
  });
}

void bilinear_head(MatrixView<const float> state, MatrixView<const float> shift,
                   MatrixView<const float> gate, MatrixView<const float> w_in,
                   MatrixView<const float> w_out, MatrixView<float> query, int threads) {
  threads = useful_threads(threads, state.rows, 2 * w_in.rows * w_in.cols);
  parallel_for(threads, state.rows, kRowBlock, [&](int64_t begin, int64_t end) {
    const int64_t rows = end - begin;
    std::vector<float> gated(rows * gate.cols);
    std::vector<float> back(rows * query.cols);
    const MatrixView<float> inner(gated.data(), rows, gate.cols);
    const MatrixView<float> outer(back.data(), rows, query.cols);
    matmul_transposed(rows_of(state, begin, end), w_in, inner);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < gate.cols; ++j) inner.row(r)[j] *= gate.row(begin + r)[j];
    }
    matmul_transposed(inner, w_out, outer);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < query.cols; ++j) {
        query.row(begin + r)[j] =
            state.row(begin + r)[j] + shift.row(begin + r)[j] + outer.row(r)[j];
      }
    }
  });
}

void piecewise_linear(const float* x, const float* edges, int64_t num_edges, MatrixView<float> out,
                      int threads) {
  threads = useful_threads(threads, out.rows, 4 * out.cols);
  parallel_for(threads, out.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t e = 0; e + 1 < num_edges; ++e) {
        const float fraction = (x[r] - edges[e]) / (edges[e + 1] - edges[e]);
        // Written so that a NaN becomes zero.
        out.row(r)[e] = fraction > 0.0F ? std::min(fraction, 1.0F) : 0.0F;
      }
    }
  });
}

}  // namespace hypertower::cpu
