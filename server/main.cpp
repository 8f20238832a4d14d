#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <thread>

#include "kernels/error.h"
#include "model/model_directory.h"
#include "server/options.h"
#include "server/server.h"

namespace hypertower {
namespace {

// Threads started during its life never see our signals: only the main thread is interrupted by
// one, not a read of a model file or a write of the state.
class SignalsHeldBack {
 public:
  SignalsHeldBack() {
    sigset_t ours;
    sigemptyset(&ours);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&ours, number);
    pthread_sigmask(SIG_BLOCK, &ours, &before_);
  }
  ~SignalsHeldBack() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeldBack(const SignalsHeldBack&) = delete;
  SignalsHeldBack& operator=(const SignalsHeldBack&) = delete;

 private:
  sigset_t before_;
};

// A connection is a file descriptor, and the usual soft limit is 1024.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void set_up_log(const std::string& level) {
  auto log = spdlog::stderr_logger_mt("hypertower-server");
  log->set_level(spdlog::level::from_str(level));
  log->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  log->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(log));
}

// Under its final name only when complete.
void write_port_file(const std::string& path, const Server& server) {
  const std::string unfinished = path + ".tmp";
  std::ofstream out(unfinished);
  out << server.port() << "\n";
  if (server.admin_port() != 0) out << server.admin_port() << "\n";
  out.close();
  std::error_code failed;
  if (out) std::filesystem::rename(unfinished, path, failed);
  if (!out || failed) throw Error(ErrorKind::kIo, "cannot write the port file '" + path + "'");
}

void announce(const ServerOptions& options, const Server& server) {
  if (!options.port_file.empty()) write_port_file(options.port_file, server);
  if (!server.admin_url().empty()) {
    std::fprintf(stderr, "admin on %s\n", server.admin_url().c_str());
  }
  std::fprintf(stderr, "listening on %s\n", server.url().c_str());
}

int run(const ServerOptions& options) {
  // Signals before anything else: one that comes while the model is loading must not be lost.
  boost::asio::io_context control(1);
  boost::asio::signal_set stop(control, SIGINT, SIGTERM);
  boost::asio::signal_set reload(control, SIGHUP);
  std::signal(SIGPIPE, SIG_IGN);

  raise_descriptor_limit();
  set_up_log(options.log_level);
  // A wrong path must not leave a state behind; the loader reads the rest.
  if (!std::filesystem::exists(std::filesystem::path(options.model) / "manifest.json")) {
    inspect_model_directory(options.model);
  }
  const std::unique_ptr<Server> owner = [&] {
    const SignalsHeldBack held;
    return std::make_unique<Server>(options);
  }();
  Server& server = *owner;
  spdlog::info("state in {}", options.state);

  bool loading = true;
  bool served = false;
  std::exception_ptr failure;  // of the first load
  std::thread loader;
  const auto load = [&](bool first) {
    if (loader.joinable()) loader.join();
    loading = true;
    const SignalsHeldBack held;
    loader = std::thread([&, first] {
      std::exception_ptr caught;
      try {
        server.load();
        if (first) announce(options, server);
      } catch (const std::exception& error) {
        if (!first) spdlog::error("the model was not reloaded: {}", error.what());
        caught = std::current_exception();
      }
      boost::asio::post(control, [&, first, caught] {
        loading = false;
        if (!caught) served = true;
        if (first && caught) {
          failure = caught;
          control.stop();
        }
      });
    });
  };

  stop.async_wait([&](boost::system::error_code, int) { control.stop(); });
  std::function<void(boost::system::error_code, int)> on_reload =
      [&](boost::system::error_code aborted, int) {
        if (aborted) return;
        if (loading) {
          spdlog::warn("SIGHUP ignored: a model is being loaded");
        } else {
          load(false);
        }
        reload.async_wait(on_reload);
      };
  reload.async_wait(on_reload);
  load(true);
  control.run();

  if (failure) {
    loader.join();
    std::rethrow_exception(failure);
  }
  if (served) server.drain();
  if (loading) {
    // A load cannot be interrupted, and leaves nothing half done.
    spdlog::info("stopped while loading a model");
    std::_Exit(0);
  }
  loader.join();
  return 0;
}

}  // namespace
}  // namespace hypertower

int main(int argc, char** argv) {
  int exit_code = 0;
  const auto options = hypertower::parse_options(argc, argv, exit_code);
  if (!options) return exit_code;
  try {
    return hypertower::run(*options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hypertower-server: %s\n", error.what());
    return 1;
  }
}
