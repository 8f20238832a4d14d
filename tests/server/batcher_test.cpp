// Micro-batches, refusals under load, group commit.
#include "server/batcher.h"

#include <gtest/gtest.h>

#include <future>

#include "server/event_writer.h"
#include "server/http_message.h"
#include "tests/server/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace hypertower {
namespace {

class BatcherTest : public testing::Test {
 protected:
  BatcherTest() { publish(0); }

  void publish(int64_t popular) {
    TinyModelOptions options;
    options.popular = popular;
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->recommender = std::make_shared<const Recommender>(tiny_model(options));
    snapshot->version = kTinyGenres[popular];
    snapshots_.publish(std::move(snapshot));
  }
  // Keeps the only worker busy until `release`.
  void block() {
    std::promise<void> entered;
    batcher_->post([&] {
      entered.set_value();
      gate_.get_future().wait();
    });
    entered.get_future().wait();
  }
  void release() { gate_.set_value(); }
  double metric(const std::string& name) const {
    const std::string text = metrics_.text({});
    return std::stod(text.substr(text.find("\n" + name + " ") + name.size() + 2));
  }
  static RecommendCall call(int64_t k = 3) {
    RecommendCall c;
    c.requests.resize(1);
    c.k = k;
    return c;
  }

  TemporaryDirectory folder_;
  SnapshotHolder snapshots_;
  StateStore store_{folder_.path("state")};
  Metrics metrics_{{"api"}};
  std::promise<void> gate_;
  std::unique_ptr<Batcher> batcher_ = std::make_unique<Batcher>(snapshots_, store_, metrics_, 1);
};

TEST_F(BatcherTest, WhatQueuesUpIsOneBatch) {
  block();
  std::atomic<int> answered{0};
  for (int i = 0; i < 20; ++i) {
    batcher_->submit(call(), [&](const RecommendCall&, const Batcher::Reply& reply) {
      EXPECT_EQ(reply.failure, nullptr);
      ASSERT_EQ(reply.answers.size(), 1U);
      EXPECT_EQ(reply.answers[0].hits.size(), 3U);
      ++answered;
    });
  }
  EXPECT_EQ(batcher_->queued(), 20);
  release();
  batcher_.reset();
  EXPECT_EQ(answered, 20);
  EXPECT_EQ(metric("hypertower_batches_total"), 1);
  EXPECT_EQ(metric("hypertower_batched_requests_total"), 20);
}

TEST_F(BatcherTest, EveryCallGetsItsOwnK) {
  block();
  std::atomic<int> answered{0};
  for (int64_t k = 1; k <= 30; ++k) {
    batcher_->submit(call(k), [&](const RecommendCall& c, const Batcher::Reply& reply) {
      EXPECT_EQ(reply.answers[0].hits.size(), static_cast<size_t>(c.k));
      ++answered;
    });
  }
  release();
  batcher_.reset();
  EXPECT_EQ(answered, 30);
}

TEST_F(BatcherTest, OneMistakeSpoilsOnlyItself) {
  block();
  std::atomic<int> good{0}, bad{0};
  for (int i = 0; i < 10; ++i) {
    RecommendCall c = call();
    if (i == 4) c.requests[0].context = {{"weather", "rain"}};
    batcher_->submit(std::move(c), [&, i](const RecommendCall&, const Batcher::Reply& reply) {
      EXPECT_EQ(reply.failure != nullptr, i == 4);
      ++(reply.failure ? bad : good);
    });
  }
  release();
  batcher_.reset();
  EXPECT_EQ(good, 9);
  EXPECT_EQ(bad, 1);
}

TEST_F(BatcherTest, TakesTheModelOfTheMomentItRuns) {
  block();
  batcher_->submit(call(), [&](const RecommendCall&, const Batcher::Reply& reply) {
    EXPECT_EQ(reply.snapshot->version, "Drama");
    const auto& index = reply.snapshot->recommender->index();
    EXPECT_EQ(tiny_genre(index.id(reply.answers[0].hits[0].row)), "Drama");
  });
  publish(1);
  release();
  batcher_.reset();
}

TEST_F(BatcherTest, RefusesWhenTheQueueIsFull) {
  block();
  const auto ignore = [](const RecommendCall&, const Batcher::Reply&) {};
  for (size_t i = 0; i < Batcher::kMaxQueued; ++i) ASSERT_TRUE(batcher_->submit(call(), ignore));
  EXPECT_FALSE(batcher_->submit(call(), ignore));
  EXPECT_EQ(metric("hypertower_shed_total"), 1);
  release();
  batcher_.reset();
}

TEST_F(BatcherTest, GivesUpWhatHasWaitedTooLong) {
  block();
  RecommendCall hurried = call();
  hurried.timeout = std::chrono::milliseconds(1);
  std::string message;
  batcher_->submit(std::move(hurried), [&](const RecommendCall&, const Batcher::Reply& reply) {
    try {
      std::rethrow_exception(reply.failure);
    } catch (const HttpError& error) {
      EXPECT_EQ(error.status(), 504);
      message = error.what();
    }
  });
  RecommendCall patient = call();
  patient.timeout = std::chrono::minutes(1);
  batcher_->submit(std::move(patient), [](const RecommendCall&, const Batcher::Reply& reply) {
    EXPECT_EQ(reply.failure, nullptr);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  release();
  batcher_.reset();
  EXPECT_EQ(message,
            "timeout_ms: the request waited longer than the 1 ms it allowed; try again or allow "
            "more");
}

TEST_F(BatcherTest, GroupCommitKeepsEveryCallersResult) {
  constexpr int kThreads = 4, kCalls = 50;
  std::atomic<int> answered{0};
  {
    EventWriter writer(store_, metrics_);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kCalls; ++i) {
          Event event;
          event.user = std::to_string(t);
          event.what.item = std::to_string(i);
          EXPECT_TRUE(writer.submit(
              {event, event}, [&](StateStore::Appended result, const std::exception_ptr& failure) {
                EXPECT_EQ(failure, nullptr);
                EXPECT_EQ(result.accepted, 2);
                ++answered;
              }));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(answered, kThreads * kCalls);
  EXPECT_EQ(store_.seq(), 2U * kThreads * kCalls);
  EXPECT_LE(metric("hypertower_event_commit_seconds_count"), kThreads * kCalls);
  for (int t = 0; t < kThreads; ++t) {
    EXPECT_EQ(store_.read(std::to_string(t)).events.size(), 2U * kCalls);
  }
}

}  // namespace
}  // namespace hypertower
