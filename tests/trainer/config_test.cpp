#include "trainer/config.h"

#include <gtest/gtest.h>

#include "tests/trainer/support.h"

namespace hypertower {
namespace {

std::string parse_error(const std::string& toml) {
  return testing::error_of([&] { TrainerConfig::from_config(testing::config_of(toml)); });
}

TEST(TrainerConfig, ReadsEveryKindOfField) {
  const auto c = TrainerConfig::from_config(testing::config_of(
      "[data]\nevents = \"e.csv\"\nsessions = true\n[training]\nlr = 0.5\nepochs = 3\n"
      "[evaluation]\nk = [20, 5, 20]\nexclude_seen = false\n"));
  EXPECT_EQ(c.data.events, "e.csv");
  EXPECT_TRUE(c.data.sessions);
  EXPECT_EQ(c.training.lr, 0.5);
  EXPECT_EQ(c.training.epochs, 3);
  EXPECT_EQ(c.evaluation.k, (std::vector<int64_t>{5, 20}));
  EXPECT_EQ(c.evaluation.exclude_seen, "false");
  EXPECT_EQ(c.training.table_lr, TrainingConfig{}.table_lr);
}

TEST(TrainerConfig, NamesTheNearestKeyWithFileAndLine) {
  const std::string message = parse_error("[training]\nepochs = 3\nlearning_rat = 0.1\n");
  EXPECT_NE(message.find("shop.toml:3"), std::string::npos) << message;
  EXPECT_NE(message.find("learning_rat"), std::string::npos) << message;
  const std::string section = parse_error("[trainin]\nepochs = 3\n");
  EXPECT_NE(section.find("Did you mean 'training'?"), std::string::npos) << section;
}

TEST(TrainerConfig, ChecksRangesAndWords) {
  EXPECT_EQ(parse_error("[training]\nepochs = -1\n"),
            "shop.toml:2: training.epochs must be at least 0, got -1.");
  EXPECT_EQ(parse_error("[data]\ntest_fraction = 0.9\n"),
            "shop.toml:2: data.test_fraction must be between 0 and 0.5, got 0.9.");
  EXPECT_EQ(parse_error("[data]\nsplit = \"tim\"\n"),
            "shop.toml:2: data.split is 'tim', which is none of its values. Did you mean 'time'?");
  EXPECT_EQ(parse_error("[data]\nseparator = \"::\"\n"),
            "shop.toml:2: data.separator must be one character, got '::'.");
  EXPECT_EQ(parse_error("[data]\ntest = \"t.csv\"\n"),
            "shop.toml:2: data.test is used with data.split = \"given\" only, but split is 'time'; "
            "set split = \"given\" or leave test out.");
  EXPECT_EQ(parse_error("[evaluation]\nk = []\n"),
            "shop.toml:2: evaluation.k must be an integer or a list of integers, got [].");
}

TEST(TrainerConfig, RefusesRawInBatchSoftmax) {
  const std::string message = parse_error("[training]\nloss = \"in_batch\"\n");
  EXPECT_NE(message.find("corrects both by logQ"), std::string::npos) << message;
}

TEST(TrainerConfig, HelpNamesEveryFieldAndItsDefault) {
  const std::string help = config_help();
  const nlohmann::json defaults = TrainerConfig{}.to_json();
  for (const auto& [key, value] : defaults.items()) {
    const std::string line = key.substr(key.find('.') + 1) + " = " + value.dump();
    EXPECT_NE(help.find(line), std::string::npos) << line;
  }
}

TEST(DataFromConfig, LooksBesideTheConfigOrInTheFolder) {
  const auto config = ConfigTree::from_toml_text("[data]\nevents = \"e.csv\"\nusers = \"/u.csv\"\n",
                                                 "/etc/shop.toml");
  EXPECT_EQ(data_from_config(config, "").events.path, "/etc/e.csv");
  EXPECT_EQ(data_from_config(config, "/data").events.path, "/data/e.csv");
  EXPECT_EQ(data_from_config(config, "/data").users.path, "/u.csv");
  EXPECT_FALSE(data_from_config(config, "").items.given());
  EXPECT_EQ(testing::error_of([] { data_from_config(testing::config_of("name = \"x\"\n"), ""); }),
            "shop.toml: [data] names no events; add events = \"events.csv.gz\", or train from "
            "Python with fit(events).");
}

}  // namespace
}  // namespace hypertower
