// The dense layers that the towers use, forward only on both devices (training differentiates the
// same formulas through LibTorch; a parity test holds the two together within 1e-5).
//
// All matrices row-major float. Sums run in float over fixed blocks of the inner dimension: the
// bits of a row do not depend on the number of rows, on threads or on the batch it sits in (they
// may differ between devices). NaN and infinity propagate as in the formulas.
// Thread-safe. No allocation visible to the caller, no stream synchronisation.
// Errors (ErrorKind::kArgument): shapes that do not fit.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace hypertower {

enum class Activation : uint8_t { kNone, kRelu, kGelu };  // kGelu: the exact form with erf

// out[r] = act(x[r] W^T + bias): x [R, In], weight [Out, In] (as torch.nn.Linear), bias [Out] or
// null, out [R, Out]. `accumulate` adds the result to out instead (after the activation).
// out must not overlap x.
void linear(MatrixView<const float> x, MatrixView<const float> weight, const float* bias,
            Activation act, bool accumulate, MatrixView<float> out, const Exec& exec);

// out[r] = (x[r] - mean) / sqrt(var + eps) * gamma + beta over the columns of row r, var being the
// mean of the squared differences; gamma and beta [cols]; out may be x.
void layer_norm(MatrixView<const float> x, const float* gamma, const float* beta, float eps,
                MatrixView<float> out, const Exec& exec);

// out[r] = x[r] / max(||x[r]||_2, eps); out may be x. REQUIRES: eps > 0. The squares are summed in
// double, so a norm neither overflows nor vanishes.
void l2_normalize(MatrixView<const float> x, float eps, MatrixView<float> out, const Exec& exec);

// The bilinear context head, linear in the state:
//   query = state + shift + ((state W_in^T) * gate) W_out^T
// state [R, D], shift [R, D], gate [R, K], w_in [K, D], w_out [D, K], query [R, D] (query may be
// state; it must not overlap the others). shift and gate are the two halves of a linear layer over
// the context.
void bilinear_head(MatrixView<const float> state, MatrixView<const float> shift,
                   MatrixView<const float> gate, MatrixView<const float> w_in,
                   MatrixView<const float> w_out, MatrixView<float> query, const Exec& exec);

// Piecewise-linear encoding of numbers (Gorishniy et al. 2022): x [R], edges [E + 1] strictly
// ascending, out [R, E], num_edges = E + 1 >= 2:
//   out[r, e] = clamp((x[r] - edges[e]) / (edges[e + 1] - edges[e]), 0, 1)
// So every entry is in [0, 1]: bins below x are 1, bins above are 0, its own bin holds the
// fraction. Below edges[0] the row is all zeros, above edges[E] all ones (the paper lets the outer
// bins run on; bounded inputs are safer with unseen values). A NaN (missing) gives zeros.
// REQUIRES: ascending edges (checked where a model is read).
void piecewise_linear(const float* x, const float* edges, int64_t num_edges, MatrixView<float> out,
                      const Exec& exec);

}  // namespace hypertower
