// HTTP itself, with a handler that echoes: framing, limits, timeouts, drain.
#include "server/http_server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <random>
#include <thread>

#include "kernels/error.h"
#include "tests/server/http_client.h"

namespace hypertower {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

void echo(HttpRequest request, const Respond& respond) {
  HttpResponse response;
  response.content_type = "text/plain";
  response.body = request.method + " " + request.target + " " + request.body;
  respond(std::move(response));
}

class HttpServerTest : public testing::Test {
 protected:
  HttpServer& start(HttpLimits limits = {}, HttpHandler handler = echo, int threads = 2) {
    server_ = std::make_unique<HttpServer>("127.0.0.1", 0, limits, threads, std::move(handler));
    server_->start();
    return *server_;
  }
  static bool wait_for(const std::function<bool()>& condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return false;
  }

  // Answers after a pause, from a thread of its own.
  void echo_later(HttpRequest request, const Respond& respond, int pause_ms) {
    const std::lock_guard lock(mutex_);
    helpers_.emplace_back([request = std::move(request), respond, pause_ms] {
      std::this_thread::sleep_for(milliseconds(pause_ms));
      echo(request, respond);
    });
  }
  void TearDown() override {
    const std::lock_guard lock(mutex_);
    for (std::thread& helper : helpers_) helper.join();
  }

  std::unique_ptr<HttpServer> server_;
  std::mutex mutex_;
  std::vector<std::thread> helpers_;  // guarded by mutex_
};

TEST_F(HttpServerTest, KeepsTheConnection) {
  Client client(start().port());
  for (int i = 0; i < 100; ++i) {
    const ClientResponse response = client.post("/a?b=c", std::to_string(i));
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "POST /a " + std::to_string(i));
  }
  EXPECT_EQ(server_->accepted(), 1);
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  // The first answer takes longest: order must not depend on it.
  start({}, [this](const HttpRequest& request, const Respond& respond) {
    echo_later(request, respond, request.target == "/0" ? 50 : 0);
  });
  Client client(server_->port());
  std::string all;
  for (int i = 0; i < 20; ++i) all += Client::request("POST", "/" + std::to_string(i), "x");
  client.send(all);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.read().body, "POST /" + std::to_string(i) + " x");
}

TEST_F(HttpServerTest, PutsSplitPacketsTogether) {
  Client client(start().port());
  const std::string request = Client::request("POST", "/split", "0123456789", "X-A: b\r\n");
  for (size_t cut = 1; cut < request.size(); cut += 3) {
    client.send(request.substr(0, cut));
    std::this_thread::sleep_for(milliseconds(1));
    client.send(request.substr(cut));
    ASSERT_EQ(client.read().body, "POST /split 0123456789") << cut;
  }
  for (const char c : request) {
    client.send(std::string(1, c));
  }
  EXPECT_EQ(client.read().body, "POST /split 0123456789");
}

TEST_F(HttpServerTest, ReadsChunkedBodies) {
  Client client(start().port());
  client.send(
      "POST /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n" +
      Client::request("GET", "/next"));
  EXPECT_EQ(client.read().body, "POST /c abcde");
  EXPECT_EQ(client.read().body, "GET /next ");
}

TEST_F(HttpServerTest, SaysContinueToAClientThatWaits) {
  Client client(start().port());
  client.send("POST /e HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(client.read().status, 100);
  client.send("abc");
  EXPECT_EQ(client.read().body, "POST /e abc");
}

TEST_F(HttpServerTest, EndsTheConnectionWhenAsked) {
  start();
  for (const std::string& request : {Client::request("GET", "/", "", "Connection: close\r\n"),
                                     std::string("GET / HTTP/1.0\r\n\r\n")}) {
    Client client(server_->port());
    client.send(request);
    EXPECT_TRUE(client.read().has_header("Connection: close"));
    EXPECT_TRUE(client.closed());
  }
  Client old(server_->port());
  old.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_TRUE(old.read().has_header("Connection: keep-alive"));
  EXPECT_EQ(old.get("/again").body, "GET /again ");
}

TEST_F(HttpServerTest, AnswersHeadWithoutABody) {
  Client client(start().port());
  client.send(Client::request("HEAD", "/x"));
  const auto response = client.try_read(/*head_only=*/true);
  ASSERT_TRUE(response);
  EXPECT_TRUE(response->has_header("Content-Length: 8"));
  EXPECT_EQ(client.get("/y").body, "GET /y ");
}

TEST_F(HttpServerTest, AnswersAClientThatHasFinishedSending) {
  Client client(start().port());
  client.send(Client::request("GET", "/last"));
  client.finish_sending();
  EXPECT_EQ(client.read().body, "GET /last ");
  EXPECT_TRUE(client.closed());
}

TEST_F(HttpServerTest, RefusesALongHeader) {
  Client client(start().port());
  client.send("GET / HTTP/1.1\r\nX: " + std::string(20'000, 'a') + "\r\n\r\n");
  const ClientResponse response = client.read();
  EXPECT_EQ(response.status, 431);
  EXPECT_EQ(response.error_message(), "the header: expected at most 16384 bytes, got more");
  EXPECT_TRUE(client.closed());
  Client endless(server_->port());
  endless.send(std::string(100'000, 'a'));
  EXPECT_TRUE(endless.read().status >= 400);
}

TEST_F(HttpServerTest, RefusesALongBodyBeforeReadingIt) {
  HttpLimits limits;
  limits.max_body_bytes = 1000;
  Client client(start(limits).port());
  EXPECT_EQ(client.post("/", std::string(1000, 'a')).status, 200);
  client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\n\r\n");
  const ClientResponse response = client.read();
  EXPECT_EQ(response.status, 413);
  EXPECT_EQ(response.error_code(), "too_large");
  EXPECT_EQ(response.error_message(),
            "the body: expected at most 1000 bytes, got more; send it in several calls");
  Client sender(server_->port());  // has sent it all: the answer must arrive nevertheless
  sender.send(Client::request("POST", "/", std::string(500'000, 'a')));
  EXPECT_EQ(sender.read().status, 413);
  Client chunked(server_->port());
  chunked.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 3; ++i) chunked.send("190\r\n" + std::string(400, 'a') + "\r\n");
  EXPECT_EQ(chunked.read().status, 413);
}

TEST_F(HttpServerTest, RefusesWhatIsNotHttp) {
  start();
  for (const std::string& bytes :
       {std::string("hello\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"),
        std::string("GET  HTTP/1.1\r\n\r\n"), std::string("GET / HTTP/1.1\r\nno colon\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        std::string(64, '\0'), std::string("\x16\x03\x01\x02 a TLS client hello \r\n\r\n")}) {
    Client client(server_->port());
    client.send(bytes);
    const ClientResponse response = client.read();
    EXPECT_EQ(response.status, 400) << bytes;
    EXPECT_EQ(response.error_code(), "not_http");
    EXPECT_TRUE(client.closed());
  }
}

TEST_F(HttpServerTest, RefusesACompressedBody) {
  Client client(start().port());
  client.send(Client::request("POST", "/", "xx", "Content-Encoding: gzip\r\n"));
  const ClientResponse response = client.read();
  EXPECT_EQ(response.status, 415);
  EXPECT_EQ(response.error_message(), "Content-Encoding: expected identity, got 'gzip'");
}

TEST_F(HttpServerTest, GivesUpOnASlowRequest) {
  HttpLimits limits;
  limits.read_timeout = milliseconds(200);
  start(limits);
  const auto begin = Clock::now();
  Client silent(server_->port());  // within a header
  silent.send("POST /v1 HTT");
  Client dripping(server_->port());  // within a body, always moving
  dripping.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n");
  for (int i = 0; i < 20; ++i) {
    if (!dripping.send("a")) break;
    std::this_thread::sleep_for(milliseconds(20));
  }
  for (Client* client : {&silent, &dripping}) {
    const ClientResponse response = client->read();
    EXPECT_EQ(response.status, 408);
    EXPECT_EQ(response.error_message(), "expected the whole request within 200 ms, got a part");
    EXPECT_TRUE(client->closed());
  }
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(10));
}

TEST_F(HttpServerTest, ClosesAnIdleConnection) {
  HttpLimits limits;
  limits.read_timeout = limits.idle_timeout = milliseconds(100);
  Client client(start(limits).port());
  EXPECT_EQ(client.get("/").status, 200);
  EXPECT_TRUE(client.closed());
  EXPECT_TRUE(wait_for([&] { return server_->connections() == 0; }));
}

TEST_F(HttpServerTest, RefusesTooManyConnections) {
  HttpLimits limits;
  limits.max_connections = 3;
  start(limits);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<Client>(server_->port()));
    EXPECT_EQ(clients.back()->get("/").status, 200);
  }
  Client refused(server_->port());
  const ClientResponse response = refused.read();
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.error_message(),
            "expected at most 3 open connections, got more; try again later");
  EXPECT_TRUE(response.has_header("Retry-After: 1"));
  clients.pop_back();
  EXPECT_TRUE(wait_for([&] { return server_->connections() < 3; }));
  Client accepted(server_->port());
  EXPECT_EQ(accepted.get("/").status, 200);
}

TEST_F(HttpServerTest, SurvivesClientsThatLeave) {
  start({}, [this](const HttpRequest& request, const Respond& respond) {
    echo_later(request, respond, 20);
  });
  for (int i = 0; i < 50; ++i) {
    Client client(server_->port());
    client.send(Client::request("POST", "/", "x").substr(0, i % 2 == 0 ? 1000 : 30));
  }
  Client client(server_->port());
  EXPECT_EQ(client.get("/").status, 200);
  EXPECT_TRUE(wait_for([&] { return server_->connections() == 1; }));
}

TEST_F(HttpServerTest, DrainFinishesWhatIsUnderWayAndRefusesTheRest) {
  std::atomic<int> started{0};
  start({}, [&](const HttpRequest& request, const Respond& respond) {
    ++started;
    echo_later(request, respond, 200);
  });
  Client busy(server_->port()), idle(server_->port()), last(server_->port());
  busy.send(Client::request("GET", "/busy"));
  last.send(Client::request("GET", "/first"));
  EXPECT_EQ(last.read().status, 200);
  busy.read();
  busy.send(Client::request("GET", "/busy"));
  ASSERT_TRUE(wait_for([&] { return started == 3; }));
  server_->announce_end();
  Client late(server_->port());  // still let in
  late.send(Client::request("GET", "/late"));
  server_->stop_accepting(Clock::now() + milliseconds(300));
  EXPECT_THROW(Client(server_->port()), std::runtime_error);
  last.send(Client::request("GET", "/last"));  // on a connection that was idle
  for (Client* client : {&busy, &late, &last}) {
    const ClientResponse response = client->read();
    EXPECT_EQ(response.status, 200);
    EXPECT_TRUE(response.has_header("Connection: close"));
  }
  EXPECT_TRUE(idle.closed());
  EXPECT_TRUE(wait_for([&] { return server_->connections() == 0; }));
}

TEST_F(HttpServerTest, SaysThatThePortIsTaken) {
  start();
  const std::string port = std::to_string(server_->port());
  try {
    HttpServer second("127.0.0.1", server_->port(), {}, 1, echo);
    FAIL() << "two servers on one port";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), "cannot listen on 127.0.0.1:" + port +
                                ": the port is taken by another process; stop it or choose another "
                                "port (0 takes a free one)");
  }
  EXPECT_THROW(HttpServer("203.0.113.7", 0, {}, 1, echo), Error);
  EXPECT_THROW(HttpServer("no such host", 0, {}, 1, echo), Error);
}

TEST_F(HttpServerTest, SurvivesMutatedMessages) {
  HttpLimits limits;
  limits.read_timeout = milliseconds(300);
  start(limits);
  const std::string valid =
      Client::request("POST", "/v1/recommend", "{\"user\": 1}", "A: b\r\n") +
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
  std::mt19937 random(11);
  for (int i = 0; i < 1500; ++i) {
    std::string bytes = valid;
    for (unsigned n = 1 + random() % 4; n > 0; --n) {
      const size_t at = random() % bytes.size();
      switch (random() % 3) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, 1 + random() % 8);
          break;
        default:
          bytes.insert(at, std::string(1 + random() % 8, static_cast<char>(random())));
      }
    }
    Client client(server_->port());
    client.send(bytes);
    client.finish_sending();
    while (const auto response = client.try_read()) {
      EXPECT_LT(response->status, 500) << bytes;
    }
  }
  Client client(server_->port());
  EXPECT_EQ(client.get("/").status, 200);
}

}  // namespace
}  // namespace hypertower
