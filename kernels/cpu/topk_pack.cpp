#include "kernels/cpu/topk_pack.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/topk_pack.cpp"
#include "hwy/foreach_target.h"  // compiles this file once per SIMD target

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

void pack_lanes(TileLanes tile, TileLanes next, int64_t steps, uint8_t* HWY_RESTRICT to,
                int place) {
  const hn::CappedTag<uint32_t, 16> d;
  constexpr int kWidth = static_cast<int>(hn::MaxLanes(d));
  // Vectors of a step that have lanes.
  struct Part {
    uint8_t bits[8];
    int from, to;
  } parts[kTileItems / kWidth];
  int count = 0;
  for (int first = 0; first < kTileItems; first += kWidth) {
    const uint64_t bits = tile.lanes >> first & ((uint64_t{1} << kWidth) - 1);
    if (bits == 0) continue;
    parts[count++] = {{static_cast<uint8_t>(bits), static_cast<uint8_t>(bits >> 8)}, first, place};
    place += std::popcount(bits);
  }
  const uint8_t* lines[kTileItems / 16];
  int num_lines = 0;
  for (int first = 0; first < kTileItems; first += 16) {
    if ((next.lanes >> first & 0xFFFF) != 0) lines[num_lines++] = next.tile + first * 4;
  }
  const auto* from = reinterpret_cast<const uint32_t*>(tile.tile);
  auto* out = reinterpret_cast<uint32_t*>(to);
  for (int64_t k = 0; k < steps; ++k, from += kTileItems, out += kTileItems) {
    for (int i = 0; i < num_lines; ++i) __builtin_prefetch(lines[i] + k * kTileItems * 4);
    for (int p = 0; p < count; ++p) {
      const Part& part = parts[p];
      const auto found =
          hn::Compress(hn::LoadU(d, from + part.from), hn::LoadMaskBits(d, part.bits));
      // Whole vectors, whose tails later parts write over, except at the end of a step.
      if (part.to + kWidth <= kTileItems) {
        hn::StoreU(found, d, out + part.to);
      } else {
        hn::BlendedStore(found, hn::FirstN(d, static_cast<size_t>(kTileItems - part.to)), d,
                         out + part.to);
      }
    }
  }
}

}  // namespace
}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hypertower::cpu {

HWY_EXPORT(pack_lanes);

void pack_lanes(TileLanes from, TileLanes next, int64_t steps, uint8_t* to, int place) {
  HWY_DYNAMIC_DISPATCH(pack_lanes)(from, next, steps, to, place);
}

}  // namespace hypertower::cpu
#endif
