// Every way in which a model directory can be broken, with its exact sentence.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "model/file_io.h"
#include "model/golden.h"
#include "model/model_directory.h"
#include "model/model_files.h"
#include "model/safetensors.h"
#include "tests/model/caught.h"
#include "tests/model/random_model.h"
#include "tests/model/temp_dir.h"
#include "tests/support/edit_array.h"

namespace hypertower {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kCure = " Copy the model directory again or export the model again.";

class BrokenModel : public testing::Test {
 protected:
  BrokenModel() {
    ModelData model = random_model();
    model.golden = make_golden(model, 4, 1);
    write_model_directory(model, path_);
  }

  std::string problem() {
    const Caught error = caught([&] { read_model_directory(path_); });
    EXPECT_EQ(error.kind, ErrorKind::kModel);
    return error.message;
  }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  // Changes the manifest and signs it again, as a program with other ideas of the format would.
  void edit_manifest(const std::function<void(json&)>& edit) {
    json manifest = json::parse(slurp(file("manifest.json")));
    edit(manifest);
    manifest[model_files::kChecksum] = model_files::manifest_checksum(manifest);
    spill(file("manifest.json"), manifest.dump());
  }
  void sign(const std::string& name) {
    edit_manifest([&](json& m) {
      m["files"][name] = {{"bytes", fs::file_size(file(name))},
                          {"xxh64", checksum_of_file(file(name))}};
    });
  }
  // Rewrites weights.safetensors with changed tensors.
  void edit_weights(const std::function<void(std::map<std::string, Tensor>&)>& edit) {
    std::map<std::string, Tensor> floats;
    SafetensorsWriter writer;
    const auto old_file = SafetensorsFile::open(file("weights.safetensors"));
    for (const auto& [name, info] : old_file->tensors()) {
      if (info.dtype == "F32") {
        const std::span<const float> data = old_file->floats(name, info.shape);
        floats[name] = {info.shape, std::vector<float>(data.begin(), data.end())};
      } else if (name.ends_with(".bytes")) {
        const std::string text = name.substr(0, name.size() - 6);
        writer.add_strings(text, old_file->strings(text));
      }
    }
    edit(floats);
    for (const auto& [name, t] : floats) writer.add(name, t.shape, std::span<const float>(t.data));
    writer.write(file("weights.safetensors"));
    sign("weights.safetensors");
  }

  TempDir dir_;
  std::string path_ = dir_ / "m";
};

TEST_F(BrokenModel, NoDirectory) {
  EXPECT_EQ(caught([] { read_model_directory("/nowhere/m"); }).message,
            "there is no model directory at '/nowhere/m'. Check the path or train a model with "
            "`hypertower train`.");
}

TEST_F(BrokenModel, NotAModelDirectory) {
  for (const std::string& path : {dir_.path(), file("manifest.json")}) {
    EXPECT_EQ(caught([&] { read_model_directory(path); }).message,
              "'" + path +
                  "' is not a model directory: it has no manifest.json. Check the path or train a "
                  "model with `hypertower train`.");
  }
}

TEST_F(BrokenModel, ManifestIsNotJson) {
  spill(file("manifest.json"), slurp(file("manifest.json")).substr(0, 100));
  EXPECT_EQ(problem(), file("manifest.json") + ": not valid JSON." + kCure);
}

TEST_F(BrokenModel, AnotherFormat) {
  spill(file("manifest.json"), R"({"name": "other"})");
  EXPECT_EQ(problem(), file("manifest.json") + ": 'format' is missing." + kCure);
  spill(file("manifest.json"), R"({"format": "onnx"})");
  EXPECT_EQ(problem(), file("manifest.json") + ": 'format' is not 'hypertower'." + kCure);
}

TEST_F(BrokenModel, AnotherVersion) {
  edit_manifest([](json& m) { m["format_version"] = 2; });
  EXPECT_EQ(problem(), file("manifest.json") +
                           ": format version 2, but this program reads 1. Update hypertower.");
  edit_manifest([](json& m) { m["format_version"] = 0; });
  EXPECT_EQ(problem(), file("manifest.json") +
                           ": format version 0, but this program reads 1. Export the model again.");
}

TEST_F(BrokenModel, AnEditedManifest) {
  std::string text = slurp(file("manifest.json"));
  const size_t at = text.find("\"min_count\": 1");
  ASSERT_NE(at, std::string::npos);
  text[at + 13] = '2';
  spill(file("manifest.json"), text);
  const std::string found = problem();
  EXPECT_TRUE(
      found.starts_with(file("manifest.json") + ": changed after it was written: checksum "))
      << found;
  EXPECT_TRUE(found.ends_with(kCure)) << found;
}

TEST_F(BrokenModel, WhitespaceInTheManifestDoesNotCount) {
  spill(file("manifest.json"), json::parse(slurp(file("manifest.json"))).dump(7));
  EXPECT_NO_THROW(read_model_directory(path_));
}

TEST_F(BrokenModel, AMissingFile) {
  for (const char* name : {"weights.safetensors", "items.safetensors", "golden.json"}) {
    const std::string kept = slurp(file(name));
    fs::remove(file(name));
    EXPECT_EQ(problem(), file(name) + ": missing." + kCure);
    spill(file(name), kept);
  }
  EXPECT_NO_THROW(read_model_directory(path_));
}

TEST_F(BrokenModel, ATruncatedFile) {
  for (const char* name : {"weights.safetensors", "items.safetensors", "golden.json"}) {
    const std::string kept = slurp(file(name));
    spill(file(name), kept.substr(0, kept.size() - 5));
    EXPECT_EQ(problem(), file(name) + ": truncated: " + std::to_string(kept.size() - 5) +
                             " bytes, the manifest says " + std::to_string(kept.size()) + "." +
                             kCure);
    spill(file(name), kept + "x");
    EXPECT_EQ(problem(), file(name) + ": too long: " + std::to_string(kept.size() + 1) +
                             " bytes, the manifest says " + std::to_string(kept.size()) + "." +
                             kCure);
    spill(file(name), kept);
  }
}

TEST_F(BrokenModel, AnEditedByte) {
  for (const char* name : {"weights.safetensors", "items.safetensors", "golden.json"}) {
    const std::string kept = slurp(file(name));
    const std::string expected = checksum_of_file(file(name));
    std::string edited = kept;
    edited[edited.size() / 2] ^= 1;
    spill(file(name), edited);
    EXPECT_EQ(problem(), file(name) + ": changed after it was written: checksum " +
                             checksum_of_file(file(name)) + ", the manifest says " + expected +
                             "." + kCure);
    spill(file(name), kept);
  }
}

TEST_F(BrokenModel, NaNInTheWeights) {
  edit_weights([](auto& weights) {
    edit(weights["query.bias"].data, [](std::vector<float>& v) { v[2] = NAN; });
  });
  EXPECT_EQ(problem(),
            file("weights.safetensors") +
                ": tensor 'query.bias' holds NaN at element 2. Copy the model directory again or "
                "export the model again.");
}

TEST_F(BrokenModel, ATensorOfAnotherShape) {
  edit_weights([](auto& weights) { weights["query.bias"] = {{2}, std::vector<float>{1, 2}}; });
  EXPECT_EQ(problem(), file("weights.safetensors") +
                           ": tensor 'query.bias': schema and architecture ask for the shape "
                           "[11], found [2]." +
                           kCure);
}

TEST_F(BrokenModel, MissingAndLeftOverTensors) {
  edit_weights([](auto& weights) { weights.erase("user.age.weight"); });
  EXPECT_EQ(problem(),
            file("weights.safetensors") + ": tensor 'user.age.weight' is missing." + kCure);
  edit_weights([](auto& weights) {
    weights["user.age.weight"] = {{11, 4}, std::vector<float>(44)};
    weights["user.old.weight"] = {{1}, std::vector<float>(1)};
  });
  EXPECT_EQ(problem(), file("weights.safetensors") +
                           ": tensor 'user.old.weight' is left over: neither schema nor "
                           "architecture has it." +
                           kCure);
  edit_weights([](auto& weights) {
    weights.erase("user.old.weight");
    weights["features.user.old.edges"] = {{2}, std::vector<float>{0, 1}};
  });
  EXPECT_EQ(problem(), file("weights.safetensors") +
                           ": tensor 'features.user.old.edges' is left over: the schema has no "
                           "such feature." +
                           kCure);
}

TEST_F(BrokenModel, EdgesThatDoNotAscend) {
  edit_weights([](auto& weights) {
    weights["features.user.age.edges"] = {{5}, std::vector<float>{0, 1, 1, 2, 3}};
  });
  EXPECT_EQ(problem(), file("weights.safetensors") +
                           ": user.age: expected 2 or more ascending finite edges." + kCure);
}

TEST_F(BrokenModel, ASchemaThatDoesNotFitTheWeights) {
  edit_manifest([](json& m) { m["schema"]["features"].erase(0); });
  EXPECT_EQ(problem(),
            file("weights.safetensors") +
                ": tensor 'features.user.gender.values.bytes' is left over: the schema has no "
                "such feature." +
                kCure);
  edit_manifest([](json& m) { m["schema"]["features"][0]["kind"] = "picture"; });
  EXPECT_EQ(problem(), file("manifest.json") +
                           ": features[0]: kind: unknown value 'picture'. Known: category, "
                           "categories, number, vector." +
                           kCure);
}

TEST_F(BrokenModel, ManifestValuesOfTheWrongType) {
  edit_manifest([](json& m) { m["exclude_seen_by_default"] = 1; });
  EXPECT_EQ(problem(),
            file("manifest.json") + ": 'exclude_seen_by_default' has the wrong type: 1." + kCure);
  edit_manifest([](json& m) { m["files"] = json::array(); });
  EXPECT_EQ(problem(),
            file("manifest.json") + ": 'files' does not list weights.safetensors." + kCure);
  edit_manifest([](json& m) { m.erase("files"); });
  EXPECT_EQ(problem(), file("manifest.json") + ": 'files' is missing." + kCure);
}

TEST_F(BrokenModel, AGoldenAnswerThatDoesNotComeOut) {
  json golden = json::parse(slurp(file("golden.json")));
  golden["answers"][1]["query"][0] = 5.0;
  spill(file("golden.json"), golden.dump());
  sign("golden.json");
  const Caught error = caught([&] { Recommender::load(path_); });
  EXPECT_EQ(error.kind, ErrorKind::kModel);
  EXPECT_TRUE(error.message.starts_with(
      "golden request 1 expected 5.000000 at element 0 of the query, found "))
      << error.message;
  EXPECT_TRUE(error.message.ends_with(
      ": this program would answer differently from the one that exported the model. Export the "
      "model again with this version."));
}

TEST_F(BrokenModel, AGoldenFileOfAnotherShape) {
  spill(file("golden.json"), R"({"answers": [{"request": {}, "query": "x"}]})");
  sign("golden.json");
  EXPECT_EQ(problem(), file("golden.json") + ": 'query' has the wrong type: text 'x'." + kCure);
}

}  // namespace
}  // namespace hypertower
