#include "trainer/decide.h"

#include <gtest/gtest.h>

#include "tests/trainer/support.h"

namespace hypertower {
namespace {

// `people` of `each` training events among `items`, ordered by a column or not.
Dataset make_dataset(int64_t people, int64_t each, int64_t items, bool ordered) {
  Dataset data;
  const Schema schema = Schema::from_config(
      testing::config_of(ordered ? "[columns]\nposition = \"p\"\n" : "[columns]\nuser = \"u\"\n"));
  data.features = FeatureSpace(schema, {});
  for (int64_t u = 0; u < people; ++u) data.users.add(std::to_string(u));
  for (int64_t i = 0; i < items; ++i) data.items.add(std::to_string(i));
  for (int64_t e = 0; e < people * each; ++e) {
    data.events.user.push_back(e % people);
    data.events.item.push_back(e % items);
    data.events.weight.push_back(1.0F);
    data.events.part.push_back(Part::kTrain);
  }
  return data;
}

Decisions of(const Dataset& data) {
  return decide(Architecture{}, true, TrainingConfig{}, 0, data, "last");
}

TEST(Decide, ManyOrderedEventsAreReadByATransformer) {
  const Decisions d = of(make_dataset(1000, 150, 1000, true));
  EXPECT_EQ(d.architecture.history, HistoryEncoder::kTransformer);
  EXPECT_EQ(d.history_length, 150);
  EXPECT_EQ(d.training.epochs, 8);
  EXPECT_EQ(d.training.lr, 2e-3);
  EXPECT_EQ(d.training.table_optimizer, "adam");
  EXPECT_EQ(d.training.table_lr, 2e-3);
  EXPECT_EQ(d.training.dropout, 0.1);
  EXPECT_EQ(
      d.text,
      "Histories are read as a sequence by a transformer, the latest 150 events (model.history, "
      "history.length): 150000 events to learn from, 150 a person, 150 an item; "
      "dimension 64, at most 8 epochs, dropout 0.1.");
}

TEST(Decide, FewEventsAndShortHistoriesAreReadByPools) {
  EXPECT_EQ(of(make_dataset(1000, 90, 1000, true)).architecture.history, HistoryEncoder::kPools);
  EXPECT_EQ(of(make_dataset(75000, 2, 1000, true)).architecture.history, HistoryEncoder::kPools);
  EXPECT_EQ(of(make_dataset(1000, 90, 1000, true)).training.epochs, 10);
  EXPECT_EQ(of(make_dataset(1000, 90, 1000, true)).training.table_optimizer, "adagrad");
}

TEST(Decide, EventsInNoOrderAreASetUnlessTheyHaveAMoment) {
  Architecture architecture;
  architecture.head = Head::kNone;
  const Dataset data = make_dataset(1000, 150, 1000, false);
  const Decisions d = decide(architecture, true, TrainingConfig{}, 0, data, "last");
  EXPECT_EQ(d.architecture.history, HistoryEncoder::kSet);
  EXPECT_EQ(d.architecture.dim, 128);
  EXPECT_EQ(d.history_length, 256);
  EXPECT_EQ(d.training.epochs, 100);  // of 4 steps each
  EXPECT_EQ(d.training.patience, 20);
  EXPECT_EQ(d.training.negatives, 4096);
  EXPECT_NE(d.text.find("in no order"), std::string::npos) << d.text;
  EXPECT_EQ(decide(architecture, false, TrainingConfig{}, 0, data, "random").architecture.dim, 64);
  architecture.head = Head::kBilinear;
  EXPECT_EQ(decide(architecture, true, TrainingConfig{}, 0, data, "random").architecture.history,
            HistoryEncoder::kPools);
}

TEST(Decide, RowsCountAsOrderUnlessTheyAreSortedByItemOrTheSplitIsRandom) {
  Architecture architecture;
  architecture.head = Head::kNone;
  Dataset data = make_dataset(1000, 150, 1000, false);
  const auto reader = [&](const char* split) {
    return decide(architecture, true, TrainingConfig{}, 0, data, split).architecture.history;
  };
  EXPECT_EQ(reader("last"), HistoryEncoder::kSet);  // no item of a person is smaller than the last
  data.events.item[0] = 5;                          // the first of one who goes on with item 0
  EXPECT_EQ(reader("last"), HistoryEncoder::kTransformer);
  EXPECT_EQ(reader("random"), HistoryEncoder::kSet);
}

TEST(Decide, LengthStaysWithinItsBoundsAndRareItemsNeedDropout) {
  EXPECT_EQ(of(make_dataset(20000, 6, 12000, true)).history_length, 50);
  EXPECT_EQ(of(make_dataset(200, 600, 12000, true)).history_length, 200);
  EXPECT_EQ(of(make_dataset(200, 600, 12000, true)).training.dropout, 0.3);
}

TEST(Decide, WhatTheConfigSaysStands) {
  Architecture architecture;
  architecture.history = HistoryEncoder::kPools;
  TrainingConfig training;
  training.lr = 0.5;
  training.dropout = 0;
  training.epochs = 3;
  training.weight_decay = 0;
  const Decisions d =
      decide(architecture, true, training, 7, make_dataset(1000, 150, 1000, true), "last");
  EXPECT_EQ(d.architecture.history, HistoryEncoder::kPools);
  EXPECT_EQ(d.history_length, 7);
  EXPECT_EQ(d.training.lr, 0.5);
  EXPECT_EQ(d.training.dropout, 0);
  EXPECT_EQ(d.training.epochs, 3);
  EXPECT_EQ(d.training.weight_decay, 0);
}

TEST(Decide, HeadsThatDoNotDivideTheDimensionKeepThePools) {
  Architecture architecture;
  architecture.dim = 33;
  const Decisions d =
      decide(architecture, false, TrainingConfig{}, 0, make_dataset(1000, 150, 1000, true), "last");
  EXPECT_EQ(d.architecture.history, HistoryEncoder::kPools);
}

TEST(Decide, NoEventsAreNoProblem) {
  EXPECT_EQ(of(Dataset{}).architecture.history, HistoryEncoder::kPools);
}

}  // namespace
}  // namespace hypertower
