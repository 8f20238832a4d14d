#include "trainer/table.h"

#include <arrow/api.h>
#include <arrow/io/api.h>
#include <arrow/util/compression.h>
#include <gtest/gtest.h>
#include <parquet/arrow/writer.h>

#include "tests/trainer/support.h"
#include "trainer/cells.h"

namespace hypertower {
namespace {

using testing::error_of;
using testing::Folder;

const std::vector<std::string> kWanted = {"a", "b", "c"};

SourceTable read(const std::string& path, char separator = ',') {
  return SourceTable::read({.path = path, .table = nullptr}, "events", kWanted, separator);
}

std::string gzip(const std::string& text) {
  auto codec = arrow::util::Codec::Create(arrow::Compression::GZIP).ValueOrDie();
  std::string out(
      static_cast<size_t>(codec->MaxCompressedLen(static_cast<int64_t>(text.size()),
                                                  reinterpret_cast<const uint8_t*>(text.data()))),
      '\0');
  const auto size = codec->Compress(
      static_cast<int64_t>(text.size()), reinterpret_cast<const uint8_t*>(text.data()),
      static_cast<int64_t>(out.size()), reinterpret_cast<uint8_t*>(out.data()));
  out.resize(static_cast<size_t>(size.ValueOrDie()));
  return out;
}

TEST(Csv, TypesWholeColumns) {
  const Folder folder;
  const SourceTable t = read(folder.write("t.csv", "a,b,c\n1,1.5,007\n,2,8\n-3,nan,9\n"));
  EXPECT_EQ(t.column("a", "x").cell(0), Value(int64_t{1}));
  EXPECT_TRUE(is_missing(t.column("a", "x").cell(1)));
  EXPECT_EQ(t.column("b", "x").cell(1), Value(2.0));
  EXPECT_TRUE(std::isnan(std::get<double>(t.column("b", "x").cell(2))));
  EXPECT_EQ(t.column("c", "x").cell(1), Value(std::string("8")));
  EXPECT_EQ(t.column("c", "x").cell(0), Value(std::string("007")));
}

TEST(Csv, OnlyAnEmptyCellIsMissing) {
  const Folder folder;
  const SourceTable t = read(folder.write("t.csv", "a,b\nNA,null\n,x\n"));
  EXPECT_EQ(t.column("a", "x").cell(0), Value(std::string("NA")));
  EXPECT_TRUE(is_missing(t.column("a", "x").cell(1)));
}

TEST(Csv, ReadsGzipQuotesByteOrderMarkAndGlobs) {
  const Folder folder;
  folder.write("p1.csv.gz", gzip("\xEF\xBB\xBF"
                                 "a,\"b\"\r\n1,\"x,y\"\r\n"));
  folder.write("p2.csv.gz", gzip("a,b\n2,z\n3,w\n"));
  const SourceTable t = read(folder.at("p*.csv.gz"));
  ASSERT_EQ(t.rows(), 3);
  EXPECT_EQ(t.column("b", "x").cell(0), Value(std::string("x,y")));
  EXPECT_EQ(t.column("a", "x").cell(2), Value(int64_t{3}));
  EXPECT_EQ(t.where(0), folder.at("p1.csv.gz") + ":2");
  EXPECT_EQ(t.where(2), folder.at("p2.csv.gz") + ":3");
}

TEST(Csv, SaysWhatIsWrongWithAFile) {
  const Folder folder;
  folder.write("events.csv", "a\n1\n");
  EXPECT_EQ(
      error_of([&] { read(folder.at("event.csv")); }),
      "File '" + folder.at("event.csv") + "' (events) does not exist. Did you mean 'events.csv'?");
  EXPECT_EQ(error_of([&] { read(folder.at("x*.csv")); }),
            "No file matches '" + folder.at("x*.csv") + "' (events).");
  const std::string here = std::filesystem::current_path().string();
  EXPECT_EQ(error_of([&] { read("no/such.csv"); }),
            "File 'no/such.csv' (events) does not exist; looked in the folder '" + here + "/no'.");
  const ConfigTree config = testing::config_of("[data]\nevents = \"nope.csv\"\n");
  const DataSource nope = data_from_config(config, "no").events;
  EXPECT_EQ(error_of([&] { SourceTable::read(nope, "events", kWanted, ','); }),
            "File 'no/nope.csv' (events) does not exist; looked in the folder '" + here +
                "/no'. --data DIR names another folder.");
  const std::string empty = folder.write("empty.csv", "");
  EXPECT_EQ(error_of([&] { read(empty); }),
            empty + ": the file is empty; a header line with column names was expected.");
  const std::string header = folder.write("header.csv", "a,b\n");
  EXPECT_EQ(error_of([&] { read(header); }), header + ": has column names but no rows.");
  const std::string semicolon = folder.write("semi.csv", "a;b;c\n1;2;3\n");
  EXPECT_EQ(error_of([&] { read(semicolon); }),
            semicolon +
                ": expected columns separated by ',', got the single column 'a;b;c'; set "
                "separator = \";\" under [data].");
  EXPECT_EQ(read(semicolon, ';').rows(), 1);
  const std::string ragged = folder.write("ragged.csv", "a,b\n1,2\n3\n");
  const std::string message = error_of([&] { read(ragged); });
  EXPECT_NE(message.find(ragged + ": cannot be read"), std::string::npos) << message;
  EXPECT_NE(message.find("Row #3"), std::string::npos) << message;
  EXPECT_NE(message.find("Complete the row, or quote a cell"), std::string::npos) << message;
}

TEST(Csv, NamesTheNearestColumn) {
  const Folder folder;
  const std::string path = folder.write("t.csv", "user_id,b\n1,2\n");
  const SourceTable t = read(path);
  EXPECT_EQ(error_of([&] { t.column("userid", "columns.user"); }),
            path + ": no column 'userid', which columns.user names. Did you mean 'user_id'?");
}

TEST(ArrowTables, GiveValuesOfEveryType) {
  arrow::Int32Builder ints;
  arrow::TimestampBuilder times(arrow::timestamp(arrow::TimeUnit::MILLI),
                                arrow::default_memory_pool());
  auto words = std::make_shared<arrow::StringBuilder>();
  arrow::ListBuilder lists(arrow::default_memory_pool(), words);
  ASSERT_TRUE(ints.Append(7).ok() && ints.AppendNull().ok());
  ASSERT_TRUE(times.Append(1500).ok() && times.Append(-1000).ok());
  ASSERT_TRUE(lists.Append().ok() && words->Append("x").ok() && words->Append("y").ok());
  ASSERT_TRUE(lists.Append().ok());
  const auto table = arrow::Table::Make(
      arrow::schema({arrow::field("a", arrow::int32()),
                     arrow::field("b", arrow::timestamp(arrow::TimeUnit::MILLI)),
                     arrow::field("c", arrow::list(arrow::utf8()))}),
      {ints.Finish().ValueOrDie(), times.Finish().ValueOrDie(), lists.Finish().ValueOrDie()});
  const SourceTable t = SourceTable::read({.path = "", .table = table}, "events", kWanted, ',');
  EXPECT_EQ(t.column("a", "x").cell(0), Value(int64_t{7}));
  EXPECT_TRUE(is_missing(t.column("a", "x").cell(1)));
  EXPECT_EQ(seconds_from(t.column("b", "x").cell(0)), 1.5);
  EXPECT_EQ(seconds_from(t.column("b", "x").cell(1)), -1.0);
  EXPECT_EQ(t.column("c", "x").cell(0), Value(std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(t.where(1), "the events table, row 1");

  const Folder folder;
  const auto out = arrow::io::FileOutputStream::Open(folder.at("t.parquet")).ValueOrDie();
  ASSERT_TRUE(parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), out).ok());
  ASSERT_TRUE(out->Close().ok());
  const SourceTable p = read(folder.at("t.parquet"));
  EXPECT_EQ(p.column("a", "x").cell(0), Value(int64_t{7}));
  EXPECT_EQ(p.column("c", "x").cell(0), Value(std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(p.where(1), folder.at("t.parquet") + ", row 1");
}

TEST(ArrowTables, NaNIsAMissingValueOfAFeature) {
  arrow::DoubleBuilder builder;
  ASSERT_TRUE(builder.AppendValues({1.5, std::nan(""), 2.0}).ok() && builder.AppendNull().ok());
  const auto array = builder.Finish().ValueOrDie();
  const auto table = arrow::Table::Make(arrow::schema({arrow::field("a", array->type())}), {array});
  const SourceTable t = SourceTable::read({.path = "", .table = table}, "items", kWanted, ',');
  for (const FeatureKind kind : {FeatureKind::kNumber, FeatureKind::kCategory}) {
    Feature feature;
    feature.kind = kind;
    EXPECT_FALSE(is_missing(cell_for(feature, t.column("a", "x"), 0)));
    EXPECT_TRUE(is_missing(cell_for(feature, t.column("a", "x"), 1)));
    EXPECT_TRUE(is_missing(cell_for(feature, t.column("a", "x"), 3)));
  }
  Feature price;
  price.group = Group::kItem;
  price.name = "price";
  price.column = "a";
  price.kind = FeatureKind::kNumber;
  testing::Messages messages;
  check_numbers(t, price, messages);
  EXPECT_EQ(messages.texts, std::vector<std::string>{
                                "the items table: 1 of 3 cells of column 'a' are no numbers and "
                                "count as missing (the first: NaN at the items table, row 1)."});
}

TEST(SecondsFrom, ReadsIsoTimes) {
  const auto seconds = [](const char* text) { return seconds_from(Value(std::string(text))); };
  EXPECT_EQ(seconds("1970-01-02"), 86400.0);
  EXPECT_EQ(seconds("2017-01-28 14:06:53"), 1485612413.0);
  EXPECT_EQ(seconds("2017-01-28T14:06:53.25Z"), 1485612413.25);
  EXPECT_EQ(seconds("2017-01-28T23:06:53+09:00"), 1485612413.0);
  EXPECT_EQ(seconds("1969-12-31 23:59"), -60.0);
  EXPECT_EQ(seconds("yesterday"), std::nullopt);
  EXPECT_EQ(seconds("2017-13-01"), std::nullopt);
  EXPECT_EQ(seconds_from(Value(int64_t{5})), 5.0);
  EXPECT_EQ(seconds_from(Value{}), std::nullopt);
}

}  // namespace
}  // namespace hypertower
