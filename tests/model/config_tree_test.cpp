#include "model/config_tree.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <vector>

#include "tests/model/caught.h"

namespace hypertower {
namespace {

using nlohmann::json;

constexpr const char* kText = R"(name = "shop"   # a comment
[training]
lr = 0.05
epochs = 3
shuffle = true
loss = "sampled_softmax"
start = 2024-02-29
[item.genre]
kind = "category"
)";

ConfigTree tree(const std::string& text = kText) {
  return ConfigTree::from_toml_text(text, "shop.toml");
}

TEST(ConfigTree, ReadsTypedValues) {
  const ConfigTree config = tree();
  EXPECT_EQ(config.text("name", ""), "shop");
  EXPECT_EQ(config.number("training.lr", 1.0), 0.05);
  EXPECT_EQ(config.number("training.epochs", 1.0), 3.0);
  EXPECT_EQ(config.integer("training.epochs", 1), 3);
  EXPECT_TRUE(config.boolean("training.shuffle", false));
  EXPECT_EQ(config.text("training.start", ""), "2024-02-29");
  EXPECT_EQ(config.root()["item"]["genre"]["kind"], "category");
}

TEST(ConfigTree, AbsentKeysGiveTheDefault) {
  const ConfigTree config = tree();
  EXPECT_FALSE(config.has("training.seed"));
  EXPECT_TRUE(config.has("item.genre"));
  EXPECT_FALSE(config.has("name.deeper"));
  EXPECT_EQ(config.integer("training.seed", 7), 7);
  EXPECT_EQ(config.text("a.b.c", "x"), "x");
}

TEST(ConfigTree, NamesTheLineOfAKey) {
  const ConfigTree config = tree();
  EXPECT_EQ(config.where("name"), "shop.toml:1");
  EXPECT_EQ(config.where("training.epochs"), "shop.toml:4");
  EXPECT_EQ(config.where("item.genre"), "shop.toml:8");
  EXPECT_EQ(config.where("item.genre.kind"), "shop.toml:9");
  EXPECT_EQ(config.where("nothing"), "shop.toml");
  EXPECT_EQ(config.line("nothing"), 0);
}

TEST(ConfigTree, WrongTypesNamePlaceAndFinding) {
  const ConfigTree config = tree();
  const Caught number = caught([&] { config.number("training.loss", 1.0); });
  EXPECT_EQ(number.kind, ErrorKind::kSchema);
  EXPECT_EQ(number.field, "training.loss");
  EXPECT_EQ(number.message,
            "shop.toml:6: training.loss: expected a number, got text 'sampled_softmax'");
  EXPECT_EQ(caught([&] { config.integer("training.lr", 1); }).message,
            "shop.toml:3: training.lr: expected an integer, got 0.05");
  EXPECT_EQ(caught([&] { config.boolean("training.epochs", true); }).message,
            "shop.toml:4: training.epochs: expected true or false, got 3");
  EXPECT_EQ(caught([&] { config.text("training", ""); }).message,
            "shop.toml:2: training: expected text, got an object");
}

TEST(ConfigTree, BoundsAndChoices) {
  const ConfigTree config = tree();
  EXPECT_EQ(config.integer("training.epochs", 1, 1, 3), 3);
  EXPECT_EQ(caught([&] { config.integer("training.epochs", 1, 1, 2); }).message,
            "shop.toml:4: training.epochs: expected 1 to 2, got 3");
  EXPECT_EQ(caught([&] { config.number("training.lr", 1.0, 0.1, 1.0); }).message,
            "shop.toml:3: training.lr: expected 0.1 to 1, got 0.05");
  const std::vector<std::string> words = {"softmax", "sampled_softmaxx"};
  EXPECT_EQ(caught([&] { config.choice("training.loss", "softmax", words); }).message,
            "shop.toml:6: training.loss: unknown value 'sampled_softmax'. Did you mean "
            "'sampled_softmaxx'?");
}

TEST(ConfigTree, InfinityAndHugeIntegersAreRefused) {
  const ConfigTree config = tree("a = inf\nb = nan\n");
  EXPECT_EQ(caught([&] { config.number("a", 0.0); }).message,
            "shop.toml:1: a: expected a finite number, got inf");
  EXPECT_EQ(caught([&] { config.number("b", 0.0); }).message,
            "shop.toml:2: b: expected a finite number, got nan");
  const ConfigTree huge = ConfigTree::from_json({{"n", 18446744073709551615ULL}}, "settings");
  EXPECT_EQ(caught([&] { huge.integer("n", 0); }).message,
            "settings: n: expected an integer below 2^63, got 18446744073709551615");
}

TEST(ConfigTree, UnknownKeysNameTheNearest) {
  const ConfigTree config = tree("[history]\nlenght = 5\n");
  const std::vector<std::string> known = {"length"};
  const Caught key = caught([&] { config.check_keys("history", known); });
  EXPECT_EQ(key.message, "shop.toml:2: unknown key 'lenght' in [history]. Did you mean 'length'?");
  EXPECT_EQ(key.field, "history.lenght");
  const std::vector<std::string> sections = {"histories", "training"};
  EXPECT_EQ(caught([&] { config.check_keys("", sections); }).message,
            "shop.toml:1: unknown section [history]. Known: histories, training.");
  EXPECT_NO_THROW(config.check_keys("absent", known));
  EXPECT_EQ(caught([&] { tree("history = 5").check_keys("history", known); }).message,
            "shop.toml:1: history: expected a section [history], got 5");
}

TEST(ConfigTree, OverridesReplaceAndAreNamed) {
  ConfigTree config = tree();
  config.set("training.lr", std::string("0.1"));
  config.set("training.loss", std::string("softmax"));
  config.set("training.tags", std::string("[\"a\", \"b\"]"));
  config.set("model.dim", json("wide"));
  EXPECT_EQ(config.number("training.lr", 0.0), 0.1);
  EXPECT_EQ(config.text("training.loss", ""), "softmax");
  EXPECT_EQ(config.root()["training"]["tags"], json({"a", "b"}));
  EXPECT_EQ(caught([&] { config.integer("model.dim", 1); }).message,
            "the override of model.dim: expected an integer, got text 'wide'");
  config.set("training.note", std::string("1\nname = \"two lines are text\""));
  EXPECT_EQ(config.text("name", ""), "shop");
}

TEST(ConfigTree, OverridesMustNameAKey) {
  ConfigTree config = tree();
  EXPECT_EQ(caught([&] { config.set("name.first", json(1)); }).message,
            "cannot set name.first: name is no section but text 'shop'");
  EXPECT_EQ(caught([&] { config.set("", json(1)); }).message,
            "cannot set '': expected section.key, for example training.lr");
  EXPECT_EQ(caught([&] { config.set("training.", json(1)); }).message,
            "cannot set 'training.': expected section.key, for example training.lr");
}

TEST(ConfigTree, BrokenTomlNamesTheLine) {
  const Caught broken = caught([] { tree("a = 1\nb = \n"); });
  EXPECT_EQ(broken.kind, ErrorKind::kData);
  EXPECT_TRUE(broken.message.starts_with("shop.toml:2: not valid TOML: ")) << broken.message;
}

TEST(ConfigTree, MissingFileAndDirectory) {
  const Caught missing = caught([] { ConfigTree::from_toml_file("/nowhere/shop.toml"); });
  EXPECT_EQ(missing.kind, ErrorKind::kIo);
  EXPECT_EQ(missing.message,
            "cannot read the configuration '/nowhere/shop.toml': No such file or directory. "
            "Check the path.");
  EXPECT_EQ(caught([] { ConfigTree::from_toml_file("/tmp"); }).message,
            "cannot read the configuration '/tmp': Is a directory. Check the path.");
}

TEST(ConfigTree, ReadsAFileAndKeepsItsPathAsName) {
  const std::string path = testing::TempDir() + "config_tree_test.toml";
  std::ofstream(path) << kText;
  const ConfigTree config = ConfigTree::from_toml_file(path);
  EXPECT_EQ(config.name(), path);
  EXPECT_EQ(config.where("training.lr"), path + ":3");
  std::remove(path.c_str());
}

TEST(ConfigTree, JsonMustBeAnObject) {
  EXPECT_EQ(caught([] {
              ConfigTree::from_json({1, 2}, "settings");
            }).message,
            "settings: a configuration is an object of sections, got a list");
}

}  // namespace
}  // namespace hypertower
