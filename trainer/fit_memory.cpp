#include "trainer/fit_memory.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

namespace hypertower {
namespace {

constexpr double kWorthIt = 1.005;  // times the gain without
constexpr size_t kBlock = 256;

// Calls visit(block of events, their scores of the whole catalogue by the towers).
template <class Visit>
void for_each_block(TwoTower& towers, const TrainingInputs& inputs, std::span<const int64_t> events,
                    bool exclude_seen, const Visit& visit) {
  const at::NoGradGuard no_grad;
  const at::Tensor items = encode_catalogue(towers, inputs);
  for (size_t begin = 0; begin < events.size(); begin += kBlock) {
    const auto block = events.subspan(begin, std::min(kBlock, events.size() - begin));
    SeenItems seen;
    if (exclude_seen) seen = seen_items(inputs.histories, block);
    visit(block, all_scores(encode_queries(towers, inputs, items, block), items, seen));
  }
}

// The softmax of the towers over everything, and what the memory of habits may change of it: events
// of people's past, each in the slot of its item. On the CPU.
struct Pasts {
  std::vector<int64_t> slot;              // of each event
  std::vector<float> age, weight, alike;  // of each event; alike [events, fields]
  std::vector<int64_t> row;               // of each slot
  std::vector<float> share;               // of each slot: exp(score) / sum of exp(scores)
  std::vector<int64_t> target_slot;       // of rows whose target is in their past
  int64_t rows = 0;
};

void add_past(const TrainingInputs& inputs, int64_t event, const std::vector<size_t>& fields,
              const float* scores, double log_z, Pasts& out) {
  const Batch& contexts = inputs.data.events.context;
  const std::vector<PastEvent> past = past_of(inputs, event);
  std::map<int64_t, int64_t> slots;
  for (size_t j = 0; j < past.size(); ++j) {
    const auto next = static_cast<int64_t>(out.row.size());
    const auto [slot, added] = slots.emplace(past[j].item, next);
    if (added) {
      out.row.push_back(out.rows);
      out.share.push_back(static_cast<float>(std::exp(scores[past[j].item] - log_z)));
    }
    out.slot.push_back(slot->second);
    out.age.push_back(std::log1p(static_cast<float>(past.size() - 1 - j)));
    out.weight.push_back(past[j].weight);
    for (const size_t f : fields) {
      const FeatureColumn& column = contexts.columns[f];
      out.alike.push_back(alike(column, past[j].context, column, event) ? 1.0F : 0.0F);
    }
  }
  const auto own = slots.find(inputs.data.events.item[static_cast<size_t>(event)]);
  if (own != slots.end()) out.target_slot.push_back(own->second);
  ++out.rows;
}

at::Tensor tensor(const std::vector<float>& values) {
  return to_tensor(std::span(values), at::kCPU);
}
at::Tensor tensor(const std::vector<int64_t>& values) {
  return to_tensor(std::span(values), at::kCPU);
}

// Maximises the mean of log p(target), p proportional to exp(score + delta): with s the towers'
// shares, log p = log s_target + delta_target - log(1 + sum over slots of s (exp(delta) - 1)).
Habits most_likely(const Pasts& pasts, const std::vector<size_t>& fields, size_t context_features) {
  constexpr int kSteps = 200;
  constexpr double kMostAlike = 20;  // sum of all matches
  const auto events = static_cast<int64_t>(pasts.slot.size());
  const auto slots = static_cast<int64_t>(pasts.row.size());
  const auto width = static_cast<int64_t>(fields.size());
  const at::Tensor slot = tensor(pasts.slot), row = tensor(pasts.row), share = tensor(pasts.share),
                   age = tensor(pasts.age), weight = tensor(pasts.weight),
                   same = tensor(pasts.alike).view({events, width}),
                   target = tensor(pasts.target_slot);
  // Exponentials of these: weight, scale, fading, matches. All start at 1 but the fading.
  at::Tensor logs = at::zeros({3 + width});
  logs[2] = std::log(0.5);
  logs.requires_grad_();
  torch::optim::Adam optimizer({logs}, torch::optim::AdamOptions(0.05));
  for (int step = 0; step < kSteps; ++step) {
    const at::Tensor p = at::exp(logs);
    at::Tensor power = -p[2] * age;
    if (width > 0) power = power + at::mv(same, p.slice(0, 3));
    const at::Tensor sums = at::zeros({slots}).index_add(0, slot, weight * at::exp(power));
    const at::Tensor delta = p[0] * at::log1p(p[1] * sums);
    const at::Tensor extra = at::zeros({pasts.rows}).index_add(0, row, share * at::expm1(delta));
    const at::Tensor loss = (at::log1p(extra).sum() - delta.index_select(0, target).sum()) /
                            static_cast<double>(pasts.rows);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    // Where the fields tell repeats perfectly, their matches would grow until exp() overflows.
    const at::NoGradGuard no_grad;
    if (width > 0) logs.slice(0, 3).clamp_max_(std::log(kMostAlike / static_cast<double>(width)));
  }
  const at::Tensor p = at::exp(logs).detach();
  const float* value = p.const_data_ptr<float>();
  Habits habits{value[0], value[1], value[2], std::vector<float>(context_features, 0.0F)};
  for (size_t f = 0; f < fields.size(); ++f) habits.match[fields[f]] = value[3 + f];
  return habits;
}

}  // namespace

Worth choose_strength(TwoTower& towers, const TrainingInputs& inputs,
                      std::span<const int64_t> events, bool exclude_seen, Memory& memory) {
  constexpr float kStrengths[] = {0, 25, 50, 100, 200, 400, 800};
  std::vector<double> gains(std::size(kStrengths), 0.0);
  for_each_block(towers, inputs, events, exclude_seen,
                 [&](std::span<const int64_t> block, const at::Tensor& scores) {
                   const std::vector<int64_t> targets = targets_of(inputs, block);
                   for (size_t s = 0; s < gains.size(); ++s) {
                     memory.followers.strength = kStrengths[s];
                     gains[s] += rank_gain(scores, adjustments(memory, inputs, block), targets);
                   }
                 });
  auto best = static_cast<size_t>(std::max_element(gains.begin(), gains.end()) - gains.begin());
  if (gains[best] < kWorthIt * gains[0]) best = 0;
  memory.followers.strength = kStrengths[best];
  const auto count = std::max(1.0, static_cast<double>(events.size()));
  return {gains[0] / count, gains[best] / count};
}

Worth fit_habits(TwoTower& towers, const TrainingInputs& inputs, std::span<const int64_t> events,
                 Memory& memory) {
  constexpr size_t kMost = 4096;
  memory.habits = {};
  const auto features = inputs.data.features.group(Group::kContext);
  std::vector<size_t> fields;  // that can be alike
  for (size_t f = 0; f < features.size(); ++f) {
    const FeatureKind kind = features[f].feature.kind;
    if (kind == FeatureKind::kCategory || kind == FeatureKind::kCategories) fields.push_back(f);
  }
  std::vector<int64_t> fitted, judged;
  const size_t stride = std::max<size_t>(1, events.size() / kMost);
  for (size_t i = 0, n = 0; i < events.size(); i += stride, ++n) {
    (n % 2 == 0 ? fitted : judged).push_back(events[i]);
  }

  Pasts pasts;
  for_each_block(
      towers, inputs, fitted, false, [&](std::span<const int64_t> block, const at::Tensor& scores) {
        const at::Tensor all =
            adjusted_scores(scores, adjustments(memory, inputs, block)).cpu().contiguous();
        const at::Tensor log_z = at::logsumexp(all, 1);
        for (size_t r = 0; r < block.size(); ++r) {
          const auto i = static_cast<int64_t>(r);
          add_past(inputs, block[r], fields, all.const_data_ptr<float>() + i * all.size(1),
                   log_z[i].item<double>(), pasts);
        }
      });
  Worth worth;
  if (pasts.target_slot.empty() || judged.empty()) return worth;
  Memory with = memory;
  with.habits = most_likely(pasts, fields, features.size());
  for_each_block(towers, inputs, judged, false,
                 [&](std::span<const int64_t> block, const at::Tensor& scores) {
                   const std::vector<int64_t> targets = targets_of(inputs, block);
                   worth.without += rank_gain(scores, adjustments(memory, inputs, block), targets);
                   worth.with += rank_gain(scores, adjustments(with, inputs, block), targets);
                 });
  if (worth.with >= kWorthIt * worth.without) memory = std::move(with);
  const auto count = static_cast<double>(judged.size());
  return {worth.without / count, worth.with / count};
}

}  // namespace hypertower
