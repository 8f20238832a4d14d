#include "model/features.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/error.h"

namespace hypertower {
namespace {

std::string label(const Feature& f) {
  return std::string(group_word(f.group)) + "." + f.name;
}

[[noreturn]] void wrong_type(const Feature& f, const std::string& expected, const Value& value) {
  throw Error(ErrorKind::kSchema,
              label(f) + ": expected " + expected + ", got " + std::string(type_word(value)),
              label(f));
}

void require_finite(const Feature& f, double number) {
  if (std::isfinite(number)) return;
  const std::string found = std::isnan(number) ? "NaN" : number > 0 ? "infinity" : "-infinity";
  throw Error(ErrorKind::kNumeric, label(f) + ": expected a finite number, got " + found, label(f));
}

std::string_view trim(std::string_view s) {
  const size_t first = s.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(" \t") - first + 1);
}

// Calls take(piece) for every non-empty piece.
template <class Take>
void split(std::string_view text, std::string_view separator, const Take& take) {
  while (true) {
    const size_t end = text.find(separator);
    if (const std::string_view piece = trim(text.substr(0, end)); !piece.empty()) take(piece);
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + separator.size());
  }
}

// Calls take(text) for every text of an id feature's value.
template <class Take>
void for_each_text(const Feature& f, const Value& value, const Take& take) {
  const bool many = f.kind == FeatureKind::kCategories;
  if (is_missing(value)) return;
  if (const auto* text = std::get_if<std::string>(&value)) {
    if (many && !f.separator.empty()) {
      split(*text, f.separator, take);
    } else if (!text->empty()) {
      take(std::string_view(*text));
    }
    return;
  }
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value); texts != nullptr && many) {
    for (const std::string& text : *texts) {
      if (!text.empty()) take(std::string_view(text));
    }
    return;
  }
  const auto take_number = [&](double number) {
    require_finite(f, number);
    take(std::string_view(*canonical_text(number)));
  };
  if (const auto* numbers = std::get_if<std::vector<double>>(&value); numbers != nullptr && many) {
    for (const double number : *numbers) take_number(number);
  } else if (const auto* integer = std::get_if<int64_t>(&value)) {
    take(std::string_view(*canonical_text(*integer)));
  } else if (const auto* number = std::get_if<double>(&value)) {
    take_number(*number);
  } else {
    wrong_type(f, many ? "categories" : "a category", value);
  }
}

float number_of(const Feature& f, const Value& value) {
  if (is_missing(value)) return std::numeric_limits<float>::quiet_NaN();
  double number = 0.0;
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    number = static_cast<double>(*integer);
  } else if (const auto* real = std::get_if<double>(&value)) {
    number = *real;
  } else {
    wrong_type(f, "a number", value);
  }
  require_finite(f, number);
  constexpr double kMax = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(number, -kMax, kMax));
}

float element_of(const Feature& f, double number) {
  require_finite(f, number);
  const auto element = static_cast<float>(number);
  require_finite(f, element);
  return element;
}

// Appends `f.length` numbers to `out`.
void append_vector(const Feature& f, const Value& value, std::vector<float>& out) {
  const std::string expected = "a list of " + std::to_string(f.length) + " numbers";
  const auto length = static_cast<size_t>(f.length);
  if (is_missing(value)) {
    out.resize(out.size() + length, 0.0F);
    return;
  }
  std::vector<float> elements;
  if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
    for (const double number : *numbers) elements.push_back(element_of(f, number));
  } else if (const auto* text = std::get_if<std::string>(&value);
             text != nullptr && !f.separator.empty()) {
    split(*text, f.separator, [&](std::string_view piece) {
      double number = 0.0;
      const auto parsed = std::from_chars(piece.data(), piece.data() + piece.size(), number);
      if (parsed.ec != std::errc() || parsed.ptr != piece.data() + piece.size()) {
        throw Error(ErrorKind::kSchema,
                    label(f) + ": expected " + expected + ", got text with '" + std::string(piece) +
                        "' in it",
                    label(f));
      }
      elements.push_back(element_of(f, number));
    });
  } else {
    wrong_type(f, expected, value);
  }
  if (elements.size() != length) {
    throw Error(ErrorKind::kSchema,
                label(f) + ": expected " + expected + ", got " + std::to_string(elements.size()),
                label(f));
  }
  out.insert(out.end(), elements.begin(), elements.end());
}

[[noreturn]] void unknown_field(const Schema& schema, Group g, const std::string& name) {
  const std::string path = std::string(group_word(g)) + "." + name;
  if (std::find(schema.outcomes.begin(), schema.outcomes.end(), name) != schema.outcomes.end()) {
    throw Error(ErrorKind::kSchema,
                path +
                    ": an outcome is known only after the event, so it cannot be an input; "
                    "leave it out.",
                path);
  }
  const std::vector<std::string> known = schema.names(g);
  const std::string hint =
      known.empty() ? " This model has none of this group." : name_hint(name, known);
  throw Error(ErrorKind::kSchema, path + ": unknown field." + hint, path);
}

}  // namespace

std::vector<std::string> category_texts(const Feature& feature, const Value& value) {
  std::vector<std::string> texts;
  for_each_text(feature, value, [&texts](std::string_view text) { texts.emplace_back(text); });
  return texts;
}

int64_t FittedFeature::width() const {
  switch (feature.kind) {
    case FeatureKind::kNumber:
      return static_cast<int64_t>(edges.size()) - 1;
    case FeatureKind::kVector:
      return feature.length;
    default:
      return vocabulary.rows();
  }
}

FeatureSpace::FeatureSpace(Schema schema, std::vector<FittedFeature> fitted)
    : schema_(std::move(schema)), fitted_(std::move(fitted)) {
  const auto fail = [](const std::string& what) { throw Error(ErrorKind::kModel, what); };
  if (fitted_.size() != schema_.features.size()) {
    fail("the schema has " + std::to_string(schema_.features.size()) + " features, but " +
         std::to_string(fitted_.size()) + " are fitted");
  }
  for (size_t i = 0; i < fitted_.size(); ++i) {
    const Feature& f = schema_.features[i];
    const std::vector<float>& edges = fitted_[i].edges;
    if (i > 0 && f.group < schema_.features[i - 1].group) {
      fail(label(f) + ": features must come users first, then context, then items");
    }
    if (fitted_[i].feature.name != f.name || fitted_[i].feature.group != f.group ||
        fitted_[i].feature.kind != f.kind) {
      fail("feature " + std::to_string(i) + " of the schema is " + label(f) + ", but " +
           label(fitted_[i].feature) + " is fitted there");
    }
    if (f.kind != FeatureKind::kNumber) continue;
    const bool finite =
        std::all_of(edges.begin(), edges.end(), [](float e) { return std::isfinite(e); });
    const bool ascending = std::adjacent_find(edges.begin(), edges.end(), [](float a, float b) {
                             return !(a < b);
                           }) == edges.end();
    if (edges.size() < 2 || !finite || !ascending) {
      fail(label(f) + ": expected 2 or more ascending finite edges");
    }
  }
}

std::span<const FittedFeature> FeatureSpace::group(Group g) const {
  const auto in_group = [g](const FittedFeature& f) { return f.feature.group == g; };
  const auto first = std::find_if(fitted_.begin(), fitted_.end(), in_group);
  const auto last = std::find_if_not(first, fitted_.end(), in_group);
  return {first, last};
}

void FeatureSpace::append(const FittedFeature& f, const Value& value, FeatureColumn& column) {
  if (f.feature.kind == FeatureKind::kNumber) {
    column.dense.push_back(number_of(f.feature, value));
  } else if (f.feature.kind == FeatureKind::kVector) {
    append_vector(f.feature, value, column.dense);
  } else {
    for_each_text(f.feature, value, [&](std::string_view text) {
      if (const int64_t row = f.vocabulary.row(text); row >= 0) column.values.push_back(row);
    });
    column.offsets.push_back(static_cast<int64_t>(column.values.size()));
  }
}

Batch FeatureSpace::encode(Group g, std::span<const Record* const> records,
                           std::span<const std::optional<double>> times) const {
  const std::span<const FittedFeature> features = group(g);
  Batch batch;
  batch.rows = static_cast<int64_t>(records.size());
  batch.columns.resize(features.size());
  static const Record kNoFields;
  const Value missing;
  std::vector<const Value*> given(features.size());
  for (size_t r = 0; r < records.size(); ++r) {
    std::fill(given.begin(), given.end(), nullptr);
    for (const auto& [name, value] : records[r] != nullptr ? *records[r] : kNoFields) {
      const auto found =
          std::find_if(features.begin(), features.end(),
                       [&name = name](const FittedFeature& f) { return f.feature.name == name; });
      if (found == features.end()) unknown_field(schema_, g, name);
      given[static_cast<size_t>(found - features.begin())] = &value;
    }
    const bool timed = r < times.size() && times[r].has_value();
    const double time = timed ? *times[r] : 0.0;
    if (timed) check_time(time, "time");
    for (size_t i = 0; i < features.size(); ++i) {
      const TimePart part = features[i].feature.from_time;
      if (given[i] != nullptr) {
        append(features[i], *given[i], batch.columns[i]);
      } else if (part != TimePart::kNone && timed) {
        append(features[i], time_part(part, time), batch.columns[i]);
      } else {
        append(features[i], missing, batch.columns[i]);
      }
    }
  }
  return batch;
}

}  // namespace hypertower
