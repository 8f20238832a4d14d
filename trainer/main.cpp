// hypertower-train CONFIG: events -> model directory, with progress and an honest closing table.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "kernels/parallel.h"
#include "trainer/train.h"

namespace {

using hypertower::ConfigTree;
using hypertower::TrainObserver;
using nlohmann::json;

// Findings and epochs on stderr; a running line only on a terminal.
class Console : public TrainObserver {
 public:
  explicit Console(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) != 0) {}

  void on_message(const std::string& text) override {
    if (quiet_) return;
    clear_line();
    std::fprintf(stderr, "%s\n", text.c_str());
  }

  void on_progress(const Progress& p) override {
    if (quiet_ || !terminal_) return;
    std::fprintf(stderr, "\r%s, epoch %ld: %ld of %ld steps, %.0f a second, %.0f s left   ",
                 p.stage.c_str(), static_cast<long>(p.epoch), static_cast<long>(p.done),
                 static_cast<long>(p.total), p.per_second, p.seconds_left);
  }

  bool on_epoch(const json& m) override {
    if (quiet_) return true;
    clear_line();
    std::fprintf(stderr, "%s %ld: loss %.4f", m["stage"].get<std::string>().c_str(),
                 m["epoch"].get<long>(), m["train_loss"].get<double>());
    for (const auto& [name, value] : m.items()) {
      const bool shown = name.starts_with("ndcg@") || name.starts_with("recall@");
      if (shown) std::fprintf(stderr, ", %s %.4f", name.c_str(), value.get<double>());
    }
    std::fprintf(stderr, ", %.1f s\n", m["seconds"].get<double>());
    return true;
  }

 private:
  void clear_line() const {
    if (terminal_) std::fprintf(stderr, "\r\033[K");
  }
  bool quiet_;
  bool terminal_;
};

// The model beside the baselines on the same test events.
void print_table(const json& report) {
  if (report["test"].empty()) return;
  std::vector<std::string> measures;
  for (const char* measure : {"recall@", "ndcg@", "mrr@", "coverage@"}) {
    for (const int64_t k : report["settings"]["evaluation.k"]) {
      measures.push_back(measure + std::to_string(k));
    }
  }
  std::printf("%-18s", "test events");
  for (const auto& m : measures) std::printf(" %12s", m.c_str());
  const auto row = [&](const std::string& name, const json& values) {
    std::printf("\n%-18s", name.c_str());
    for (const auto& m : measures) std::printf(" %12.4f", values[m].get<double>());
  };
  row("model", report["test"]);
  for (const auto& [name, values] : report["baselines"].items()) row(name, values);
  std::printf("\n");
  if (report.contains("beats_baselines") && !report["beats_baselines"].get<bool>()) {
    std::printf("The model does not beat %s.\n",
                report["best_baseline"].get<std::string>().c_str());
  }
}

// Empty, or what is wrong with a --set: a mistake in the usage, before any file is read.
std::string setting_problem(const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals != std::string::npos && equals > 0) return "";
  return "expected key=value (training.lr=0.001), got '" + setting + "'.";
}

struct Options {
  std::string config;
  std::string data;
  std::string out;
  std::vector<std::string> settings;
  int64_t seed = -1;
  int64_t threads = -1;
  bool with_history = false;
  bool as_json = false;
  bool quiet = false;
};

void run(const Options& o) {
  ConfigTree config = ConfigTree::from_toml_file(o.config);
  for (const std::string& setting : o.settings) {
    const size_t equals = setting.find('=');
    config.set(setting.substr(0, equals), setting.substr(equals + 1));
  }
  if (o.seed >= 0) config.set("training.seed", json(o.seed));
  if (o.threads >= 0) config.set("training.threads", json(o.threads));

  const std::string out =
      o.out.empty() ? "runs/" + std::filesystem::path(o.config).stem().string() : o.out;
  hypertower::check_model_target(out);  // before the data is read, not after the training

  Console console(o.quiet);
  hypertower::TrainResult result =
      hypertower::train(config, hypertower::data_from_config(config, o.data), console);
  if (!o.with_history) result.model.people.clear();
  hypertower::write_model_directory(result.model, out);
  result.report["model"] = out;
  if (o.as_json) {
    std::cout << result.report.dump(2) << "\n";
    return;
  }
  print_table(result.report);
  std::printf("model directory: %s (%.1f s in all)\n", out.c_str(),
              result.report["seconds"]["total"].get<double>());
}

// OpenMP's threads, on which our loops run too, spin for milliseconds while they wait for their
// next piece of work: beside two busy programs training takes eight times as long. Spinning for
// some ten microseconds takes a fifth longer there than not spinning at all, and half the time of
// that on an idle machine. OpenMP reads the setting when it is loaded, before main.
void start_again_with_patient_openmp(char** argv) {
  for (const char* set : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}) {
    if (std::getenv(set) != nullptr) return;
  }
  if (setenv("GOMP_SPINCOUNT", "2000", 1) != 0) return;
  execv("/proc/self/exe", argv);  // returns only when it failed: then we are slow, not wrong
}

}  // namespace

int main(int argc, char** argv) {
  start_again_with_patient_openmp(argv);
  hypertower::share_openmp_threads();
  CLI::App app("Trains a two-tower recommender from an event log and writes a model directory.");
  app.name("hypertower-train");
  app.footer("Settings of the config file and their defaults (--set section.key=value):\n\n" +
             hypertower::config_help());
  app.set_version_flag("--version", "hypertower-train " HYPERTOWER_VERSION);
  Options o;
  app.add_option("config", o.config, "TOML file that says what the data is")->required();
  app.add_option("--data", o.data, "folder of the files that [data] names (default: the config's)");
  app.add_option(
      "--out", o.out,
      "model directory to write (default: runs/ and the name of the config file without .toml)");
  app.add_option("--set", o.settings, "override a setting, such as training.lr=0.001; repeatable")
      ->allow_extra_args(false)
      ->check(CLI::Validator(setting_problem, "KEY=VALUE"));
  app.add_option("--seed", o.seed, "training.seed")->check(CLI::NonNegativeNumber);
  app.add_option("--threads", o.threads, "training.threads")->check(CLI::NonNegativeNumber);
  app.add_flag("--with-history", o.with_history,
               "also write what people did: the directory then holds personal data");
  app.add_flag("--json", o.as_json, "print the whole report as JSON");
  app.add_flag("--quiet", o.quiet, "no progress");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  try {
    run(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "hypertower-train: %s\n", e.what());
    return 1;
  }
  return 0;
}
