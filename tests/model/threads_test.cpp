// One recommender and one store of people, used by eight threads at once.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "model/json.h"
#include "model/recommender.h"
#include "tests/model/random_model.h"

namespace hypertower {
namespace {

constexpr int kThreads = 8;
constexpr int kRounds = 40;

TEST(Threads, AnswersDoNotDependOnCompany) {
  const Recommender rec{random_model()};
  std::vector<Request> requests;
  for (int i = 0; i < 12; ++i) {
    requests.push_back(request_from_json({{"time", 3600 * i},
                                          {"history", {{{"item", "i" + std::to_string(i)}}}},
                                          {"where", {{"genres", {"g" + std::to_string(i % 5)}}}}}));
  }
  RecommendOptions options;
  options.exclude_seen = true;
  const std::vector<Answer> expected = rec.recommend(requests, options, nullptr, {});
  std::atomic<int> wrong{0};
  const auto work = [&](int thread) {
    Exec exec;
    exec.threads = 1 + thread % 2;
    for (int round = 0; round < kRounds; ++round) {
      const auto found = rec.recommend(requests, options, nullptr, exec);
      const std::vector<std::string> items = {"i1"};
      rec.similar(items, 3, std::nullopt, exec);
      rec.encode_items(items, {}, exec);
      for (size_t r = 0; r < found.size(); ++r) {
        if (found[r].hits.size() != expected[r].hits.size()) ++wrong;
        for (size_t j = 0; j < found[r].hits.size(); ++j) {
          if (found[r].hits[j].row != expected[r].hits[j].row) ++wrong;
        }
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) threads.emplace_back(work, t);
  }
  EXPECT_EQ(wrong, 0);
}

TEST(Threads, EveryObservedEventIsKeptOnce) {
  const Recommender rec{random_model()};
  PeopleInMemory people({});
  const auto work = [&](int thread) {
    for (int i = 0; i < kRounds; ++i) {
      Event event;
      event.user = "u" + std::to_string(i % 3);
      event.what.item = "i" + std::to_string(i);
      event.id = std::to_string(i);  // the same in every thread
      people.observe({&event, 1});
      event.id = std::to_string(thread) + "/" + std::to_string(i);
      people.observe({&event, 1});
      const Request request = request_from_json({{"user", event.user}});
      rec.recommend({&request, 1}, {}, &people, {});
      people.snapshot();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) threads.emplace_back(work, t);
  }
  size_t events = 0;
  for (const Person& person : people.snapshot()) events += person.history.size();
  EXPECT_EQ(events, static_cast<size_t>(kRounds + kRounds * kThreads));
}

}  // namespace
}  // namespace hypertower
