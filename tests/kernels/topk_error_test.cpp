// Every sentence that topk and score_pairs can say, word for word.
#include <functional>

#include "kernels/dispatch.h"
#include "kernels/error.h"
#include "kernels/topk.h"
#include "tests/kernels/topk_reference.h"

namespace hypertower {
namespace {

using namespace testing;

constexpr float kInf = std::numeric_limits<float>::infinity();

// A legal call (4 rows, 100 items, 8 columns, k = 3) for a test to break.
struct Call {
  TopKCase data = gaussian_case(1, 4, 100, 8, 3);
  std::vector<int64_t> ids = std::vector<int64_t>(12);
  std::vector<float> scores = std::vector<float>(12);
  std::vector<int32_t> count = std::vector<int32_t>(4);
  std::vector<RowStatus> status = std::vector<RowStatus>(4);
  std::vector<uint64_t> masks = std::vector<uint64_t>(4, ~uint64_t{0});
  TopKInput in;
  TopKOutput out;

  Call() {
    in.queries = {data.query_data.data(), 4, 8};
    in.items = {data.item_data.data(), 100, 8};
    in.k = 3;
    out = {{ids.data(), 4, 3}, {scores.data(), 4, 3}, count.data(), status.data()};
  }
};

void expect_error(const std::function<void(Call&)>& break_it, const std::string& sentence,
                  const std::string& field, Exec exec = {}) {
  Call call;
  topk(call.in, call.out, {});  // legal before
  break_it(call);
  try {
    topk(call.in, call.out, exec);
    ADD_FAILURE() << "expected: " << sentence;
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), sentence);
    EXPECT_EQ(error.field(), field);
    EXPECT_EQ(error.kind(), ErrorKind::kArgument);
  }
}

// Lists of the four rows; position 1 of row 2 is the one to break.
const std::vector<int64_t> kOffsets = {0, 2, 2, 4, 5};
const std::vector<float> kDeltas(5, 0.5F);

TEST(TopKError, K) {
  expect_error([](Call& c) { c.in.k = 0; },
               "topk: expected k >= 1, got 0; ask for at least one item per row.", "k");
}

TEST(TopKError, Columns) {
  expect_error([](Call& c) { c.in.items.cols = 7; },
               "topk: expected items of 8 columns, as the queries have, got 7; use queries and "
               "items of one model.",
               "items");
}

TEST(TopKError, TooManyItems) {
  expect_error([](Call& c) { c.in.items.rows = (int64_t{1} << 32) + 1; },
               "topk: expected at most 4294967296 items, got 4294967297; split them and merge the "
               "results.",
               "items");
}

TEST(TopKError, OutputShapes) {
  expect_error([](Call& c) { c.out.ids.cols = 2; },
               "topk: expected ids of shape [4, 3], got [4, 2]; allocate one entry per row and "
               "rank.",
               "ids");
  expect_error([](Call& c) { c.out.scores.rows = 3; },
               "topk: expected scores of shape [4, 3], got [3, 3]; allocate one entry per row and "
               "rank.",
               "scores");
  expect_error([](Call& c) { c.out.count = nullptr; },
               "topk: expected count with 4 entries, got null; allocate one entry per row.",
               "count");
  expect_error([](Call& c) { c.out.status = nullptr; },
               "topk: expected status with 4 entries, got null; allocate one entry per row.",
               "status");
}

TEST(TopKError, Masks) {
  expect_error(
      [](Call& c) {
        c.in.masks = c.masks.data();
        c.in.num_masks = 2;
        c.in.mask_words = 1;
      },
      "topk: expected mask_words >= 2 for 100 items, got 1; a mask holds one bit per item.",
      "mask_words");
  expect_error(
      [](Call& c) {
        c.in.masks = c.masks.data();
        c.in.mask_words = 2;
      },
      "topk: expected num_masks >= 1 with masks given, got 0; leave masks null to allow every "
      "item.",
      "num_masks");
}

TEST(TopKError, MaskOfRow) {
  static const std::vector<int32_t> beyond = {-1, 1, 2, 0};
  static const std::vector<int32_t> unmasked = {-1, -1, -1, 0};
  expect_error(
      [](Call& c) {
        c.in.masks = c.masks.data();
        c.in.num_masks = 2;
        c.in.mask_words = 2;
        c.in.mask_of_row = beyond.data();
      },
      "topk: expected mask_of_row in [-1, 2), got 2 at row 2; -1 means no mask.", "mask_of_row");
  expect_error([](Call& c) { c.in.mask_of_row = unmasked.data(); },
               "topk: expected mask_of_row in [-1, 0), got 0 at row 3; -1 means no mask.",
               "mask_of_row");
}

TEST(TopKError, ListShapes) {
  expect_error(
      [](Call& c) {
        c.in.exclude = {nullptr, kOffsets.data(), 3};
      },
      "topk: expected exclude with 4 rows, one per query, got 3; use an empty row for "
      "none.",
      "exclude");
  expect_error(
      [](Call& c) {
        c.in.adjust = {kOffsets.data(), kOffsets.data(), 4};
      },
      "topk: expected adjust_delta with one delta per adjusted item, got null; pass it or "
      "leave adjust empty.",
      "adjust_delta");
}

TEST(TopKError, Offsets) {
  static const std::vector<int64_t> late = {1, 2, 2, 4, 5};
  static const std::vector<int64_t> falling = {0, 2, 1, 4, 5};
  static const std::vector<int64_t> ids = {0, 1, 2, 3, 4};
  expect_error(
      [](Call& c) {
        c.in.exclude = {ids.data(), late.data(), 4};
      },
      "topk: expected the offsets of exclude to start at 0, got 1; pass values and "
      "offsets of the same rows.",
      "exclude");
  expect_error(
      [](Call& c) {
        c.in.adjust = {ids.data(), falling.data(), 4};
        c.in.adjust_delta = kDeltas.data();
      },
      "topk: expected the offsets of adjust never to decrease, got 2 and then 1 at row 1; offsets "
      "are running totals of the row lengths.",
      "adjust");
}

TEST(TopKError, ListIds) {
  static const std::vector<int64_t> high = {0, 1, 2, 100, 4};
  static const std::vector<int64_t> low = {0, 1, 2, -1, 4};
  expect_error(
      [](Call& c) {
        c.in.exclude = {high.data(), kOffsets.data(), 4};
      },
      "topk: expected item ids in [0, 100) in exclude, got 100 at row 2, position 1; "
      "leave out items that the index does not hold.",
      "exclude");
  expect_error(
      [](Call& c) {
        c.in.adjust = {low.data(), kOffsets.data(), 4};
        c.in.adjust_delta = kDeltas.data();
      },
      "topk: expected item ids in [0, 100) in adjust, got -1 at row 2, position 1; leave out items "
      "that the index does not hold.",
      "adjust");
}

TEST(TopKError, Deltas) {
  static const std::vector<int64_t> ids = {0, 1, 2, 3, 4};
  static const std::vector<float> nan = {0, -kInf, 0, std::nanf(""), 0};
  static const std::vector<float> inf = {kInf, 0, 0, 0, 0};
  const auto with = [](const std::vector<float>& deltas) {
    return [&deltas](Call& c) {
      c.in.adjust = {ids.data(), kOffsets.data(), 4};
      c.in.adjust_delta = deltas.data();
    };
  };
  expect_error(with(nan),
               "topk: expected adjust_delta finite or -inf, got nan at row 2, position 1; -inf "
               "excludes an item, a large finite delta puts it first.",
               "adjust_delta");
  expect_error(with(inf),
               "topk: expected adjust_delta finite or -inf, got inf at row 0, position 0; -inf "
               "excludes an item, a large finite delta puts it first.",
               "adjust_delta");
}

TEST(TopKError, NamesTheLowestRowOnAnyNumberOfThreads) {
  const int64_t rows = 1000;
  const TopKCase c = gaussian_case(1, rows, 10, 2, 1);
  std::vector<int64_t> ids(rows, 0), offsets(rows + 1);
  std::iota(offsets.begin(), offsets.end(), 0);
  for (int64_t r = 70; r < rows; ++r) ids[r] = 10 + r;
  std::vector<int64_t> out_ids(rows);
  std::vector<float> scores(rows);
  std::vector<int32_t> count(rows);
  std::vector<RowStatus> status(rows);
  TopKInput in{
      .queries = {c.query_data.data(), rows, 2}, .items = {c.item_data.data(), 10, 2}, .k = 1};
  in.exclude = {ids.data(), offsets.data(), rows};
  for (const int threads : {1, 4}) {
    try {
      topk(in, {{out_ids.data(), rows, 1}, {scores.data(), rows, 1}, count.data(), status.data()},
           {.threads = threads});
      FAIL();
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("got 80 at row 70, position 0"), std::string::npos)
          << error.what();
    }
  }
}

TEST(TopKError, CudaInABuildWithoutIt) {
  if (kWithCuda) GTEST_SKIP() << "this build has CUDA";
  expect_error([](Call&) {},
               "topk: expected a build with CUDA for a CUDA call, this build has none; configure "
               "with -DHYPERTOWER_CUDA=ON or run on the CPU.",
               "", {.device = DeviceType::kCuda});
}

TEST(ScorePairsError, SaysWhatIsWrong) {
  const TopKCase c = gaussian_case(1, 2, 10, 4, 1);
  const MatrixView<const float> queries{c.query_data.data(), 2, 4};
  const MatrixView<const float> items{c.item_data.data(), 10, 4};
  std::vector<int64_t> ids = {0, 1, -2, 9, 10, 0};
  std::vector<float> out(6);
  const auto sentence = [&](MatrixView<const float> q, MatrixView<const int64_t> i,
                            MatrixView<float> o) -> std::string {
    try {
      score_pairs(q, items, i, o, {});
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(sentence(queries, {ids.data(), 2, 2}, {out.data(), 2, 2}),
            "score_pairs: expected item ids in [-1, 10), got -2 at row 1, position 0; -1 marks an "
            "empty place.");
  ids[2] = 10;
  EXPECT_EQ(sentence(queries, {ids.data(), 2, 2}, {out.data(), 2, 2}),
            "score_pairs: expected item ids in [-1, 10), got 10 at row 1, position 0; -1 marks an "
            "empty place.");
  EXPECT_EQ(sentence({c.query_data.data(), 2, 3, 4}, {ids.data(), 2, 2}, {out.data(), 2, 2}),
            "score_pairs: expected items of 3 columns, as the queries have, got 4; use queries and "
            "items of one model.");
  EXPECT_EQ(sentence(queries, {ids.data(), 3, 2}, {out.data(), 3, 2}),
            "score_pairs: expected ids with 2 rows, one per query, got 3; pad short rows with -1.");
  EXPECT_EQ(sentence(queries, {ids.data(), 2, 2}, {out.data(), 2, 3}),
            "score_pairs: expected out of shape [2, 2], got [2, 3]; allocate one entry per row and "
            "rank.");
}

}  // namespace
}  // namespace hypertower
