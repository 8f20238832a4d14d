// The command line and the metrics page.
#include "server/options.h"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "kernels/error.h"
#include "server/metrics.h"

namespace hypertower {
namespace {

TEST(Options, ParseEndpoints) {
  EXPECT_EQ(parse_endpoint("8080").host, "127.0.0.1");
  EXPECT_EQ(parse_endpoint("8080").port, 8080);
  EXPECT_EQ(parse_endpoint("0.0.0.0:0").host, "0.0.0.0");
  EXPECT_EQ(parse_endpoint("[::1]:99").host, "::1");
  EXPECT_EQ(parse_endpoint("localhost:65535").port, 65535);
  for (const char* wrong : {"", "x", "65536", "-1", "80 ", ":80", "host:", "host:x"}) {
    try {
      parse_endpoint(wrong);
      ADD_FAILURE() << wrong;
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), "expected PORT or HOST:PORT with a port from 0 to 65535, got '" +
                                  std::string(wrong) + "'");
    }
  }
}

TEST(Options, PutTheStateBesideTheModel) {
  EXPECT_EQ(default_state_directory("runs/ml"), "runs/ml-state");
  EXPECT_EQ(default_state_directory("runs/ml/"), "runs/ml-state");
  EXPECT_EQ(default_state_directory("runs//x/../ml//"), "runs/ml-state");
  EXPECT_EQ(default_state_directory("/ml"), "/ml-state");
}

std::optional<ServerOptions> parse(std::vector<const char*> arguments, int& exit_code) {
  arguments.insert(arguments.begin(), "hypertower-server");
  return parse_options(static_cast<int>(arguments.size()), arguments.data(), exit_code);
}

TEST(Options, HaveDefaults) {
  int exit_code = -1;
  const auto options = parse({"runs/ml"}, exit_code);
  ASSERT_TRUE(options);
  EXPECT_EQ(options->model, "runs/ml");
  EXPECT_EQ(options->state, "runs/ml-state");
  EXPECT_EQ(options->http.host, "127.0.0.1");
  EXPECT_EQ(options->http.port, 8080);
  EXPECT_FALSE(options->admin);
}

TEST(Options, ReadEverything) {
  int exit_code = -1;
  const auto options = parse({"m", "--http", "0.0.0.0:1", "--admin", "2", "--state", "s",
                              "--threads", "3", "--max-body", "4", "--read-seconds", "0.5",
                              "--drain-seconds", "6", "--log-level", "off", "--port-file", "p"},
                             exit_code);
  ASSERT_TRUE(options);
  EXPECT_EQ(options->http.host, "0.0.0.0");
  EXPECT_EQ(options->admin->port, 2);
  EXPECT_EQ(options->state, "s");
  EXPECT_EQ(options->threads, 3);
  EXPECT_EQ(options->limits.max_body_bytes, 4U);
  EXPECT_EQ(options->limits.read_timeout.count(), 500);
  EXPECT_EQ(options->drain_seconds, 6);
  EXPECT_EQ(options->port_file, "p");
}

TEST(Options, RefuseWrongUsageWithExitCode2) {
  for (const std::vector<const char*>& arguments :
       std::vector<std::vector<const char*>>{{},
                                             {"m", "--http", "x"},
                                             {"m", "--htp", "1"},
                                             {"m", "--threads", "-1"},
                                             {"m", "--log-level", "loud"},
                                             {"m", "n"}}) {
    int exit_code = -1;
    EXPECT_FALSE(parse(arguments, exit_code));
    EXPECT_EQ(exit_code, 2);
  }
  int exit_code = -1;
  EXPECT_FALSE(parse({"--help"}, exit_code));
  EXPECT_EQ(exit_code, 0);
}

TEST(Metrics, SumShardsAndFillBuckets) {
  Metrics metrics({"a", "b"});
  metrics.request(0, 200, 0.001);
  metrics.request(0, 200, 0.002);
  metrics.request(0, 503, 100);
  metrics.request(1, 418, 0);
  metrics.observe(Metrics::Timer::kCommit, std::nan(""));  // clocks do odd things; no crash
  metrics.count(Metrics::Counter::kEventsAccepted, 5);
  const std::string text = metrics.text({"m@1", true, 3, 4, 5});
  for (const char* line : {"hypertower_requests_total{api=\"a\",code=\"200\"} 2",
                           "hypertower_requests_total{api=\"a\",code=\"503\"} 1",
                           "hypertower_requests_total{api=\"b\",code=\"other\"} 1",
                           "hypertower_request_seconds_count{api=\"a\"} 3",
                           "hypertower_request_seconds_bucket{api=\"a\",le=\"+Inf\"} 3",
                           "hypertower_request_seconds_bucket{api=\"a\",le=\"0.0016\"} 1",
                           "hypertower_events_accepted_total 5", "hypertower_connections 3",
                           "hypertower_ready 1", "hypertower_model_info{version=\"m@1\"} 1"}) {
    EXPECT_NE(text.find(std::string(line) + "\n"), std::string::npos) << line << "\n" << text;
  }
}

}  // namespace
}  // namespace hypertower
