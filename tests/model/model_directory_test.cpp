#include "model/model_directory.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "model/golden.h"
#include "model/json.h"
#include "tests/model/caught.h"
#include "tests/model/random_model.h"
#include "tests/model/temp_dir.h"

namespace hypertower {
namespace {

namespace fs = std::filesystem;

ModelData whole_model(uint64_t seed = 1) {
  RandomModelOptions options;
  options.seed = seed;
  ModelData model = random_model(options);
  model.memory.followers.offsets.resize(model.catalogue.ids.size() + 1, 2);
  model.memory.followers.offsets.front() = 0;
  model.memory.followers.items = {1, 2};
  model.memory.followers.shares = {0.5F, 0.25F};
  model.memory.followers.strength = 100.0F;
  model.memory.habits = {2.0F, 1.5F, 0.25F,
                         std::vector<float>(model.features.group(Group::kContext).size(), 0.75F)};
  model.golden = make_golden(model, 8, seed);
  Person person;
  person.user = "ann";
  person.features = {
      {"age", 30.5}, {"tags", std::vector<std::string>{"x", "y"}}, {"gender", Value{}}};
  person.history = {{"i3", "buy", 12.5, {{"weather", std::string("rain")}}}, {"i4", "", {}, {}}};
  model.people = {person, {"bob", {}, {}}};
  model.user_ids_are_integers = true;
  model.exclude_seen_by_default = true;
  return model;
}

void expect_equal(const ModelData& a, const ModelData& b) {
  EXPECT_EQ(a.features.schema().to_json(), b.features.schema().to_json());
  EXPECT_EQ(a.architecture.to_json(), b.architecture.to_json());
  for (const Group g : {Group::kUser, Group::kContext, Group::kItem}) {
    for (size_t i = 0; i < a.features.group(g).size(); ++i) {
      const FittedFeature& f = a.features.group(g)[i];
      EXPECT_EQ(f.vocabulary.values(), b.features.group(g)[i].vocabulary.values());
      EXPECT_EQ(f.vocabulary.rows(), b.features.group(g)[i].vocabulary.rows());
      EXPECT_EQ(f.edges, b.features.group(g)[i].edges);
    }
  }
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (const auto& [name, tensor] : a.weights) {
    EXPECT_EQ(tensor.shape, b.weights.at(name).shape);
    EXPECT_EQ(tensor.data, b.weights.at(name).data);
  }
  EXPECT_EQ(a.catalogue.ids, b.catalogue.ids);
  EXPECT_EQ(a.catalogue.vectors, b.catalogue.vectors);
  ASSERT_EQ(a.catalogue.attributes.size(), b.catalogue.attributes.size());
  for (size_t i = 0; i < a.catalogue.attributes.size(); ++i) {
    EXPECT_EQ(a.catalogue.attributes[i].name, b.catalogue.attributes[i].name);
    EXPECT_EQ(a.catalogue.attributes[i].values.values(), b.catalogue.attributes[i].values.values());
    EXPECT_EQ(a.catalogue.attributes[i].codes, b.catalogue.attributes[i].codes);
    EXPECT_EQ(a.catalogue.attributes[i].numbers.size(), b.catalogue.attributes[i].numbers.size());
  }
  EXPECT_EQ(a.memory.followers.offsets, b.memory.followers.offsets);
  EXPECT_EQ(a.memory.followers.items, b.memory.followers.items);
  EXPECT_EQ(a.memory.followers.shares, b.memory.followers.shares);
  EXPECT_EQ(a.memory.followers.strength, b.memory.followers.strength);
  EXPECT_EQ(a.memory.habits.weight, b.memory.habits.weight);
  EXPECT_EQ(a.memory.habits.scale, b.memory.habits.scale);
  EXPECT_EQ(a.memory.habits.fading, b.memory.habits.fading);
  EXPECT_EQ(a.memory.habits.match, b.memory.habits.match);
  ASSERT_EQ(a.golden.size(), b.golden.size());
  for (size_t i = 0; i < a.golden.size(); ++i) {
    EXPECT_EQ(request_to_json(a.golden[i].request), request_to_json(b.golden[i].request));
    EXPECT_EQ(a.golden[i].query, b.golden[i].query);
    EXPECT_EQ(a.golden[i].items, b.golden[i].items);
    EXPECT_EQ(a.golden[i].scores, b.golden[i].scores);
  }
  ASSERT_EQ(a.people.size(), b.people.size());
  for (size_t i = 0; i < a.people.size(); ++i) {
    EXPECT_EQ(a.people[i].user, b.people[i].user);
    EXPECT_EQ(a.people[i].features.size(), b.people[i].features.size());
    ASSERT_EQ(a.people[i].history.size(), b.people[i].history.size());
    for (size_t j = 0; j < a.people[i].history.size(); ++j) {
      EXPECT_EQ(history_event_to_json(a.people[i].history[j]),
                history_event_to_json(b.people[i].history[j]));
    }
  }
  EXPECT_EQ(a.metrics, b.metrics);
  EXPECT_EQ(a.training, b.training);
  EXPECT_EQ(a.data_fingerprint, b.data_fingerprint);
  EXPECT_EQ(a.user_ids_are_integers, b.user_ids_are_integers);
  EXPECT_EQ(a.item_ids_are_integers, b.item_ids_are_integers);
  EXPECT_EQ(a.exclude_seen_by_default, b.exclude_seen_by_default);
}

size_t entries(const std::string& path) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(path), {}));
}

TEST(ModelDirectory, RoundTrip) {
  const TempDir dir;
  const ModelData model = whole_model();
  write_model_directory(model, dir / "runs/first/");
  EXPECT_EQ(entries(dir / "runs"), 1U);
  EXPECT_EQ(entries(dir / "runs/first"), 6U);
  expect_equal(read_model_directory(dir / "runs/first"), model);
}

TEST(ModelDirectory, TheSameModelGivesTheSameBytes) {
  const TempDir dir;
  write_model_directory(whole_model(), dir / "a");
  write_model_directory(whole_model(), dir / "b");
  for (const auto& entry : fs::directory_iterator(dir / "a")) {
    EXPECT_EQ(slurp(entry.path()), slurp(dir / "b/" + entry.path().filename().string()));
  }
}

TEST(ModelDirectory, PeopleAreWrittenOnlyWhenGiven) {
  const TempDir dir;
  ModelData model = whole_model();
  model.people.clear();
  write_model_directory(model, dir / "m");
  EXPECT_FALSE(fs::exists(dir / "m/people.jsonl"));
  EXPECT_TRUE(read_model_directory(dir / "m").people.empty());
  for (const auto& entry : fs::directory_iterator(dir / "m")) {
    EXPECT_EQ(slurp(entry.path()).find("ann"), std::string::npos) << entry.path();
  }
}

TEST(ModelDirectory, ReplacesAModelAndKeepsOtherFiles) {
  const TempDir dir;
  write_model_directory(whole_model(1), dir / "m");
  spill(dir / "m/notes.txt", "mine");
  ModelData second = whole_model(2);
  second.people.clear();
  write_model_directory(second, dir / "m");
  EXPECT_EQ(read_model_directory(dir / "m").training["seed"], 2);
  EXPECT_EQ(slurp(dir / "m/notes.txt"), "mine");
  EXPECT_FALSE(fs::exists(dir / "m/people.jsonl"));
  EXPECT_EQ(entries(dir.path()), 1U);
}

TEST(ModelDirectory, ReplacesWhatALinkPointsTo) {
  const TempDir dir;
  write_model_directory(whole_model(1), dir / "real");
  fs::create_directory_symlink(dir / "real", dir / "link");
  write_model_directory(whole_model(2), dir / "link");
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(read_model_directory(dir / "real").training["seed"], 2);
}

TEST(ModelDirectory, AnEmptyDirectoryIsTakenOtherThingsAreNot) {
  const TempDir dir;
  fs::create_directory(dir / "empty");
  write_model_directory(whole_model(), dir / "empty");
  EXPECT_NO_THROW(read_model_directory(dir / "empty"));

  fs::create_directory(dir / "home");
  spill(dir / "home/letter", "dear");
  const Caught home = caught([&] { write_model_directory(whole_model(), dir / "home"); });
  EXPECT_EQ(home.kind, ErrorKind::kIo);
  EXPECT_EQ(home.message, "the model was not saved: the directory '" + (dir / "home") +
                              "' holds other files and no model; choose another name or empty it.");
  EXPECT_EQ(slurp(dir / "home/letter"), "dear");

  EXPECT_EQ(caught([&] { write_model_directory(whole_model(), dir / "home/letter"); }).message,
            "the model was not saved: '" + (dir / "home/letter") +
                "' is a file; choose another name or remove it.");
}

TEST(ModelDirectory, ATargetIsRefusedBeforehandInTheSameWords) {
  const TempDir dir;
  spill(dir / "file", "x");
  fs::create_directory(dir / "home");
  spill(dir / "home/letter", "dear");
  fs::create_directory(dir / "locked");
  chmod((dir / "locked").c_str(), 0555);
  chmod(dir.path().c_str(), 0755);
  const bool root = geteuid() == 0;
  for (const std::string& target : {dir / "file", dir / "home", dir / "file/m", dir / "locked/m"}) {
    ASSERT_TRUE(!root || seteuid(65534) == 0);  // root may write anywhere
    const Caught before = caught([&] { check_model_target(target); });
    const Caught after = caught([&] { write_model_directory(whole_model(), target); });
    ASSERT_TRUE(!root || seteuid(0) == 0);
    EXPECT_EQ(before.kind, ErrorKind::kIo);
    EXPECT_EQ(before.message, after.message);
  }
}

TEST(ModelDirectory, AskingForATargetLeavesNothingBehind) {
  const TempDir dir;
  EXPECT_NO_THROW(check_model_target(dir / "m"));
  EXPECT_NO_THROW(check_model_target(dir / "a/b/m/"));
  EXPECT_EQ(entries(dir.path()), 0U);
  write_model_directory(whole_model(), dir / "m");
  EXPECT_NO_THROW(check_model_target(dir / "m"));
  EXPECT_EQ(entries(dir.path()), 1U);
}

TEST(ModelDirectory, AFullDiskLeavesTheOldModelAlone) {
  const TempDir dir;
  write_model_directory(whole_model(1), dir / "m");
  rlimit old_limit{};
  getrlimit(RLIMIT_FSIZE, &old_limit);
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  rlimit limit = old_limit;
  limit.rlim_cur = 2000;
  setrlimit(RLIMIT_FSIZE, &limit);
  const Caught full = caught([&] { write_model_directory(whole_model(2), dir / "m"); });
  setrlimit(RLIMIT_FSIZE, &old_limit);
  signal(SIGXFSZ, old_handler);
  EXPECT_EQ(full.kind, ErrorKind::kIo);
  const std::string start =
      "the model was not saved to '" + (dir / "m") + "' and nothing changed there: cannot write '";
  const std::string end =
      "/weights.safetensors': File too large. Free space, ask for permission or choose another "
      "place.";
  EXPECT_TRUE(full.message.starts_with(start)) << full.message;
  EXPECT_TRUE(full.message.ends_with(end)) << full.message;
  EXPECT_EQ(entries(dir.path()), 1U);
  EXPECT_EQ(read_model_directory(dir / "m").training["seed"], 1);
}

TEST(ModelDirectory, NoPermission) {
  const TempDir dir;
  fs::create_directory(dir / "locked");
  chmod((dir / "locked").c_str(), 0555);
  chmod(dir.path().c_str(), 0755);
  const bool root = geteuid() == 0;
  ASSERT_TRUE(!root || seteuid(65534) == 0);  // root may write anywhere
  const Caught denied = caught([&] { write_model_directory(whole_model(), dir / "locked/m"); });
  ASSERT_TRUE(!root || seteuid(0) == 0);
  EXPECT_EQ(denied.kind, ErrorKind::kIo);
  EXPECT_EQ(denied.message, "the model was not saved to '" + (dir / "locked/m") +
                                "' and nothing changed there: Permission denied. Free space, ask "
                                "for permission or choose another place.");
}

TEST(ModelDirectory, AParentThatIsAFile) {
  const TempDir dir;
  spill(dir / "file", "x");
  EXPECT_EQ(caught([&] { write_model_directory(whole_model(), dir / "file/m"); }).message,
            "the model was not saved to '" + (dir / "file/m") +
                "' and nothing changed there: Not a directory. Free space, ask for permission or "
                "choose another place.");
}

TEST(ModelDirectory, TextThatIsNotUtf8) {
  const TempDir dir;
  ModelData model = whole_model();
  model.people[0].user = "\xff";
  const Caught error = caught([&] { write_model_directory(model, dir / "m"); });
  EXPECT_EQ(error.kind, ErrorKind::kData);
  EXPECT_EQ(error.message, "the model was not saved to '" + (dir / "m") +
                               "' and nothing changed there: an id or value is not UTF-8 text. "
                               "Convert the data.");
  EXPECT_EQ(entries(dir.path()), 0U);
}

TEST(ModelDirectory, InspectReadsTheManifestOnly) {
  const TempDir dir;
  write_model_directory(whole_model(), dir / "m");
  const nlohmann::json manifest = inspect_model_directory(dir / "m");
  EXPECT_EQ(manifest["items"]["count"], 43);
  EXPECT_EQ(manifest["people"], 2);
  EXPECT_EQ(manifest["features"]["context.hour"]["values"], 24);
  EXPECT_EQ(manifest["metrics"]["test"]["ndcg@10"], 0.125);
  EXPECT_EQ(manifest["files"]["weights.safetensors"]["bytes"],
            fs::file_size(dir / "m/weights.safetensors"));
  fs::remove(dir / "m/items.safetensors");
  EXPECT_EQ(caught([&] { inspect_model_directory(dir / "m"); }).message,
            (dir / "m/items.safetensors") +
                ": missing. Copy the model directory again or export the model again.");
}

// A reader always sees one whole model, however often a writer replaces it.
TEST(ModelDirectory, ReadersNeverSeeAHalf) {
  const TempDir dir;
  const ModelData models[2] = {whole_model(1), whole_model(2)};
  write_model_directory(models[0], dir / "m");
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (int i = 1; i <= 12; ++i) write_model_directory(models[i % 2], dir / "m");
    done = true;
  });
  int reads = 0;
  while (!done || reads == 0) {
    const ModelData model = read_model_directory(dir / "m");
    const size_t seed = model.training["seed"].get<size_t>();
    EXPECT_EQ(model.catalogue.vectors, models[seed - 1].catalogue.vectors);
    ++reads;
  }
  writer.join();
}

}  // namespace
}  // namespace hypertower
