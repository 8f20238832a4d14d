// The batches of an epoch: which events are targets together, and the histories that predict them.
// Every epoch has another order, a pure function of seed and epoch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/architecture.h"
#include "trainer/config.h"
#include "trainer/histories.h"

namespace hypertower {

struct TrainBatch {
  std::vector<int64_t> targets;  // event rows
  std::vector<int64_t> people;   // per history, an event row of its person
  HistoryRows past;              // the histories
  // Where histories are shared: per target, the packed token whose state predicts it, numbered as
  // in HistoryTransformer::states. Empty: see `target_offsets`.
  std::vector<int64_t> tokens;
  // History r predicts the targets [target_offsets[r], target_offsets[r + 1]), none of them better
  // than another. Empty as well: history r predicts target r.
  std::vector<int64_t> target_offsets;
};

class Batches {
 public:
  virtual ~Batches() = default;
  // Begins the epoch with this number and returns how many batches it has.
  virtual int64_t begin_epoch(int64_t epoch) = 0;
  virtual TrainBatch batch(int64_t index) const = 0;
};

// Each target with a history of its own: config.batch_size targets a batch, or by rule when that is
// 0: the power of two near a hundredth of the events, within [32, 512], so that little data still
// gets enough steps. Keeps references to `histories` and `targets`.
std::unique_ptr<Batches> single_batches(const Histories& histories,
                                        std::span<const int64_t> targets,
                                        const TrainingConfig& config);

// Histories in windows, every event of which is a target predicted from those before it, as SASRec
// trains (Kang & McAuley 2018). A history longer than the model reads is cut into windows, each
// epoch elsewhere, so that each target comes once an epoch; a window begins with some of the events
// before its targets, so that only first events are predicted from nothing. Windows of about one
// length fill a batch up to config.batch_size tokens; by rule (0) 1024 or, from 300,000 targets on,
// 2048. `events` must outlive it; `targets` are ascending event rows of `last` or an earlier part,
// whose events alone are read.
std::unique_ptr<Batches> window_batches(const Events& events, const Histories& histories,
                                        int64_t num_users, std::span<const int64_t> targets,
                                        Part last, const TrainingConfig& config);

// Whole people: all of a person's targets are predicted from a part of her events, drawn anew each
// epoch, so that each is predicted from others before and after it; for events in no order.
// config.batch_size people a batch, 256 by rule (0). As window_batches else.
std::unique_ptr<Batches> people_batches(const Events& events, const Histories& histories,
                                        int64_t num_users, std::span<const int64_t> targets,
                                        Part last, const TrainingConfig& config);

}  // namespace hypertower
