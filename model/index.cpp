#include "model/index.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "kernels/error.h"
#include "kernels/finite_rows.h"
#include "kernels/parallel.h"
#include "kernels/topk.h"

namespace hypertower {
namespace {

[[noreturn]] void broken(const std::string& what) {
  throw Error(ErrorKind::kModel, what);
}

void check_attribute(const Attribute& a, size_t items) {
  const std::string label = "attribute '" + a.name + "'";
  if (a.is_number) {
    if (a.numbers.size() != items) {
      broken(label + ": expected " + std::to_string(items) + " numbers, found " +
             std::to_string(a.numbers.size()));
    }
    return;
  }
  if (a.offsets.size() != items + 1 || a.offsets.front() != 0 ||
      a.offsets.back() != static_cast<int64_t>(a.codes.size()) ||
      !std::is_sorted(a.offsets.begin(), a.offsets.end())) {
    broken(label + ": its offsets do not fit " + std::to_string(items) + " items");
  }
  for (const int32_t code : a.codes) {
    if (code < 0 || code >= a.values.size()) {
      broken(label + ": a code is " + std::to_string(code) + ", expected 0 to " +
             std::to_string(a.values.size() - 1));
    }
  }
}

int64_t count_bits(const std::vector<uint64_t>& words) {
  int64_t count = 0;
  for (const uint64_t word : words) count += std::popcount(word);
  return count;
}

void set_bit(std::vector<uint64_t>& words, size_t i) {
  words[i / 64] |= uint64_t{1} << (i % 64);
}

// The distinct masks of a batch, next to each other as the kernel wants them.
struct Masks {
  std::vector<uint64_t> copies;
  std::vector<int32_t> of_row;
  const uint64_t* words = nullptr;
  int64_t count = 0;
};

Masks gather_masks(std::span<const Query> queries) {
  Masks masks;
  std::map<const Mask*, int32_t> places;
  std::vector<const Mask*> distinct;
  for (const Query& q : queries) {
    if (q.mask == nullptr) {
      masks.of_row.push_back(-1);
      continue;
    }
    const auto [place, added] = places.emplace(q.mask.get(), static_cast<int32_t>(distinct.size()));
    if (added) distinct.push_back(q.mask.get());
    masks.of_row.push_back(place->second);
  }
  masks.count = static_cast<int64_t>(distinct.size());
  if (distinct.size() == 1) {
    masks.words = distinct[0]->words.data();
  } else {
    for (const Mask* mask : distinct) {
      masks.copies.insert(masks.copies.end(), mask->words.begin(), mask->words.end());
    }
    masks.words = masks.copies.data();
  }
  return masks;
}

}  // namespace

ItemIndex::ItemIndex(Catalogue catalogue, const MappedTiles& tiles)
    : catalogue_(std::make_shared<const Catalogue>(std::move(catalogue))), rows_(catalogue_->ids) {
  const size_t items = catalogue_->ids.size();
  if (const int64_t row = rows_.first_duplicate(); row >= 0) {
    broken("the item '" + id(row) + "' comes twice in the catalogue");
  }
  if (catalogue_->dim < 1 || catalogue_->vectors.size() != items * static_cast<size_t>(dim())) {
    broken("the catalogue has " + std::to_string(items) + " items of " + std::to_string(dim()) +
           " numbers, but " + std::to_string(catalogue_->vectors.size()) + " numbers in all");
  }
  const int threads = hardware_threads();
  if (const int64_t row = first_non_finite_row(vectors(), threads); row >= 0) {
    broken("the vector of item '" + id(row) + "' holds NaN or infinity");
  }
  for (const Attribute& a : catalogue_->attributes) check_attribute(a, items);
  topk_ = tiles.file == nullptr
              ? TopKIndex::build(vectors(), catalogue_, threads)
              : TopKIndex::from_tiles(
                    vectors(), tiles.tiles,
                    std::make_shared<std::pair<std::shared_ptr<const Catalogue>, MappedTiles>>(
                        catalogue_, tiles));
}

MatrixView<const float> ItemIndex::vectors() const {
  return {catalogue_->vectors.data(), size(), dim()};
}

std::shared_ptr<const Mask> ItemIndex::compile(const Filter& filter) const {
  auto mask = std::make_shared<Mask>();
  mask->words = evaluate(filter);
  mask->eligible = count_bits(mask->words);
  return mask;
}

std::shared_ptr<const Mask> ItemIndex::intersect(const std::shared_ptr<const Mask>& a,
                                                 const std::shared_ptr<const Mask>& b) {
  if (a == nullptr || b == nullptr) return a == nullptr ? b : a;
  auto both = std::make_shared<Mask>(*a);
  for (size_t w = 0; w < both->words.size(); ++w) both->words[w] &= b->words[w];
  both->eligible = count_bits(both->words);
  return both;
}

ItemIndex::Words ItemIndex::evaluate(const Filter& filter) const {
  switch (filter.op) {
    case Filter::Op::kOneOf:
      return one_of(attribute(filter.field), filter);
    case Filter::Op::kRange:
      return range(attribute(filter.field), filter);
    case Filter::Op::kAny: {
      Words words = filled(false);
      for (const Filter& child : filter.children) {
        const Words more = evaluate(child);
        for (size_t w = 0; w < words.size(); ++w) words[w] |= more[w];
      }
      return words;
    }
    case Filter::Op::kAll:
    case Filter::Op::kNot:
      break;
  }
  Words words = filled(true);
  for (const Filter& child : filter.children) {
    const Words more = evaluate(child);
    for (size_t w = 0; w < words.size(); ++w) words[w] &= more[w];
  }
  if (filter.op == Filter::Op::kNot) {
    const Words everything = filled(true);
    for (size_t w = 0; w < words.size(); ++w) words[w] = everything[w] & ~words[w];
  }
  return words;
}

ItemIndex::Words ItemIndex::one_of(const Attribute& a, const Filter& filter) const {
  const std::string path = "where." + a.name;
  if (a.is_number) {
    throw Error(ErrorKind::kSchema,
                path + ": this is a number; write {\"min\": ..., \"max\": ...} instead of values",
                path);
  }
  std::vector<char> wanted(static_cast<size_t>(a.values.size()), 0);
  for (const std::string& value : filter.values) {
    if (const int64_t code = a.values.known(value); code >= 0)
      wanted[static_cast<size_t>(code)] = 1;
  }
  Words words = filled(false);
  for (size_t i = 0; i < catalogue_->ids.size(); ++i) {
    for (int64_t j = a.offsets[i]; j < a.offsets[i + 1]; ++j) {
      if (wanted[static_cast<size_t>(a.codes[static_cast<size_t>(j)])] != 0) {
        set_bit(words, i);
        break;
      }
    }
  }
  return words;
}

ItemIndex::Words ItemIndex::range(const Attribute& a, const Filter& filter) const {
  const std::string path = "where." + a.name;
  if (!a.is_number) {
    throw Error(
        ErrorKind::kSchema,
        path + ": min and max are for numbers and this is a category; write a list of values",
        path);
  }
  Words words = filled(false);
  for (size_t i = 0; i < a.numbers.size(); ++i) {
    const double x = a.numbers[i];  // NaN = missing passes no comparison
    const bool above = filter.min ? x >= *filter.min : !std::isnan(x);
    const bool below = filter.max ? x <= *filter.max : !std::isnan(x);
    if (above && below) set_bit(words, i);
  }
  return words;
}

const Attribute& ItemIndex::attribute(const std::string& name) const {
  std::vector<std::string> known;
  for (const Attribute& a : catalogue_->attributes) {
    if (a.name == name) return a;
    known.push_back(a.name);
  }
  const std::string hint =
      known.empty() ? " The items of this model have no attributes." : name_hint(name, known);
  throw Error(ErrorKind::kSchema, "where." + name + ": unknown field." + hint, "where." + name);
}

// All bits of items set or cleared; those beyond the last item are clear.
ItemIndex::Words ItemIndex::filled(bool value) const {
  const size_t items = catalogue_->ids.size();
  Words words((items + 63) / 64, value ? ~uint64_t{0} : 0);
  if (value && items % 64 != 0) words.back() = (uint64_t{1} << (items % 64)) - 1;
  return words;
}

std::vector<std::vector<Hit>> ItemIndex::search(std::span<const Query> queries, int64_t k,
                                                const Exec& exec) const {
  if (k < 1) {
    throw Error(ErrorKind::kArgument, "k: expected 1 or more, got " + std::to_string(k), "k");
  }
  std::vector<std::vector<Hit>> answers(queries.size());
  if (queries.empty() || size() == 0) return answers;
  const int64_t rows = static_cast<int64_t>(queries.size());
  const int64_t width = std::min(k, size());

  std::vector<float> vectors;
  std::vector<int64_t> exclude, exclude_offsets{0}, adjust, adjust_offsets{0};
  std::vector<float> deltas;
  for (const Query& q : queries) {
    if (static_cast<int64_t>(q.vector.size()) != dim()) {
      throw Error(ErrorKind::kArgument, "search: expected a query of " + std::to_string(dim()) +
                                            " numbers, got " + std::to_string(q.vector.size()));
    }
    vectors.insert(vectors.end(), q.vector.begin(), q.vector.end());
    exclude.insert(exclude.end(), q.exclude.begin(), q.exclude.end());
    exclude_offsets.push_back(static_cast<int64_t>(exclude.size()));
    for (const auto& [row, delta] : q.adjust) {
      adjust.push_back(row);
      deltas.push_back(delta);
    }
    adjust_offsets.push_back(static_cast<int64_t>(adjust.size()));
  }
  const Masks masks = gather_masks(queries);

  TopKInput in;
  in.queries = {vectors.data(), rows, dim()};
  in.k = width;
  if (masks.count > 0) {
    in.masks = masks.words;
    in.num_masks = masks.count;
    in.mask_words = (size() + 63) / 64;
    in.mask_of_row = masks.of_row.data();
  }
  if (!exclude.empty()) in.exclude = {exclude.data(), exclude_offsets.data(), rows};
  if (!adjust.empty()) {
    in.adjust = {adjust.data(), adjust_offsets.data(), rows};
    in.adjust_delta = deltas.data();
  }
  std::vector<int64_t> ids(static_cast<size_t>(rows * width));
  std::vector<float> scores(ids.size());
  std::vector<int32_t> counts(queries.size());
  std::vector<RowStatus> status(queries.size());
  topk_.search(
      in, {{ids.data(), rows, width}, {scores.data(), rows, width}, counts.data(), status.data()},
      exec);
  for (size_t r = 0; r < answers.size(); ++r) {
    if (status[r] != RowStatus::kOk) {
      throw Error(ErrorKind::kNumeric,
                  "the query of request " + std::to_string(r) + " holds NaN or infinity");
    }
    const size_t first = r * static_cast<size_t>(width);
    for (size_t j = 0; j < static_cast<size_t>(counts[r]); ++j) {
      answers[r].push_back({ids[first + j], scores[first + j]});
    }
  }
  return answers;
}

}  // namespace hypertower
