// A small model with a truth that a person can check: items of three genres on three axes, moods
// that pull towards one genre, histories that pull towards what was seen. For tests of whoever
// reads model directories.
//
//   items      1 ... n; item i has genre kTinyGenres[i % 3] and year 1960 + i % 60
//   unknown    a person of whom nothing is known gets items of genre `popular`
//   taste      a user feature: that genre
//   history    pulls towards the genre of the latest item, stronger than taste
//   mood       a context feature: happy -> Comedy, sad -> Drama, scared -> Horror; strongest
//   hour       a context feature from the time, without effect
//   people     with_people: person 1, taste Drama, saw item 2 (Horror) at time 1000
#pragma once

#include <cstdint>
#include <string>

#include "model/model_directory.h"

namespace hypertower {

inline const std::string kTinyGenres[3] = {"Comedy", "Drama", "Horror"};

struct TinyModelOptions {
  std::string name = "tiny";
  int64_t items = 60;
  int64_t popular = 0;  // index into kTinyGenres
  bool with_people = true;
  bool exclude_seen_by_default = false;
};

// With golden answers.
ModelData tiny_model(const TinyModelOptions& options = {});

inline std::string tiny_genre(const std::string& item) {
  return kTinyGenres[std::stoll(item) % 3];
}

}  // namespace hypertower
