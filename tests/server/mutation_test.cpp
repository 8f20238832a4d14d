// Thousands of broken bodies: never a 5xx, never a crash, and the server answers on.
#include <gtest/gtest.h>

#include <random>

#include "tests/server/test_server.h"

namespace hypertower {
namespace {

struct Seed {
  std::string target;
  std::string body;
};

const std::vector<Seed>& seeds() {
  static const std::vector<Seed> kSeeds = {
      {"/v1/recommend",
       R"({"user": 1, "k": 5, "time": 1.5e9, "context": {"mood": "sad", "hour": 7},
           "features": {"taste": "Drama"}, "exclude": [3, "4"], "exclude_seen": true,
           "history": [{"item": 3, "kind": "view", "time": 12.5, "context": {"mood": null}}],
           "where": {"genre": ["Comedy"], "year": {"min": 1960, "max": 1999},
                     "not": {"genre": "Horror"}, "any": [{"genre": "Drama"}, {}]},
           "min_seq": 0, "timeout_ms": 5000})"},
      {"/v1/recommend", R"({"requests": [{"user": "x"}, {"context": {"mood": "happy"}}], "k": 3})"},
      {"/v1/events",
       R"({"events": [{"user": 7, "item": 2, "kind": "cart", "time": 5, "id": "e-1",
                       "context": {"mood": "scared"}}, {"user": "caf\u00e9", "item": "9"}]})"},
      {"/v1/similar", R"({"items": [5, 7], "k": 3, "where": {"genre": "Drama"}})"},
      {"/v1/encode", R"({"items": [5, {"item": 7, "genre": "Drama", "year": 1990.5}]})"},
  };
  return kSeeds;
}

std::string mutated(std::string body, std::mt19937& random) {
  static const std::vector<std::string> kPieces = {"null",
                                                   "true",
                                                   "-1",
                                                   "1e308",
                                                   "1e400",
                                                   "0.1e-400",
                                                   "18446744073709551616",
                                                   "\"\"",
                                                   "[]",
                                                   "{}",
                                                   "[[[[",
                                                   "\"\\u0000\"",
                                                   "\"\\ud800\"",
                                                   ",",
                                                   ":",
                                                   "\xff",
                                                   "\xf0\x9f\x98\x80",
                                                   "NaN",
                                                   "\"k\":",
                                                   "9223372036854775807",
                                                   "\"where\":{",
                                                   std::string(200, '[')};
  for (unsigned n = 1 + random() % 3; n > 0 && !body.empty(); --n) {
    const size_t at = random() % body.size();
    switch (random() % 5) {
      case 0:
        body[at] = static_cast<char>(random());
        break;
      case 1:
        body.erase(at, 1 + random() % 20);
        break;
      case 2:
        body.insert(at, kPieces[random() % kPieces.size()]);
        break;
      case 3:
        body.insert(at, body.substr(random() % body.size(), random() % 40));
        break;
      default:
        body.replace(at, 1 + random() % 6, kPieces[random() % kPieces.size()]);
    }
  }
  return body;
}

TEST(Mutation, OfBodiesIsAnsweredOrRefused) {
  TestServer server;
  std::mt19937 random(20);
  int64_t accepted = 0;
  Client client(server.port());
  for (const Seed& seed : seeds()) {
    ASSERT_EQ(client.post(seed.target, seed.body).status, 200) << seed.body;
    for (int i = 0; i < 1500; ++i) {
      const std::string body = mutated(seed.body, random);
      const ClientResponse response = client.post(seed.target, body);
      ASSERT_TRUE(response.status == 200 || response.status == 400 || response.status == 409)
          << response.status << " " << body << " -> " << response.body;
      if (response.status == 200) {
        ++accepted;
      } else {
        ASSERT_FALSE(response.error_message().empty());
      }
    }
  }
  EXPECT_GT(accepted, 100);  // some mutations are harmless: the test reaches behind the parser
  EXPECT_EQ(client.get("/readyz").status, 200);
}

TEST(Mutation, OfPathsIsAnsweredOrRefused) {
  TestServer server;
  std::mt19937 random(21);
  Client client(server.port());
  for (int i = 0; i < 1000; ++i) {
    std::string target = "/v1/users/";
    for (unsigned n = random() % 20; n > 0; --n) {
      static const std::string kLetters = "ab%2F%41%zz/.~?&=+";
      target += kLetters[random() % kLetters.size()];
    }
    const ClientResponse response = client.get(target);
    ASSERT_TRUE(response.status == 200 || response.status == 400 || response.status == 404)
        << target;
  }
}

}  // namespace
}  // namespace hypertower
