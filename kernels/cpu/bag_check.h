// Checks of ids and offsets on the CPU. Before a lookup or a plan touches memory by them.
#pragma once

#include <span>
#include <vector>

#include "kernels/embedding_backend.h"

namespace hypertower::cpu {

inline bool is_row(int64_t id, int64_t table_rows) {
  return static_cast<uint64_t>(id) < static_cast<uint64_t>(table_rows);
}

// The bag that holds a position. REQUIRES: sound offsets, 0 <= position < n.
int64_t bag_of(const Bags& bags, int64_t position);

// Throws on broken offsets.
void check_offsets(const Bags& bags);

// Checks offsets, then ids, of each lookup; bad ids throw or are counted, as `policy` says. What is
// thrown is the first finding of the first lookup that has one, for any number of threads.
std::vector<IdReport> check_bags(std::span<const PlanInput> lookups, BadIds policy, int threads);

}  // namespace hypertower::cpu
