#include "trainer/batches.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "trainer/decide.h"
#include "trainer/random.h"

namespace hypertower {
namespace {

constexpr uint64_t kOrderStream = 1;
constexpr uint64_t kCutStream = 4;
constexpr uint64_t kNoiseStream = 5;
constexpr uint64_t kKeepStream = 6;
constexpr double kLengthNoise = 0.1;  // of log length: the same windows do not meet every epoch

// Draws of one epoch.
CounterRandom random_of(int64_t seed, int64_t epoch, uint64_t stream) {
  return {static_cast<uint64_t>(seed) + (static_cast<uint64_t>(epoch) << 32), stream};
}

int64_t single_batch_size(const TrainingConfig& config, size_t targets) {
  constexpr int64_t kLeast = 32;
  constexpr int64_t kMost = 512;
  if (config.batch_size > 0) return config.batch_size;
  int64_t size = kLeast;
  while (size < kMost && size * 2 * 100 <= static_cast<int64_t>(targets)) size *= 2;
  return size;
}

class SingleBatches : public Batches {
 public:
  SingleBatches(const Histories& histories, std::span<const int64_t> targets,
                const TrainingConfig& config)
      : histories_(histories),
        targets_(targets),
        seed_(config.seed),
        size_(single_batch_size(config, targets.size())) {}

  int64_t begin_epoch(int64_t epoch) override {
    order_.assign(targets_.begin(), targets_.end());
    shuffle(order_, random_of(seed_, epoch, kOrderStream));
    return (static_cast<int64_t>(order_.size()) + size_ - 1) / size_;
  }

  TrainBatch batch(int64_t index) const override {
    const auto begin = static_cast<size_t>(index * size_);
    const size_t end = std::min(order_.size(), begin + static_cast<size_t>(size_));
    TrainBatch out;
    out.targets.assign(order_.begin() + static_cast<int64_t>(begin),
                       order_.begin() + static_cast<int64_t>(end));
    out.people = out.targets;
    out.past = histories_.of(out.targets);
    return out;
  }

 private:
  const Histories& histories_;
  std::span<const int64_t> targets_;
  int64_t seed_;
  int64_t size_;
  std::vector<int64_t> order_;
};

class WindowBatches : public Batches {
 public:
  WindowBatches(const Events& events, const Histories& histories, int64_t num_users,
                std::span<const int64_t> targets, Part last, const TrainingConfig& config)
      : events_(events),
        histories_(histories),
        seed_(config.seed),
        budget_(tokens_per_batch(config, static_cast<int64_t>(targets.size()))),
        lead_(histories.length() / 4),
        is_target_(static_cast<size_t>(events.size()), false) {
    for (const int64_t e : targets) is_target_[static_cast<size_t>(e)] = true;
    offsets_.push_back(0);
    for (int64_t u = 0; u < num_users; ++u) {
      const size_t begin = read_.size();
      size_t end = begin;  // after the last target
      for (const int64_t e : histories.events_of(u)) {
        if (events.part[static_cast<size_t>(e)] > last) continue;
        read_.push_back(e);
        if (is_target_[static_cast<size_t>(e)]) end = read_.size();
      }
      read_.resize(end);
      if (end > begin) offsets_.push_back(static_cast<int64_t>(end));
    }
  }

  int64_t begin_epoch(int64_t epoch) override {
    std::vector<Window> windows;
    const CounterRandom cut = random_of(seed_, epoch, kCutStream);
    for (size_t s = 0; s + 1 < offsets_.size(); ++s) {
      add_windows(offsets_[s], offsets_[s + 1], cut, s, windows);
    }
    fill_batches(std::move(windows), epoch);
    return static_cast<int64_t>(batches_.size());
  }

  TrainBatch batch(int64_t index) const override {
    TrainBatch out;
    for (const Window& w : batches_[static_cast<size_t>(index)]) append(w, out);
    return out;
  }

 private:
  // Places in read_: events [first, end), of which those from `targets` on are targets. The last
  // one is a target only: nothing comes after it.
  struct Window {
    int64_t first = 0;
    int64_t targets = 0;
    int64_t end = 0;
    int64_t tokens() const { return end - first; }
  };

  void add_windows(int64_t begin, int64_t end, const CounterRandom& cut, uint64_t sequence,
                   std::vector<Window>& out) const {
    const int64_t most = histories_.length() + 1;  // tokens: a person and her events
    const auto add = [&](const Window& w) {
      const auto is_target = [&](int64_t e) { return is_target_[static_cast<size_t>(e)]; };
      if (std::any_of(read_.begin() + w.targets, read_.begin() + w.end, is_target)) {
        out.push_back(w);
      }
    };
    if (end - begin <= most) {
      add({begin, begin, end});
      return;
    }
    const int64_t step = most - lead_;  // targets of a window that has a lead
    int64_t size = step / 2 + cut.below(sequence, step - step / 2) + 1;
    while (end > begin) {
      const int64_t targets = std::max(begin, end - size);
      add({std::max(begin, targets - lead_), targets, end});
      end = targets;
      size = step;
    }
  }

  void fill_batches(std::vector<Window> windows, int64_t epoch) {
    const CounterRandom random = random_of(seed_, epoch, kNoiseStream);
    std::vector<std::pair<double, size_t>> order;
    for (size_t w = 0; w < windows.size(); ++w) {
      order.emplace_back(
          std::log(static_cast<double>(windows[w].tokens())) + kLengthNoise * normal(random, w), w);
    }
    std::sort(order.begin(), order.end());
    std::vector<std::vector<Window>> filled;
    int64_t longest = 0;
    for (const auto& [length, w] : order) {
      const Window& window = windows[w];
      longest = std::max(longest, window.tokens());
      const auto rows = filled.empty() ? 0 : static_cast<int64_t>(filled.back().size());
      if (rows == 0 || longest * (rows + 1) > budget_) {
        filled.emplace_back();
        longest = window.tokens();
      }
      filled.back().push_back(window);
    }
    std::vector<int64_t> turn(filled.size());
    for (size_t b = 0; b < turn.size(); ++b) turn[b] = static_cast<int64_t>(b);
    shuffle(turn, random_of(seed_, epoch, kOrderStream));
    batches_.clear();
    for (const int64_t b : turn) batches_.push_back(std::move(filled[static_cast<size_t>(b)]));
  }

  // Box & Muller 1958.
  static double normal(const CounterRandom& random, uint64_t counter) {
    constexpr double kUnit = 0x1.0p-53;
    const double radius = 1.0 - static_cast<double>(random.bits(2 * counter) >> 11) * kUnit;
    const double angle = static_cast<double>(random.bits(2 * counter + 1) >> 11) * kUnit;
    return std::sqrt(-2 * std::log(radius)) * std::cos(2 * std::numbers::pi * angle);
  }

  void append(const Window& w, TrainBatch& out) const {
    const auto first_token = out.past.offsets.back() + static_cast<int64_t>(out.people.size());
    out.people.push_back(read_[static_cast<size_t>(w.first)]);
    int64_t before = w.first;  // the first event of the same moment
    for (int64_t at = w.first; at < w.end; ++at) {
      const int64_t e = read_[static_cast<size_t>(at)];
      if (at + 1 < w.end) histories_.append_event(e, out.past);
      const auto order = [&](int64_t place) {
        return events_.order[static_cast<size_t>(read_[static_cast<size_t>(place)])];
      };
      if (order(at) != order(before)) before = at;
      if (at < w.targets || !is_target_[static_cast<size_t>(e)]) continue;
      out.targets.push_back(e);
      out.tokens.push_back(first_token + before - w.first);
    }
    out.past.offsets.push_back(static_cast<int64_t>(out.past.items.size()));
  }

  const Events& events_;
  const Histories& histories_;
  int64_t seed_;
  int64_t budget_;  // tokens of a batch
  int64_t lead_;
  std::vector<bool> is_target_;
  std::vector<int64_t> read_;     // events by person, up to the last target
  std::vector<int64_t> offsets_;  // of the persons that have targets
  std::vector<std::vector<Window>> batches_;
};

class PeopleBatches : public Batches {
 public:
  PeopleBatches(const Events& events, const Histories& histories, int64_t num_users,
                std::span<const int64_t> targets, Part last, const TrainingConfig& config)
      : events_(events),
        histories_(histories),
        last_(last),
        seed_(config.seed),
        size_(people_per_batch(config)),
        is_target_(static_cast<size_t>(events.size()), false),
        draw_(static_cast<uint64_t>(config.seed), kKeepStream) {
    for (const int64_t e : targets) is_target_[static_cast<size_t>(e)] = true;
    const auto is_target = [&](int64_t e) { return is_target_[static_cast<size_t>(e)]; };
    for (int64_t u = 0; u < num_users; ++u) {
      const auto own = histories.events_of(u);
      if (std::any_of(own.begin(), own.end(), is_target)) people_.push_back(u);
    }
  }

  int64_t begin_epoch(int64_t epoch) override {
    order_ = people_;
    shuffle(order_, random_of(seed_, epoch, kOrderStream));
    draw_ = random_of(seed_, epoch, kKeepStream);
    return (static_cast<int64_t>(order_.size()) + size_ - 1) / size_;
  }

  TrainBatch batch(int64_t index) const override {
    TrainBatch out;
    out.target_offsets.push_back(0);
    const auto begin = static_cast<size_t>(index * size_);
    const size_t end = std::min(order_.size(), begin + static_cast<size_t>(size_));
    for (size_t i = begin; i < end; ++i) append(order_[i], out);
    return out;
  }

 private:
  static constexpr double kKept = 0.5;

  void append(int64_t user, TrainBatch& out) const {
    std::vector<int64_t> readable;
    for (const int64_t e : histories_.events_of(user)) {
      if (events_.part[static_cast<size_t>(e)] <= last_) readable.push_back(e);
      if (is_target_[static_cast<size_t>(e)]) out.targets.push_back(e);
    }
    out.people.push_back(readable.front());
    out.target_offsets.push_back(static_cast<int64_t>(out.targets.size()));
    const auto n = static_cast<double>(readable.size());
    const double kept = std::min(kKept, static_cast<double>(histories_.length()) / n);
    int64_t age = 0;
    const auto before = out.past.items.size();
    for (const int64_t e : readable) {
      const bool is_kept =
          static_cast<double>(draw_.bits(static_cast<uint64_t>(e)) >> 11) * 0x1.0p-53 < kept;
      if (is_kept) histories_.append_event(e, out.past);
    }
    // A person of several events is never read as one of none.
    if (out.past.items.size() == before && readable.size() > 1) {
      const auto place =
          draw_.below(static_cast<uint64_t>(readable[0]), static_cast<int64_t>(readable.size()));
      histories_.append_event(readable[static_cast<size_t>(place)], out.past);
    }
    for (size_t j = before; j < out.past.items.size(); ++j) out.past.ages.push_back(age++);
    out.past.offsets.push_back(static_cast<int64_t>(out.past.items.size()));
  }

  const Events& events_;
  const Histories& histories_;
  Part last_;
  int64_t seed_;
  int64_t size_;  // people a batch
  std::vector<bool> is_target_;
  std::vector<int64_t> people_, order_;
  CounterRandom draw_;  // of the epoch
};

}  // namespace

std::unique_ptr<Batches> people_batches(const Events& events, const Histories& histories,
                                        int64_t num_users, std::span<const int64_t> targets,
                                        Part last, const TrainingConfig& config) {
  return std::make_unique<PeopleBatches>(events, histories, num_users, targets, last, config);
}

std::unique_ptr<Batches> single_batches(const Histories& histories,
                                        std::span<const int64_t> targets,
                                        const TrainingConfig& config) {
  return std::make_unique<SingleBatches>(histories, targets, config);
}

std::unique_ptr<Batches> window_batches(const Events& events, const Histories& histories,
                                        int64_t num_users, std::span<const int64_t> targets,
                                        Part last, const TrainingConfig& config) {
  return std::make_unique<WindowBatches>(events, histories, num_users, targets, last, config);
}

}  // namespace hypertower
