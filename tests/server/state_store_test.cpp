// The event format and the store: what comes back, what is dropped, what erasing leaves.
#include "server/state_store.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <thread>

#include "kernels/error.h"
#include "tests/server/temporary_directory.h"

namespace hypertower {
namespace {

Event event(const std::string& user, const std::string& item, const std::string& id = {}) {
  Event e;
  e.user = user;
  e.what.item = item;
  e.id = id;
  return e;
}

StateStore::Appended append(StateStore& store, const std::vector<Event>& events) {
  const std::span<const Event> group = events;
  return store.append({&group, 1}).front();
}

std::vector<std::string> items(const StateStore& store, const std::string& user) {
  std::vector<std::string> out;
  for (const StoredEvent& e : store.read(user).events) out.push_back(e.what.item);
  return out;
}

TEST(EventCodec, KeepsEveryField) {
  Event e = event("u", "item", "id-1");
  e.what.kind = "purchase";
  e.what.time = 1.25e9;
  e.what.context = {{"none", {}},
                    {"int", int64_t{-7}},
                    {"real", 2.5},
                    {"text", std::string("caf\xc3\xa9\0x", 7)},
                    {"texts", std::vector<std::string>{"a", "", "b"}},
                    {"reals", std::vector<double>{1, -2.5}}};
  std::string bytes(1, '\0');
  append_event(e, bytes);
  append_event(event("u", "second"), bytes);
  const StoredEvents stored = decode_events(bytes);
  ASSERT_EQ(stored.events.size(), 2U);
  EXPECT_EQ(stored.events[0].id, "id-1");
  EXPECT_EQ(stored.events[0].what.item, "item");
  EXPECT_EQ(stored.events[0].what.kind, "purchase");
  EXPECT_EQ(stored.events[0].what.time, 1.25e9);
  EXPECT_EQ(stored.events[0].what.context, e.what.context);
  EXPECT_EQ(stored.events[1].what.time, std::nullopt);
  EXPECT_EQ(decode_event_ids(bytes), std::vector<std::string>{"id-1"});
}

TEST(EventCodec, RefusesBytesCutShortOrChanged) {
  std::string bytes(1, '\0');
  Event e = event("u", "item", "id");
  e.what.context = {{"a", std::vector<std::string>{"x", "y"}}};
  append_event(e, bytes);
  for (size_t n = 2; n < bytes.size(); ++n) {
    EXPECT_THROW(decode_events(bytes.substr(0, n)), Error) << n;
  }
  std::mt19937 random(1);
  for (int i = 0; i < 5000; ++i) {  // must end, with or without an Error
    std::string changed = bytes;
    changed[random() % changed.size()] = static_cast<char>(random());
    try {
      decode_events(changed);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIo);
    }
  }
}

TEST(EventCodec, ConcatenationKeepsTheLatest) {
  std::string a(1, static_cast<char>(kErased)), b(1, '\0'), joined;
  for (int i = 0; i < 5; ++i) append_event(event("u", "a" + std::to_string(i)), a);
  for (int i = 0; i < 3; ++i) append_event(event("u", "b" + std::to_string(i)), b);
  ASSERT_TRUE(concatenate_events(a, b, 4, joined));
  const StoredEvents stored = decode_events(joined);
  EXPECT_EQ(stored.flags, kErased);
  ASSERT_EQ(stored.events.size(), 4U);
  EXPECT_EQ(stored.events[0].what.item, "a4");
  EXPECT_EQ(stored.events[3].what.item, "b2");
  EXPECT_FALSE(concatenate_events(std::string_view(a).substr(0, 3), b, 4, joined));
}

TEST(StateStore, AppendsAndReadsInOrder) {
  TemporaryDirectory dir;
  StateStore store(dir.path("state"));
  EXPECT_TRUE(store.read("nobody").events.empty());
  EXPECT_EQ(store.seq(), 0U);
  const auto first = append(store, {event("u", "1"), event("v", "2"), event("u", "3")});
  EXPECT_EQ(first.accepted, 3);
  EXPECT_EQ(first.seq, 3U);
  EXPECT_EQ(append(store, {event("u", "1")}).seq, 4U);
  EXPECT_EQ(items(store, "u"), (std::vector<std::string>{"1", "3", "1"}));
  EXPECT_EQ(items(store, "v"), std::vector<std::string>{"2"});
}

TEST(StateStore, GroupsGetTheirOwnResults) {
  TemporaryDirectory dir;
  StateStore store(dir.path("state"));
  const std::vector<Event> a = {event("u", "1", "x"), event("u", "2", "y")};
  const std::vector<Event> b = {event("u", "1", "x")};  // a retry in the same commit
  const std::span<const Event> groups[] = {a, b};
  const auto results = store.append(groups);
  EXPECT_EQ(results[0].accepted, 2);
  EXPECT_EQ(results[0].seq, 2U);
  EXPECT_EQ(results[1].accepted, 0);
  EXPECT_EQ(results[1].duplicates, 1);
  EXPECT_EQ(results[1].seq, 2U);
}

TEST(StateStore, DropsKnownIdsOfTheSamePersonOnly) {
  TemporaryDirectory dir;
  {
    StateStore store(dir.path("state"));
    append(store, {event("u", "1", "x")});
    EXPECT_EQ(append(store, {event("u", "1", "x")}).duplicates, 1);
    EXPECT_EQ(append(store, {event("v", "1", "x")}).accepted, 1);
    EXPECT_EQ(append(store, {event("u", "1")}).accepted, 1);  // no id: never a duplicate
  }
  StateStore again(dir.path("state"));
  EXPECT_EQ(append(again, {event("u", "1", "x")}).duplicates, 1);
  EXPECT_EQ(again.seq(), 3U);
  EXPECT_EQ(items(again, "u").size(), 2U);
}

TEST(StateStore, KeepsTheLatestEventsOnly) {
  TemporaryDirectory dir;
  constexpr int kTotal = 1000;
  for (const int per_call : {1, 300}) {
    StateStore store(dir.path("state" + std::to_string(per_call)));
    std::vector<Event> call;
    for (int i = 0; i < kTotal; ++i) {
      call.push_back(event("u", std::to_string(i)));
      if (static_cast<int>(call.size()) < per_call && i + 1 < kTotal) continue;
      append(store, call);
      call.clear();
    }
    const auto kept = items(store, "u");
    ASSERT_EQ(kept.size(), StateStore::kMaxEvents);
    for (size_t i = 0; i < kept.size(); ++i) {
      EXPECT_EQ(kept[i], std::to_string(kTotal - StateStore::kMaxEvents + i));
    }
  }
}

TEST(StateStore, ReadersSeeWholeCommitsWhileWritersAppend) {
  TemporaryDirectory dir;
  StateStore store(dir.path("state"));
  std::atomic<bool> done{false};
  std::thread reader([&] {
    while (!done) {
      const auto seen = items(store, "u");
      EXPECT_EQ(seen.size() % 2, 0U);
      for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i], std::to_string(i));
    }
  });
  std::vector<std::thread> writers;
  for (int w = 0; w < 2; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < 100; ++i) {
        if (w == 0) {
          append(store, {event("u", std::to_string(2 * i)), event("u", std::to_string(2 * i + 1))});
        } else {
          append(store, {event("other", "1")});
        }
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  done = true;
  reader.join();
  EXPECT_EQ(store.seq(), 300U);
}

std::string all_bytes(const std::string& directory) {
  std::string bytes;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    bytes.append(std::istreambuf_iterator<char>(in), {});
  }
  return bytes;
}

TEST(StateStore, ErasingLeavesNoByteOfThePerson) {
  TemporaryDirectory dir;
  StateStore store(dir.path("state"));
  const std::string secret = "item-that-nobody-may-know";
  for (int i = 0; i < 50; ++i) append(store, {event("somebody-by-name", secret)});
  append(store, {event("v", "stays")});
  EXPECT_NE(all_bytes(dir.path()).find(secret), std::string::npos);
  const auto erased = store.erase("somebody-by-name");
  EXPECT_EQ(erased.events, 50);
  const std::string bytes = all_bytes(dir.path());
  EXPECT_EQ(bytes.find(secret), std::string::npos);
  EXPECT_EQ(bytes.find("somebody-by-name"), std::string::npos);
  EXPECT_TRUE(items(store, "somebody-by-name").empty());
  EXPECT_EQ(store.read("somebody-by-name").flags, kErased);
  EXPECT_EQ(items(store, "v"), std::vector<std::string>{"stays"});
}

TEST(StateStore, AnErasedPersonMayComeBackAsNew) {
  TemporaryDirectory dir;
  {
    StateStore store(dir.path("state"));
    append(store, {event("u", "1", "x")});
    store.erase("u");
    EXPECT_EQ(store.erase("u").events, 0);
    append(store, {event("u", "2")});
  }
  StateStore store(dir.path("state"));
  EXPECT_EQ(items(store, "u"), std::vector<std::string>{"2"});
  EXPECT_EQ(store.read("u").flags, kErased);
}

std::string refusal(const std::string& directory) {
  try {
    StateStore store(directory);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    return error.what();
  }
  return "opened";
}

TEST(StateStore, RefusesADirectoryInUse) {
  TemporaryDirectory dir;
  const std::string path = dir.path("state");
  StateStore store(path);
  EXPECT_EQ(refusal(path), "state directory '" + path +
                               "': in use by another process, or not writable; stop that process "
                               "or choose another directory with --state");
}

TEST(StateStore, RefusesAPathThatIsAFile) {
  TemporaryDirectory dir;
  const std::string path = dir.path("file");
  std::ofstream(path) << "x";
  EXPECT_EQ(refusal(path).find("state directory '" + path + "': cannot create it: "), 0U);
}

}  // namespace
}  // namespace hypertower
