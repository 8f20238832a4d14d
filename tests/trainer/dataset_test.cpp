#include "trainer/dataset.h"

#include <gtest/gtest.h>

#include "tests/trainer/support.h"

namespace hypertower {
namespace {

using testing::error_of;
using testing::Folder;
using testing::Messages;

const char* kColumns = "[columns]\nuser = \"user_id\"\nitem = \"item_id\"\ntime = \"timestamp\"\n";

struct Files {
  std::string events = "user_id,item_id,timestamp\na,x,3\nb,y,1\na,y,2\nb,x,4\n";
  std::string items;
  std::string users;
};

Dataset load(const Folder& folder, const Files& files, const std::string& toml,
             TrainObserver& observer) {
  const ConfigTree config = testing::config_of(toml);
  TrainData data;
  data.events.path = folder.write("events.csv", files.events);
  if (!files.items.empty()) data.items.path = folder.write("items.csv", files.items);
  if (!files.users.empty()) data.users.path = folder.write("users.csv", files.users);
  return load_dataset(Schema::from_config(config), TrainerConfig::from_config(config).data, data,
                      observer);
}

// The complaint about these files, with the folder's name cut out.
std::string complaint(const Files& files, const std::string& toml) {
  const Folder folder;
  Messages messages;
  std::string text = error_of([&] { load(folder, files, toml, messages); });
  const std::string path = folder.at("");
  for (size_t at; (at = text.find(path)) != std::string::npos;) text.erase(at, path.size());
  return text;
}

std::string last_split() {
  return "[data]\nsplit = \"last\"\n" + std::string(kColumns);
}

TEST(LoadDataset, SortsByTimeAndNumbersIds) {
  const Folder folder;
  Messages messages;
  const Dataset d = load(folder, {}, last_split(), messages);
  EXPECT_EQ(d.users.ids(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(d.events.user, (std::vector<int64_t>{1, 0, 0, 1}));
  EXPECT_EQ(d.events.item, (std::vector<int64_t>{1, 1, 0, 0}));
  EXPECT_EQ(d.events.time, (std::vector<double>{1, 2, 3, 4}));
  ASSERT_FALSE(messages.texts.empty());
  EXPECT_NE(messages.texts[0].find("is not in time order; sorted by 'timestamp'."),
            std::string::npos);
}

TEST(LoadDataset, EncodesFeaturesAndAttributes) {
  const Folder folder;
  Messages messages;
  Files files;
  files.items = "item_id,genres,price\nx,A|B,1.5\ny,,\nz,B,2\n";
  files.users = "user_id,age\nc,30\na,20\n";
  const Dataset d = load(folder, files,
                         last_split() +
                             "[user.age]\nkind = \"number\"\n[item.genres]\nkind = \"categories\"\n"
                             "separator = \"|\"\n[item.price]\nkind = \"number\"\n"
                             "[context.hour]\nfrom = \"time\"\n",
                         messages);
  EXPECT_EQ(d.items.ids(), (std::vector<std::string>{"x", "y", "z"}));
  EXPECT_EQ(d.item_features.columns[0].offsets, (std::vector<int64_t>{0, 2, 2, 3}));
  EXPECT_TRUE(std::isnan(d.item_features.columns[1].dense[1]));
  EXPECT_EQ(d.users.ids(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(d.user_features.columns[0].dense[0], 20.0F);
  EXPECT_TRUE(std::isnan(d.user_features.columns[0].dense[1]));
  EXPECT_EQ(d.user_records[2], (Record{{"age", Value(30.0)}}));
  EXPECT_EQ(d.events.context.columns[0].values.size(), 4U);
  ASSERT_EQ(d.attributes.size(), 2U);
  EXPECT_EQ(d.attributes[0].offsets, (std::vector<int64_t>{0, 2, 2, 3}));
  EXPECT_EQ(d.attributes[1].numbers[2], 2.0);
}

TEST(LoadDataset, KeepsOrDropsUnknownItems) {
  Files files;
  files.items = "item_id\nx\nw\n";
  const Folder folder;
  Messages kept;
  const Dataset with = load(folder, files, last_split(), kept);
  EXPECT_EQ(with.items.size(), 3);
  EXPECT_EQ(with.counts["unknown_item_events"], 2);
  EXPECT_NE(kept.texts[0].find("2 events name 1 items that "), std::string::npos);
  EXPECT_NE(kept.texts[0].find("kept, without features (data.unknown_items = \"keep\")."),
            std::string::npos);
  Messages dropped;
  const Dataset without =
      load(folder, files,
           "[data]\nsplit = \"last\"\nunknown_items = \"drop\"\n" + std::string(kColumns), dropped);
  EXPECT_EQ(without.events.size(), 2);
  EXPECT_EQ(without.items.size(), 2);
}

TEST(LoadDataset, OrdersByPositionAndRowWithoutTime) {
  const Folder folder;
  Messages messages;
  Files files;
  files.events = "user_id,item_id,place\na,x,2\na,y,1\na,z,0\n";
  const Dataset placed = load(folder, files,
                              "[data]\nsplit = \"last\"\n[columns]\nuser = \"user_id\"\nitem = "
                              "\"item_id\"\nposition = \"place\"\n",
                              messages);
  EXPECT_EQ(placed.events.item, (std::vector<int64_t>{2, 1, 0}));
  EXPECT_TRUE(placed.events.time.empty());
  const Dataset rows = load(folder, files,
                            "[data]\nsplit = \"last\"\n[columns]\nuser = \"user_id\"\nitem = "
                            "\"item_id\"\n",
                            messages);
  EXPECT_EQ(rows.events.item, (std::vector<int64_t>{0, 1, 2}));
}

TEST(LoadDataset, KeepsSessionsOfDifferentFilesApart) {
  const Folder folder;
  Messages messages;
  const ConfigTree config = testing::config_of(
      "[data]\nsplit = \"given\"\nsessions = true\n[columns]\nuser = \"s\"\nitem = \"i\"\n"
      "position = \"p\"\n");
  TrainData data;
  data.events.path = folder.write("train.csv", "s,i,p\n0,x,0\n0,y,1\n");
  data.test.path = folder.write("test.csv", "s,i,p\n0,y,0\n0,x,1\n");
  const Dataset d = load_dataset(Schema::from_config(config),
                                 TrainerConfig::from_config(config).data, data, messages);
  EXPECT_EQ(d.users.ids(), (std::vector<std::string>{"0", "test:0"}));
  EXPECT_EQ(d.events.user, (std::vector<int64_t>{0, 0, 1, 1}));
  EXPECT_EQ(d.events.order, (std::vector<double>{0, 1, 2, 3}));
  EXPECT_EQ(d.count(Part::kTest), 2);
}

TEST(BadData, ColumnsAndCells) {
  EXPECT_EQ(complaint({"userid,item_id,timestamp\na,x,1\n", "", ""}, last_split()),
            "events.csv: no column 'user_id', which columns.user names. Did you mean 'userid'?");
  EXPECT_EQ(complaint({"user_id,item_id,timestamp\na,x,1\na,,2\n", "", ""}, last_split()),
            "events.csv:3: column 'item_id' must be a number or text, got an empty cell.");
  EXPECT_EQ(complaint({"user_id,item_id,timestamp\na,x,soon\n", "", ""}, last_split()),
            "events.csv:2: column 'timestamp' must be a time (seconds or ISO 8601), got 'soon'.");
  EXPECT_EQ(complaint({"user_id,item_id,timestamp\na,x,\n", "", ""}, last_split()),
            "events.csv:2: column 'timestamp' must be a time (seconds or ISO 8601), got an empty "
            "cell.");
  EXPECT_EQ(complaint({"user_id,item_id,timestamp\na,x,1625022948000\n", "", ""}, last_split()),
            "events.csv:2: column 'timestamp' must be seconds since 1970, got 1625022948000; are "
            "these milliseconds?");
  EXPECT_EQ(complaint({"user_id,item_id,timestamp\na,x,1\na,y,nan\n", "", ""}, last_split()),
            "events.csv:3: column 'timestamp' must be a time (seconds or ISO 8601), got NaN.");
  EXPECT_EQ(
      complaint({"user_id,item_id,timestamp\na,x,-inf\na,y,2\n", "", ""}, last_split()),
      "events.csv:2: column 'timestamp' must be a time (seconds or ISO 8601), got -infinity.");
  EXPECT_EQ(complaint({"user_id,item_id,timestamp\na,5,1\na,1e999,2\n", "", ""}, last_split()),
            "events.csv:3: column 'item_id' must be a number or text, got infinity.");
}

TEST(BadData, AFeatureOfATableThatWasNotGiven) {
  EXPECT_EQ(complaint({}, last_split() + "[item.price]\nkind = \"number\"\n"),
            "events.csv: no column 'price', which item.price names. Known: user_id, item_id, "
            "timestamp. If it is in another table, set [data] items or pass items=.");
  EXPECT_EQ(complaint({}, last_split() + "[user.age]\nkind = \"category\"\n"),
            "events.csv: no column 'age', which user.age names. Known: user_id, item_id, "
            "timestamp. If it is in another table, set [data] users or pass users=.");
  EXPECT_EQ(complaint({Files{}.events, "item_id,cost\nx,1\ny,2\n", ""},
                      last_split() + "[item.price]\nkind = \"number\"\n"),
            "items.csv: no column 'price', which item.price names. Known: item_id, cost.");
}

TEST(BadData, NumbersThatAreNone) {
  const std::string toml = last_split() + "[item.price]\nkind = \"number\"\n";
  EXPECT_EQ(complaint({Files{}.events, "item_id,price\nx,cheap\ny,2\n", ""}, toml),
            "items.csv:2: column 'price' (item.price) must hold numbers, got 'cheap'; 1 of its 2 "
            "filled cells are no numbers. Clean them or set kind = \"category\".");
  EXPECT_EQ(complaint({Files{}.events, "item_id,price\nx,1\ny,-inf\n", ""}, toml),
            "items.csv:3, column 'price': item.price: expected a finite number, got -infinity; "
            "leave it empty where it is not known.");
}

TEST(BadData, AFewWordsAmongNumbersCountAsMissing) {
  std::string items = "item_id,price\nx,1\ny,unkonwn\n";
  for (int i = 0; i < 200; ++i) items += "i" + std::to_string(i) + ",2\n";
  const Folder folder;
  Messages messages;
  const Dataset d = load(folder, {Files{}.events, items, ""},
                         last_split() + "[item.price]\nkind = \"number\"\n", messages);
  EXPECT_TRUE(std::isnan(d.item_features.columns[0].dense[1]));
  const std::string file = folder.at("items.csv");
  EXPECT_EQ(messages.texts[1], file +
                                   ": 1 of 202 cells of column 'price' are no numbers and count "
                                   "as missing (the first: 'unkonwn' at " +
                                   file + ":3).");
}

TEST(BadData, NaNCountsAsMissing) {
  const Folder folder;
  Messages messages;
  const Dataset d = load(folder, {Files{}.events, "item_id,price\nx,nan\ny,2\nz,NaN\nw,\n", ""},
                         last_split() + "[item.price]\nkind = \"number\"\n", messages);
  for (const size_t row : {0, 2, 3}) {
    EXPECT_TRUE(std::isnan(d.item_features.columns[0].dense[row]));
  }
  const std::string file = folder.at("items.csv");
  EXPECT_EQ(messages.texts[1], file +
                                   ": 2 of 3 cells of column 'price' are no numbers and count as "
                                   "missing (the first: 'nan' at " +
                                   file + ":2).");
}

TEST(BadData, IdsThatComeTwice) {
  EXPECT_EQ(complaint({Files{}.events, "item_id\nx\ny\nx\n", ""}, last_split()),
            "items.csv:4: item 'x' came before, at items.csv:2; ids must be distinct.");
  EXPECT_EQ(complaint({Files{}.events, "", "user_id\na\na\n"}, last_split()),
            "users.csv:3: user 'a' came before, at users.csv:2; ids must be distinct.");
}

TEST(BadData, TooLittleOfIt) {
  EXPECT_EQ(complaint({"user_id,item_id,timestamp\na,x,1\nb,x,2\n", "", ""}, last_split()),
            "events.csv: all 2 events are about the one item 'x'; ranking needs at least two.");
  const Folder folder;
  Messages messages;
  load(folder, {"user_id,item_id,timestamp\na,x,1\na,y,2\n", "", ""}, last_split(), messages);
  EXPECT_EQ(messages.texts[0],
            "All 2 events are of the one user 'a': what is learned holds for that user alone.");
  EXPECT_EQ(
      complaint({Files{}.events, "item_id\nq\nr\n", ""},
                "[data]\nsplit = \"last\"\nunknown_items = \"drop\"\n" + std::string(kColumns)),
      "events.csv: none of its items is in items.csv; is columns.item the same id in both?");
}

TEST(BadData, SplitsWithoutWhatTheyNeed) {
  const std::string no_time = "[columns]\nuser = \"user_id\"\nitem = \"item_id\"\n";
  EXPECT_EQ(complaint({}, no_time),
            "data.split = \"time\" needs the time of every event: name its column as time under "
            "[columns], or use split = \"last\".");
  EXPECT_EQ(complaint({}, "[data]\nsplit = \"given\"\n" + no_time),
            "data.split = \"given\" needs the files valid or test under [data], or a column named "
            "as split under [columns].");
  EXPECT_EQ(complaint({"user_id,item_id,part\na,x,train\na,y,tset\n", "", ""},
                      "[data]\nsplit = \"given\"\n" + no_time + "split = \"part\"\n"),
            "events.csv:3: column 'part' must be 'train', 'valid' or 'test', got 'tset'.");
}

TEST(BadData, AnOutcomeIsNoInput) {
  const std::string message =
      complaint({}, last_split() + "[outcome.mood]\n[context.mood]\nkind = \"category\"\n");
  EXPECT_NE(message.find("mood"), std::string::npos);
  EXPECT_NE(message.find("outcome"), std::string::npos);
}

}  // namespace
}  // namespace hypertower
