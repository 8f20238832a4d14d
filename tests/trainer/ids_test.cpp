// Ids go out as they came in: what the table says of their type holds, only a CSV is guessed.
#include <arrow/api.h>
#include <gtest/gtest.h>

#include "tests/trainer/support.h"
#include "trainer/dataset.h"

namespace hypertower {
namespace {

using testing::Folder;
using testing::Messages;

std::shared_ptr<arrow::Array> texts(const std::vector<std::string>& values) {
  arrow::StringBuilder builder;
  EXPECT_TRUE(builder.AppendValues(values).ok());
  return builder.Finish().ValueOrDie();
}

std::shared_ptr<arrow::Array> integers(const std::vector<int64_t>& values) {
  arrow::Int64Builder builder;
  EXPECT_TRUE(builder.AppendValues(values).ok());
  return builder.Finish().ValueOrDie();
}

// The values of `dictionary` at 0, 1, 0.
std::shared_ptr<arrow::Array> dictionary_of(const std::shared_ptr<arrow::Array>& dictionary) {
  arrow::Int32Builder builder;
  EXPECT_TRUE(builder.AppendValues({0, 1, 0}).ok());
  const auto indices = builder.Finish().ValueOrDie();
  const auto type = arrow::dictionary(arrow::int32(), dictionary->type());
  return arrow::DictionaryArray::FromArrays(type, indices, dictionary).ValueOrDie();
}

DataSource table(
    const std::vector<std::pair<std::string, std::shared_ptr<arrow::Array>>>& columns) {
  std::vector<std::shared_ptr<arrow::Field>> fields;
  std::vector<std::shared_ptr<arrow::Array>> arrays;
  for (const auto& [name, array] : columns) {
    fields.push_back(arrow::field(name, array->type()));
    arrays.push_back(array);
  }
  return {.path = "", .table = arrow::Table::Make(arrow::schema(fields), arrays)};
}

Dataset load(const TrainData& data) {
  const ConfigTree config =
      testing::config_of("[data]\nsplit = \"last\"\n[columns]\nuser = \"user\"\nitem = \"item\"\n");
  Messages messages;
  return load_dataset(Schema::from_config(config), TrainerConfig::from_config(config).data, data,
                      messages);
}

Dataset load_events(const std::shared_ptr<arrow::Array>& users,
                    const std::shared_ptr<arrow::Array>& items) {
  TrainData data;
  data.events = table({{"user", users}, {"item", items}});
  return load(data);
}

TEST(Ids, TextStaysTextWhateverItLooksLike) {
  const Dataset d = load_events(texts({"0", "1", "0"}), texts({"0", "1", "1"}));
  EXPECT_FALSE(d.users.all_integers());
  EXPECT_FALSE(d.items.all_integers());
  EXPECT_EQ(d.items.ids(), (std::vector<std::string>{"0", "1"}));
}

TEST(Ids, IntegersStayIntegers) {
  const int64_t largest = std::numeric_limits<int64_t>::max();
  const Dataset d = load_events(integers({0, -1, 0}), integers({largest, 1, 1}));
  EXPECT_TRUE(d.users.all_integers());
  EXPECT_TRUE(d.items.all_integers());
  EXPECT_EQ(d.items.ids()[0], "9223372036854775807");
}

TEST(Ids, UsersAndItemsAreToldApart) {
  const Dataset d = load_events(texts({"0", "1", "0"}), integers({0, 1, 1}));
  EXPECT_FALSE(d.users.all_integers());
  EXPECT_TRUE(d.items.all_integers());
}

TEST(Ids, OfADictionaryAreWhatItsValuesAre) {
  const Dataset d = load_events(dictionary_of(texts({"0", "1"})), dictionary_of(integers({0, 1})));
  EXPECT_FALSE(d.users.all_integers());
  EXPECT_TRUE(d.items.all_integers());
}

TEST(Ids, TextInAnyTableIsText) {
  TrainData data;
  data.events = table({{"user", integers({0, 1, 0})}, {"item", integers({0, 1, 1})}});
  data.items = table({{"item", texts({"0", "1"})}});
  data.users = table({{"user", texts({"0", "1"})}});
  const Dataset d = load(data);
  EXPECT_FALSE(d.users.all_integers());
  EXPECT_FALSE(d.items.all_integers());
}

TEST(Ids, OfACsvAreGuessed) {
  const Folder folder;
  TrainData data;
  data.events.path = folder.write("events.csv", "user,item\n0,a\n1,1\n0,1\n");
  const Dataset d = load(data);
  EXPECT_TRUE(d.users.all_integers());
  EXPECT_FALSE(d.items.all_integers());
}

}  // namespace
}  // namespace hypertower
