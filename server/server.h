// The whole server in one object: state, service, ports. `main` adds the command line and signals.
#pragma once

#include <memory>
#include <string>

#include "server/http_server.h"
#include "server/options.h"
#include "server/service.h"

namespace hypertower {

class Server {
 public:
  // Opens the state directory, binds the ports and answers health checks; everything else gets 503
  // until `load`. Errors (kIo): state directory in use, port taken.
  explicit Server(const ServerOptions& options);
  ~Server();

  // Loads and validates the model directory of the options, as at the start or again. Error(kModel)
  // leaves everything as it was.
  void load();

  // Ends well: /readyz says no while everything is still answered, then nobody new is let in, then
  // what is under way is finished. Returns when no connection is left or drain_seconds are over.
  void drain();

  std::string url() const { return http_->url(); }
  std::string admin_url() const { return admin_ ? admin_->url() : std::string(); }
  uint16_t port() const { return http_->port(); }
  uint16_t admin_port() const { return admin_ ? admin_->port() : uint16_t{0}; }

 private:
  const ServerOptions options_;
  // The service's threads answer into the ports, so the ports go last; `~Server` stops them first.
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<HttpServer> admin_;
  std::unique_ptr<Service> service_;
};

}  // namespace hypertower
