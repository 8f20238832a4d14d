// Every mutant of mutants.cuh must be caught by the variants listed for it, and the correct kernels
// by none. A mutant runs under several schedules in a process of its own.
#include "tests/cuemu/device_array.h"
#include "tests/cuemu/selftest/mutants.cuh"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>

namespace hypertower {
namespace {

using testing::DeviceArray;

constexpr int kTiles = 4;
constexpr unsigned kGrid = 4;

std::vector<float> ramp(int n) {
  std::vector<float> values(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i % 61);
  return values;
}

// What each kernel must answer, thread by thread.
float expected_tile(int t) {
  const std::vector<float> in = ramp(kBlock);
  const int from = kBlock - 1 - t;
  return from < kBlock - 1 ? 3 * in[static_cast<size_t>(from)] + 3 : 0.0F;
}
float expected_rotation(int t) {
  return 2 * ramp(kBlock)[static_cast<size_t>(t - t % 32 + (t % 32 + 5) % 32)] + 1;
}
float expected_pipeline(int t) {
  constexpr int kTile = kBlock * kPerThread;
  const std::vector<float> in = ramp(kTiles * kTile);
  float sum = 0;
  for (int i = 0; i < kTiles; ++i) {
    for (int j = t; j < kTile; j += kBlock)
      sum += in[static_cast<size_t>(i * kTile + kTile - 1 - j)];
  }
  return sum;
}
float expected_grid_sum(int) {
  float sum = 0;
  for (const float value : ramp(kBlock)) sum += value;
  return sum * kGrid;
}
float expected_row(int t) {
  const std::vector<float> in = ramp(40);
  float sum = 0;
  for (int i = 0; i < kPerThread; ++i) sum += in[static_cast<size_t>(kPerThread * (t % 8) + i)];
  return sum;
}

void compare(const DeviceArray<float>& out, float (*expected)(int)) {
  const std::vector<float> got = out.to_host();
  for (int t = 0; t < kBlock; ++t) {
    const float value = got[static_cast<size_t>(t)];
    if (value == expected(t)) continue;
    std::fprintf(stderr, "wrong result %g instead of %g\n", value, expected(t));
    std::_Exit(3);
  }
}

template <Bug kBug>
void run_tile() {
  const DeviceArray<float> in(std::vector<float>(ramp(kBlock - 1)));
  const DeviceArray<float> out(kBlock);
  check(launch(tile_kernel<kBug>, {.block = kBlock, .name = "tile"}, in.data(), kBlock - 1,
               out.data()),
        "tile");
  compare(out, expected_tile);
}
template <Bug kBug>
void run_rotate() {
  const DeviceArray<float> in(ramp(kBlock));
  const DeviceArray<float> out(kBlock);
  check(launch(rotate_kernel<kBug>, {.block = kBlock, .name = "rotate"}, in.data(), out.data()),
        "rotate");
  compare(out, expected_rotation);
}
template <Bug kBug>
void run_collect() {
  const bool ties = kBug == Bug::kTieOverflow;
  const DeviceArray<float> in(ties ? std::vector<float>(kBlock, 50.0F) : ramp(kBlock));
  const DeviceArray<float> out(kBlock);
  check(launch(collect_kernel<kBug>, {.block = kBlock, .name = "collect"}, in.data(), 50.0F,
               out.data()),
        "collect");
  compare(
      out, ties ? [](int) { return static_cast<float>(kBlock); } : [](int) { return 11.0F; });
}
template <Bug kBug>
void run_pipeline() {
  const DeviceArray<float> in(ramp(kTiles * kBlock * kPerThread));
  const DeviceArray<float> out(kBlock);
  check(launch(pipeline_kernel<kBug>, {.block = kBlock, .name = "pipeline"}, in.data(), kTiles,
               out.data()),
        "pipeline");
  compare(out, expected_pipeline);
}
template <Bug kBug>
void run_bulk() {
  const DeviceArray<float> in(ramp(kTiles * kBlock * kPerThread));
  const DeviceArray<float> out(kBlock);
  check(launch(bulk_kernel<kBug>, {.block = kBlock, .name = "bulk"}, in.data(), kTiles, out.data()),
        "bulk");
  compare(out, expected_pipeline);
}
template <Bug kBug>
void run_grid_sum() {
  const DeviceArray<float> in(ramp(kBlock));
  const DeviceArray<float> partial(std::vector<float>(kGrid + 1, 0.0F));
  const DeviceArray<unsigned> count(std::vector<unsigned>{0});
  const DeviceArray<float> out(kBlock);
  check(launch(grid_sum_kernel<kBug>, {.grid = kGrid, .block = kBlock, .name = "grid_sum"},
               in.data(), partial.data(), count.data(), out.data()),
        "grid_sum");
  compare(out, expected_grid_sum);
}
template <Bug kBug>
void run_rows() {
  const DeviceArray<float> in(ramp(40));
  const DeviceArray<float> out(kBlock);
  check(
      launch(rows_kernel<kBug>, {.block = kBlock, .name = "rows"}, in.data(), 1 << 30, out.data()),
      "rows");
  compare(out, expected_row);
}

struct Mutant {
  const char* name;
  void (*run)();
  // What the report must match in each variant; "" where the variant is blind to this fault.
  const char* plain;
  const char* asan;
  const char* tsan;
};

constexpr const char* kWrong = "wrong result";
constexpr const char* kRace = "data race";
constexpr const char* kPoison = "use-after-poison";
#if defined(__clang__)
constexpr const char* kMisaligned = kWrong;  // its vectors are loaded by parts, which no check sees
#else
constexpr const char* kMisaligned = "misaligned address";
#endif
constexpr const char* kDiverges = "divergent barrier";

const Mutant kMutants[] = {
    {"ReadPastEnd", run_tile<Bug::kReadPastEnd>, kWrong, kPoison, kWrong},
    {"SharedPastEnd", run_tile<Bug::kSharedPastEnd>, "past the end of 'tile'|wrong", kPoison, ""},
    {"MissingBarrier", run_tile<Bug::kMissingBarrier>, kWrong, kWrong, kRace},
    {"MissingLoopBarrier", run_tile<Bug::kMissingLoopBarrier>, kWrong, kWrong, kRace},
    {"MissingSyncwarp", run_rotate<Bug::kMissingSyncwarp>, kWrong, kWrong, kRace},
    {"BarrierInBranch", run_tile<Bug::kBarrierInBranch>, kDiverges, kDiverges, kDiverges},
    {"EarlyReturn", run_tile<Bug::kEarlyReturn>, kDiverges, kDiverges, kDiverges},
    {"ForeignLane", run_rotate<Bug::kForeignLane>, "own mask", "own mask", "own mask"},
    {"PartialWarp", run_rotate<Bug::kPartialWarp>, "different collectives", "different collectives",
     "different collectives"},
    {"Uninitialised", run_collect<Bug::kUninitialised>, kWrong, kWrong, kWrong},
    {"OneGroupShort", run_pipeline<Bug::kOneGroupShort>, kWrong, kWrong, kRace},
    {"NoWait", run_pipeline<Bug::kNoWait>, "never waited", "never waited", "race|never waited"},
    {"StageReused", run_bulk<Bug::kStageReused>, "", "", kRace},
    {"WrongParity", run_bulk<Bug::kWrongParity>, "wrong result|more arrivals",
     "wrong result|more arrivals", "race|wrong result|more arrivals"},
    {"MissingAtomic", run_collect<Bug::kMissingAtomic>, "", "", kRace},
    {"RelaxedPublish", run_grid_sum<Bug::kRelaxedPublish>, "", "", kRace},
    {"ShuffleAsBarrier", run_rotate<Bug::kShuffleAsBarrier>, "", "", kRace},
    {"Misaligned", run_rows<Bug::kMisaligned>, "", kMisaligned, ""},
    {"SharedByWarps", run_rotate<Bug::kSharedByWarps>, kWrong, kWrong, kRace},
    {"TieOverflow", run_collect<Bug::kTieOverflow>, "past the end of 'kept'", "out of bounds", ""},
    {"RaceOfBlocks", run_grid_sum<Bug::kRaceOfBlocks>, "", "", kRace},
    {"OffsetOverflow", run_rows<Bug::kOffsetOverflow>, "", "signed integer overflow", ""},
};

const Mutant kControls[] = {
    {"Tile", run_tile<Bug::kNone>, "", "", ""},
    {"Rotate", run_rotate<Bug::kNone>, "", "", ""},
    {"Collect", run_collect<Bug::kNone>, "", "", ""},
    {"Pipeline", run_pipeline<Bug::kNone>, "", "", ""},
    {"Bulk", run_bulk<Bug::kNone>, "", "", ""},
    {"GridSum", run_grid_sum<Bug::kNone>, "", "", ""},
    {"Rows", run_rows<Bug::kNone>, "", "", ""},
};

// The schedules of hypertower_add_cuemu_test, in one process; ends it.
[[noreturn]] void run_schedules(void (*run)()) {
  using cuemu::Landing;
  using cuemu::Order;
  for (const cuemu::Schedule& schedule : {
           cuemu::Schedule{Order::kForward, 1, 1, Landing::kLazy},
           cuemu::Schedule{Order::kReverse, 1, 2, Landing::kEager},
           cuemu::Schedule{Order::kRandom, 1, 3, Landing::kRandom},
           cuemu::Schedule{Order::kRandom, 2, 3, Landing::kRandom},
           cuemu::Schedule{Order::kRandom, 3, 4, Landing::kRandom},
       }) {
    cuemu::set_schedule(schedule);
    run();
  }
  std::fprintf(stderr, "all schedules passed\n");
  std::_Exit(0);
}

const char* expected_report(const Mutant& mutant) {
#if defined(CUEMU_VARIANT_ASAN)
  return mutant.asan;
#elif defined(CUEMU_VARIANT_TSAN)
  return mutant.tsan;
#else
  return mutant.plain;
#endif
}

bool ended_cleanly(int status) {
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
bool ended_badly(int status) {
  return !ended_cleanly(status);
}

class Caught : public ::testing::TestWithParam<Mutant> {};

TEST_P(Caught, BySomeSchedule) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const std::string report = expected_report(GetParam());
  if (report.empty()) GTEST_SKIP() << "this variant does not see this fault";
  EXPECT_EXIT(run_schedules(GetParam().run), ended_badly, report);
}
INSTANTIATE_TEST_SUITE_P(Mutants, Caught, ::testing::ValuesIn(kMutants),
                         [](const auto& info) { return std::string(info.param.name); });

class Clean : public ::testing::TestWithParam<Mutant> {};

TEST_P(Clean, UnderAllSchedules) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(run_schedules(GetParam().run), ended_cleanly, "all schedules passed");
}
INSTANTIATE_TEST_SUITE_P(Controls, Clean, ::testing::ValuesIn(kControls),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace hypertower
