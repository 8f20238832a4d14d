#include <chrono>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "model/history.h"
#include "model/recommender.h"

namespace hypertower {
namespace {

double now() {
  using Seconds = std::chrono::duration<double>;
  return Seconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

struct PeopleInMemory::State {
  std::mutex mutex;  // guards all below
  std::vector<Person> people;
  std::vector<std::unordered_set<std::string>> event_ids;  // one per person
  std::unordered_map<std::string, size_t> places;

  size_t place_of(const std::string& user) {
    const auto [entry, added] = places.emplace(user, people.size());
    if (added) {
      people.push_back({user, {}, {}});
      event_ids.emplace_back();
    }
    return entry->second;
  }
};

PeopleInMemory::PeopleInMemory(std::vector<Person> people) : state_(std::make_unique<State>()) {
  for (Person& person : people) {
    const size_t place = state_->place_of(person.user);
    state_->people[place] = std::move(person);
  }
}

PeopleInMemory::~PeopleInMemory() = default;

std::optional<Person> PeopleInMemory::find(const std::string& user) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->places.find(user);
  if (found == state_->places.end()) return std::nullopt;
  Person person = state_->people[found->second];
  order_history(person.history);
  return person;
}

int64_t PeopleInMemory::observe(std::span<const Event> events) {
  const std::lock_guard lock(state_->mutex);
  const double moment = now();
  int64_t accepted = 0;
  for (const Event& event : events) {
    const size_t place = state_->place_of(event.user);
    if (!event.id.empty() && !state_->event_ids[place].insert(event.id).second) continue;
    std::vector<HistoryEvent>& history = state_->people[place].history;
    history.push_back(event.what);
    if (!event.what.time) history.back().time = moment;
    ++accepted;
  }
  return accepted;
}

std::vector<Person> PeopleInMemory::snapshot() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<Person> people = state_->people;
  for (Person& person : people) order_history(person.history);
  return people;
}

}  // namespace hypertower
