// Small data for the trainer's tests: files in a folder of their own, configs as text, and a
// generated shop whose users prefer one group of items each.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "trainer/train.h"

namespace hypertower::testing {

// A folder that goes away with the test.
class Folder {
 public:
  Folder() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    std::ostringstream name;
    name << "hypertower_" << info->test_suite_name() << "_" << info->name() << "_" << ::getpid();
    path_ = std::filesystem::temp_directory_path() / name.str();
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return (path_ / name).string();
  }
  std::string at(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// Collects what the trainer says.
struct Messages : TrainObserver {
  std::vector<std::string> texts;
  nlohmann::json epochs = nlohmann::json::array();
  void on_message(const std::string& text) override { texts.push_back(text); }
  bool on_epoch(const nlohmann::json& m) override {
    epochs.push_back(m);
    return true;
  }
};

// The message of the Error that `call` throws, "" when it does not.
template <class Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

inline ConfigTree config_of(const std::string& toml) {
  return ConfigTree::from_toml_text(toml, "shop.toml");
}

// 60 users, 40 items in 4 groups; each user walks through the items of one group in a cycle, from a
// place of their own, and every tenth event strays. The next item follows from the last one.
inline std::string shop_events(int events_per_user = 24) {
  std::ostringstream text;
  text << "user_id,item_id,timestamp,weather\n";
  int tick = 0;
  for (int step = 0; step < events_per_user; ++step) {
    for (int user = 0; user < 60; ++user) {
      const int group = user % 4;
      const bool stray = (step * 7 + user * 3) % 10 == 0;
      const int place = stray ? (user * 13 + step * 5) % 40 : group * 10 + (user / 4 + step) % 10;
      text << "u" << user << ",i" << place << "," << 1600000000 + 60 * tick++ << ","
           << (step % 2 == 0 ? "sun" : "rain") << "\n";
    }
  }
  return text.str();
}

inline std::string shop_items() {
  std::ostringstream text;
  text << "item_id,group,price\n";
  for (int i = 0; i < 40; ++i) text << "i" << i << ",g" << i / 10 << "," << 1 + i % 7 << ".5\n";
  return text.str();
}

inline std::string shop_users() {
  std::ostringstream text;
  text << "user_id,age\n";
  for (int u = 0; u < 60; ++u) text << "u" << u << "," << 20 + u % 40 << "\n";
  return text.str();
}

inline const char* kShopConfig = R"(
name = "shop"
[data]
split = "time"
[columns]
user = "user_id"
item = "item_id"
time = "timestamp"
[user.age]
kind = "number"
[item.group]
kind = "category"
[item.price]
kind = "number"
[context.hour]
from = "time"
[context.weather]
kind = "category"
[history]
length = 10
[model]
dim = 16
[training]
epochs = 8
batch_size = 64
threads = 1
device = "cpu"
[evaluation]
k = [5, 10]
)";

inline TrainData shop_data(const Folder& folder) {
  TrainData data;
  data.events.path = folder.write("events.csv", shop_events());
  data.items.path = folder.write("items.csv", shop_items());
  data.users.path = folder.write("users.csv", shop_users());
  return data;
}

}  // namespace hypertower::testing
