// What each request means: routes, checks, and who computes the answer. Independent of sockets.
//
// Cheap answers are given at once on the calling thread; recommendations go through the batcher,
// events through the writer, model loads and erasures through a background thread. Thread-safe.
#pragma once

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/batcher.h"
#include "server/event_writer.h"
#include "server/http_message.h"
#include "server/metrics.h"
#include "server/snapshot.h"
#include "server/state_store.h"

namespace hypertower {

class Service {
 public:
  enum class Port { kPublic, kAdmin };

  // Not ready until `load`.
  Service(const std::string& state_directory, int workers);
  // Finishes what is queued.
  ~Service();

  void handle(Port port, HttpRequest request, const Respond& respond);

  // Loads, validates and publishes a model directory; on an Error (kModel) what was served before
  // is served on. One at a time: HttpError(409) while another load runs.
  std::shared_ptr<const Snapshot> load(const std::string& path);
  std::shared_ptr<const Snapshot> snapshot() const { return snapshots_.current(); }

  // From now on `GET /readyz` says no; everything else goes on.
  void announce_end() { ending_ = true; }

  // What /metrics says of open connections.
  void set_connection_count(std::function<int64_t()> count) { connections_ = std::move(count); }

 private:
  struct Route;
  static std::span<const Route> routes();

  // Each answers through `respond` or throws.
  void recommend(HttpRequest& request, const Respond& respond);
  void similar(HttpRequest& request, const Respond& respond);
  void encode(HttpRequest& request, const Respond& respond);
  void events(HttpRequest& request, const Respond& respond);
  void get_user(HttpRequest& request, const Respond& respond);
  void erase_user(HttpRequest& request, const Respond& respond);
  void get_model(HttpRequest& request, const Respond& respond);
  void post_model(HttpRequest& request, const Respond& respond);
  void health(HttpRequest& request, const Respond& respond);
  void ready(HttpRequest& request, const Respond& respond);
  void metrics(HttpRequest& request, const Respond& respond);

  // Throws HttpError(503) before the first model is loaded.
  std::shared_ptr<const Snapshot> serving() const;

  StateStore store_;
  Metrics metrics_;
  SnapshotHolder snapshots_;
  std::function<int64_t()> connections_ = [] { return 0; };
  std::atomic<bool> ending_{false};
  std::atomic<bool> loading_{false};
  // Last, and in this order: their threads use all of the above.
  EventWriter writer_;
  Batcher batcher_;
  boost::asio::thread_pool background_;
};

}  // namespace hypertower
