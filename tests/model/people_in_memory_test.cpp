#include <gtest/gtest.h>

#include "model/recommender.h"

namespace hypertower {
namespace {

Event event(const std::string& user, const std::string& item, const std::string& id = {}) {
  Event e;
  e.user = user;
  e.what.item = item;
  e.id = id;
  return e;
}

TEST(PeopleInMemory, FindsWhoIsKnown) {
  const PeopleInMemory people({{"ann", {{"age", int64_t{3}}}, {{"a", "", {}, {}}}}});
  ASSERT_TRUE(people.find("ann").has_value());
  EXPECT_EQ(people.find("ann")->history.size(), 1U);
  EXPECT_FALSE(people.find("bob").has_value());
}

TEST(PeopleInMemory, ObservesInOrderAndMakesNewPeople) {
  PeopleInMemory people({{"ann", {}, {{"a", "", {}, {}}}}});
  const Event events[] = {event("ann", "b"), event("bob", "x"), event("ann", "b")};
  EXPECT_EQ(people.observe(events), 3);
  std::vector<std::string> items;
  const std::optional<Person> ann = people.find("ann");
  for (const HistoryEvent& e : ann->history) items.push_back(e.item);
  EXPECT_EQ(items, (std::vector<std::string>{"a", "b", "b"}));
  EXPECT_EQ(people.find("bob")->history.size(), 1U);
}

TEST(PeopleInMemory, GivesAHistoryInTheOrderOfTime) {
  PeopleInMemory people({{"ann", {}, {{"trained", "", 15.0, {}}}}});
  Event late = event("ann", "late"), early = event("ann", "early");
  late.what.time = 20.0;
  early.what.time = 10.0;
  const Event events[] = {late, event("ann", "now"), early};
  EXPECT_EQ(people.observe(events), 3);
  for (const Person& ann : {*people.find("ann"), people.snapshot().front()}) {
    std::vector<std::string> items;
    for (const HistoryEvent& e : ann.history) items.push_back(e.item);
    EXPECT_EQ(items, (std::vector<std::string>{"early", "trained", "late", "now"}));
    EXPECT_GT(ann.history.back().time, 1.7e9);  // an event without a time happens now
  }
}

TEST(PeopleInMemory, DropsAnEventThatCameBefore) {
  PeopleInMemory people({});
  const Event events[] = {event("ann", "a", "1"), event("ann", "a", "1"), event("bob", "a", "1")};
  EXPECT_EQ(people.observe(events), 2);
  EXPECT_EQ(people.observe(events), 0);
  EXPECT_EQ(people.find("ann")->history.size(), 1U);
}

TEST(PeopleInMemory, SnapshotsKeepTheOrderOfArrival) {
  PeopleInMemory people({{"z", {}, {}}, {"a", {}, {}}});
  const Event late = event("m", "x");
  people.observe({&late, 1});
  std::vector<std::string> users;
  for (const Person& p : people.snapshot()) users.push_back(p.user);
  EXPECT_EQ(users, (std::vector<std::string>{"z", "a", "m"}));
}

}  // namespace
}  // namespace hypertower
