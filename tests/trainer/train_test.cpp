// The whole way on a small shop: train, beat popularity, repeat bit for bit, answer alike after
// export, and say what is wrong.
#include "trainer/train.h"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "model/encoder.h"
#include "model/recommender.h"
#include "tests/trainer/support.h"
#include "trainer/dataset.h"
#include "trainer/fit.h"
#include "trainer/histories.h"
#include "trainer/inputs.h"
#include "trainer/two_tower.h"

namespace hypertower {
namespace {

using testing::error_of;
using testing::Folder;
using testing::Messages;

TrainResult train_shop(const Folder& folder, const std::string& more = "",
                       Messages* messages = nullptr) {
  ConfigTree config = testing::config_of(testing::kShopConfig);
  for (size_t begin = 0; begin < more.size();) {
    const size_t end = more.find(' ', begin);
    const std::string setting = more.substr(begin, end - begin);
    config.set(setting.substr(0, setting.find('=')), setting.substr(setting.find('=') + 1));
    begin = end == std::string::npos ? more.size() : end + 1;
  }
  Messages own;
  return train(config, testing::shop_data(folder), messages != nullptr ? *messages : own);
}

// Both ways to read a history: what must hold for towers holds for either.
class Readers : public ::testing::TestWithParam<const char*> {
 protected:
  std::string setting() const { return std::string("model.history=") + GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Each, Readers, ::testing::Values("pools", "set", "transformer"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Readers, HaveTheParametersOfTheArchitecture) {
  const Folder folder;
  Messages messages;
  ConfigTree config = testing::config_of(testing::kShopConfig);
  config.set("model.history", std::string(GetParam()));
  const Dataset data =
      load_dataset(Schema::from_config(config), DataConfig{}, testing::shop_data(folder), messages);
  const TwoTower towers(Architecture::from_config(config), data.features, data.items.size(), {},
                        Optimizer::kRowWiseAdagrad, 0, at::kCPU);
  Weights weights;
  for (const auto& p : towers.named_parameters()) {
    const at::Tensor value = p.value().contiguous();
    const auto* data = value.const_data_ptr<float>();
    weights[p.key()] = {value.sizes().vec(), std::vector<float>(data, data + value.numel())};
  }
  // The encoder refuses missing, left-over and misshapen tensors by name.
  EXPECT_NO_THROW(Encoder(Architecture::from_config(config), data.features, weights));
}

// Of the shop, where what comes next follows from the last one.
class OrderedReaders : public Readers {};
INSTANTIATE_TEST_SUITE_P(Each, OrderedReaders, ::testing::Values("pools", "transformer"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(OrderedReaders, BeatEveryBaselineOnAShop) {
  const Folder folder;
  Messages messages;
  const TrainResult r = train_shop(folder, setting(), &messages);
  for (const auto& [name, metrics] : r.report["baselines"].items()) {
    EXPECT_GT(r.report["test"]["ndcg@5"].get<double>(), metrics["ndcg@5"].get<double>()) << name;
  }
  EXPECT_EQ(r.report["baselines"].size(), 3U);
  EXPECT_TRUE(r.report["beats_baselines"].get<bool>());
  EXPECT_EQ(r.report["counts"]["events"], 1440);
  EXPECT_EQ(r.report["test"]["events"], r.report["counts"]["test_events"]);
  EXPECT_GE(messages.epochs.size(), 2U);
  EXPECT_EQ(r.model.people.size(), 60U);
  EXPECT_FALSE(r.model.exclude_seen_by_default);  // the shop's users repeat themselves
}

TEST_P(Readers, GiveTheSameBitsForTheSameSeed) {
  const Folder folder;
  const TrainResult a = train_shop(folder, setting() + " training.epochs=2");
  const TrainResult b = train_shop(folder, setting() + " training.epochs=2");
  const TrainResult c = train_shop(folder, setting() + " training.epochs=2 training.seed=1");
  for (const auto& [name, tensor] : a.model.weights) {
    EXPECT_EQ(tensor.data, b.model.weights.at(name).data) << name;
  }
  EXPECT_EQ(a.model.catalogue.vectors, b.model.catalogue.vectors);
  EXPECT_EQ(a.report["test"], b.report["test"]);
  EXPECT_NE(a.model.catalogue.vectors, c.model.catalogue.vectors);
  EXPECT_EQ(a.model.data_fingerprint, c.model.data_fingerprint);
}

TEST_P(Readers, ExportWhatEvaluatesTheSame) {
  const Folder folder;
  TrainResult r = train_shop(folder, setting() + " training.epochs=3 training.refit=false");
  // The test part as a file of its own.
  std::string lines = "user_id,item_id,timestamp,weather\n";
  std::istringstream all(testing::shop_events());
  std::string line;
  for (int row = -1; std::getline(all, line); ++row) {
    if (row >= 1440 - 144) lines += line + "\n";
  }
  const PeopleInMemory people(r.model.people);
  EvaluateOptions options;
  options.k = {5, 10};
  options.people = &people;
  options.by = "context.weather";
  const nlohmann::json expected = r.report["test"];
  const nlohmann::json baselines = r.report["baselines"];
  const Recommender model(std::move(r.model));
  const auto got =
      evaluate(model, {.path = folder.write("test.csv", lines), .table = nullptr}, options);
  for (const auto& [name, value] : expected.items()) {
    EXPECT_NEAR(got[name].get<double>(), value.get<double>(), 0.01) << name;
  }
  EXPECT_EQ(got["baselines"].size(), 2U);  // item-kNN is of the training events
  for (const char* name : {"popularity", "recent_popularity"}) {
    EXPECT_NEAR(got["baselines"][name]["ndcg@10"].get<double>(),
                baselines[name]["ndcg@10"].get<double>(), 1e-9)
        << name;
  }
  EXPECT_EQ(got["by"]["sun"]["events"].get<int>() + got["by"]["rain"]["events"].get<int>(), 144);
  options.by = "context.wether";
  EXPECT_EQ(error_of([&] {
              evaluate(model, {.path = folder.at("test.csv"), .table = nullptr}, options);
            }),
            "by: 'context.wether' is no feature of this model. Did you mean 'context.weather'?");
}

// Ids in no order: people like some of four groups, and what is held out are others of the same.
TEST(Train, AnUnorderedPersonIsReadAsASet) {
  const Folder folder;
  Messages messages;
  std::ostringstream pairs;
  pairs << "u,i\n";
  for (int user = 0; user < 200; ++user) {
    for (int n = 0; n < 8; ++n) {
      const int group = (user + n % 2 * (user / 4)) % 4;
      pairs << user << "," << 20 * group + (user * 7 + n * 11) % 20 << "\n";
    }
  }
  const ConfigTree config = testing::config_of(
      "[data]\nsplit = \"random\"\n[columns]\nuser = \"u\"\nitem = \"i\"\n[model]\ndim = 16\n"
      "[training]\nepochs = 30\nthreads = 1\ndevice = \"cpu\"\nbatch_size = 50\n");
  TrainData data;
  data.events.path = folder.write("pairs.csv", pairs.str());
  const TrainResult r = train(config, data, messages);
  EXPECT_EQ(r.model.architecture.history, HistoryEncoder::kSet);
  EXPECT_EQ(r.report["refit"], true);
  const double found = r.report["test"]["recall@20"];
  EXPECT_GT(found, 2 * r.report["baselines"]["popularity"]["recall@20"].get<double>());
  EXPECT_GT(found, 0.5);  // 40 of 80 items are of a person's groups
}

TEST(Train, ASampleOfTheWholeCatalogueIsTheFullSoftmax) {
  const Folder folder;
  const TrainResult full = train_shop(folder, "training.epochs=2 training.loss=full_softmax");
  const TrainResult sampled =
      train_shop(folder, "training.epochs=2 training.loss=sampled_softmax training.negatives=1000");
  ASSERT_EQ(full.model.catalogue.vectors.size(), sampled.model.catalogue.vectors.size());
  for (size_t i = 0; i < full.model.catalogue.vectors.size(); ++i) {
    EXPECT_NEAR(full.model.catalogue.vectors[i], sampled.model.catalogue.vectors[i], 1e-3);
  }
}

// Mined to the last item there is nothing left to sample.
TEST(Train, HardNegativesOfTheWholeCatalogueAreTheFullSoftmax) {
  const Folder folder;
  const TrainResult full = train_shop(folder, "training.epochs=2 training.loss=full_softmax");
  const std::string sampled = "training.epochs=2 training.loss=sampled_softmax ";
  const TrainResult hard =
      train_shop(folder, sampled + "training.negatives=0 training.hard_negatives=1000");
  ASSERT_EQ(full.model.catalogue.vectors.size(), hard.model.catalogue.vectors.size());
  for (size_t i = 0; i < full.model.catalogue.vectors.size(); ++i) {
    EXPECT_NEAR(full.model.catalogue.vectors[i], hard.model.catalogue.vectors[i], 1e-3);
  }
  const std::string few = sampled + "training.negatives=8 training.hard_negatives=3";
  EXPECT_EQ(train_shop(folder, few).model.catalogue.vectors,
            train_shop(folder, few).model.catalogue.vectors);
}

// Tables smaller than the values they serve, in each group. The export compares the towers with the
// serving encoder itself, so a wrong row would not get past it.
TEST(Train, DynamicVocabulariesAreTrainedAndExported) {
  const Folder folder;
  ConfigTree config = testing::config_of(std::string(testing::kShopConfig) + R"(
[user.who]
kind = "category"
column = "user_id"
vocabulary = "dynamic"
rows = 32
evict = "least_recent"
[item.own]
kind = "categories"
column = "item_id"
vocabulary = "dynamic"
rows = 32
[context.person]
kind = "category"
column = "user_id"
vocabulary = "dynamic"
rows = 128
min_count = 3
)");
  const auto run = [&](Messages& messages) {
    return train(config, testing::shop_data(folder), messages);
  };
  Messages messages;
  TrainResult r = run(messages);
  const nlohmann::json& v = r.report["vocabularies"];
  EXPECT_EQ(v["user.who"]["values"], 32);
  EXPECT_GT(v["user.who"]["evicted"].get<int64_t>(), 0);
  EXPECT_EQ(v["item.own"]["values"], 32);
  EXPECT_EQ(v["item.own"]["evicted"], 0);
  EXPECT_GT(v["item.own"]["failed"].get<int64_t>(), 0);
  EXPECT_EQ(v["context.person"]["values"], 60);
  EXPECT_EQ(v["context.person"]["failed"], 0);
  const std::string said = "context.person: 60 of 128 rows of its dynamic vocabulary are taken.";
  EXPECT_EQ(std::count(messages.texts.begin(), messages.texts.end(), said), 1);

  EXPECT_EQ(r.model.features.group(Group::kUser).back().vocabulary.size(), 32);
  EXPECT_EQ(r.model.weights.at("context.person.weight").shape[0], 64);  // 60 and 4 hashed rows
  Messages others;
  const TrainResult again = run(others);
  for (const auto& [name, tensor] : r.model.weights) {
    EXPECT_EQ(tensor.data, again.model.weights.at(name).data) << name;
  }
  EXPECT_NO_THROW(Recommender(std::move(r.model)));  // whose golden requests are asked again
}

TEST(Train, SaysWhenABaselineIsAsGood) {
  const Folder folder;
  Messages messages;
  const TrainResult r = train_shop(
      folder,
      "training.epochs=1 training.lr=1e-12 training.table_lr=1e-12 training.item_start=random "
      "training.followers=off training.habits=off",
      &messages);
  EXPECT_FALSE(r.report["beats_baselines"].get<bool>());
  bool said = false;
  for (const auto& text : messages.texts) {
    said = said || text.find("is at least as good as the model") != std::string::npos;
  }
  EXPECT_TRUE(said);
}

TEST(Train, StopsWhenTheObserverSaysSo) {
  struct Impatient : TrainObserver {
    int epochs = 0;
    bool on_epoch(const nlohmann::json&) override { return ++epochs < 2; }
  };
  const Folder folder;
  Impatient observer;
  const TrainResult r =
      train(testing::config_of(testing::kShopConfig), testing::shop_data(folder), observer);
  EXPECT_EQ(observer.epochs, 2);
  EXPECT_EQ(r.report["epochs"].size(), 2U);  // no refit after a stop
}

TEST(CheckParameters, NamesTheOneThatDiverged) {
  const Folder folder;
  Messages messages;
  const ConfigTree config = testing::config_of(testing::kShopConfig);
  const Dataset data =
      load_dataset(Schema::from_config(config), DataConfig{}, testing::shop_data(folder), messages);
  const TwoTower towers(Architecture::from_config(config), data.features, data.items.size(), {},
                        Optimizer::kRowWiseAdagrad, 0, at::kCPU);
  EXPECT_NO_THROW(check_parameters(towers, 7));
  const at::NoGradGuard no_grad;
  towers.named_parameters()["item.bias.weight"][3] = std::nan("");
  EXPECT_EQ(
      error_of([&] { check_parameters(towers, 7); }),
      "training diverged at step 7: parameter 'item.bias.weight' holds NaN or infinity; lower "
      "training.lr or training.table_lr.");
}

TEST(Train, WorksWithoutValidationTestAndFeatures) {
  const Folder folder;
  Messages messages;
  const ConfigTree config = testing::config_of(
      "[data]\nsplit = \"last\"\n[columns]\nuser = \"u\"\nitem = \"i\"\n[model]\ndim = 8\n"
      "[training]\nepochs = 2\ndevice = \"cpu\"\nthreads = 1\n");
  TrainData data;
  data.events.path = folder.write("e.csv", "u,i\n1,10\n1,20\n2,20\n2,30\n");
  const TrainResult r = train(config, data, messages);
  EXPECT_TRUE(r.report["test"].empty());
  EXPECT_TRUE(r.model.user_ids_are_integers);
  EXPECT_EQ(r.report["epochs"].size(), 2U);
  const Recommender model(r.model);
  Request request;
  request.history = {{.item = "10", .kind = "", .time = {}, .context = {}}};
  RecommendOptions options;
  options.k = 10;  // more than there are items
  const auto answers = model.recommend({&request, 1}, options, nullptr, Exec{});
  EXPECT_LE(answers[0].hits.size(), 3U);
}

TEST(Train, RefusesCudaWhereThereIsNone) {
  if (cuda_available()) GTEST_SKIP() << "this machine has a CUDA device";
  const Folder folder;
  EXPECT_EQ(
      error_of([&] { train_shop(folder, "training.device=cuda"); }),
      "training.device = \"cuda\", but no CUDA device can be used here; leave \"auto\" or set "
      "\"cpu\".");
}

}  // namespace
}  // namespace hypertower
