#include "server/server.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "kernels/parallel.h"

namespace hypertower {
namespace {

using Clock = std::chrono::steady_clock;

// Few threads move bytes and parse; most compute.
struct Split {
  int io = 1;
  int workers = 1;
};

Split split_threads(int threads) {
  if (threads <= 0) threads = hardware_threads();
  const int io = std::max(1, threads / 4);
  return {io, std::max(1, threads - io)};
}

}  // namespace

Server::Server(const ServerOptions& options) : options_(options) {
  const Split split = split_threads(options_.threads);
  service_ = std::make_unique<Service>(options_.state, split.workers);
  const auto handler = [this](Service::Port port) {
    return [this, port](HttpRequest request, const Respond& respond) {
      service_->handle(port, std::move(request), respond);
    };
  };
  http_ = std::make_unique<HttpServer>(options_.http.host, options_.http.port, options_.limits,
                                       split.io, handler(Service::Port::kPublic));
  if (options_.admin) {
    admin_ = std::make_unique<HttpServer>(options_.admin->host, options_.admin->port,
                                          options_.limits, 1, handler(Service::Port::kAdmin));
  }
  service_->set_connection_count([this] { return http_->connections(); });
  http_->start();
  if (admin_) admin_->start();
}

Server::~Server() {
  http_->stop();
  if (admin_) admin_->stop();
}

void Server::load() {
  service_->load(options_.model);
}

void Server::drain() {
  const auto budget = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(options_.drain_seconds));
  const auto start = Clock::now();
  const auto end = start + budget;
  spdlog::info("draining: at most {} s", options_.drain_seconds);
  service_->announce_end();
  http_->announce_end();
  std::this_thread::sleep_for(budget / 5);
  const auto idle_until = std::min(Clock::now() + std::chrono::seconds(1), end - budget / 5);
  http_->stop_accepting(idle_until);
  if (admin_) admin_->stop_accepting(idle_until);
  const auto open = [this] { return http_->connections() + (admin_ ? admin_->connections() : 0); };
  while (open() > 0 && Clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (open() > 0) {
    spdlog::warn("{} connections did not end in time and are cut", open());
  } else {
    spdlog::info("drained in {:.2f} s",
                 std::chrono::duration<double>(Clock::now() - start).count());
  }
}

}  // namespace hypertower
