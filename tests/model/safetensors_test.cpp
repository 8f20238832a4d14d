#include "model/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "tests/model/caught.h"
#include "tests/model/temp_dir.h"

namespace hypertower {
namespace {

constexpr const char* kCure = " Copy the file again or export the model again.";

// A file of a header and `data` bytes.
std::string file_of(std::string header, size_t data, bool pad = true) {
  while (pad && header.size() % 8 != 0) header += ' ';
  std::string bytes(8, '\0');
  const uint64_t size = header.size();
  std::memcpy(bytes.data(), &size, 8);
  return bytes + header + std::string(data, '\0');
}

class Safetensors : public testing::Test {
 protected:
  std::string problem(const std::string& bytes) {
    spill(path_, bytes);
    const Caught error = caught([&] { SafetensorsFile::open(path_); });
    EXPECT_EQ(error.kind, ErrorKind::kModel);
    const std::string end = std::string(".") + kCure;
    EXPECT_TRUE(error.message.starts_with(path_ + ": ")) << error.message;
    EXPECT_TRUE(error.message.ends_with(end)) << error.message;
    return error.message.substr(path_.size() + 2,
                                error.message.size() - path_.size() - 2 - end.size());
  }

  TempDir dir_;
  std::string path_ = dir_ / "t.safetensors";
};

TEST_F(Safetensors, RoundTrip) {
  const std::vector<float> floats = {1.5F, -0.0F, std::numeric_limits<float>::denorm_min()};
  const std::vector<double> doubles = {std::nan(""), 1e300};
  const std::vector<int64_t> longs = {std::numeric_limits<int64_t>::min(), 7};
  const std::vector<int32_t> ints = {-1};
  const std::vector<std::string> texts = {"", "a", std::string("b\0c", 3), "\xff"};
  SafetensorsWriter writer;
  writer.add("f", {1, 3}, std::span<const float>(floats));
  writer.add("d", {2}, std::span<const double>(doubles));
  writer.add("l", {2, 1}, std::span<const int64_t>(longs));
  writer.add("i", {}, std::span<const int32_t>(ints));
  writer.add("none", {0, 4}, std::span<const float>());
  writer.add_strings("s", texts);
  writer.write(path_);

  const auto file = SafetensorsFile::open(path_);
  EXPECT_EQ(file->tensors().size(), 7U);
  EXPECT_EQ(std::memcmp(file->floats("f", {-1, 3}).data(), floats.data(), 12), 0);
  EXPECT_EQ(std::memcmp(file->doubles("d", {2}).data(), doubles.data(), 16), 0);
  EXPECT_EQ(file->int64s("l", {2, 1})[0], longs[0]);
  EXPECT_EQ(file->int32s("i", {})[0], -1);
  EXPECT_TRUE(file->floats("none", {-1, 4}).empty());
  EXPECT_EQ(file->strings("s"), texts);
  EXPECT_TRUE(file->has("f"));
  EXPECT_FALSE(file->has("s"));
}

TEST_F(Safetensors, DataIsAlignedAndWithoutHoles) {
  SafetensorsWriter writer;
  const std::vector<float> three(3);
  const std::vector<int64_t> two(2);
  writer.add("a", {3}, std::span<const float>(three));
  writer.add("b", {2}, std::span<const int64_t>(two));
  writer.add_strings("c", std::vector<std::string>{"xyz"});
  writer.write(path_);
  const std::string bytes = slurp(path_);
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ(header % 8, 0U);
  EXPECT_EQ(bytes.size(), 8 + header + 12 + 16 + 3 + 16);
}

TEST_F(Safetensors, TypedAccessNamesWhatDoesNotFit) {
  const std::vector<float> floats = {1, 2, NAN, INFINITY};
  SafetensorsWriter writer;
  writer.add("f", {2, 2}, std::span<const float>(floats));
  writer.write(path_);
  const auto file = SafetensorsFile::open(path_);
  const auto of = [&](const auto& call) { return caught(call).message.substr(path_.size() + 2); };
  EXPECT_EQ(of([&] { file->floats("g", {4}); }), "tensor 'g' is missing." + std::string(kCure));
  EXPECT_EQ(of([&] { file->floats("f", {4}); }),
            "tensor 'f': expected the shape [4], found [2, 2]." + std::string(kCure));
  EXPECT_EQ(of([&] {
              file->floats("f", {-1, 3});
            }),
            "tensor 'f': expected the shape [any, 3], found [2, 2]." + std::string(kCure));
  EXPECT_EQ(of([&] {
              file->int64s("f", {2, 2});
            }),
            "tensor 'f': expected the dtype I64, found F32." + std::string(kCure));
  EXPECT_EQ(of([&] {
              file->floats("f", {2, 2});
            }),
            "tensor 'f' holds NaN at element 2." + std::string(kCure));
}

TEST_F(Safetensors, StringsNeedAscendingOffsets) {
  for (const std::vector<int64_t>& offsets :
       {std::vector<int64_t>{}, {0, 2, 1, 3}, {1, 3}, {0, 4}, {-1, 3}}) {
    SafetensorsWriter writer;
    writer.add_strings("s", std::vector<std::string>{"abc"});
    writer.add("t.offsets", {static_cast<int64_t>(offsets.size())},
               std::span<const int64_t>(offsets));
    writer.write(path_);
    std::string bytes = slurp(path_);
    // The names have one length: s.bytes becomes t.bytes.
    bytes.replace(bytes.find("s.bytes"), 7, "t.bytes");
    spill(path_, bytes);
    const auto file = SafetensorsFile::open(path_);
    EXPECT_TRUE(caught([&] {
                  file->strings("t");
                }).message.find("'t.offsets' does not ascend from 0 to the number of bytes") !=
                std::string::npos);
  }
}

TEST_F(Safetensors, TruncatedFiles) {
  EXPECT_EQ(problem(""), "truncated: the file is empty");
  EXPECT_EQ(problem("1234567"), "truncated: shorter than the 8 bytes of a header length");
  EXPECT_EQ(problem(file_of("{}", 0).substr(0, 12)),
            "truncated: the header is 8 bytes long, the file holds 4");
  EXPECT_EQ(problem(std::string(8, '\xff')),
            "not a safetensors file: its header would be 18446744073709551615 bytes long, "
            "100000000 are allowed");
  EXPECT_EQ(
      problem(file_of(R"({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})", 15)),
      "truncated: tensor 'a' ends at byte 16 of the data, the file holds 15");
}

TEST_F(Safetensors, BrokenHeaders) {
  EXPECT_EQ(problem(file_of("{\"a\": ", 0)), "the header is not valid JSON");
  EXPECT_EQ(problem(file_of("[1, 2]", 0)), "the header is not valid JSON");
  EXPECT_EQ(problem(file_of(R"({"a": 3})", 0)), "tensor 'a' needs dtype, shape and data_offsets");
  EXPECT_EQ(problem(file_of(R"({"a": {"dtype": "F32", "shape": [1]}})", 4)),
            "tensor 'a' needs dtype, shape and data_offsets");
  EXPECT_EQ(problem(file_of(R"({"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}})", 2)),
            "tensor 'a' has the dtype 'F16', but only F32, F64, I32, I64 and U8 are read");
  EXPECT_EQ(problem(file_of(R"({"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}})", 4)),
            "tensor 'a' has no shape");
  EXPECT_EQ(
      problem(file_of(R"({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})", 4)),
      "tensor 'a' has a size that is no whole number below 2^48");
  EXPECT_EQ(
      problem(file_of(
          R"({"a": {"dtype": "U8", "shape": [281474976710656, 281474976710656], "data_offsets": [0, 4]}})",
          4)),
      "tensor 'a' has a shape that overflows");
  EXPECT_EQ(problem(file_of(R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [4, 0]}})", 4)),
            "tensor 'a' needs two ascending data_offsets");
  EXPECT_EQ(problem(file_of(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}})", 4)),
            "tensor 'a' of shape [2] needs 8 bytes, its data_offsets hold 4");
}

TEST_F(Safetensors, OverlapsHolesAndRests) {
  const auto two = [](const char* first, const char* second) {
    return std::string(R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": )") + first +
           R"(}, "b": {"dtype": "U8", "shape": [4], "data_offsets": )" + second + "}}";
  };
  EXPECT_EQ(problem(file_of(two("[0, 4]", "[2, 6]"), 6)), "tensor 'b' overlaps the one before it");
  EXPECT_EQ(problem(file_of(two("[0, 4]", "[0, 4]"), 4)), "tensor 'b' overlaps the one before it");
  EXPECT_EQ(problem(file_of(two("[0, 4]", "[6, 10]"), 10)),
            "there is a hole of 2 bytes before tensor 'b'");
  EXPECT_EQ(problem(file_of(two("[0, 4]", "[4, 8]"), 9)),
            "1 bytes after the last tensor belong to none");
}

TEST_F(Safetensors, ForeignFilesWithMetadataAndOddHeaders) {
  spill(path_, file_of(R"({"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [1],
                          "data_offsets": [0, 4]}})",
                       4, /*pad=*/false));
  std::string bytes = slurp(path_);
  const auto file = SafetensorsFile::open(path_);
  EXPECT_EQ(file->tensors().size(), 1U);
  if ((bytes.size() - 4) % 4 != 0) {
    EXPECT_TRUE(caught([&] {
                  file->floats("a", {1});
                }).message.find("tensor 'a' is not aligned to 4 bytes") != std::string::npos);
  }
}

TEST_F(Safetensors, MissingFileAndFullDisk) {
  EXPECT_EQ(caught([&] { SafetensorsFile::open(path_); }).message,
            path_ + ": cannot be read: No such file or directory." + kCure);
  SafetensorsWriter writer;
  writer.add_strings("s", std::vector<std::string>{"abc"});
  const Caught full = caught([&] { writer.write("/dev/full"); });
  EXPECT_EQ(full.kind, ErrorKind::kIo);
  EXPECT_EQ(full.message, "cannot write '/dev/full': No space left on device.");
}

TEST_F(Safetensors, TheWriterRefusesWhatCannotBeRead) {
  SafetensorsWriter writer;
  const std::vector<float> two(2);
  writer.add("a", {2}, std::span<const float>(two));
  EXPECT_EQ(caught([&] { writer.add("a", {2}, std::span<const float>(two)); }).message,
            "tensor 'a' is added twice");
  EXPECT_EQ(caught([&] { writer.add("b", {3}, std::span<const float>(two)); }).message,
            "tensor 'b': the shape [3] needs 12 bytes, got 8");
}

// Held against the reference implementation where it is installed.
TEST_F(Safetensors, TheReferenceReaderOpensIt) {
  if (std::system("python3 -c 'import safetensors.numpy' 2>/dev/null") != 0) {
    GTEST_SKIP() << "no safetensors package in python3";
  }
  const std::vector<float> floats = {1.5F, -2.0F};
  SafetensorsWriter writer;
  writer.add("f", {2, 1}, std::span<const float>(floats));
  writer.add_strings("s", std::vector<std::string>{"ab"});
  writer.write(path_);
  const std::string program =
      "import safetensors.numpy as s, sys; t = s.load_file(sys.argv[1]); "
      "assert t['f'].tolist() == [[1.5], [-2.0]]; assert bytes(t['s.bytes']) == b'ab'; "
      "assert t['s.offsets'].tolist() == [0, 2]";
  EXPECT_EQ(std::system(("python3 -c \"" + program + "\" " + path_).c_str()), 0);
}

}  // namespace
}  // namespace hypertower
