// The dense layers that the towers use, forward only on both devices (training differentiates the
// same formulas through LibTorch; a parity test holds the two together within 1e-5).
// All matrices row-major float. Sums run in float over fixed blocks of the inner dimension:
// results do not depend on the number of rows, threads or the batch a row sits in.
// Thread-safe. No allocation visible to the caller, no stream synchronisation.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace hypertower {

enum class Activation : uint8_t { kNone, kRelu, kGelu };  // kGelu: the exact form with erf

// out[r] = act(x[r] W^T + bias): x [R, In], weight [Out, In] (as torch.nn.Linear), bias [Out] or
// null, out [R, Out]. `accumulate` adds the result to out instead (after the activation).
void linear(MatrixView<const float> x, MatrixView<const float> weight, const float* bias,
            Activation act, bool accumulate, MatrixView<float> out, const Exec& exec);

// out[r] = (x[r] - mean) / sqrt(var + eps) * gamma + beta over the columns of row r; out may be x.
void layer_norm(MatrixView<const float> x, const float* gamma, const float* beta, float eps,
                MatrixView<float> out, const Exec& exec);

// out[r] = x[r] / max(||x[r]||_2, eps); out may be x.
void l2_normalize(MatrixView<const float> x, float eps, MatrixView<float> out, const Exec& exec);

// The bilinear context head, linear in the state:
//   query = state + shift + ((state W_in^T) * gate) W_out^T
// state [R, D], shift [R, D], gate [R, R_k], w_in [R_k, D], w_out [D, R_k], query [R, D]
// (query may be state). shift and gate are the two halves of a linear layer over the context.
void bilinear_head(MatrixView<const float> state, MatrixView<const float> shift,
                   MatrixView<const float> gate, MatrixView<const float> w_in,
                   MatrixView<const float> w_out, MatrixView<float> query, const Exec& exec);

// Piecewise-linear encoding of numbers (Gorishniy et al. 2022): edges [E + 1] ascending, x [R];
// out[r, e] = clamp((x - edges[e]) / (edges[e+1] - edges[e]), 0, 1), the first without the lower
// clamp's effect below edges[0] (it stays 0) and the last held at 1 above. A NaN gives a zero row
// (missing). out [R, E].
void piecewise_linear(const float* x, const float* edges, int64_t num_edges, MatrixView<float> out,
                      const Exec& exec);

}  // namespace hypertower
