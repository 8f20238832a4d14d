// Schema + encoder + index: the C++ API of inference. Immutable; every method is thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "model/encoder.h"
#include "model/index.h"
#include "model/model_directory.h"
#include "model/value.h"

namespace hypertower {

// Where stored people come from: memory, RocksDB. Implementations must be thread-safe.
class PeopleSource {
 public:
  virtual ~PeopleSource() = default;
  // nullopt = nobody known by that id (normal). The history is in order (order_history).
  virtual std::optional<Person> find(const std::string& user) const = 0;
};

struct RecommendOptions {
  int64_t k = 10;
  std::optional<bool> exclude_seen;  // nullopt = the model's default
  std::optional<Filter> where;       // and-ed with the request's own
};

struct Answer {
  std::vector<Hit> hits;  // best first, at most k
  int64_t eligible = 0;   // items that filters and exclusions left
};

class Recommender {
 public:
  // Checks the golden answers: Error(kModel) with request number, expected and found when they do
  // not come out (queries within 1e-4, items equal up to near ties).
  explicit Recommender(ModelData model);
  static std::shared_ptr<const Recommender> load(const std::string& path);

  const Schema& schema() const { return encoder_.features().schema(); }
  const Encoder& encoder() const { return encoder_; }
  const ItemIndex& index() const { return index_; }
  const ModelData& data() const { return model_; }  // without weights and catalogue (moved out)
  ModelData to_model_data()
      const;  // everything, weights and catalogue copied back in: to save again

  // One answer per request, in order. `people` may be null (nobody stored). A time that is not
  // given is now; it moves the moment, and not what of the stored history is read: all of it, so
  // that an event counts from the next request on. A request's own history is taken as given. Items
  // of histories and exclusions that the catalogue lacks are left out. Errors: unknown field, wrong
  // type (kSchema), NaN (kNumeric), k < 1 (kArgument); message and field() also say which request
  // when there are several or when it has a place ("requests[3].context.hour").
  std::vector<Answer> recommend(std::span<const Request> requests, const RecommendOptions& options,
                                const PeopleSource* people, const Exec& exec) const;
  // [n, dim], row-major.
  std::vector<float> encode_query(std::span<const Request> requests, const PeopleSource* people,
                                  const Exec& exec) const;
  // Item vectors [n, dim] by id, by features or both: `ids` and `features` have n entries, or one
  // of them is empty. An id without features gives the exported vector; with features, the id's own
  // part (if training saw it) and the features given. Errors: an unknown id alone (kArgument), of
  // features as in `recommend`, with "items[3]." before the field where there are several.
  std::vector<float> encode_items(std::span<const std::string> ids,
                                  std::span<const Record> features, const Exec& exec) const;
  // Nearest items by the cosine of what the vectors say beside their biases; the item itself is
  // left out. Error(kArgument): an unknown id, names the nearest.
  std::vector<Answer> similar(std::span<const std::string> items, int64_t k,
                              const std::optional<Filter>& where, const Exec& exec) const;
  // Canonical scores, as `recommend` would give: items[r], all of one length m, for request r;
  // [n, m]. An item that the catalogue lacks scores -infinity: it is never recommended.
  std::vector<float> score(std::span<const Request> requests,
                           std::span<const std::vector<std::string>> items,
                           const PeopleSource* people, const Exec& exec) const;

 private:
  ModelData model_;
  Encoder encoder_;
  ItemIndex index_;
};

// People in memory: what `fit` leaves and `observe` extends. Thread-safe (one mutex).
class PeopleInMemory : public PeopleSource {
 public:
  explicit PeopleInMemory(std::vector<Person> people);
  ~PeopleInMemory() override;
  std::optional<Person> find(const std::string& user) const override;
  // Appends in order of arrival; an event without a time happens now; an event whose id was seen
  // for that person is dropped. Returns the number accepted.
  int64_t observe(std::span<const Event> events);
  // Everybody, in order of arrival; histories in order (order_history).
  std::vector<Person> snapshot() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hypertower
