// Exact top-K on the device, all of its launches. The items are int8 codes with a bound on their
// error (topk_bound.cuh). A sample of the items sets a threshold for every row, a scan of the rest
// lets pass what may reach it (topk_scan_*.cuh), the merge scores those canonically and proves that
// nothing is missing (topk_merge.cuh); rows it cannot prove are scanned again, and at last scored
// as a whole (topk_reference.cuh). Every step finds the rows it is to work on in a list that
// earlier steps wrote, and returns at once where that is empty, so the host decides nothing and
// waits for nothing in between. Excluded and adjusted items are left out of the scan; the adjusted
// ones follow as candidates of their own. Nothing depends on the order in which candidates arrive,
// because keys are distinct and the last step sorts them.
#include "kernels/cuda/topk.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch_graph.h"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/topk_gather.cuh"
#include "kernels/cuda/topk_lists.h"
#include "kernels/cuda/topk_merge.cuh"
#include "kernels/cuda/topk_pack.h"
#include "kernels/cuda/topk_plan.h"
#include "kernels/cuda/topk_prepare.cuh"
#include "kernels/cuda/topk_reference.cuh"
#include "kernels/cuda/topk_scan.h"
#include "kernels/cuda/topk_scan_chunks.h"
#include "kernels/cuda/topk_score.cuh"
#include "kernels/cuda/topk_seed.cuh"
#include "kernels/cuda/topk_select.cuh"
#include "kernels/cuda/topk_session.h"
#include "kernels/topk_check.h"

namespace hypertower::cuda {
namespace {

// Up to so many rows, reading the floats once is cheaper than quantising them for one call.
constexpr int64_t kDirectRows = 8;
constexpr int64_t kMaxAdjusted = int64_t{65535} * kScoreThreads;  // what a grid can cover

bool rows_are_aligned(MatrixView<const float> m) {
  return m.ld % 4 == 0 && reinterpret_cast<uintptr_t>(m.data) % 16 == 0;
}

// Whether this call scans codes.
bool wants_codes(const TopKInput& in, const TopKOptions& options) {
  if (options.scan == TopKScan::kReference) return false;
  if (!DeviceItems::supports(in.items.rows, in.items.cols)) return false;
  if (options.scan != TopKScan::kAuto) return true;
  return (options.items != nullptr || in.queries.rows > kDirectRows) && 4 * in.k <= in.items.rows;
}

RowPlan plan_rows(int64_t items, int64_t k, const TopKOptions& options) {
  const int64_t keep = std::min(k, items);
  const int64_t capacity =
      options.capacity > 0 ? std::max(options.capacity, keep) : std::min(items, 8192 + 4 * keep);
  return {keep, capacity, static_cast<int>(options.seed_stride),
          static_cast<int>(options.warm_stride)};
}

}  // namespace

// Memory and steps for up to `slab` rows at a time.
class TopKSearch {
 public:
  TopKSearch(MatrixView<const float> matrix, const TopKOptions& options, const DeviceItems* items,
             int64_t slab, const RowPlan& plan, cudaStream_t stream)
      : stream_(stream),
        slab_(slab),
        options_(options),
        plan_(plan),
        multiprocessors_(attribute(cudaDevAttrMultiProcessorCount)),
        codes_(items != nullptr ? items->codes() : ItemCodes{}),
        scan_plan_{codes_, plan_tiles(plan, codes_.num_tiles, kItemTile), false},
        device_plan_(1, stream),
        parts_(parts(slab)),
        padded_dim_(ceil_div<int64_t>(matrix.cols, 8) * 8),
        key_stride_(static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(plan.keep)))),
        queries_(slab * padded_dim_, stream),
        row_codes_(slab * codes_.chunks * kCodeChunk, stream),
        bounds_(slab, stream),
        thresholds_(2 * slab, stream),
        hits_(slab, stream),
        gates_(slab, stream),
        candidates_(slab * stride(), stream),
        lists_(kNumLists * slab, stream),
        list_sizes_(kNumLists, stream),
        segment_counts_(slab * parts_, stream),
        keys_(2 * slab * key_stride_, stream),
        counts_(2 * slab, stream),
        paths_(1, stream) {
    if (scans_chunks(slab)) chunk_scan_.emplace(slab, codes_, options.chunk_products, stream);
    check(cudaMemcpyAsync(device_plan_.data(), &scan_plan_, sizeof scan_plan_,
                          cudaMemcpyHostToDevice, stream),
          "topk");
  }

  // The best of rows that `in` and `out` begin with, at most `slab`. `stream` may be one that
  // records.
  void run(const TopKInput& in, const TopKOutput& out, const SortedLists& lists, int64_t first_row,
           cudaStream_t stream) {
    launches_on_ = stream;
    if (first_row == 0) {
      check(cudaMemsetAsync(paths_.data(), 0, sizeof(PathCounts), launches_on_), "topk");
      if (in.masks != nullptr && codes_.chunks != 0) count_masks(in);
      if (packs(in)) {
        packed_->run(in, mask_counts_->data(), plan_, gather_limit(), multiprocessors_, stream);
      }
    }
    if (codes_.chunks != 0) {
      scan_rows(in, out, lists.view(first_row));
    } else {
      prepare(in, out);
    }
    score_everything(in, lists.view(first_row));
    const BestKeys keys = add_adjusted(in, lists.view(first_row), lists.longest());
    launch_rows(topk_sort_kernel, "topk_sort", in.queries.rows, keys, out);
  }

  // Makes room for what `run` does with the masks of such a call.
  void expect_masks(const TopKInput& in) {
    if (!mask_counts_.has_value() || in.num_masks > max_masks_) {
      mask_counts_.emplace(in.num_masks, stream_);
      max_masks_ = in.num_masks;
    }
    if (packs(in) && !packed_.has_value()) packed_.emplace(codes_, pack_limit(), stream_);
  }

  // Synchronises.
  TopKPaths paths() const {
    const PathCounts counts = to_host(paths_.data(), 1, stream_)[0];
    return {counts.gathered, counts.packed, counts.too_many, counts.too_few, counts.reference};
  }

 private:
  enum List : int { kScan, kAgain, kOnceMore, kGather, kReference, kNumLists };

  static int attribute(cudaDeviceAttr which) {
    int device = 0;
    int value = 0;
    check(cudaGetDevice(&device), "topk");
    check(cudaDeviceGetAttribute(&value, which, device), "topk");
    return value;
  }

  // Ranges of items that the reference takes apart: enough of them to fill the device, where no
  // other memory is in use.
  int64_t parts(int64_t slab) const {
    const int64_t segment = segment_size(plan_.keep);
    if (codes_.chunks != 0) return std::max<int64_t>(1, plan_.capacity / segment);
    const int64_t wanted =
        ceil_div<int64_t>(4 * multiprocessors_, ceil_div<int64_t>(slab, kRowGroup));
    return std::max<int64_t>(1, std::min(wanted, options_.scratch_keys / segment / slab));
  }
  int64_t stride() const {
    return std::max(parts_ * segment_size(plan_.keep), codes_.chunks != 0 ? plan_.capacity : 0);
  }

  // Whether the thresholds and candidates of so many rows come from ChunkScan; repairs, which
  // rarely have a row to work on, leave it to the scans that see an empty list on the device.
  bool scans_chunks(int64_t rows) const {
    if (codes_.chunks == 0) return false;
    if (options_.scan != TopKScan::kAuto) return options_.scan == TopKScan::kChunks;
    return rows > kDirectRows && !fits_shared_memory(codes_.chunks);
  }

  int64_t gather_limit() const {
    return options_.gather_limit >= 0 ? options_.gather_limit : plan_.capacity;
  }
  int64_t pack_limit() const {
    return options_.pack_limit >= 0 ? options_.pack_limit : codes_.slots() / 4;
  }
  // Whether the scans may look at the items that a mask passes.
  bool packs(const TopKInput& in) const {
    return in.masks != nullptr && in.mask_of_row == nullptr && codes_.chunks != 0 &&
           !scans_chunks(slab_) && pack_limit() > gather_limit();
  }

  Rows rows() const {
    return {queries_.data(), padded_dim_,        row_codes_.data(),
            bounds_.data(),  thresholds_.data(), thresholds_.data() + slab_,
            hits_.data(),    gates_.data(),      candidates_.data(),
            stride(),        plan_.capacity};
  }
  RowList list(List which) const {
    return {lists_.data() + which * slab_, list_sizes_.data() + which};
  }
  BestKeys best() const { return {keys_.data(), counts_.data(), key_stride_}; }
  BestKeys other() const {
    return {keys_.data() + slab_ * key_stride_, counts_.data() + slab_, key_stride_};
  }
  Segments segments() const {
    return {segment_counts_.data(), static_cast<int>(parts_), segment_size(plan_.keep)};
  }

  // A block per row.
  template <class... P, class... A>
  void launch_rows(void (*kernel)(P...), const char* name, int64_t rows, A&&... arguments) {
    check(launch(kernel,
                 {.grid = static_cast<unsigned>(rows),
                  .block = kSelectThreads,
                  .stream = launches_on_,
                  .name = name},
                 std::forward<A>(arguments)...),
          name);
  }

  const ScanPlan* plan_of(const TopKInput& in) const {
    return packs(in) ? packed_->plan() : device_plan_.data();
  }

  void count_masks(const TopKInput& in) {
    check(cudaMemsetAsync(mask_counts_->data(), 0, in.num_masks * sizeof(unsigned), launches_on_),
          "topk masks");
    const int64_t blocks = ceil_div<int64_t>(ceil_div<int64_t>(in.items.rows, 64), kPrepareThreads);
    const dim3 grid(static_cast<unsigned>(in.num_masks),
                    static_cast<unsigned>(std::min<int64_t>(blocks, 2 * multiprocessors_)));
    check(launch(topk_mask_count_kernel,
                 {.grid = grid,
                  .block = kPrepareThreads,
                  .stream = launches_on_,
                  .name = "topk_mask_count"},
                 in, mask_counts_->data()),
          "topk masks");
  }

  void prepare(const TopKInput& in, const TopKOutput& out) {
    check(cudaMemsetAsync(list_sizes_.data(), 0, kNumLists * sizeof(unsigned), launches_on_),
          "topk");
    const Ways ways{list(kScan),
                    list(kGather),
                    list(kReference),
                    in.masks != nullptr && codes_.chunks != 0 ? mask_counts_->data() : nullptr,
                    static_cast<unsigned>(std::min<int64_t>(gather_limit(), UINT_MAX)),
                    plan_of(in),
                    paths_.data()};
    check(launch(topk_prepare_kernel,
                 {.grid = static_cast<unsigned>(
                      ceil_div<int64_t>(in.queries.rows, kPrepareThreads / 32)),
                  .block = kPrepareThreads,
                  .stream = launches_on_,
                  .name = "topk_prepare"},
                 in, rows(), codes_.chunks, ways, queries_.data(), counts_.data(), out.status),
          "topk prepare");
  }

  void scan_rows(const TopKInput& in, const TopKOutput& out, const ListedItems& listed) {
    prepare(in, out);
    const int64_t batch = in.queries.rows;
    const auto scan = [&](List which, TileStep step) {
      const Scan scan{in, listed, rows(), list(which), plan_of(in), step, codes_.chunks};
      if (which == kScan && scans_chunks(batch)) {
        chunk_scan_->run(scan, scan_plan_.tiles.tiles_of(step), multiprocessors_, launches_on_);
      } else {
        const bool chunks = options_.scan == TopKScan::kChunks;
        scan_tiles(scan, chunks ? TopKScan::kAuto : options_.scan, codes_.num_tiles,
                   multiprocessors_, launches_on_);
      }
    };
    const auto refine = [&](TileStep after) {
      launch_rows(topk_refine_kernel, "topk_refine", batch, in, rows(), list(kScan), other(),
                  plan_of(in), after, options_.forced_threshold);
    };
    const auto seed = [&] {
      // Few rows share their tiles among more blocks.
      const int64_t tiles = std::max(scan_plan_.tiles.tiles_of(TileStep::kSeed).count, 1);
      const int64_t shares = std::clamp<int64_t>(ceil_div<int64_t>(2 * multiprocessors_, batch), 1,
                                                 ceil_div<int64_t>(tiles, 2));
      const dim3 grid(static_cast<unsigned>(batch), static_cast<unsigned>(shares));
      check(launch(
                topk_seed_kernel,
                {.grid = grid,
                 .block = kSeedThreads,
                 .smem = static_cast<size_t>(codes_.chunks) * kCodeChunk,
                 .stream = launches_on_,
                 .name = "topk_seed"},
                Scan{in, listed, rows(), list(kScan), plan_of(in), TileStep::kSeed, codes_.chunks}),
            "topk seed");
    };
    const auto merge = [&](List which, List again) {
      const bool last = again == kNumLists;
      const Repair repair{last ? RowList{} : list(again), list(kReference), last, paths_.data()};
      launch_rows(topk_merge_kernel, "topk_merge", batch, in, rows(), list(which), other(), best(),
                  plan_.keep, repair);
    };

    if (in.masks != nullptr) {
      check(launch(topk_gather_kernel,
                   {.grid = static_cast<unsigned>(8 * multiprocessors_),
                    .block = kGatherThreads,
                    .stream = launches_on_,
                    .name = "topk_gather"},
                   in, listed, rows(), list(kGather)),
            "topk gather");
      merge(kGather, kNumLists);
    }
    scans_chunks(batch) ? scan(kScan, TileStep::kSeed) : seed();
    // The host knows no plan of packed items, and leaves no step out.
    if (packs(in) || scan_plan_.tiles.seed > 1) refine(TileStep::kSeed);
    if (packs(in) || scan_plan_.tiles.warm < scan_plan_.tiles.seed) {
      scan(kScan, TileStep::kWarm);
      refine(TileStep::kWarm);
    }
    if (packs(in) || scan_plan_.tiles.warm > 1) scan(kScan, TileStep::kRest);
    merge(kScan, kAgain);
    scan(kAgain, TileStep::kAll);
    merge(kAgain, kOnceMore);
    scan(kOnceMore, TileStep::kAll);
    merge(kOnceMore, kNumLists);
  }

  void score_everything(const TopKInput& in, const ListedItems& listed) {
    const auto score =
        rows_are_aligned(in.items) ? topk_reference_kernel<true> : topk_reference_kernel<false>;
    const int64_t units = ceil_div<int64_t>(in.queries.rows, kRowGroup) * parts_;
    launch_rows(score, "topk_reference", std::min<int64_t>(units, 4 * multiprocessors_), in, listed,
                rows(), list(kReference), segments(), plan_.keep);
    launch_rows(topk_reference_merge_kernel, "topk_reference_merge", in.queries.rows, rows(),
                list(kReference), segments(), best(), plan_.keep, paths_.data());
  }

  // Returns where the best keys are then.
  BestKeys add_adjusted(const TopKInput& in, const ListedItems& listed, int64_t longest) {
    BestKeys from = best();
    BestKeys to = other();
    const int64_t step = std::min(stride(), kMaxAdjusted);
    for (int64_t skip = 0; skip < longest; skip += step) {
      const int64_t entries = std::min(step, longest - skip);
      const dim3 grid(static_cast<unsigned>(in.queries.rows),
                      static_cast<unsigned>(ceil_div<int64_t>(entries, kScoreThreads)));
      check(launch(topk_adjusted_kernel,
                   {.grid = grid,
                    .block = kScoreThreads,
                    .stream = launches_on_,
                    .name = "topk_adjusted"},
                   in, rows(), listed, skip),
            "topk adjusted");
      launch_rows(topk_select_kernel, "topk_select", in.queries.rows, rows(), from, to, plan_.keep);
      std::swap(from, to);
    }
    return from;
  }

  const cudaStream_t stream_;           // of the memory
  cudaStream_t launches_on_ = nullptr;  // of one run
  const int64_t slab_;
  const TopKOptions options_;
  const RowPlan plan_;
  const int multiprocessors_;
  const ItemCodes codes_;
  const ScanPlan scan_plan_;  // of all items
  Scratch<ScanPlan> device_plan_;
  const int64_t parts_, padded_dim_, key_stride_;
  Scratch<double> queries_;
  Scratch<int8_t> row_codes_;
  Scratch<RowBound> bounds_;
  Scratch<float> thresholds_;
  Scratch<unsigned> hits_;
  Scratch<uint64_t> gates_, candidates_;
  Scratch<int> lists_;
  Scratch<unsigned> list_sizes_;
  Scratch<int64_t> segment_counts_;
  std::optional<Scratch<unsigned>> mask_counts_;
  int64_t max_masks_ = 0;
  Scratch<uint64_t> keys_;
  Scratch<int64_t> counts_;
  Scratch<PathCounts> paths_;
  std::optional<PackedItems> packed_;
  std::optional<ChunkScan> chunk_scan_;
};

void topk(const TopKInput& in, const TopKOutput& out, void* stream_handle,
          const TopKOptions& options) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  const int64_t batch = in.queries.rows;
  if (batch == 0) return;
  const ListOffsets offsets = check_lists(in, stream);
  const SortedLists lists(in, offsets, stream);

  std::optional<DeviceItems> quantized;
  const DeviceItems* items = nullptr;
  if (wants_codes(in, options)) {
    items = options.items != nullptr ? options.items : &quantized.emplace(in.items, stream_handle);
  }
  const RowPlan plan = plan_rows(in.items.rows, in.k, options);
  const int64_t row_keys = items != nullptr ? plan.capacity : segment_size(plan.keep);
  const int64_t slab = std::clamp<int64_t>(options.scratch_keys / row_keys, 1, batch);
  TopKSearch search(in.items, options, items, slab, plan, stream);
  search.expect_masks(in);
  for (int64_t first = 0; first < batch; first += slab) {
    const int64_t rows = std::min(slab, batch - first);
    TopKInput part = in;
    part.queries = {in.queries.row(first), rows, in.queries.cols, in.queries.ld};
    if (in.mask_of_row != nullptr) part.mask_of_row = in.mask_of_row + first;
    const TopKOutput part_out{{out.ids.row(first), rows, out.ids.cols, out.ids.ld},
                              {out.scores.row(first), rows, out.scores.cols, out.scores.ld},
                              out.count + first,
                              out.status + first};
    search.run(part, part_out, lists, first, stream);
  }
  if (options.paths != nullptr) *options.paths = search.paths();
  check(cudaStreamSynchronize(stream), "topk");
}

struct TopKSession::State {
  State(const DeviceItems& device_items, int64_t max_rows, int64_t k, cudaStream_t on,
        const TopKOptions& all)
      : stream(on),
        options(all),
        search(device_items.items(), all,
               all.scan == TopKScan::kReference ? nullptr : &device_items, max_rows,
               plan_rows(device_items.items().rows, k, all), on) {}

  const cudaStream_t stream;
  const TopKOptions options;
  TopKSearch search;
  // Of the call before; a graph was recorded with them. Its memory is the search's.
  TopKInput in;
  TopKOutput out;
  std::optional<SortedLists> no_lists;
  std::optional<LaunchGraph> graph;
  int64_t recordings = 0;
};

TopKSession::TopKSession(const DeviceItems& items, int64_t max_rows, int64_t k, void* stream,
                         const TopKOptions& options)
    : state_(std::make_unique<State>(items, max_rows, k, static_cast<cudaStream_t>(stream),
                                     options)) {}
TopKSession::~TopKSession() = default;

int64_t TopKSession::recordings() const {
  return state_->recordings;
}

void TopKSession::topk(const TopKInput& in, const TopKOutput& out) {
  static_assert(std::has_unique_object_representations_v<TopKInput> &&
                std::has_unique_object_representations_v<TopKOutput>);
  if (in.queries.rows == 0) return;
  State& s = *state_;
  const ListOffsets offsets = check_lists(in, s.stream);
  const bool lists = offsets.at(in.queries.rows) != 0;
  const bool same =
      std::memcmp(&s.in, &in, sizeof in) == 0 && std::memcmp(&s.out, &out, sizeof out) == 0;
  s.in = in;
  s.out = out;
  if (lists || !same) {
    s.graph.reset();
    s.search.expect_masks(in);
    s.search.run(in, out, SortedLists(in, offsets, s.stream), 0, s.stream);
  } else {
    if (!s.graph.has_value()) {
      s.no_lists.emplace(in, offsets, s.stream);
      s.graph.emplace([&s](void* on) {
        s.search.run(s.in, s.out, *s.no_lists, 0, static_cast<cudaStream_t>(on));
      });
      ++s.recordings;
    }
    s.graph->replay(s.stream);
  }
  if (s.options.paths != nullptr) *s.options.paths = s.search.paths();
  check(cudaStreamSynchronize(s.stream), "topk");
}

void score_pairs(MatrixView<const float> queries, MatrixView<const float> items,
                 MatrixView<const int64_t> ids, MatrixView<float> out, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  if (ids.rows * ids.cols == 0) return;
  const Scratch<unsigned> bad(1, stream);
  check(cudaMemsetAsync(bad.data(), 0, sizeof(unsigned), stream), "score_pairs");
  const auto blocks = static_cast<unsigned>(ceil_div<int64_t>(ids.rows * ids.cols, kScoreThreads));
  check(launch(score_pairs_kernel,
               {.grid = blocks, .block = kScoreThreads, .stream = stream, .name = "score_pairs"},
               queries, items, ids, out, bad.data()),
        "score_pairs");
  if (to_host(bad.data(), 1, stream)[0] == 0) return;
  for (int64_t r = 0; r < ids.rows; ++r) {
    const std::vector<int64_t> row = to_host(ids.data + r * ids.ld, ids.cols, stream);
    topk_check::pair_ids(r, row.data(), ids.cols, items.rows);
  }
}

}  // namespace hypertower::cuda
