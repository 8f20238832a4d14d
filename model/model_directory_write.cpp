#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "kernels/error.h"
#include "model/file_io.h"
#include "model/index_file.h"
#include "model/json.h"
#include "model/model_directory.h"
#include "model/model_files.h"
#include "model/safetensors.h"

namespace hypertower {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

[[noreturn]] void fail(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

void write_weights(const ModelData& model, const std::string& path) {
  SafetensorsWriter writer;
  for (const auto& [name, tensor] : model.weights) {
    writer.add(name, tensor.shape, std::span<const float>(tensor.data));
  }
  for (const Group g : {Group::kUser, Group::kContext, Group::kItem}) {
    for (const FittedFeature& f : model.features.group(g)) {
      const std::string name = model_files::feature_tensor(f.feature);
      if (f.feature.kind == FeatureKind::kNumber) {
        writer.add(name + ".edges", {static_cast<int64_t>(f.edges.size())},
                   std::span<const float>(f.edges));
      } else if (f.feature.kind != FeatureKind::kVector) {
        writer.add_strings(name + ".values", f.vocabulary.values());
      }
    }
  }
  writer.write(path);
}

void write_items(const Catalogue& catalogue, const std::string& path) {
  const auto items = static_cast<int64_t>(catalogue.ids.size());
  SafetensorsWriter writer;
  writer.add_strings("ids", catalogue.ids);
  writer.add("vectors", {items, catalogue.dim}, std::span<const float>(catalogue.vectors));
  for (const Attribute& a : catalogue.attributes) {
    const std::string name = "attribute." + a.name;
    if (a.is_number) {
      writer.add(name + ".numbers", {items}, std::span<const double>(a.numbers));
      continue;
    }
    writer.add_strings(name + ".values", a.values.values());
    writer.add(name + ".codes", {static_cast<int64_t>(a.codes.size())},
               std::span<const int32_t>(a.codes));
    writer.add(name + ".offsets", {static_cast<int64_t>(a.offsets.size())},
               std::span<const int64_t>(a.offsets));
  }
  writer.write(path);
}

void write_followers(const Followers& followers, const std::string& path) {
  SafetensorsWriter writer;
  writer.add("offsets", {static_cast<int64_t>(followers.offsets.size())},
             std::span<const int64_t>(followers.offsets));
  writer.add("items", {static_cast<int64_t>(followers.items.size())},
             std::span<const int32_t>(followers.items));
  writer.add("shares", {static_cast<int64_t>(followers.shares.size())},
             std::span<const float>(followers.shares));
  writer.add("strength", {1}, std::span<const float>(&followers.strength, 1));
  writer.write(path);
}

json record_json(const Record& record) {
  json object = json::object();
  for (const auto& [name, value] : record) object[name] = value_to_json(value);
  return object;
}

std::string golden_text(const std::vector<Golden>& golden) {
  json list = json::array();
  for (const Golden& g : golden) {
    list.push_back({{"request", request_to_json(g.request)},
                    {"query", g.query},
                    {"items", g.items},
                    {"scores", g.scores}});
  }
  return json{{"answers", std::move(list)}}.dump() + "\n";
}

std::string people_text(const std::vector<Person>& people) {
  std::string text;
  for (const Person& person : people) {
    json history = json::array();
    for (const HistoryEvent& event : person.history) {
      history.push_back(history_event_to_json(event));
    }
    const json line = {{"user", person.user},
                       {"features", record_json(person.features)},
                       {"history", std::move(history)}};
    text += line.dump() + "\n";
  }
  return text;
}

json manifest_of(const ModelData& model) {
  json features = json::object();
  for (const Group g : {Group::kUser, Group::kContext, Group::kItem}) {
    for (const FittedFeature& f : model.features.group(g)) {
      features[std::string(group_word(g)) + "." + f.feature.name] = {
          {"values", f.vocabulary.size()}, {"width", f.width()}};
    }
  }
  json attributes = json::array();
  for (const Attribute& a : model.catalogue.attributes) {
    attributes.push_back({{"name", a.name}, {"kind", a.is_number ? "number" : "categories"}});
  }
  json manifest = {{"format", "hypertower"},
                   {"format_version", kFormatVersion},
                   {"schema", model.features.schema().to_json()},
                   {"architecture", model.architecture.to_json()},
                   {"features", std::move(features)},
                   {"items",
                    {{"count", model.catalogue.ids.size()},
                     {"dim", model.catalogue.dim},
                     {"attributes", std::move(attributes)},
                     {"ids_are_integers", model.item_ids_are_integers}}},
                   {"users", {{"ids_are_integers", model.user_ids_are_integers}}},
                   {"exclude_seen_by_default", model.exclude_seen_by_default},
                   {"metrics", model.metrics},
                   {"training", model.training},
                   {"data_fingerprint", model.data_fingerprint}};
  if (model.memory.habits.on()) {
    manifest["habits"] = {{"weight", model.memory.habits.weight},
                          {"scale", model.memory.habits.scale},
                          {"fading", model.memory.habits.fading},
                          {"match", model.memory.habits.match}};
  }
  if (!model.people.empty()) manifest["people"] = model.people.size();
  return manifest;
}

void write_files(const ModelData& model, const std::string& folder) {
  std::vector<std::string> files = {model_files::kWeights, model_files::kItems,
                                    model_files::kGolden};
  write_weights(model, folder + "/" + model_files::kWeights);
  write_items(model.catalogue, folder + "/" + model_files::kItems);
  const Catalogue& items = model.catalogue;
  if (write_index_file({items.vectors.data(), static_cast<int64_t>(items.ids.size()), items.dim},
                       folder + "/" + model_files::kIndex)) {
    files.emplace_back(model_files::kIndex);
  }
  if (model.memory.followers.on()) {
    files.emplace_back(model_files::kFollowers);
    write_followers(model.memory.followers, folder + "/" + model_files::kFollowers);
  }
  write_file(folder + "/" + model_files::kGolden, golden_text(model.golden));
  if (!model.people.empty()) {
    files.emplace_back(model_files::kPeople);
    write_file(folder + "/" + model_files::kPeople, people_text(model.people));
  }
  json manifest = manifest_of(model);
  for (const std::string& name : files) {
    const std::string path = folder + "/" + name;
    manifest["files"][name] = {{"bytes", fs::file_size(path)}, {"xxh64", checksum_of_file(path)}};
  }
  manifest[model_files::kChecksum] = model_files::manifest_checksum(manifest);
  write_file(folder + "/" + model_files::kManifest, manifest.dump(2) + "\n");
  sync_directory(folder);
}

// A directory that goes away with everything in it unless it was put into place.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(const fs::path& target) {
    static std::atomic<uint64_t> counter{0};
    while (true) {
      path_ = target.string() + ".tmp-" + std::to_string(::getpid()) + "-" +
              std::to_string(counter.fetch_add(1));
      if (::mkdir(path_.c_str(), 0777) == 0) return;
      if (errno != EEXIST) fail(path_);
    }
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Only an empty directory or a model may be replaced: never somebody's other files.
void check_replaceable(const fs::path& target, const std::string& path) {
  if (!fs::exists(target)) return;
  if (!fs::is_directory(target)) {
    throw Error(ErrorKind::kIo, "the model was not saved: '" + path +
                                    "' is a file; choose another name or remove it.");
  }
  if (!fs::is_empty(target) && !fs::exists(target / model_files::kManifest)) {
    throw Error(ErrorKind::kIo,
                "the model was not saved: the directory '" + path +
                    "' holds other files and no model; choose another name or empty it.");
  }
}

// What people put beside a model (logs, notes) stays when the model is replaced.
void keep_other_files(const fs::path& old_model, const fs::path& target) {
  static const std::set<std::string> kOurs = {
      model_files::kManifest,  model_files::kWeights, model_files::kItems, model_files::kIndex,
      model_files::kFollowers, model_files::kGolden,  model_files::kPeople};
  for (const auto& entry : fs::directory_iterator(old_model)) {
    const std::string name = entry.path().filename();
    if (!kOurs.contains(name)) fs::rename(entry.path(), target / name);
  }
}

// Afterwards `folder` holds what was at `target`, if anything was.
void put_into_place(const std::string& folder, const fs::path& target) {
  if (!fs::exists(target)) {
    fs::rename(folder, target);
    return;
  }
  if (::renameat2(AT_FDCWD, folder.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) fail(target);
    // A file system without exchange: two renames, with a moment between them.
    const std::string old_model = folder + ".old";
    fs::rename(target, old_model);
    try {
      fs::rename(folder, target);
    } catch (const fs::filesystem_error&) {
      fs::rename(old_model, target);
      throw;
    }
    fs::rename(old_model, folder);
  }
  keep_other_files(folder, target);
}

// Through links, so that the directory itself is replaced; without a slash at the end.
fs::path target_of(const std::string& path) {
  const fs::path target = fs::weakly_canonical(fs::absolute(path));
  return target.has_filename() ? target : target.parent_path();
}

// Calls write() and says of every failure that the model was not saved.
template <class Write>
void saving(const std::string& path, const Write& write) {
  const std::string failed =
      "the model was not saved to '" + path + "' and nothing changed there: ";
  try {
    write();
  } catch (const std::system_error& e) {  // also what std::filesystem throws
    throw Error(ErrorKind::kIo, failed + e.code().message() +
                                    ". Free space, ask for permission or choose another place.");
  } catch (const json::exception&) {
    throw Error(ErrorKind::kData, failed + "an id or value is not UTF-8 text. Convert the data.");
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kIo || std::string_view(e.what()).starts_with("the model")) throw;
    throw Error(ErrorKind::kIo,
                failed + e.what() + " Free space, ask for permission or choose another place.");
  }
}

}  // namespace

std::string model_files::manifest_checksum(json manifest) {
  manifest.erase(kChecksum);
  const std::string text = manifest.dump();
  return checksum(std::as_bytes(std::span(text)));
}

void check_model_target(const std::string& path) {
  saving(path, [&] {
    const fs::path target = target_of(path);
    check_replaceable(target, path);
    // What is missing of the parent is made when the model is written; here only where that would
    // begin is tried, so that nothing is left behind.
    fs::path parent = target.parent_path();
    while (!fs::exists(parent) && parent.has_relative_path()) parent = parent.parent_path();
    const TemporaryDirectory probe(parent / target.filename());
  });
}

void write_model_directory(const ModelData& model, const std::string& path) {
  saving(path, [&] {
    const fs::path target = target_of(path);
    check_replaceable(target, path);
    fs::create_directories(target.parent_path());
    const TemporaryDirectory temporary(target);
    write_files(model, temporary.path());
    put_into_place(temporary.path(), target);
    sync_directory(target.parent_path());
  });
}

}  // namespace hypertower
