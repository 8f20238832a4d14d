#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <set>
#include <system_error>
#include <utility>

#include "kernels/error.h"
#include "kernels/parallel.h"
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

constexpr const char* kCure = " Copy the model directory again or export the model again.";

[[noreturn]] void broken(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::kModel, path + ": " + what + "." + kCure);
}

std::string quoted(const std::string& name) {
  return "'" + name + "'";
}

// Runs `body`; an Error of the parts (a tensor, a vocabulary) then also names the file.
template <class Body>
auto naming(const std::string& path, const Body& body) {
  try {
    return body();
  } catch (const Error& e) {
    std::string problem = e.what();
    if (problem.starts_with(path)) throw;
    if (problem.ends_with('.')) problem.pop_back();
    broken(path, problem);
  }
}

std::string text_of(const std::string& path) {
  try {
    return read_file(path);
  } catch (const std::system_error& e) {
    broken(path, "cannot be read: " + e.code().message());
  }
}

json parse(const std::string& path, std::string_view text) {
  try {
    return json::parse(text);
  } catch (const json::exception&) {
    broken(path, "not valid JSON");
  }
}

// A member of any type, or of the wanted one.
const json& child(const std::string& path, const json& j, const char* key) {
  if (!j.is_object() || !j.contains(key)) broken(path, quoted(key) + " is missing");
  return j[key];
}

template <class T>
T member(const std::string& path, const json& j, const char* key) {
  const json& value = child(path, j, key);
  bool fits = value.is_string();
  if constexpr (std::is_same_v<T, bool>) fits = value.is_boolean();
  if constexpr (std::is_same_v<T, int64_t>) fits = value.is_number_integer();
  if constexpr (std::is_same_v<T, float>) fits = value.is_number();
  if (!fits) broken(path, quoted(key) + " has the wrong type: " + json_word(value));
  return value.get<T>();
}

// A list of texts or numbers.
template <class T>
std::vector<T> list(const std::string& path, const json& j, const char* key) {
  const json& value = child(path, j, key);
  const auto fits = [](const json& element) {
    return std::is_same_v<T, std::string> ? element.is_string() : element.is_number();
  };
  if (!value.is_array() || !std::all_of(value.begin(), value.end(), fits)) {
    broken(path, quoted(key) + " has the wrong type: " + json_word(value));
  }
  return value.get<std::vector<T>>();
}

json read_manifest(const std::string& folder) {
  if (!fs::exists(folder)) {
    throw Error(ErrorKind::kModel,
                "there is no model directory at '" + folder +
                    "'. Check the path or train a model with `hypertower train`.");
  }
  const std::string path = folder + "/" + model_files::kManifest;
  if (!fs::is_directory(folder) || !fs::exists(path)) {
    throw Error(ErrorKind::kModel, "'" + folder +
                                       "' is not a model directory: it has no manifest.json. "
                                       "Check the path or train a model with `hypertower train`.");
  }
  json manifest = parse(path, text_of(path));
  if (member<std::string>(path, manifest, "format") != "hypertower") {
    broken(path, "'format' is not 'hypertower'");
  }
  const auto version = member<int64_t>(path, manifest, "format_version");
  if (version != kFormatVersion) {
    throw Error(
        ErrorKind::kModel,
        path + ": format version " + std::to_string(version) + ", but this program reads " +
            std::to_string(kFormatVersion) +
            (version > kFormatVersion ? ". Update hypertower." : ". Export the model again."));
  }
  const auto expected = member<std::string>(path, manifest, model_files::kChecksum);
  if (const std::string found = model_files::manifest_checksum(manifest); found != expected) {
    broken(path, "changed after it was written: checksum " + found + ", expected " + expected);
  }
  return manifest;
}

// A file as the manifest describes it. What is used later is checked as it was read, not before:
// a writer may replace the directory at any moment.
struct ListedFile {
  std::string path;
  uintmax_t bytes = 0;
  std::string checksum;

  // Checked first, so that a damaged file has a sentence of its own before it is read.
  void check_size() const {
    std::error_code error;
    const uintmax_t size = fs::file_size(path, error);
    if (error == std::errc::no_such_file_or_directory) broken(path, "missing");
    if (error) broken(path, "cannot be read: " + error.message());
    if (size != bytes) {
      broken(path, std::string(size < bytes ? "truncated" : "too long") + ": " +
                       std::to_string(size) + " bytes, the manifest says " + std::to_string(bytes));
    }
  }
  void check_content(std::span<const std::byte> content) const {
    if (const std::string found = hypertower::checksum(content); found != checksum) {
      broken(path,
             "changed after it was written: checksum " + found + ", the manifest says " + checksum);
    }
  }
  std::string text() const {
    check_size();
    std::string content = text_of(path);
    check_content(std::as_bytes(std::span(content)));
    return content;
  }
  std::shared_ptr<const SafetensorsFile> tensors() const {
    check_size();
    return SafetensorsFile::open(
        path, [this](std::span<const std::byte> content) { check_content(content); });
  }
};

ListedFile listed(const std::string& folder, const json& manifest, const char* name) {
  const std::string path = folder + "/" + model_files::kManifest;
  const json& files = child(path, manifest, "files");
  if (!files.contains(name)) broken(path, "'files' does not list " + std::string(name));
  const json& entry = files[name];
  return {folder + "/" + name, static_cast<uintmax_t>(member<int64_t>(path, entry, "bytes")),
          member<std::string>(path, entry, "xxh64")};
}

FeatureSpace read_features(const SafetensorsFile& file, const Schema& schema,
                           std::set<std::string>& used) {
  std::vector<FittedFeature> fitted;
  for (const Feature& feature : schema.features) {
    FittedFeature f{feature, {}, {}};
    const std::string name = model_files::feature_tensor(feature);
    if (feature.kind == FeatureKind::kNumber) {
      const std::span<const float> edges = file.floats(name + ".edges", {-1});
      f.edges.assign(edges.begin(), edges.end());
      used.insert(name + ".edges");
    } else if (feature.kind != FeatureKind::kVector) {
      f.vocabulary = Vocabulary(file.strings(name + ".values"), feature.oov_rows);
      used.insert({name + ".values.bytes", name + ".values.offsets"});
    }
    fitted.push_back(std::move(f));
  }
  return {schema, std::move(fitted)};
}

void read_weights(const ListedFile& listed_file, const Schema& schema, ModelData& model) {
  const std::string& path = listed_file.path;
  const auto file = listed_file.tensors();
  std::set<std::string> used;
  model.features = read_features(*file, schema, used);
  for (const auto& [name, info] : file->tensors()) {
    if (name.starts_with(model_files::kFeaturePrefix)) {
      if (!used.contains(name)) {
        broken(path, "tensor '" + name + "' is left over: the schema has no such feature");
      }
      continue;
    }
    model.weights[name] = {info.shape, file->array(name, info.shape)};
  }
  check_weights(model.architecture, model.features, model.weights);
}

Attribute read_attribute(const SafetensorsFile& file, const std::string& path, const json& entry,
                         int64_t items) {
  Attribute a;
  a.name = member<std::string>(path, entry, "name");
  a.is_number = member<std::string>(path, entry, "kind") == "number";
  const std::string name = "attribute." + a.name;
  if (a.is_number) {
    const std::span<const double> numbers = file.doubles(name + ".numbers", {items});
    a.numbers.assign(numbers.begin(), numbers.end());
    return a;
  }
  a.values = Vocabulary(file.strings(name + ".values"), 0);
  const std::span<const int32_t> codes = file.int32s(name + ".codes", {-1});
  const std::span<const int64_t> offsets = file.int64s(name + ".offsets", {items + 1});
  a.codes.assign(codes.begin(), codes.end());
  a.offsets.assign(offsets.begin(), offsets.end());
  return a;
}

Catalogue read_items(const ListedFile& listed_file, const std::string& manifest_path,
                     const json& manifest) {
  const auto file = listed_file.tensors();
  const json& items = child(manifest_path, manifest, "items");
  Catalogue catalogue;
  catalogue.dim = member<int64_t>(manifest_path, items, "dim");
  catalogue.ids = file->strings("ids");
  const auto count = static_cast<int64_t>(catalogue.ids.size());
  catalogue.vectors = file->array("vectors", {count, catalogue.dim});
  for (const json& entry : child(manifest_path, items, "attributes")) {
    catalogue.attributes.push_back(read_attribute(*file, manifest_path, entry, count));
  }
  return catalogue;
}

Followers read_followers(const ListedFile& listed_file, int64_t num_items) {
  const auto file = listed_file.tensors();
  const std::span<const int64_t> offsets = file->int64s("offsets", {-1});
  const std::span<const int32_t> items = file->int32s("items", {-1});
  const std::span<const float> shares = file->floats("shares", {-1});
  Followers followers{{offsets.begin(), offsets.end()},
                      {items.begin(), items.end()},
                      {shares.begin(), shares.end()},
                      file->floats("strength", {1})[0]};
  check_followers(followers, num_items);
  return followers;
}

std::vector<Golden> read_golden(const ListedFile& file) {
  const std::string& path = file.path;
  const json j = parse(path, file.text());
  std::vector<Golden> golden;
  for (const json& entry : child(path, j, "answers")) {
    golden.push_back({request_from_json(child(path, entry, "request")),
                      list<float>(path, entry, "query"), list<std::string>(path, entry, "items"),
                      list<float>(path, entry, "scores")});
  }
  return golden;
}

std::vector<Person> read_people(const ListedFile& file) {
  std::vector<Person> people;
  const std::string text = file.text();
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    const std::string place = file.path + ":" + std::to_string(people.size() + 1);
    const json j = parse(place, std::string_view(text).substr(begin, end - begin));
    Person person;
    person.user = member<std::string>(place, j, "user");
    for (const auto& [name, value] : child(place, j, "features").items()) {
      person.features.emplace_back(name, value_from_json(value, "features." + name));
    }
    for (const json& event : child(place, j, "history")) {
      person.history.push_back(history_event_from_json(event, "history"));
    }
    people.push_back(std::move(person));
  }
  return people;
}

ModelData read_once(const std::string& folder) {
  const json manifest = read_manifest(folder);
  const std::string path = folder + "/" + model_files::kManifest;
  const ListedFile weights = listed(folder, manifest, model_files::kWeights);
  const ListedFile items = listed(folder, manifest, model_files::kItems);
  const ListedFile golden = listed(folder, manifest, model_files::kGolden);
  ModelData model;
  const auto schema = naming(path, [&] {
    model.architecture = Architecture::from_json(child(path, manifest, "architecture"));
    return Schema::from_json(child(path, manifest, "schema"));
  });
  model.item_ids_are_integers =
      member<bool>(path, child(path, manifest, "items"), "ids_are_integers");
  model.user_ids_are_integers =
      member<bool>(path, child(path, manifest, "users"), "ids_are_integers");
  model.exclude_seen_by_default = member<bool>(path, manifest, "exclude_seen_by_default");
  model.metrics = child(path, manifest, "metrics");
  model.training = child(path, manifest, "training");
  if (manifest.contains("habits")) {
    const json& habits = child(path, manifest, "habits");
    model.memory.habits = {
        member<float>(path, habits, "weight"), member<float>(path, habits, "scale"),
        member<float>(path, habits, "fading"), list<float>(path, habits, "match")};
  }
  model.data_fingerprint = member<std::string>(path, manifest, "data_fingerprint");
  const bool has_index = child(path, manifest, "files").contains(model_files::kIndex);
  const ListedFile index = has_index ? listed(folder, manifest, model_files::kIndex) : ListedFile{};
  std::shared_ptr<const SafetensorsFile> tiles;
  // The large files at the same time; of several damaged ones the first is named, on every run.
  const std::array<std::function<void()>, 3> readers = {
      [&] { naming(weights.path, [&] { read_weights(weights, schema, model); }); },
      [&] { naming(items.path, [&] { model.catalogue = read_items(items, path, manifest); }); },
      [&] {
        if (has_index) naming(index.path, [&] { tiles = index.tensors(); });
      }};
  parallel_for(hardware_threads(), readers.size(), 1,
               [&](int64_t i, int64_t) { readers[static_cast<size_t>(i)](); });
  if (model.catalogue.dim != model.architecture.dim ||
      model.weights["item.id.weight"].shape[0] > static_cast<int64_t>(model.catalogue.ids.size())) {
    broken(items.path,
           "its items do not fit the weights: another dim, or fewer items than rows of "
           "item.id.weight");
  }
  if (has_index) {
    const Catalogue& catalogue = model.catalogue;
    naming(index.path, [&] {
      model.tiles = read_index_file(
          tiles,
          {catalogue.vectors.data(), static_cast<int64_t>(catalogue.ids.size()), catalogue.dim});
    });
  }
  if (manifest["files"].contains(model_files::kFollowers)) {
    const ListedFile followers = listed(folder, manifest, model_files::kFollowers);
    naming(followers.path, [&] {
      model.memory.followers =
          read_followers(followers, static_cast<int64_t>(model.catalogue.ids.size()));
    });
  }
  naming(golden.path, [&] { model.golden = read_golden(golden); });
  if (manifest["files"].contains(model_files::kPeople)) {
    const ListedFile people = listed(folder, manifest, model_files::kPeople);
    naming(people.path, [&] { model.people = read_people(people); });
  }
  return model;
}

// Holds the directory that is at a path now, so that another one put there later is told apart.
class DirectoryWatch {
 public:
  explicit DirectoryWatch(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}
  ~DirectoryWatch() {
    if (fd_ >= 0) ::close(fd_);
  }
  DirectoryWatch(const DirectoryWatch&) = delete;
  DirectoryWatch& operator=(const DirectoryWatch&) = delete;

  bool replaced() const {
    struct stat held {};
    struct stat now {};
    return fd_ >= 0 && ::fstat(fd_, &held) == 0 && ::stat(path_.c_str(), &now) == 0 &&
           held.st_ino != now.st_ino;
  }

 private:
  std::string path_;
  int fd_;
};

}  // namespace

ModelData read_model_directory(const std::string& path) {
  constexpr int kAttempts = 10;
  for (int attempt = 1;; ++attempt) {
    const DirectoryWatch watch(path);
    try {
      return read_once(path);
    } catch (const Error&) {
      // A writer may have exchanged the directory in the middle: then the new one is read.
      if (attempt == kAttempts || !watch.replaced()) throw;
    }
  }
}

json inspect_model_directory(const std::string& path) {
  json manifest = read_manifest(path);
  for (auto& [name, entry] : child(path, manifest, "files").items()) {
    std::error_code error;
    const uintmax_t size = fs::file_size(fs::path(path) / name, error);
    if (error) broken(path + "/" + name, "missing");
    manifest["files"][name]["bytes"] = size;
  }
  return manifest;
}

}  // namespace hypertower
