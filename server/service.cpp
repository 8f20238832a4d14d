#include "server/service.h"

#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>
#include <chrono>
#include <utility>

#include "server/json_reader.h"
#include "server/json_writer.h"
#include "server/people.h"
#include "server/protocol.h"

namespace hypertower {
namespace {

constexpr std::string_view kUsers = "/v1/users/{id}";

HttpResponse json_response(std::string body) {
  HttpResponse response;
  response.body = std::move(body);
  return response;
}

HttpResponse failure_response(const std::exception& error) {
  HttpResponse response = error_response(error);
  if (response.status == 500) spdlog::error("a request failed: {}", error.what());
  return response;
}

HttpResponse failure_response(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    return failure_response(error);
  }
}

// Answers with what `answer` returns or throws; for work that left the calling thread.
template <class Answer>
void answer_with(const Respond& respond, const Answer& answer) {
  HttpResponse response;
  try {
    response = answer();
  } catch (const std::exception& error) {
    response = failure_response(error);
  }
  respond(std::move(response));
}

nlohmann::json body_of(const HttpRequest& request) {
  static thread_local JsonReader reader;
  return reader.read_object(request.body);
}

double seconds_now() {
  using namespace std::chrono;
  return duration<double>(system_clock::now().time_since_epoch()).count();
}

HttpError overloaded() {
  return HttpError(503, "overloaded", "the server has too many requests waiting; try again later");
}

}  // namespace

struct Service::Route {
  std::string_view method;
  std::string_view path;  // "{id}" at the end matches one segment
  Port port;              // kAdmin: answered on the admin port only
  void (Service::*handle)(HttpRequest&, const Respond&);
};

std::span<const Service::Route> Service::routes() {
  static constexpr Route kRoutes[] = {
      {"POST", "/v1/recommend", Port::kPublic, &Service::recommend},
      {"POST", "/v1/events", Port::kPublic, &Service::events},
      {"POST", "/v1/similar", Port::kPublic, &Service::similar},
      {"POST", "/v1/encode", Port::kPublic, &Service::encode},
      {"GET", kUsers, Port::kPublic, &Service::get_user},
      {"DELETE", kUsers, Port::kPublic, &Service::erase_user},
      {"GET", "/v1/model", Port::kPublic, &Service::get_model},
      {"POST", "/v1/model", Port::kAdmin, &Service::post_model},
      {"GET", "/healthz", Port::kPublic, &Service::health},
      {"GET", "/readyz", Port::kPublic, &Service::ready},
      {"GET", "/metrics", Port::kPublic, &Service::metrics},
  };
  return kRoutes;
}

Service::Service(const std::string& state_directory, int workers)
    : store_(state_directory),
      metrics_([] {
        std::vector<std::string> names;
        for (const Route& route : routes()) {
          names.push_back(std::string(route.method) + " " + std::string(route.path));
        }
        names.emplace_back("none");
        return names;
      }()),
      writer_(store_, metrics_),
      batcher_(snapshots_, store_, metrics_, workers),
      background_(2) {}

Service::~Service() {
  background_.join();
}

void Service::handle(Port port, HttpRequest request, const Respond& respond) {
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  const auto matches = [&](std::string_view path) {
    if (path != kUsers) return path == request.target;
    const std::string_view prefix = kUsers.substr(0, kUsers.size() - 4);
    return request.target.starts_with(prefix) && request.target.size() > prefix.size() &&
           request.target.find('/', prefix.size()) == std::string::npos;
  };
  const Route* found = nullptr;
  std::string allowed;
  std::vector<std::string> paths;
  for (const Route& route : routes()) {
    if (paths.empty() || paths.back() != route.path) paths.emplace_back(route.path);
    if (!matches(route.path)) continue;
    allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
    if (route.method == method) found = &route;
  }
  const auto api =
      static_cast<size_t>(found == nullptr ? routes().size() : found - routes().data());
  const Respond timed = [this, api, watch = Stopwatch(), respond](HttpResponse response) {
    metrics_.request(api, response.status, watch.seconds());
    respond(std::move(response));
  };
  if (found == nullptr && allowed.empty()) {
    return timed(error_response(
        404, "not_found",
        "nothing is at '" + request.target + "'." + name_hint(request.target, paths)));
  }
  if (found == nullptr) {
    HttpResponse response = error_response(
        405, "method",
        request.target + ": expected " + allowed + ", got " + std::string(request.method));
    response.headers = "Allow: " + allowed + "\r\n";
    return timed(std::move(response));
  }
  if (found->port == Port::kAdmin && port != Port::kAdmin) {
    return timed(error_response(404, "not_found",
                                "POST " + request.target +
                                    " is answered on the admin port only; "
                                    "start the server with --admin HOST:PORT and ask there"));
  }
  try {
    (this->*found->handle)(request, timed);
  } catch (const std::exception& error) {
    timed(failure_response(error));
  }
}

std::shared_ptr<const Snapshot> Service::serving() const {
  auto snapshot = snapshots_.current();
  if (snapshot == nullptr) {
    throw HttpError(503, "loading", "the model is still being loaded; try again later");
  }
  return snapshot;
}

void Service::recommend(HttpRequest& request, const Respond& respond) {
  serving();
  RecommendCall call = recommend_call(body_of(request));
  if (call.min_seq > store_.seq()) {
    throw HttpError(409, "seq",
                    "min_seq: expected at most " + std::to_string(store_.seq()) +
                        ", the number of the latest event stored here, got " +
                        std::to_string(call.min_seq) + "; was it another server's?",
                    "min_seq");
  }
  const bool accepted = batcher_.submit(
      std::move(call), [respond](const RecommendCall& done, const Batcher::Reply& reply) {
        answer_with(respond, [&] {
          if (reply.failure) return failure_response(reply.failure);
          return json_response(recommend_answer(done, *reply.snapshot, reply.answers));
        });
      });
  if (!accepted) throw overloaded();
}

void Service::similar(HttpRequest& request, const Respond& respond) {
  batcher_.post([snapshot = serving(), call = similar_call(body_of(request)), respond] {
    answer_with(respond, [&] {
      const auto answers = snapshot->recommender->similar(call.items, call.k, call.where, Exec{});
      return json_response(similar_answer(call, *snapshot, answers));
    });
  });
}

void Service::encode(HttpRequest& request, const Respond& respond) {
  batcher_.post([this, snapshot = serving(), call = encode_call(body_of(request)), respond] {
    answer_with(respond, [&] {
      const LivePeople people(*snapshot, store_);
      const Recommender& recommender = *snapshot->recommender;
      return json_response(encode_answer(
          *snapshot, call.requests.empty()
                         ? recommender.encode_items(call.item_ids, call.item_features, Exec{})
                         : recommender.encode_query(call.requests, &people, Exec{})));
    });
  });
}

void Service::events(HttpRequest& request, const Respond& respond) {
  const auto snapshot = serving();
  std::vector<Event> events = events_call(body_of(request), *snapshot, seconds_now());
  int64_t unknown = 0;
  for (const Event& event : events) {
    if (snapshot->recommender->index().row(event.what.item) < 0) ++unknown;
  }
  const bool accepted = writer_.submit(
      std::move(events),
      [respond, unknown](StateStore::Appended result, const std::exception_ptr& failure) {
        if (failure) return respond(failure_response(failure));
        std::string body;
        JsonWriter out(body);
        out.raw(R"({"accepted":)").integer(result.accepted);
        out.raw(R"(,"duplicates":)").integer(result.duplicates);
        out.raw(R"(,"unknown_items":)").integer(unknown);
        out.raw(R"(,"seq":)").integer(static_cast<int64_t>(result.seq)).raw("}");
        respond(json_response(std::move(body)));
      });
  if (!accepted) throw overloaded();
}

void Service::get_user(HttpRequest& request, const Respond& respond) {
  std::string user = percent_decode(request.target.substr(kUsers.size() - 4));
  batcher_.post([this, snapshot = serving(), user = std::move(user), respond] {
    answer_with(respond,
                [&] { return json_response(user_answer(user, *snapshot, store_.read(user))); });
  });
}

void Service::erase_user(HttpRequest& request, const Respond& respond) {
  std::string user = percent_decode(request.target.substr(kUsers.size() - 4));
  boost::asio::post(background_, [this, snapshot = serving(), user = std::move(user), respond] {
    answer_with(respond, [&] {
      const StateStore::Erased erased = store_.erase(user);
      const Person* trained = snapshot->person(user);
      std::string body;
      JsonWriter out(body);
      out.raw(R"({"erased":)").id(user, snapshot->recommender->data().user_ids_are_integers);
      out.raw(R"(,"events":)").integer(erased.events);
      out.raw(R"(,"in_model":)").raw(trained != nullptr ? "true" : "false");
      out.raw(R"(,"seq":)").integer(static_cast<int64_t>(erased.seq));
      out.raw(R"(,"time":)").integer(static_cast<int64_t>(seconds_now())).raw("}");
      return json_response(std::move(body));
    });
  });
}

void Service::get_model(HttpRequest& /*request*/, const Respond& respond) {
  const auto snapshot = serving();
  respond(json_response(model_answer(*snapshot, snapshots_.previous().get(), store_.seq())));
}

void Service::post_model(HttpRequest& request, const Respond& respond) {
  ModelCall call = model_call(body_of(request));
  boost::asio::post(background_, [this, call = std::move(call), respond] {
    answer_with(respond, [&] {
      if (!call.path.empty()) {
        load(call.path);
      } else if (snapshots_.rollback()) {
        spdlog::info("rolled back to {}", serving()->version);
      } else {
        throw HttpError(409, "no_previous",
                        "there is no earlier model to go back to; load one with {\"path\": DIR}");
      }
      return json_response(model_answer(*serving(), snapshots_.previous().get(), store_.seq()));
    });
  });
}

std::shared_ptr<const Snapshot> Service::load(const std::string& path) {
  if (loading_.exchange(true)) {
    throw HttpError(409, "loading", "another model is being loaded; try again when it is done");
  }
  const Stopwatch watch;
  std::shared_ptr<const Snapshot> snapshot;
  try {
    snapshot = load_snapshot(path);
  } catch (...) {
    loading_ = false;
    metrics_.count(Metrics::Counter::kLoadsFailed);
    throw;
  }
  snapshots_.publish(snapshot);
  loading_ = false;
  metrics_.observe(Metrics::Timer::kLoad, watch.seconds());
  spdlog::info("serving {} from {}: {} items, loaded in {:.2f} s", snapshot->version, path,
               snapshot->recommender->index().size(), watch.seconds());
  return snapshot;
}

void Service::health(HttpRequest& /*request*/, const Respond& respond) {
  respond(json_response(R"({"live":true})"));
}

void Service::ready(HttpRequest& /*request*/, const Respond& respond) {
  const auto snapshot = serving();
  if (ending_) throw HttpError(503, "ending", "the server is shutting down; ask another one");
  std::string body;
  JsonWriter(body).raw(R"({"ready":true,"model":)").text(snapshot->version).raw("}");
  respond(json_response(std::move(body)));
}

void Service::metrics(HttpRequest& /*request*/, const Respond& respond) {
  const auto snapshot = snapshots_.current();
  Metrics::Gauges gauges;
  if (snapshot != nullptr) gauges.version = snapshot->version;
  gauges.ready = snapshot != nullptr && !ending_;
  gauges.connections = connections_();
  gauges.queued = batcher_.queued();
  gauges.seq = store_.seq();
  HttpResponse response;
  response.body = metrics_.text(gauges);
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  respond(std::move(response));
}

}  // namespace hypertower
