#include "kernels/error.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <vector>

namespace hypertower {
namespace {

char lower(char c) {
  return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
}

// Damerau-Levenshtein, optimal string alignment: insert, delete, replace, swap two neighbours.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> two_back(b.size() + 1), back(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) back[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = lower(a[i - 1]) == lower(b[j - 1]);
      row[j] = std::min({back[j] + 1, row[j - 1] + 1, back[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
          lower(a[i - 2]) == lower(b[j - 1])) {
        row[j] = std::min(row[j], two_back[j - 2] + 1);
      }
    }
    std::swap(two_back, back);
    std::swap(back, row);
  }
  return back[b.size()];
}

}  // namespace

std::string nearest_name(std::string_view name, std::span<const std::string> candidates) {
  // A third of the letters may be wrong, at least one; a name with nothing in common is not near.
  const size_t limit = std::max<size_t>(1, name.size() / 3);
  size_t best = std::numeric_limits<size_t>::max();
  std::string nearest;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(name, candidate);
    if (distance > limit || distance >= std::max(name.size(), candidate.size())) continue;
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string name_hint(std::string_view name, std::span<const std::string> candidates) {
  constexpr size_t kMaxNames = 12;
  if (const std::string nearest = nearest_name(name, candidates); !nearest.empty()) {
    return " Did you mean '" + nearest + "'?";
  }
  if (candidates.empty()) return {};
  std::string hint = " Known: ";
  const size_t shown = std::min(candidates.size(), kMaxNames);
  for (size_t i = 0; i < shown; ++i) hint += (i == 0 ? "" : ", ") + candidates[i];
  if (shown < candidates.size()) {
    hint += " and " + std::to_string(candidates.size() - shown) + " more";
  }
  return hint + ".";
}

}  // namespace hypertower
