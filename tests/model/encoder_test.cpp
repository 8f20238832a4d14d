#include "model/encoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/model/caught.h"
#include "tests/model/oracle.h"
#include "tests/model/random_model.h"
#include "tests/support/edit_array.h"

namespace hypertower {
namespace {

using Texts = std::vector<std::string>;

// One request in the encoder's terms.
struct Case {
  Record user;
  Record context;
  double time = 0.0;
  OracleHistory history;
};

class Cases {
 public:
  explicit Cases(int64_t items, uint64_t seed) : items_(items), engine_(seed) {}

  Case next() {
    Case c;
    c.time = static_cast<double>(below(2'000'000'000)) - 500'000'000.0;
    if (below(3) > 0) c.user.emplace_back("gender", "gender" + std::to_string(below(6)));
    if (below(3) > 0) c.user.emplace_back("age", static_cast<double>(below(80)) - 20.0);
    if (below(3) > 0) c.user.emplace_back("tags", Texts{"tags1", "tags2", "new"});
    if (below(4) == 0) c.context.emplace_back("hour", below(30));
    if (below(3) > 0) c.context.emplace_back("weather", "weather" + std::to_string(below(9)));
    if (below(3) > 0) c.context.emplace_back("around", Texts{"around0", "around3"});
    if (below(3) > 0) c.context.emplace_back("temperature", static_cast<double>(below(90)) / 2 - 9);
    if (below(3) > 0) c.context.emplace_back("place", std::vector<double>{1, -2, 0.5, 0, 3});
    const int64_t length = below(7);
    for (int64_t i = 0; i < length; ++i) {
      const int64_t kind = below(4);  // another, buy, nothing, view
      c.history.items.push_back(below(items_));
      c.history.kinds.push_back(kind);
      c.history.kind_weights.push_back(
          std::vector<double>{1.0, 3.0, 0.0, 0.5}[static_cast<size_t>(kind)]);
    }
    return c;
  }

 private:
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }

  int64_t items_;
  std::mt19937_64 engine_;
};

struct Encoded {
  std::vector<float> state;
  std::vector<float> query;
};

Encoded encode(const Encoder& encoder, const ModelData& model, const std::vector<Case>& cases,
               int threads) {
  std::vector<const Record*> users, contexts;
  std::vector<std::optional<double>> times;
  HistoryBatch history;
  for (const Case& c : cases) {
    users.push_back(&c.user);
    contexts.push_back(&c.context);
    times.emplace_back(c.time);
    const auto& [items, weights, kinds] = c.history;
    history.items.insert(history.items.end(), items.begin(), items.end());
    history.weights.insert(history.weights.end(), weights.begin(), weights.end());
    history.kinds.insert(history.kinds.end(), kinds.begin(), kinds.end());
    history.offsets.push_back(static_cast<int64_t>(history.items.size()));
  }
  const auto rows = static_cast<int64_t>(cases.size());
  const int64_t d = encoder.dim();
  Encoded out{std::vector<float>(static_cast<size_t>(rows * (d - 1))),
              std::vector<float>(static_cast<size_t>(rows * d))};
  Exec exec;
  exec.threads = threads;
  const auto items = static_cast<int64_t>(model.catalogue.ids.size());
  encoder.encode_state(model.features.encode(Group::kUser, users, {}), history,
                       {model.catalogue.vectors.data(), items, d}, {out.state.data(), rows, d - 1},
                       exec);
  encoder.encode_query({out.state.data(), rows, d - 1},
                       model.features.encode(Group::kContext, contexts, times),
                       {out.query.data(), rows, d}, exec);
  return out;
}

class EncoderOracle : public testing::TestWithParam<std::tuple<Head, HistoryEncoder, int>> {};

TEST_P(EncoderOracle, QueriesAndStatesAgree) {
  const auto [head, reader, dim] = GetParam();
  RandomModelOptions options;
  options.head = head;
  options.history = reader;
  options.dim = dim;
  const ModelData model = random_model(options);
  const Encoder encoder(model.architecture, model.features, model.weights);
  Cases source(static_cast<int64_t>(model.catalogue.ids.size()), 7);
  std::vector<Case> cases(1);  // the first: everything missing
  for (int i = 0; i < 60; ++i) cases.push_back(source.next());
  const Encoded found = encode(encoder, model, cases, 1);
  for (size_t r = 0; r < cases.size(); ++r) {
    const Case& c = cases[r];
    const Vector state = oracle_state(model.architecture, model.features, model.weights, c.user,
                                      c.history, model.catalogue.vectors);
    const Vector query =
        oracle_query(model.architecture, model.features, model.weights, state, c.context, c.time);
    ASSERT_EQ(state.size() + 1, query.size());
    for (size_t j = 0; j < state.size(); ++j) {
      const size_t at = r * state.size() + j;
      ASSERT_NEAR(found.state[at], state[j], 2e-5 * (1 + std::abs(state[j]))) << r << " " << j;
    }
    for (size_t j = 0; j < query.size(); ++j) {
      const size_t at = r * query.size() + j;
      ASSERT_NEAR(found.query[at], query[j], 2e-5 * (1 + std::abs(query[j]))) << r << " " << j;
    }
  }
}

TEST_P(EncoderOracle, ItemsAgree) {
  const auto [head, reader, dim] = GetParam();
  RandomModelOptions options;
  options.head = head;
  options.history = reader;
  options.dim = dim;
  const ModelData model = random_model(options);  // its vectors are the encoder's
  for (int64_t i = 0; i < options.items + options.unseen_items; ++i) {
    const Vector expected = oracle_item(model.architecture, model.features, model.weights,
                                        item_record(i), i < options.items ? i : -1);
    for (int64_t j = 0; j < dim; ++j) {
      ASSERT_NEAR(model.catalogue.vectors[static_cast<size_t>(i * dim + j)],
                  expected[static_cast<size_t>(j)], 2e-5)
          << i << " " << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, EncoderOracle,
                         testing::Combine(testing::Values(Head::kBilinear, Head::kNone),
                                          testing::Values(HistoryEncoder::kPools,
                                                          HistoryEncoder::kSet,
                                                          HistoryEncoder::kTransformer),
                                          testing::Values(2, 12, 33)));

class EncoderBits : public testing::TestWithParam<HistoryEncoder> {};

TEST_P(EncoderBits, BatchAndThreadsDoNotChangeThem) {
  RandomModelOptions options;
  options.history = GetParam();
  const ModelData model = random_model(options);
  const Encoder encoder(model.architecture, model.features, model.weights);
  Cases source(static_cast<int64_t>(model.catalogue.ids.size()), 11);
  std::vector<Case> cases;
  for (int i = 0; i < 50; ++i) cases.push_back(source.next());
  const Encoded whole = encode(encoder, model, cases, 4);
  EXPECT_EQ(whole.query, encode(encoder, model, cases, 1).query);
  for (size_t r = 0; r < cases.size(); ++r) {
    const Encoded alone = encode(encoder, model, {cases[r]}, 1);
    const auto first = whole.query.begin() + static_cast<int64_t>(r) * encoder.dim();
    ASSERT_TRUE(std::equal(alone.query.begin(), alone.query.end(), first)) << r;
  }
}

INSTANTIATE_TEST_SUITE_P(Readers, EncoderBits,
                         testing::Values(HistoryEncoder::kPools, HistoryEncoder::kSet,
                                         HistoryEncoder::kTransformer));

TEST(Encoder, AnEmptyBatchIsFine) {
  const ModelData model = random_model();
  const Encoder encoder(model.architecture, model.features, model.weights);
  EXPECT_TRUE(encode(encoder, model, {}, 1).query.empty());
}

TEST(Encoder, RefusesWeightsThatDoNotFit) {
  const ModelData model = random_model();
  const auto of = [&model](const auto& change) {
    ModelData copy = model;
    change(copy);
    const Caught error =
        caught([&] { Encoder(copy.architecture, copy.features, std::move(copy.weights)); });
    EXPECT_EQ(error.kind, ErrorKind::kModel);
    return error.message;
  };
  EXPECT_EQ(of([](ModelData& m) { m.weights.erase("query.bias"); }),
            "tensor 'query.bias' is missing");
  EXPECT_EQ(of([](ModelData& m) {
              m.weights["user.old.weight"] = {{1}, std::vector<float>(1)};
            }),
            "tensor 'user.old.weight' is left over: neither schema nor architecture has it");
  EXPECT_EQ(of([](ModelData& m) {
              m.weights["query.bias"] = {{3}, std::vector<float>(3)};
            }),
            "tensor 'query.bias': schema and architecture ask for the shape [11], found [3]");
  EXPECT_EQ(of([](ModelData& m) {
              edit(m.weights["query.bias"].data, [](std::vector<float>& v) { v.pop_back(); });
            }),
            "tensor 'query.bias' of shape [11] holds 10 numbers");
  EXPECT_EQ(of([](ModelData& m) {
              edit(m.weights["query.bias"].data, [](std::vector<float>& v) { v[3] = NAN; });
            }),
            "tensor 'query.bias' holds NaN at element 3");
  EXPECT_EQ(of([](ModelData& m) {
              m.weights["item.id.weight"] = {{2, 3}, std::vector<float>(6)};
            }),
            "tensor 'item.id.weight': schema and architecture ask for the shape [any, 11], found "
            "[2, 3]");
  EXPECT_EQ(of([](ModelData& m) {
              m.weights["item.bias.weight"] = {{2, 1}, std::vector<float>(2)};
            }),
            "tensor 'item.bias.weight' has 2 rows, item.id.weight has 40");
  EXPECT_EQ(of([](ModelData& m) { m.architecture.history = HistoryEncoder::kAuto; }),
            "the architecture does not say how histories are read (pools, set or transformer)");
  EXPECT_EQ(of([](ModelData& m) { m.architecture.head = Head::kNone; }),
            "tensor 'context.around.weight' is left over: neither schema nor architecture has it");
}

TEST(Encoder, RefusesWrongCalls) {
  const ModelData model = random_model();
  const Encoder encoder(model.architecture, model.features, model.weights);
  std::vector<float> out(12);
  const Record* nobody[] = {nullptr};
  const Batch user = model.features.encode(Group::kUser, nobody, {});
  Exec cuda;
  cuda.device = DeviceType::kCuda;
  const MatrixView<const float> items(model.catalogue.vectors.data(), 43, 12);
  EXPECT_EQ(caught([&] {
              encoder.encode_state(user, {{}, {}, {}, {0, 0}}, items, {out.data(), 1, 12}, cuda);
            }).message,
            "the encoder runs on the CPU; give an Exec of the CPU");
  EXPECT_EQ(caught([&] {
              encoder.encode_state(user, {{}, {}, {}, {0, 0}}, items, {out.data(), 1, 12}, {});
            }).message,
            "encode_state: state: expected the shape [1, 11], got [1, 12]");
  EXPECT_EQ(caught([&] {
              encoder.encode_state(user, {}, items, {out.data(), 1, 11}, {});
            }).message,
            "encode_state: expected 1 histories, got 0");
  RandomModelOptions options;
  options.history = HistoryEncoder::kTransformer;
  const ModelData other = random_model(options);
  const Encoder reader(other.architecture, other.features, other.weights);
  EXPECT_EQ(caught([&] {
              reader.encode_state(user, {{43}, {1}, {0}, {0, 1}}, items, {out.data(), 1, 11}, {});
            }).message,
            "history: expected rows of items below 43, got 43");
  const std::vector<int64_t> seven(7, 0);
  EXPECT_EQ(caught([&] {
              reader.encode_state(user, {seven, std::vector<float>(7, 1), seven, {0, 7}}, items,
                                  {out.data(), 1, 11}, {});
            }).message,
            "history: expected at most 6 events, got 7");
  EXPECT_EQ(caught([&] {
              encoder.encode_items(model.features.encode(Group::kItem, nobody, {}), {},
                                   {out.data(), 1, 12}, {});
            }).message,
            "encode_items: expected 1 id rows, got 0");
}

}  // namespace
}  // namespace hypertower
