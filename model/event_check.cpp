#include "model/event_check.h"

#include "kernels/error.h"

namespace hypertower {

void check_event(const FeatureSpace& features, const HistoryEvent& event, const std::string& path) {
  if (event.context.empty()) return;
  const Record* context = &event.context;
  try {
    (void)features.encode(Group::kContext, {&context, 1}, {&event.time, 1});
  } catch (const Error& error) {
    throw Error(error.kind(), path + "." + error.what(), path + "." + error.field());
  }
}

}  // namespace hypertower
