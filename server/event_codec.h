// How the events of one person lie on disk: one flags byte, then records, oldest first. A record is
// a 4-byte little-endian length and that many bytes: id, item, kind, time, context. Strings and
// counts carry varint lengths. The format is versioned by the state store.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/value.h"

namespace hypertower {

// What the model directory knows of this person no longer counts: they were erased.
inline constexpr uint8_t kErased = 1;

struct StoredEvent {
  std::string id;  // empty = none given
  HistoryEvent what;
};

struct StoredEvents {
  uint8_t flags = 0;
  std::vector<StoredEvent> events;  // oldest first
};

// Appends one record to `out`, which starts with its flags byte.
void append_event(const Event& event, std::string& out);

// Throws Error(kIo) for bytes that append_event did not write.
StoredEvents decode_events(std::string_view bytes);

// The ids alone, without building the events.
std::vector<std::string> decode_event_ids(std::string_view bytes);

// `older` followed by `newer`, cut to the last `limit` records; flags are or-ed. Either may be
// empty. Returns false for bytes that are not ours.
bool concatenate_events(std::string_view older, std::string_view newer, size_t limit,
                        std::string& out);

}  // namespace hypertower
