// One loop for both directions of an embedding bag: the sum of some rows of a matrix, each times a
// scale, in the order of their list; long lists in pieces, as kernels/embedding_backend.h says.
#pragma once

#include "kernels/cuda/gather_rows.cuh"

namespace hypertower::cuda {

// Blocks of a multiprocessor whose registers hold the rows in flight.
template <int N>
inline constexpr int kGatherBlocks = N > 4 ? 3 : 5;

// Columns [column, column + N) of the sum over e in [begin, end).
template <int N, class Rows>
__device__ __forceinline__ Strip<N> gather_sum(const Rows& rows, int64_t begin, int64_t end,
                                               int64_t column) {
  using E = typename Rows::Element;
  constexpr int kInFlight = N > 8 ? 2 : 4;  // independent loads before the first is used
  Strip<N> sum = {};
  float bias = 0.0F;
  int64_t e = begin;
  for (; e + kInFlight <= end; e += kInFlight) {
    Packed<E, N> value[kInFlight];
    float scale[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const E* row = rows.row(e + i);
      scale[i] = 0.0F;
      value[i] = {};
      if (row == nullptr) continue;
      scale[i] = rows.scale(e + i, row);
      value[i] = load_row<N>(rows, row + column);
      if constexpr (Rows::kBiased) bias += rows.bias(e + i, row);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) add_scaled(sum, scale[i], unpack(value[i]));
  }
  for (; e < end; ++e) {
    const E* row = rows.row(e);
    if (row == nullptr) continue;
    add_scaled(sum, rows.scale(e, row), unpack(load_row<N>(rows, row + column)));
    if constexpr (Rows::kBiased) bias += rows.bias(e, row);
  }
  if constexpr (Rows::kBiased) {
#pragma unroll
    for (int j = 0; j < N; ++j) sum.v[j] += bias;
  }
  return sum;
}

// The same in pieces of kPieceIds^kLevels and below.
template <int N, int kLevels, class Rows>
__device__ __forceinline__ Strip<N> sum_in_pieces(const Rows& rows, int64_t begin, int64_t end,
                                                  int64_t column) {
  if constexpr (kLevels == 0) {
    return gather_sum<N>(rows, begin, end, column);
  } else {
    constexpr int64_t kPiece = kLevels == 1 ? kPieceIds : kPieceIds * kPieceIds;
    static_assert(kLevels <= 2);
    if (end - begin <= kPiece) return sum_in_pieces<N, kLevels - 1>(rows, begin, end, column);
    Strip<N> sum = {};
    for (int64_t at = begin; at < end; at += kPiece) {
      const int64_t stop = at + kPiece < end ? at + kPiece : end;
      const Strip<N> part = sum_in_pieces<N, kLevels - 1>(rows, at, stop, column);
#pragma unroll
      for (int j = 0; j < N; ++j) sum.v[j] += part.v[j];
    }
    return sum;
  }
}

// Lists of ids (the bags of a lookup, the runs of a plan), and the sums of the pieces of those with
// more than kPieceIds. A long list that begins at id b has the places b / kHalf and following, one
// per piece: as it is longer than two halves, no two lists share a place, and a place tells its
// list. So nobody counts, and the host need not know how many there are.
template <class Start>
struct PieceLists {
  static constexpr int64_t kHalf = kPieceIds / 2;

  const Start* starts;
  int64_t lists;
  int64_t n;      // ids
  float* pieces;  // [places(n)][dim]
  int64_t dim;

  __host__ __device__ static int64_t places(int64_t n) { return n > kPieceIds ? n / kHalf + 1 : 0; }

  __device__ __forceinline__ int64_t begin(int64_t i) const { return starts[i]; }
  __device__ __forceinline__ int64_t end(int64_t i) const { return starts[i + 1]; }
  __device__ __forceinline__ static bool is_long(int64_t length) { return length > kPieceIds; }

  // Ids [first, last) of the piece at a place; empty where it has none.
  __device__ __forceinline__ void ids_at(int64_t place, int64_t& first, int64_t& last) const {
    first = last = 0;
    const int64_t inside = place * kHalf + kHalf - 1;
    if (inside >= n) return;
    const int64_t list = bag_of(starts, lists, inside);
    const int64_t from = begin(list), to = end(list);
    if (!is_long(to - from)) return;
    const int64_t piece = from + (place - from / kHalf) * kPieceIds;
    if (piece >= to) return;
    first = piece;
    last = piece + kPieceIds < to ? piece + kPieceIds : to;
  }

  // The pieces of a long list, if its first is at a place; else none.
  __device__ __forceinline__ int64_t pieces_from(int64_t place) const {
    int64_t first = 0, last = 0;
    ids_at(place, first, last);
    if (first == last) return 0;
    const int64_t list = bag_of(starts, lists, first);
    return begin(list) == first ? (end(list) - first + kPieceIds - 1) / kPieceIds : 0;
  }

  // Columns of the sum of list i; that of a long one has been joined in the place of its first
  // piece.
  template <int N, class Rows>
  __device__ __forceinline__ Strip<N> sum(const Rows& rows, int64_t i, int64_t column) const {
    const int64_t from = begin(i), to = end(i);
    if (!is_long(to - from)) return gather_sum<N>(rows, from, to, column);
    return unpack(load_nc<N>(pieces + from / kHalf * dim + column));
  }
};

// Threads that share one sum: a power of two up to a warp.
inline int lanes_for(int64_t dim, int width) {
  int lanes = 1;
  while (lanes < 32 && int64_t{lanes} * width < dim) lanes *= 2;
  return lanes;
}

// Lists whose long ones are summed in pieces first. errors: of a lookup, or null.
template <class Rows, class Start>
struct PieceJob {
  Rows rows;
  PieceLists<Start> lists;
  const BagErrors* errors;

  __host__ __device__ __forceinline__ int64_t places() const {
    return lists.lists == 0 ? 0 : PieceLists<Start>::places(lists.n);
  }
  __device__ __forceinline__ bool idle(int64_t place) const {
    if (place >= places()) return true;
    return errors != nullptr && (errors->offset != 0 || errors->long_bags == 0);
  }
};

// The sums of pieces of long lists, a group of threads per place.
template <int N, class Rows, class Start>
__global__ void __launch_bounds__(kCheckThreads, kGatherBlocks<N>)
    sum_pieces_kernel(const Several<PieceJob<Rows, Start>> jobs, int lanes) {
  const Group group(lanes);
  const PieceJob<Rows, Start>& job = jobs.of[blockIdx.y];
  if (job.idle(group.index)) return;
  const Rows rows = job.rows;
  const PieceLists<Start> lists = job.lists;
  int64_t first = 0, last = 0;
  lists.ids_at(group.index, first, last);
  if (first == last) return;
  for (int64_t c = int64_t{group.lane} * N; c < lists.dim; c += int64_t{lanes} * N) {
    store(lists.pieces + group.index * lists.dim + c, gather_sum<N>(rows, first, last, c));
  }
}

// Adds the sums of the pieces of each long list, in the place of its first.
template <int N, class Rows, class Start>
__global__ void __launch_bounds__(kCheckThreads)
    join_pieces_kernel(const Several<PieceJob<Rows, Start>> jobs, int lanes) {
  const Group group(lanes);
  const PieceJob<Rows, Start>& job = jobs.of[blockIdx.y];
  if (job.idle(group.index)) return;
  const PieceLists<Start> lists = job.lists;
  const int64_t count = lists.pieces_from(group.index);
  if (count == 0) return;
  float* const sums = lists.pieces + group.index * lists.dim;
  for (int64_t c = int64_t{group.lane} * N; c < lists.dim; c += int64_t{lanes} * N) {
    store(sums + c, sum_in_pieces<N, 2>(PieceRows{sums, lists.dim}, 0, count, c));
  }
}

// All jobs have the same number of columns.
template <int N, class Rows, class Start>
void sum_pieces(std::span<const PieceJob<Rows, Start>> jobs, cudaStream_t stream) {
  using Job = PieceJob<Rows, Start>;
  constexpr int kSums = N < 4 ? N : 4;  // they are floats, whatever the rows are
  in_portions<Job>(
      jobs, [](const Job& job) { return job.places(); },
      [&](const Several<Job>& portion, size_t, unsigned count, int64_t places) {
        const auto config = [&](const char* name, int lanes) -> LaunchConfig {
          return {.grid = grid_for(places, lanes, count),
                  .block = kCheckThreads,
                  .stream = stream,
                  .name = name};
        };
        int lanes = lanes_for(portion.of[0].lists.dim, N);
        check(
            launch(sum_pieces_kernel<N, Rows, Start>, config("sum_pieces", lanes), portion, lanes),
            "sum_pieces");
        lanes = lanes_for(portion.of[0].lists.dim, kSums);
        check(launch(join_pieces_kernel<kSums, Rows, Start>, config("join_pieces", lanes), portion,
                     lanes),
              "join_pieces");
      });
}

}  // namespace hypertower::cuda
