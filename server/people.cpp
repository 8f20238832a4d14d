#include "server/people.h"

#include <algorithm>
#include <set>
#include <utility>

#include "model/history.h"

namespace hypertower {

std::optional<Person> LivePeople::find(const std::string& user) const {
  StoredEvents stored = store_.read(user);
  const Person* trained = (stored.flags & kErased) ? nullptr : snapshot_.person(user);
  if (trained == nullptr && stored.events.empty()) return std::nullopt;

  Person person;
  if (trained != nullptr) person = *trained;
  person.user = user;
  std::set<std::pair<std::string_view, double>> known;
  if (!stored.events.empty() && trained != nullptr) {
    for (const HistoryEvent& event : trained->history) {
      if (event.time) known.emplace(event.item, *event.time);
    }
  }
  for (StoredEvent& event : stored.events) {
    if (event.what.time && known.contains({event.what.item, *event.what.time})) continue;
    person.history.push_back(std::move(event.what));
  }
  order_history(person.history);
  return person;
}

}  // namespace hypertower
