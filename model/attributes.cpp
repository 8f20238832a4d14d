#include <limits>
#include <utility>

#include "model/features.h"
#include "model/index.h"

namespace hypertower {

AttributeBuilder::AttributeBuilder(const Feature& feature) : feature_(feature) {
  attribute_.name = feature.name;
  attribute_.is_number = feature.kind == FeatureKind::kNumber;
  if (!attribute_.is_number) attribute_.offsets.push_back(0);
}

void AttributeBuilder::add(const Value& value) {
  if (attribute_.is_number) {
    FeatureColumn checked;  // refuses what is no finite number
    FeatureSpace::append({feature_, {}, {}}, value, checked);
    const auto* integer = std::get_if<int64_t>(&value);
    const auto* number = std::get_if<double>(&value);
    attribute_.numbers.push_back(integer != nullptr  ? static_cast<double>(*integer)
                                 : number != nullptr ? *number
                                                     : std::numeric_limits<double>::quiet_NaN());
    return;
  }
  for (std::string& text : category_texts(feature_, value)) {
    const auto [entry, added] = codes_.emplace(text, static_cast<int32_t>(texts_.size()));
    if (added) texts_.push_back(std::move(text));
    attribute_.codes.push_back(entry->second);
  }
  attribute_.offsets.push_back(static_cast<int64_t>(attribute_.codes.size()));
}

Attribute AttributeBuilder::finish() {
  if (!attribute_.is_number) attribute_.values = Vocabulary(std::move(texts_), 0);
  return std::move(attribute_);
}

}  // namespace hypertower
