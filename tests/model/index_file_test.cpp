// index.safetensors: written for large catalogues, mapped again, refused when it is not theirs.
#include "model/index_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "model/index.h"
#include "tests/model/caught.h"
#include "tests/model/temp_dir.h"
#include "tests/support/edit_array.h"

namespace hypertower {
namespace {

constexpr int64_t kDim = 6;

Catalogue catalogue_of(int64_t items) {
  Catalogue c;
  c.dim = kDim;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < items; ++i) c.ids.push_back("i" + std::to_string(i));
  std::vector<float> vectors;
  for (int64_t i = 0; i < items * kDim; ++i) vectors.push_back(normal(random));
  c.vectors = std::move(vectors);
  return c;
}

MatrixView<const float> vectors_of(const Catalogue& c) {
  return {c.vectors.data(), static_cast<int64_t>(c.ids.size()), c.dim};
}

TEST(IndexFile, SmallCataloguesHaveNone) {
  const TempDir dir;
  const Catalogue c = catalogue_of(1000);
  EXPECT_FALSE(write_index_file(vectors_of(c), dir / "index.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(dir / "index.safetensors"));
}

TEST(IndexFile, AMappedIndexAnswersAsOneThatWasMadeAnew) {
  const TempDir dir;
  const std::string path = dir / "index.safetensors";
  Catalogue c = catalogue_of(70'000);
  ASSERT_TRUE(write_index_file(vectors_of(c), path));
  const ItemIndex made(c);
  const ItemIndex mapped(c, read_index_file(SafetensorsFile::open(path), vectors_of(c)));
  std::vector<Query> queries(3);
  for (size_t q = 0; q < 3; ++q) queries[q].vector = {c.vectors.data() + q * 60, kDim};
  const auto expected = made.search(queries, 25, {});
  const auto found = mapped.search(queries, 25, {});
  for (size_t q = 0; q < 3; ++q) {
    ASSERT_EQ(found[q].size(), 25U);
    for (size_t i = 0; i < 25; ++i) {
      EXPECT_EQ(found[q][i].row, expected[q][i].row);
      EXPECT_EQ(found[q][i].score, expected[q][i].score);
    }
  }
}

TEST(IndexFile, RefusesWhatWasNotMadeFromTheVectors) {
  const TempDir dir;
  const std::string path = dir / "index.safetensors";
  const Catalogue c = catalogue_of(70'000);
  ASSERT_TRUE(write_index_file(vectors_of(c), path));
  const auto refusal = [&](const Catalogue& other) {
    return caught([&] { read_index_file(SafetensorsFile::open(path), vectors_of(other)); }).message;
  };
  Catalogue changed = c;
  edit(changed.vectors, [](std::vector<float>& v) { v[69'999 * kDim] += 1.0F; });
  EXPECT_EQ(refusal(changed), "it was not made from the vectors of the items");
  EXPECT_EQ(refusal(catalogue_of(70'100)), "tensor 'codes' does not fit the vectors of the items");
  SafetensorsWriter other;
  const std::vector<int32_t> one = {1};
  other.add("codes", {1}, std::span<const int32_t>(one));
  other.write(path);
  EXPECT_EQ(refusal(c), "tensor 'codes' does not fit the vectors of the items");
  SafetensorsWriter().write(path);
  EXPECT_EQ(refusal(c), "tensor 'codes' is missing");
}

// The checksums of a model directory find any change. Behind them, whatever a file says, a search
// stays within its bounds: run by the sanitizers.
TEST(IndexFile, ADamagedFileIsRefusedOrSearchedWithinBounds) {
  const TempDir dir;
  const std::string path = dir / "index.safetensors";
  const Catalogue c = catalogue_of(66'000);
  ASSERT_TRUE(write_index_file(vectors_of(c), path));
  std::string whole(std::filesystem::file_size(path), 0);
  std::ifstream(path, std::ios::binary).read(whole.data(), static_cast<int64_t>(whole.size()));
  std::mt19937 random(7);
  const auto below = [&](size_t n) {
    return std::uniform_int_distribution<size_t>(0, n - 1)(random);
  };
  std::vector<Query> queries(2);
  for (size_t q = 0; q < 2; ++q) queries[q].vector = {c.vectors.data() + q * 60, kDim};
  int refused = 0, searched = 0;
  for (int trial = 0; trial < 200; ++trial) {
    std::string damaged = whole;
    if (trial % 10 == 0) damaged.resize(below(whole.size()));
    const size_t from = trial % 4 == 0 ? 0 : below(damaged.size() + 1);  // often the header
    const size_t reach = std::min<size_t>(damaged.size() - std::min(from, damaged.size()), 600);
    for (int change = 0; change < 4 && reach > 0; ++change) {
      damaged[from + below(reach)] = static_cast<char>(below(256));
    }
    std::ofstream(path, std::ios::binary)
        .write(damaged.data(), static_cast<int64_t>(damaged.size()));
    try {
      const ItemIndex index(c, read_index_file(SafetensorsFile::open(path), vectors_of(c)));
      for (const auto& hits : index.search(queries, 25, {})) {
        for (const auto& hit : hits) ASSERT_TRUE(hit.row >= 0 && hit.row < 66'000);
      }
      ++searched;
    } catch (const Error& e) {
      EXPECT_FALSE(std::string(e.what()).empty());
      ++refused;
    }
  }
  EXPECT_GT(refused, 50);
  EXPECT_GT(searched, 10);
}

}  // namespace
}  // namespace hypertower
