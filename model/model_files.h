// Names inside the model directory, shared by its writer and its reader. Format: README.md.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "model/schema.h"

namespace hypertower::model_files {

inline constexpr const char* kManifest = "manifest.json";
inline constexpr const char* kWeights = "weights.safetensors";
inline constexpr const char* kItems = "items.safetensors";
inline constexpr const char* kIndex = "index.safetensors";          // of large catalogues
inline constexpr const char* kFollowers = "followers.safetensors";  // where they are of use
inline constexpr const char* kGolden = "golden.json";
inline constexpr const char* kPeople = "people.jsonl";

// Key of the manifest under which the checksum of all its other keys stands.
inline constexpr const char* kChecksum = "xxh64";

// Tensors of weights.safetensors that are not weights: vocabularies and edges.
inline constexpr const char* kFeaturePrefix = "features.";

inline std::string feature_tensor(const Feature& f) {
  return kFeaturePrefix + std::string(group_word(f.group)) + "." + f.name;
}

// Checksum of a manifest: of its compact dump without the checksum itself.
std::string manifest_checksum(nlohmann::json manifest);

}  // namespace hypertower::model_files
