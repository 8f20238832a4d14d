// Parsers against thousands of mutated inputs: every one is read or refused with an Error, whatever
// the bytes. Run under the sanitizers this finds reads out of bounds.
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "kernels/error.h"
#include "model/golden.h"
#include "model/json.h"
#include "model/model_directory.h"
#include "model/recommender.h"
#include "model/safetensors.h"
#include "tests/model/random_model.h"
#include "tests/model/temp_dir.h"

namespace hypertower {
namespace {

using nlohmann::json;

// One to four changes: a byte flipped or replaced, a piece removed, repeated or moved.
std::string mutate(std::string text, std::mt19937& engine) {
  const auto below = [&engine](size_t n) { return n == 0 ? 0 : engine() % n; };
  static const std::string kTokens[] = {
      "[",  "]",   "{",    "}",     "\"", ",",  "=",    "-1",
      "0",  "1e9", "null", "true",  ".",  "\n", "\xff", "[[",
      "]]", "#",   "NaN",  "1e999", ":",  "\\", "\t",   "9223372036854775808"};
  for (size_t i = 0; i < 1 + below(4); ++i) {
    const size_t at = below(text.size() + 1);
    const size_t length = below(std::min<size_t>(text.size() - at, 24) + 1);
    switch (below(5)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(below(text.size() + 1), text.substr(at, length));
        break;
      case 3:
        text.insert(at, kTokens[below(std::size(kTokens))]);
        break;
      default:
        text.resize(at);
        break;
    }
  }
  return text;
}

struct Counts {
  int read = 0;
  int refused = 0;
};

// Anything but an Error of the project ends the test.
Counts run(const std::string& seed_text, int rounds,
           const std::function<void(const std::string&)>& read) {
  std::mt19937 engine(42);
  Counts counts;
  for (int i = 0; i < rounds; ++i) {
    const std::string text = mutate(seed_text, engine);
    try {
      read(text);
      ++counts.read;
    } catch (const Error& e) {
      ++counts.refused;
      EXPECT_FALSE(std::string(e.what()).empty());
    }
  }
  return counts;
}

TEST(Mutation, Configs) {
  const std::string config = R"(name = "m"
[columns]
time = "t"
[item.genres]
kind = "categories"
separator = "|"
[user.age]
kind = "number"
bins = 5
[context.hour]
from = "time"
[outcome.liked]
kind = "number"
[kinds]
buy = 3.0
[model]
dim = 32
head = "bilinear"
)";
  const Counts counts = run(config, 6000, [](const std::string& text) {
    const ConfigTree tree = ConfigTree::from_toml_text(text, "m.toml");
    Schema::from_json(Schema::from_config(tree).to_json());
    Architecture::from_config(tree);
  });
  EXPECT_GT(counts.read, 50);
  EXPECT_GT(counts.refused, 2000);
}

TEST(Mutation, Overrides) {
  const Counts counts = run("training.lr=[0.05, \"a\"]", 3000, [](const std::string& text) {
    ConfigTree tree = ConfigTree::from_toml_text("[training]\nlr = 1", "m.toml");
    const size_t equals = std::min(text.find('='), text.size());
    tree.set(text.substr(0, equals), text.substr(std::min(equals + 1, text.size())));
    tree.root().dump(-1, ' ', false, json::error_handler_t::replace);
  });
  EXPECT_GT(counts.read, 500);
}

TEST(Mutation, Requests) {
  const Recommender rec{random_model()};
  const std::string request = R"({"user": 5, "time": 881250949, "context": {"hour": 21,
    "temperature": 3.5, "around": ["a", "b"], "place": [1, 2, 3, 4, 5]},
    "features": {"age": 49, "gender": "x"}, "history": [{"item": "i3", "kind": "buy"}],
    "where": {"genres": ["g1"], "year": {"min": 1990}, "not": {"brand": ["b1"]},
              "any": [{"brand": ["b2"]}, {}]}, "exclude": ["i1", 2]})";
  const Counts counts = run(request, 6000, [&rec](const std::string& text) {
    const json j = json::parse(text, nullptr, false);
    if (j.is_discarded()) throw Error(ErrorKind::kSchema, "not JSON");
    const Request r = request_from_json(j);
    rec.recommend({&r, 1}, {}, nullptr, {});
  });
  EXPECT_GT(counts.read, 50);
  EXPECT_GT(counts.refused, 2000);
}

TEST(Mutation, Safetensors) {
  const TempDir dir;
  const std::string path = dir / "t.safetensors";
  SafetensorsWriter writer;
  const std::vector<float> floats = {1, 2, 3, 4, 5, 6};
  writer.add("weights", {2, 3}, std::span<const float>(floats));
  writer.add_strings("ids", std::vector<std::string>{"a", "bc", ""});
  writer.write(path);
  const Counts counts = run(slurp(path), 8000, [&path](const std::string& text) {
    spill(path, text);
    const auto file = SafetensorsFile::open(path);
    file->floats("weights", {-1, 3});
    file->strings("ids");
  });
  EXPECT_GT(counts.read, 50);
  EXPECT_GT(counts.refused, 4000);
}

// Whole models: any change to any file is noticed.
TEST(Mutation, ModelDirectories) {
  const TempDir dir;
  ModelData model = random_model();
  model.golden = make_golden(model, 3, 1);
  write_model_directory(model, dir / "m");
  for (const char* name :
       {"manifest.json", "weights.safetensors", "items.safetensors", "golden.json"}) {
    const std::string path = dir / "m/" + name;
    const std::string kept = slurp(path);
    const json manifest = json::parse(slurp(dir / "m/manifest.json"));
    const Counts counts = run(kept, 150, [&](const std::string& text) {
      spill(path, text);
      read_model_directory(dir / "m");
      // Read: then nothing that counts was changed.
      const bool same_manifest = json::parse(slurp(dir / "m/manifest.json")) == manifest;
      EXPECT_TRUE(text == kept || (std::string(name) == "manifest.json" && same_manifest)) << name;
    });
    EXPECT_GT(counts.refused, 100) << name;
    spill(path, kept);
  }
}

}  // namespace
}  // namespace hypertower
