#include "model/recommender.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <set>

#include "kernels/topk.h"
#include "model/json.h"
#include "tests/model/caught.h"
#include "tests/model/random_model.h"
#include "tests/support/edit_array.h"

namespace hypertower {
namespace {

using nlohmann::json;
using Ids = std::vector<std::string>;

Request request(const json& j) {
  return request_from_json(j);
}

class RecommenderTest : public testing::Test {
 protected:
  Answer ask(const Request& r, RecommendOptions options = {},
             const PeopleSource* people = nullptr) {
    return rec_.recommend({&r, 1}, options, people, {}).front();
  }
  Ids ids(const Answer& answer) const {
    Ids out;
    for (const Hit& hit : answer.hits) out.push_back(rec_.index().id(hit.row));
    return out;
  }
  Ids ids(const Request& r, RecommendOptions options = {}, const PeopleSource* people = nullptr) {
    return ids(ask(r, std::move(options), people));
  }
  std::vector<float> query(const Request& r, const PeopleSource* people = nullptr) {
    return rec_.encode_query({&r, 1}, people, {});
  }
  Caught problem(const Request& r, RecommendOptions options = {}) {
    return caught([&] { ask(r, options); });
  }

  static RecommendOptions top(int64_t k) {
    RecommendOptions options;
    options.k = k;
    return options;
  }

  const Recommender rec_{random_model()};
  const PeopleInMemory people_{
      {{"ann",
        {{"gender", std::string("gender1")}, {"gone", int64_t{1}}},
        {{"i1", "buy", 5.0, {}}, {"lost", "", {}, {}}, {"i2", "", {}, {}}}}}};
};

TEST_F(RecommenderTest, IsTheExactTopOfAllScores) {
  const Request r = request({{"time", 1e9}, {"context", {{"weather", "weather1"}}}});
  const Answer answer = ask(r, top(7));
  ASSERT_EQ(answer.hits.size(), 7U);
  EXPECT_EQ(answer.eligible, 43);
  const std::vector<float> q = query(r);
  std::vector<std::pair<float, int64_t>> all;
  for (int64_t i = 0; i < rec_.index().size(); ++i) {
    all.emplace_back(-canonical_score(q.data(), rec_.index().vectors().row(i), 12), i);
  }
  std::sort(all.begin(), all.end());
  for (size_t j = 0; j < 7; ++j) {
    EXPECT_EQ(answer.hits[j].row, all[j].second);
    EXPECT_EQ(answer.hits[j].score, -all[j].first);
  }
}

TEST_F(RecommenderTest, UnknownPersonIsSomebodyOfWhomNothingIsKnown) {
  const Request known = request({{"user", "nobody"}, {"time", 0}});
  EXPECT_EQ(query(known, &people_), query(request({{"time", 0}})));
  EXPECT_EQ(ids(known, top(43), &people_).size(), 43U);
}

TEST_F(RecommenderTest, AStoredPersonEqualsTheSameGivenInTheRequest) {
  const Request stored = request({{"user", "ann"}, {"time", 6}});
  const Request given =
      request({{"time", 6},
               {"features", {{"gender", "gender1"}}},
               {"history", {{{"item", "i1"}, {"kind", "buy"}}, {{"item", "i2"}}}}});
  EXPECT_EQ(query(stored, &people_), query(given));
  EXPECT_NE(query(stored, &people_), query(stored));
}

TEST_F(RecommenderTest, RequestOverridesWhatIsStored) {
  const Request features =
      request({{"user", "ann"}, {"time", 6}, {"features", {{"gender", "gender2"}}}});
  EXPECT_EQ(query(features, &people_),
            query(request({{"time", 6},
                           {"features", {{"gender", "gender2"}}},
                           {"history", {{{"item", "i1"}, {"kind", "buy"}}, {{"item", "i2"}}}}})));
  const Request history = request({{"user", "ann"}, {"time", 6}, {"history", json::array()}});
  EXPECT_EQ(query(history, &people_),
            query(request({{"time", 6}, {"features", {{"gender", "gender1"}}}})));
}

TEST_F(RecommenderTest, ReadsTheStoredHistoryInTheOrderOfTimeWheneverAsked) {
  const PeopleInMemory people(
      {{"bob",
        {},
        {{"i3", "", 30.0, {}}, {"i1", "", 10.0, {}}, {"i4", "", 40.0, {}}, {"i2", "", 20.0, {}}}}});
  const json all = {{{"item", "i1"}}, {{"item", "i2"}}, {{"item", "i3"}}, {{"item", "i4"}}};
  for (const double time : {5.0, 30.0, 41.0}) {
    EXPECT_EQ(query(request({{"user", "bob"}, {"time", time}}), &people),
              query(request({{"time", time}, {"history", all}})));
  }
  // A request's own history is taken as it is.
  const json late = {{{"item", "i2"}, {"time", 99}}, {{"item", "i1"}, {"time", 98}}};
  const json plain = {{{"item", "i2"}}, {{"item", "i1"}}};
  EXPECT_EQ(query(request({{"time", 30}, {"history", late}})),
            query(request({{"time", 30}, {"history", plain}})));
}

TEST_F(RecommenderTest, OnlyTheLatestEventsOfKnownItemsCount) {
  json long_history = json::array({{{"item", "i9"}}});
  json short_history = json::array();
  for (int i = 0; i < 6; ++i) {
    const json event = {{"item", "i" + std::to_string(i)}};
    long_history.push_back(event);
    long_history.push_back({{"item", "unknown " + std::to_string(i)}});
    short_history.push_back(event);
  }
  EXPECT_EQ(query(request({{"time", 0}, {"history", long_history}})),
            query(request({{"time", 0}, {"history", short_history}})));
}

TEST_F(RecommenderTest, ContextMayBeMissingAndMatters) {
  const std::vector<float> none = query(request({{"time", 0}}));
  EXPECT_NE(none, query(request({{"time", 0}, {"context", {{"weather", "weather1"}}}})));
  EXPECT_NE(none, query(request({{"time", 3600}})));
  EXPECT_EQ(query(request({{"time", 3600}})),
            query(request({{"time", 0}, {"context", {{"hour", 1}}}})));
  EXPECT_EQ(none, query(request({{"time", 0}, {"context", {{"weather", nullptr}}}})));
  for (const float x : none) EXPECT_TRUE(std::isfinite(x));
}

TEST_F(RecommenderTest, TheTimeIsNowWhenNotGiven) {
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const std::vector<float> found = query(request(json::object()));
  // The hour may turn between the two.
  EXPECT_TRUE(found == query(request({{"time", now}})) ||
              found == query(request({{"time", now + 60}})));
}

TEST_F(RecommenderTest, WhereOfRequestAndCallAreBothKept) {
  RecommendOptions options = top(43);
  options.where = filter_from_json({{"genres", {"g1"}}});
  const Request r = request({{"time", 0}, {"where", {{"year", {{"min", 2000}}}}}});
  const Answer answer = ask(r, options);
  std::set<std::string> expected;
  for (int i = 0; i < 43; ++i) {
    if (i % 5 == 1 && i % 10 != 9 && 1990 + i % 20 >= 2000)
      expected.insert("i" + std::to_string(i));
  }
  const Ids found = ids(answer);
  EXPECT_EQ(std::set<std::string>(found.begin(), found.end()), expected);
  EXPECT_EQ(answer.eligible, static_cast<int64_t>(expected.size()));
}

TEST_F(RecommenderTest, AllFilteredOutIsAnEmptyAnswer) {
  const Answer answer = ask(request({{"where", {{"brand", {"none such"}}}}}));
  EXPECT_TRUE(answer.hits.empty());
  EXPECT_EQ(answer.eligible, 0);
}

TEST_F(RecommenderTest, FewerItemsThanK) {
  const Answer answer = ask(request({{"where", {{"brand", {"b0"}}}}}), top(1'000'000'000));
  EXPECT_EQ(answer.hits.size(), 7U);  // 0, 7, ... 42
  EXPECT_EQ(answer.eligible, 7);
}

TEST_F(RecommenderTest, ExcludesItemsAndIgnoresUnknownOnes) {
  const Request all = request({{"time", 0}});
  const Ids best = ids(all, top(3));
  const Request r = request({{"time", 0}, {"exclude", {best[0], best[0], "no such item"}}});
  const Answer answer = ask(r, top(3));
  EXPECT_EQ(ids(answer)[0], best[1]);
  EXPECT_EQ(answer.eligible, 42);
}

TEST_F(RecommenderTest, ExcludesWhatWasSeen) {
  RecommendOptions options = top(43);
  const Request r = request({{"user", "ann"}, {"exclude", {"i2", "i5"}}});
  EXPECT_EQ(ask(r, options, &people_).eligible, 41);  // the default of this model: seen may come
  options.exclude_seen = true;
  const Answer answer = ask(r, options, &people_);
  EXPECT_EQ(answer.eligible, 40);
  const Ids found = ids(answer);
  for (const char* gone : {"i1", "i2", "i5"}) {
    EXPECT_EQ(std::count(found.begin(), found.end(), gone), 0);
  }
  const Request replaced = request({{"user", "ann"}, {"history", {{{"item", "i7"}}}}});
  EXPECT_EQ(ask(replaced, options, &people_).eligible, 42);
}

TEST_F(RecommenderTest, SeenIsTheWholeHistoryNotOnlyWhatTheTowerReads) {
  json history = json::array();
  for (int i = 0; i < 20; ++i) history.push_back({{"item", "i" + std::to_string(i)}});
  RecommendOptions options = top(43);
  options.exclude_seen = true;
  EXPECT_EQ(ask(request({{"history", history}}), options).eligible, 23);
}

TEST_F(RecommenderTest, SeenAndFilterCountOnce) {
  RecommendOptions options = top(43);
  options.exclude_seen = true;
  options.where = filter_from_json({{"brand", {"b0"}}});
  const Request r = request({{"history", {{{"item", "i0"}}, {{"item", "i1"}}, {{"item", "i0"}}}}});
  EXPECT_EQ(ask(r, options).eligible, 6);
}

TEST_F(RecommenderTest, ABatchEqualsOneByOne) {
  std::vector<Request> requests;
  for (int i = 0; i < 30; ++i) {
    json j = {{"time", 3600 * i}, {"context", {{"weather", "weather" + std::to_string(i % 5)}}}};
    if (i % 3 == 0) j["user"] = "ann";
    if (i % 4 == 0) j["where"] = {{"genres", {"g" + std::to_string(i % 3)}}};
    if (i % 5 == 0) j["history"] = {{{"item", "i" + std::to_string(i)}}};
    requests.push_back(request(j));
  }
  RecommendOptions options = top(5);
  options.exclude_seen = true;
  Exec exec;
  exec.threads = 4;
  const auto together = rec_.recommend(requests, options, &people_, exec);
  for (size_t r = 0; r < requests.size(); ++r) {
    const Answer alone = ask(requests[r], options, &people_);
    EXPECT_EQ(ids(alone), ids(together[r])) << r;
    EXPECT_EQ(alone.eligible, together[r].eligible);
    for (size_t j = 0; j < alone.hits.size(); ++j) {
      EXPECT_EQ(alone.hits[j].score, together[r].hits[j].score);
    }
  }
}

TEST_F(RecommenderTest, NoRequestsNoAnswers) {
  EXPECT_TRUE(rec_.recommend({}, {}, nullptr, {}).empty());
  EXPECT_TRUE(rec_.encode_query({}, nullptr, {}).empty());
}

TEST_F(RecommenderTest, MistakesNameFieldAndNearestName) {
  const Caught unknown = problem(request({{"context", {{"wether", "rain"}}}}));
  EXPECT_EQ(unknown.kind, ErrorKind::kSchema);
  EXPECT_EQ(unknown.field, "context.wether");
  EXPECT_EQ(unknown.message, "context.wether: unknown field. Did you mean 'weather'?");
  EXPECT_EQ(problem(request({{"features", {{"aeg", 3}}}})).message,
            "features.aeg: unknown field. Did you mean 'age'?");
  EXPECT_EQ(problem(request({{"features", {{"age", "old"}}}})).message,
            "features.age: expected a number, got text");
  EXPECT_EQ(problem(request({{"context", {{"place", {1, 2}}}}})).message,
            "context.place: expected a list of 5 numbers, got 2");
  EXPECT_EQ(problem(request({{"where", {{"brnd", {"x"}}}}})).message,
            "where.brnd: unknown field. Did you mean 'brand'?");
  const Caught k = problem({}, top(0));
  EXPECT_EQ(k.kind, ErrorKind::kArgument);
  EXPECT_EQ(k.message, "k: expected 1 or more, got 0");
}

TEST_F(RecommenderTest, MistakesInAHistoryNameTheEvent) {
  const json history = {{{"item", "i1"}}, {{"item", "i2"}, {"context", {{"wether", "rain"}}}}};
  const Caught unknown = problem(request({{"history", history}}));
  EXPECT_EQ(unknown.kind, ErrorKind::kSchema);
  EXPECT_EQ(unknown.field, "history[1].context.wether");
  EXPECT_EQ(unknown.message, "history[1].context.wether: unknown field. Did you mean 'weather'?");
  const std::vector<Request> requests = {{}, request({{"history", history}})};
  EXPECT_EQ(caught([&] { rec_.encode_query(requests, nullptr, {}); }).message,
            "requests[1].history[1].context.wether: unknown field. Did you mean 'weather'?");
  const json wrong = {{{"item", "i1"}, {"context", {{"temperature", "warm"}}}}};
  EXPECT_EQ(problem(request({{"history", wrong}})).message,
            "history[0].context.temperature: expected a number, got text");
}

TEST_F(RecommenderTest, NaNNamesItsField) {
  Request r;
  r.context = {{"temperature", std::nan("")}};
  const Caught context = problem(r);
  EXPECT_EQ(context.kind, ErrorKind::kNumeric);
  EXPECT_EQ(context.message, "context.temperature: expected a finite number, got NaN");
  Request time;
  time.time = INFINITY;
  EXPECT_EQ(problem(time).message, "time: expected seconds since 1970-01-01 UTC, got inf");
}

TEST_F(RecommenderTest, MistakesInABatchNameTheRequest) {
  std::vector<Request> requests(4);
  const auto of = [&]() { return caught([&] { rec_.recommend(requests, {}, nullptr, {}); }); };
  requests[3].context = {{"huor", int64_t{1}}};
  EXPECT_EQ(of().message, "requests[3].context.huor: unknown field. Did you mean 'hour'?");
  EXPECT_EQ(of().field, "requests[3].context.huor");
  requests[2].features = {{"age", std::string("x")}};
  EXPECT_EQ(of().message, "requests[2].features.age: expected a number, got text");
  requests[2] = {};
  requests[3] = {};
  requests[1].where = filter_from_json({{"year", {1}}});
  EXPECT_EQ(of().field, "requests[1].where.year");
  requests[0].time = 1e13;
  EXPECT_EQ(of().field, "requests[0].time");
  requests = {request_from_json({{"context", {{"huor", 1}}}}, {}, "requests[0]")};
  EXPECT_EQ(of().message, "requests[0].context.huor: unknown field. Did you mean 'hour'?");
  requests[0].place.clear();  // it stands alone
  EXPECT_EQ(of().message, "context.huor: unknown field. Did you mean 'hour'?");
}

TEST(Recommender, RefusesACatalogueThatDoesNotFit) {
  ModelData model = random_model();
  model.catalogue.ids.resize(20);
  edit(model.catalogue.vectors, [](std::vector<float>& v) { v.resize(20 * 12); });
  model.catalogue.attributes.clear();
  const Caught error = caught([&] { Recommender r(std::move(model)); });
  EXPECT_EQ(error.kind, ErrorKind::kModel);
  EXPECT_EQ(error.message,
            "the catalogue (20 items of 12 numbers) does not fit the weights (40 items of 12)");
}

TEST(Recommender, SeenIsExcludedByDefaultWhereTheModelSaysSo) {
  ModelData model = random_model();
  model.exclude_seen_by_default = true;
  const Recommender rec(std::move(model));
  const Request r = request({{"history", {{{"item", "i0"}}}}});
  EXPECT_EQ(rec.recommend({&r, 1}, {}, nullptr, {})[0].eligible, 42);
  RecommendOptions options;
  options.exclude_seen = false;
  EXPECT_EQ(rec.recommend({&r, 1}, options, nullptr, {})[0].eligible, 43);
}

}  // namespace
}  // namespace hypertower
