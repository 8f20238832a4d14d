#include "trainer/adjustments.h"

namespace hypertower {

std::vector<PastEvent> past_of(const TrainingInputs& inputs, int64_t event) {
  const Events& events = inputs.data.events;
  std::vector<PastEvent> past;
  for (const int64_t row : inputs.histories.latest(event, Habits::kEvents)) {
    const auto e = static_cast<size_t>(row);
    past.push_back({events.item[e], events.history_weight[e], row});
  }
  return past;
}

Adjustments adjustments(const Memory& memory, const TrainingInputs& inputs,
                        std::span<const int64_t> events) {
  Adjustments out;
  HistoryRows history;
  for (const int64_t e : events) {
    ScoreDeltas deltas;
    if (memory.followers.on()) {
      history = {};
      inputs.histories.append(e, history);
      deltas = memory.followers.of(history.items, history.weights);
      for (auto& pair : deltas) pair.second = memory.followers.delta(pair.second);
    }
    if (memory.habits.on()) {
      const Batch& contexts = inputs.data.events.context;
      const ScoreDeltas own = memory.habits.deltas(past_of(inputs, e), contexts, contexts, e);
      deltas.insert(deltas.end(), own.begin(), own.end());
      add_up(deltas);
    }
    for (const auto& [item, delta] : deltas) {
      out.items.push_back(item);
      out.deltas.push_back(delta);
    }
    out.offsets.push_back(static_cast<int64_t>(out.items.size()));
  }
  return out;
}

}  // namespace hypertower
