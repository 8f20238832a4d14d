// Checks of ids and offsets, and the plan, on the CPU.
#pragma once

#include "kernels/embedding_backend.h"

namespace hypertower::cpu {

// Throws on broken offsets.
void check_offsets(const Bags& bags);

// Checks offsets, then ids; a bad id throws or is counted, as `policy` says.
IdReport check_bags(int64_t table_rows, const Bags& bags, BadIds policy);

inline bool is_row(int64_t id, int64_t table_rows) {
  return static_cast<uint64_t>(id) < static_cast<uint64_t>(table_rows);
}

}  // namespace hypertower::cpu
