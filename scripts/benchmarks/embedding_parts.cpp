// What Python cannot take apart of the embedding ops on the CPU. Prints one JSON object a line, in
// the order of the functions below; called from bench_embedding.py.
//
// usage: hypertower_embedding_parts THREADS [--quick]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/bag_check.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/embedding.h"
#include "kernels/embedding_backend.h"
#include "kernels/huge_buffer.h"
#include "kernels/id_table.h"
#include "kernels/parallel.h"

namespace hypertower {
namespace {

struct Sizes {
  int64_t rows, bags, length, dim;
  int64_t plan_ids;
  int64_t table_rows;  // of ids
  double seconds;
};

double seconds_of(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

// Median seconds of each, in turns, the first of which does not count.
std::vector<double> times_of(double seconds, const std::vector<std::function<void()>>& bodies) {
  std::vector<std::vector<double>> times(bodies.size());
  double spent = 0.0;
  for (int turn = 0; turn < 6 || spent < seconds; ++turn) {
    for (size_t i = 0; i < bodies.size(); ++i) {
      const double t = seconds_of(bodies[i]);
      if (turn > 0) times[i].push_back(t);
      spent += t;
    }
  }
  std::vector<double> medians;
  for (auto& t : times) medians.push_back(median(std::move(t)));
  return medians;
}

// Uniform ids in bags of one length; several batches, so that no cache holds the next one's rows.
struct Batches {
  static constexpr int kCount = 4;
  std::vector<int64_t> ids[kCount], offsets;
  int next = 0;

  Batches(int64_t rows, int64_t bags, int64_t length) {
    std::mt19937_64 rng(1);
    std::uniform_int_distribution<int64_t> any(0, rows - 1);
    for (auto& batch : ids) {
      batch.resize(static_cast<size_t>(bags * length));
      for (int64_t& id : batch) id = any(rng);
    }
    for (int64_t b = 0; b <= bags; ++b) offsets.push_back(b * length);
  }
  Bags take() {
    next = (next + 1) % kCount;
    return {ids[next].data(), offsets.data(), nullptr, static_cast<int64_t>(ids[next].size()),
            static_cast<int64_t>(offsets.size()) - 1};
  }
};

std::vector<float> normal_numbers(int64_t count) {
  std::mt19937_64 rng(2);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(static_cast<size_t>(count));
  for (float& x : numbers) x = normal(rng);
  return numbers;
}

void print(const char* id, double value, double seconds, bool checked) {
  std::printf("{\"id\": \"%s\", \"value\": %.6g, \"seconds\": %.6g, \"checked\": %s}\n", id, value,
              seconds, checked ? "true" : "false");
}

[[noreturn]] void wrong(const char* what) {
  std::fprintf(stderr, "embedding_parts: %s\n", what);
  std::exit(1);
}

// R10: a lookup, and the same without the time of the check of ids and offsets that it begins with.
// R11: a lookup in int8 rows and in float32 rows.
void lookups(const Sizes& s, int threads) {
  const std::vector<float> numbers = normal_numbers(s.rows * s.dim);
  HugeBuffer floats(numbers.size() * sizeof(float));
  std::memcpy(floats.data(), numbers.data(), numbers.size() * sizeof(float));
  const MatrixView<const float> table(reinterpret_cast<const float*>(floats.data()), s.rows, s.dim);
  const int64_t stride = (row_bytes(RowFormat::kInt8, s.dim) + 15) / 16 * 16;
  HugeBuffer codes(static_cast<size_t>(s.rows * stride));
  const Table int8(codes.data(), s.rows, s.dim, stride, RowFormat::kInt8);
  encode_rows(table, int8, threads);

  Batches batches(s.rows, s.bags, s.length);
  std::vector<float> out(static_cast<size_t>(s.bags * s.dim)), got(out.size());
  const Exec exec{.threads = threads};
  const auto look_up = [&](ConstTable from, std::vector<float>& to) {
    embedding_bag(from, batches.take(), Pool::kSum, BadIds::kThrow, {to.data(), s.bags, s.dim},
                  exec);
  };
  look_up(table, out);
  const std::vector<int64_t>& ids = batches.ids[batches.next];
  for (int64_t i = 0; i < s.bags * s.dim; ++i) {
    double sum = 0.0;
    for (int64_t e = 0; e < s.length; ++e) {
      sum += double{table.row(ids[i / s.dim * s.length + e])[i % s.dim]};
    }
    if (!(std::fabs(out[i] - sum) < 1e-4)) wrong("a lookup is not the sum of its rows");
  }
  batches.next = 0;
  look_up(int8, got);
  float error = 0.0F;
  for (size_t i = 0; i < out.size(); ++i) error = std::max(error, std::fabs(out[i] - got[i]));
  if (!(error < 0.03F * static_cast<float>(s.length))) wrong("int8 rows are off");
  const std::vector<double> t =
      times_of(s.seconds, {[&] { look_up(table, out); }, [&] { look_up(int8, got); },
                           [&] {
                             const PlanInput input{s.rows, batches.take()};
                             cpu::check_bags({&input, 1}, BadIds::kThrow, threads);
                           }});
  print("R10", t[0] / (t[0] - t[2]), t[0], true);
  print("R11", t[1] / t[0], t[1], true);
}

int64_t status_bytes(const char* key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::atoll(line.c_str() + std::strlen(key) + 1) * 1024;
  }
  return -1;
}

// R14: the most memory that a plan and its backward pass had at once, without table, ids, gradient.
void backward_memory(const Sizes& s, int threads) {
  constexpr int64_t kLength = 64, kDim = 16;
  Batches batches(s.rows, s.plan_ids / kLength, kLength);
  const Bags bags = batches.take();
  std::vector<float> table(static_cast<size_t>(s.rows * kDim), 1.0F),
      state(static_cast<size_t>(s.rows), 1.0F), grad(static_cast<size_t>(bags.bags * kDim), 1.0F);
  const Exec exec{.threads = threads};
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak begins anew
  const int64_t before = status_bytes("VmRSS:");
  if (before < 0) wrong("/proc/self/status does not say how much memory is used");
  const double seconds = seconds_of([&] {
    const EmbeddingPlan plan(s.rows, bags, BadIds::kThrow, exec);
    embedding_backward({table.data(), s.rows, kDim}, {state.data(), s.rows, 1}, {}, plan, bags,
                       Pool::kSum, {grad.data(), bags.bags, kDim}, {}, exec);
  });
  const auto extra = static_cast<double>(status_bytes("VmHWM:") - before);
  print("R14", extra / static_cast<double>(bags.n), seconds, false);
}

// E4: plan and backward pass, over the plan and a loop that does nothing but read and write the
// plan's rows and states in place.
void backward_over_touching(const Sizes& s, int threads) {
  HugeBuffer rows(static_cast<size_t>(s.rows * s.dim) * sizeof(float)),
      states(static_cast<size_t>(s.rows) * sizeof(float));
  const Table table(reinterpret_cast<float*>(rows.data()), s.rows, s.dim);
  const MatrixView<float> state(reinterpret_cast<float*>(states.data()), s.rows, 1);
  const std::vector<float> grad = normal_numbers(s.bags * s.dim);
  Batches batches(s.rows, s.bags, s.length);
  const Exec exec{.threads = threads};
  std::vector<double> planning, stepping, touching;
  double spent = 0.0;
  while (planning.size() < 5 || spent < s.seconds) {
    const Bags bags = batches.take();
    std::unique_ptr<EmbeddingPlan> plan;
    planning.push_back(seconds_of(
        [&] { plan = std::make_unique<EmbeddingPlan>(s.rows, bags, BadIds::kThrow, exec); }));
    stepping.push_back(seconds_of([&] {
      embedding_backward(table, state, {}, *plan, bags, Pool::kSum, {grad.data(), bags.bags, s.dim},
                         {}, exec);
    }));
    const EmbeddingPlan::Data& data = plan->data();
    touching.push_back(seconds_of([&] {
      parallel_for(threads, data.runs, 2048, [&](int64_t begin, int64_t end) {
        constexpr int64_t kAhead = 8, kLine = 64;
        for (int64_t run = begin; run < end; ++run) {
          if (run + kAhead < data.runs) {
            const int64_t row = data.row[run + kAhead];
            for (int64_t at = 0; at < table.stride; at += kLine) {
              cpu::prefetch_line(table.row(row) + at);
            }
            cpu::prefetch_line(state.row(row));
          }
          auto* row = reinterpret_cast<float*>(table.row(data.row[run]));
          for (int64_t c = 0; c < s.dim; ++c) row[c] *= 0.5F;
          *state.row(data.row[run]) += 1.0F;
        }
      });
    }));
    spent += planning.back() + stepping.back() + touching.back();
  }
  const double plan = median(planning), step = median(stepping), touch = median(touching);
  print("E4", (plan + step) / (plan + touch), plan + step, false);
}

// H1: ids found a second in a table that is full, over those in one that is half full.
void find_rates(const Sizes& s, int threads) {
  std::vector<IdTable> tables;
  std::vector<std::vector<int64_t>> asked;
  for (const double load : {0.5, 1.0}) {
    IdTable table({.rows = s.table_rows});
    std::mt19937_64 rng(3);
    std::vector<int64_t> ids(static_cast<size_t>(load * static_cast<double>(table.rows())));
    for (int64_t& id : ids) id = static_cast<int64_t>(rng());
    std::vector<int64_t> rows(ids.size());
    std::vector<IdTableChange> changes;
    table.assign(ids, rows.data(), &changes, threads);
    std::vector<int64_t> known;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (rows[i] >= 0) known.push_back(ids[i]);
    }
    std::shuffle(known.begin(), known.end(), rng);
    known.resize(std::min<size_t>(known.size(), static_cast<size_t>(s.table_rows) / 4));
    asked.push_back(std::move(known));
    tables.push_back(std::move(table));
  }
  std::vector<int64_t> rows(asked[0].size());
  for (size_t t = 0; t < tables.size(); ++t) {
    tables[t].find({asked[t].data(), rows.size()}, rows.data(), threads);
    const IdTable::Saved saved = tables[t].save();  // ids ascending
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto at = std::lower_bound(saved.ids.begin(), saved.ids.end(), asked[t][i]);
      if (at == saved.ids.end() || *at != asked[t][i] ||
          saved.rows[at - saved.ids.begin()] != rows[i]) {
        wrong("an id was found in a row that is not its own");
      }
    }
  }
  const std::vector<double> t =
      times_of(s.seconds, {[&] { tables[0].find(asked[0], rows.data(), threads); },
                           [&] {
                             tables[1].find({asked[1].data(), rows.size()}, rows.data(), threads);
                           }});
  print("H1", t[0] / t[1], t[1], true);
}

int run(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
  if (threads < 1) {
    std::fprintf(stderr, "usage: %s THREADS [--quick]\n", argv[0]);
    return 2;
  }
  const bool quick = argc > 2 && std::strcmp(argv[2], "--quick") == 0;
  const Sizes sizes = quick ? Sizes{100'000, 2048, 20, 128, 1 << 20, 1 << 18, 0.3}
                            : Sizes{1'000'000, 4096, 20, 128, 1 << 23, 1 << 22, 3.0};
  lookups(sizes, threads);
  backward_memory(sizes, threads);
  backward_over_touching(sizes, threads);
  find_rates(sizes, threads);
  return 0;
}

}  // namespace
}  // namespace hypertower

int main(int argc, char** argv) {
  return hypertower::run(argc, argv);
}
