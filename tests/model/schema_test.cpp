#include "model/schema.h"

#include <gtest/gtest.h>

#include "model/architecture.h"
#include "tests/model/caught.h"

namespace hypertower {
namespace {

constexpr const char* kConfig = R"(name = "films"
[data]
events = "events.csv"
[columns]
user = "person"
time = "when"
[item.genres]
kind = "categories"
column = "genre_list"
separator = "|"
[item.art]
kind = "vector"
length = 16
[context.weather]
kind = "category"
min_count = 3
oov_rows = 2
[context.evening]
from = "time"
part = "day_period"
[user.age]
kind = "number"
bins = 4
[context.hour]
from = "time"
[outcome.liked]
[kinds]
buy = 3
view = 0.5
[history]
length = 7
)";

Schema schema_of(const std::string& text) {
  return Schema::from_config(ConfigTree::from_toml_text(text, "films.toml"));
}

std::string problem(const std::string& text) {
  const Caught error = caught([&] { schema_of(text); });
  EXPECT_EQ(error.kind, ErrorKind::kSchema);
  EXPECT_FALSE(error.field.empty());
  return error.message;
}

TEST(Schema, ReadsAConfig) {
  const Schema s = schema_of(kConfig);
  EXPECT_EQ(s.name, "films");
  EXPECT_EQ(s.columns.user, "person");
  EXPECT_EQ(s.columns.item, "item_id");
  EXPECT_EQ(s.columns.time, "when");
  EXPECT_EQ(s.history_length, 7);
  EXPECT_EQ(s.kind_weights.at("buy"), 3.0);
  EXPECT_EQ(s.kind_weights.at("view"), 0.5);
  EXPECT_EQ(s.outcomes, std::vector<std::string>{"liked"});
}

TEST(Schema, FeaturesComeByGroupAndAsWritten) {
  const Schema s = schema_of(kConfig);
  std::vector<std::string> names;
  for (const Feature& f : s.features) names.push_back(f.name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"age", "weather", "evening", "hour", "genres", "art"}));
  EXPECT_EQ(s.names(Group::kContext), (std::vector<std::string>{"weather", "evening", "hour"}));
}

TEST(Schema, FeatureOptions) {
  const Schema s = schema_of(kConfig);
  const Feature& genres = *s.find(Group::kItem, "genres");
  EXPECT_EQ(genres.kind, FeatureKind::kCategories);
  EXPECT_EQ(genres.column, "genre_list");
  EXPECT_EQ(genres.separator, "|");
  EXPECT_EQ(s.find(Group::kItem, "art")->length, 16);
  EXPECT_EQ(s.find(Group::kUser, "age")->bins, 4);
  EXPECT_EQ(s.find(Group::kUser, "age")->column, "age");
  EXPECT_EQ(s.find(Group::kContext, "weather")->min_count, 3);
  EXPECT_EQ(s.find(Group::kContext, "weather")->oov_rows, 2);
  EXPECT_EQ(s.find(Group::kContext, "evening")->from_time, TimePart::kDayPeriod);
  EXPECT_EQ(s.find(Group::kContext, "hour")->from_time, TimePart::kHour);
  EXPECT_EQ(s.find(Group::kUser, "hour"), nullptr);
}

TEST(Schema, SurvivesJson) {
  const Schema s = schema_of(kConfig);
  const Schema again = Schema::from_json(nlohmann::json::parse(s.to_json().dump()));
  EXPECT_EQ(again.to_json(), s.to_json());
  ASSERT_EQ(again.features.size(), s.features.size());
  EXPECT_EQ(again.find(Group::kContext, "evening")->from_time, TimePart::kDayPeriod);
}

TEST(Schema, AnEmptyConfigIsFine) {
  const Schema s = schema_of("");
  EXPECT_TRUE(s.features.empty());
  EXPECT_EQ(s.history_length, 50);
}

TEST(Schema, UnknownKeysAndSections) {
  EXPECT_EQ(problem("[history]\nlenght = 5"),
            "films.toml:2: unknown key 'lenght' in [history]. Did you mean 'length'?");
  EXPECT_EQ(problem("[traning]\nlr = 1"),
            "films.toml:1: unknown section [traning]. Did you mean 'training'?");
  EXPECT_EQ(problem("[columns]\nusr = \"u\""),
            "films.toml:2: unknown key 'usr' in [columns]. Did you mean 'user'?");
  EXPECT_EQ(problem("[user.age]\nkind = \"number\"\nbin = 3"),
            "films.toml:3: unknown key 'bin' in [user.age]. Did you mean 'bins'?");
}

TEST(Schema, KindsOfFeatures) {
  EXPECT_EQ(problem("[user.age]\nkind = \"numbr\""),
            "films.toml:2: user.age.kind: unknown value 'numbr'. Did you mean 'number'?");
  EXPECT_EQ(problem("[user.age]\ncolumn = \"a\""),
            "films.toml:1: user.age: kind is missing; write kind = \"category\", \"categories\", "
            "\"number\" or \"vector\".");
  EXPECT_EQ(problem("[user.age]\nkind = \"category\"\nbins = 3"),
            "films.toml:3: user.age: 'bins' has no meaning for kind = \"category\"; leave it out.");
  EXPECT_EQ(problem("[item.art]\nkind = \"vector\""),
            "films.toml:1: item.art: a vector needs its length; write length = 128, say.");
  EXPECT_EQ(problem("[item.art]\nkind = \"vector\"\nlength = 0"),
            "films.toml:3: item.art.length: expected 1 to 1048576, got 0");
}

TEST(Schema, DynamicVocabularies) {
  const std::string dynamic = "[user.city]\nkind = \"category\"\nvocabulary = \"dynamic\"\n";
  const Schema s = schema_of(dynamic + "rows = 500\nevict = \"least_frequent\"\nmin_count = 2");
  EXPECT_EQ(s.features[0].dynamic_rows, 500);
  EXPECT_EQ(s.features[0].evict, Eviction::kLeastFrequent);
  const Schema again = Schema::from_json(s.to_json());
  EXPECT_EQ(again.to_json(), s.to_json());
  EXPECT_EQ(again.features[0].dynamic_rows, 500);
  EXPECT_EQ(schema_of("[user.city]\nkind = \"category\"").features[0].dynamic_rows, 0);

  EXPECT_EQ(problem(dynamic),
            "films.toml:3: user.city: a dynamic vocabulary needs the size of its table; write rows "
            "= 100000, say.");
  EXPECT_EQ(problem(dynamic + "rows = 0"),
            "films.toml:4: user.city.rows: expected 1 to 2147483616, got 0");
  EXPECT_EQ(problem(dynamic + "rows = 9\nevict = \"lru\""),
            "films.toml:5: user.city.evict: unknown value 'lru'. Known: none, least_recent, "
            "least_frequent.");
  EXPECT_EQ(
      problem(dynamic + "rows = 9\nmin_count = 256"),
      "films.toml:5: user.city: with a dynamic vocabulary min_count is at most 255, got 256.");
  EXPECT_EQ(problem("[user.city]\nkind = \"category\"\nrows = 9"),
            "films.toml:3: user.city: 'rows' is for vocabulary = \"dynamic\"; add that or leave it "
            "out.");
  EXPECT_EQ(problem("[user.city]\nkind = \"number\"\nvocabulary = \"dynamic\""),
            "films.toml:3: user.city: 'vocabulary' has no meaning for kind = \"number\"; leave it "
            "out.");
}

TEST(Schema, FeaturesFromTheTime) {
  EXPECT_EQ(problem("[context.hour]\nfrom = \"time\""),
            "films.toml:2: context.hour: from = \"time\" needs the time of the events; add time = "
            "\"...\" to [columns].");
  const std::string timed = "[columns]\ntime = \"t\"\n";
  EXPECT_EQ(problem(timed + "[context.huor]\nfrom = \"time\""),
            "films.toml:4: context.huor: 'huor' is no part of the time; add part = \"hour\" or "
            "another. Did you mean 'hour'?");
  EXPECT_EQ(problem(timed + "[context.h]\nfrom = \"time\"\npart = \"minute\""),
            "films.toml:5: context.h: 'minute' is no part of the time. Known: hour, weekday, "
            "weekend, month, season, day_period.");
  EXPECT_EQ(problem(timed + "[context.hour]\nfrom = \"clock\""),
            "films.toml:4: context.hour: from takes only \"time\", got \"clock\".");
  EXPECT_EQ(problem(timed + "[user.hour]\nfrom = \"time\""),
            "films.toml:4: user.hour: only a context feature can come from the time; write "
            "[context.hour].");
  EXPECT_EQ(problem(timed + "[context.hour]\nfrom = \"time\"\nkind = \"number\""),
            "films.toml:5: context.hour: a part of the time is always a category; leave kind out.");
  EXPECT_EQ(problem(timed + "[context.hour]\nfrom = \"time\"\nmin_count = 2"),
            "films.toml:5: context.hour: 'min_count' has no meaning for a feature from the time; "
            "leave it out.");
}

TEST(Schema, OutcomesAreRefusedAsInputs) {
  EXPECT_EQ(problem("[context.mood]\nkind = \"number\"\ncolumn = \"after\"\n"
                    "[outcome.mood_after]\ncolumn = \"after\""),
            "films.toml:1: context.mood reads the outcome 'after', which is known only after the "
            "event, so it cannot be an input; remove [context.mood] or [outcome.mood_after].");
  EXPECT_NO_THROW(schema_of("[context.mood]\nkind = \"number\"\n[outcome.mood_after]\n"));
}

TEST(Schema, NamesAndPlaces) {
  EXPECT_EQ(problem("[user.'a b']\nkind = \"number\""),
            "films.toml:1: 'user.a b' is no name for a feature: use letters, digits and "
            "underscores.");
  EXPECT_EQ(problem("[item.id]\nkind = \"category\""),
            "films.toml:1: item.id: the names id, any and not are taken; rename it, column = "
            "\"id\" still reads that column.");
  EXPECT_EQ(problem("user = 3"), "films.toml:1: user: expected sections [user.name], got 3");
  EXPECT_EQ(problem("[user]\nage = 3"),
            "films.toml:2: user.age: expected a section [user.age], got 3");
  EXPECT_EQ(problem("[columns]\nuser = \"\""),
            "films.toml:2: columns.user: expected the name of a column, got ''.");
  EXPECT_EQ(problem("[kinds]\nbuy = -1"),
            "films.toml:2: kinds.buy: expected a weight from 0 to 1000000, got -1");
  EXPECT_EQ(problem("[history]\nlength = -1"),
            "films.toml:2: history.length: expected 0 to 4096, got -1");
}

TEST(Schema, BrokenJson) {
  const auto of = [](const char* text) {
    return caught([&] { Schema::from_json(nlohmann::json::parse(text)); }).message;
  };
  EXPECT_EQ(of(R"({"features": [{"name": "a", "group": "itm", "kind": "number"}]})"),
            "features[0]: group: unknown value 'itm'. Did you mean 'item'?");
  EXPECT_EQ(of(R"({"features": [{"name": "a", "group": "item", "kind": "number"},
                                {"name": "a", "group": "item", "kind": "number"}]})"),
            "features[1]: item.a comes twice.");
  EXPECT_EQ(of(R"({"features": [{"name": "a", "group": "item", "kind": "number"},
                                {"name": "a", "group": "user", "kind": "number"}]})"),
            "features[1]: features must come users first, then context, then items.");
  EXPECT_EQ(of(R"({"features": 3})"), "schema: features: expected a list of features.");
  EXPECT_EQ(of("[]"), "schema: a configuration is an object of sections, got an empty list");
}

TEST(Architecture, ReadsTheModelSection) {
  const ConfigTree config = ConfigTree::from_toml_text(
      "[model]\ndim = 32\ntemperature = 0.2\n[context.weather]\nkind = \"category\"", "a.toml");
  const Architecture a = Architecture::from_config(config);
  EXPECT_EQ(a.dim, 32);
  EXPECT_EQ(a.width(), 31);
  EXPECT_EQ(a.temperature, 0.2);
  EXPECT_EQ(a.head, Head::kBilinear);
  EXPECT_EQ(a.history, HistoryEncoder::kAuto);
  Architecture b = a;
  b.history = HistoryEncoder::kTransformer;
  EXPECT_EQ(Architecture::from_json(b.to_json()).to_json(), b.to_json());
}

TEST(Architecture, HasNoHeadWithoutContext) {
  EXPECT_EQ(Architecture::from_config(ConfigTree::from_toml_text("", "a.toml")).head, Head::kNone);
}

TEST(Architecture, RefusesWhatCannotBe) {
  const auto of = [](const std::string& text) {
    return caught([&] { Architecture::from_config(ConfigTree::from_toml_text(text, "a.toml")); })
        .message;
  };
  EXPECT_EQ(of("[model]\ndim = 0"), "a.toml:2: model.dim: expected 2 to 8192, got 0");
  EXPECT_EQ(of("[model]\ndims = 3"),
            "a.toml:2: unknown key 'dims' in [model]. Did you mean 'dim'?");
  EXPECT_EQ(of("[model]\nhead = \"film\""),
            "a.toml:2: model.head: unknown value 'film'. Known: none, bilinear.");
  EXPECT_EQ(of("[model]\ntemperature = 0"),
            "a.toml:2: model.temperature: expected 0.0001 to 10000, got 0");
}

}  // namespace
}  // namespace hypertower
