// IdTable (kernels/id_table.h) in the memory of a GPU: the same rows, reports and saved tables, bit
// for bit, for ids that are there already.
//
// Ids that have rows cost two sectors of 32 bytes each. Newcomers are found by a sort of what has
// no row and take their places bucket by bucket: a thread each, which goes through the bucket's
// newcomers in their order, so that no outcome depends on which thread came first.
//
// Thread-safety: calls of one table must not overlap. Memory: as IdTable, plus 8 bytes per id of a
// batch and about 100 per id without a row, while `assign` runs.
#pragma once

#include <memory>
#include <vector>

#include "kernels/id_table.h"

namespace hypertower::cuda {

class DeviceIdTable {
 public:
  // `stream`: a cudaStream_t, of all work. Errors as IdTable.
  DeviceIdTable(const IdTableOptions& options, void* stream);
  DeviceIdTable(const IdTableOptions& options, const IdTable::Saved& saved, void* stream);
  ~DeviceIdTable();

  int64_t rows() const;
  int64_t size() const;

  // ids, rows: [n] in device memory. Does not synchronise.
  void find(const int64_t* ids, int64_t n, int64_t* rows) const;
  void begin_step();
  // As IdTable::assign; n < 2^32. Synchronises once where every id has a row, else a
  // few times more.
  IdTableReport assign(const int64_t* ids, int64_t n, int64_t* rows,
                       std::vector<IdTableChange>* changes);

  IdTable::Saved save() const;  // synchronises

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hypertower::cuda
