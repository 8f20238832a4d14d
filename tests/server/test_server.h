// A whole server in this process, on the tiny model, on free ports.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/server.h"
#include "tests/server/http_client.h"
#include "tests/server/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace hypertower {

class TestServer {
 public:
  explicit TestServer(const TinyModelOptions& model = {},
                      const std::function<void(ServerOptions&)>& adjust = {}) {
    options_.model = directory_.path("model");
    options_.state = directory_.path("state");
    options_.http = {"127.0.0.1", 0};
    options_.admin = Endpoint{"127.0.0.1", 0};
    options_.threads = 4;
    if (adjust) adjust(options_);
    write_model_directory(tiny_model(model), options_.model);
    start();
    server_->load();
  }

  Server& server() { return *server_; }
  uint16_t port() const { return server_->port(); }
  uint16_t admin_port() const { return server_->admin_port(); }
  std::string path(const std::string& name) const { return directory_.path(name); }
  std::string model_path() const { return options_.model; }

  void start() { server_ = std::make_unique<Server>(options_); }
  void restart() {
    server_.reset();
    start();
    server_->load();
  }

 private:
  TemporaryDirectory directory_;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
};

}  // namespace hypertower
