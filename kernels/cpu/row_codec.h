// One row to and from the formats of kernels/embedding_table.h. Plain loops: a table is encoded
// once, and memory decides.
#pragma once

#include "kernels/embedding_table.h"

namespace hypertower::cpu {

// Writes row r of the table. Returns the first column that does not fit, or -1.
int64_t encode_row(const float* from, const Table& to, int64_t r);
void decode_row(const ConstTable& from, int64_t r, float* to);

// To nearest, ties to even.
uint16_t nearest_bfloat16(float x);
uint16_t nearest_float16(float x);
float float_of(Bfloat16 x);
float float_of(Float16 x);

}  // namespace hypertower::cpu
