#include "kernels/huge_buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace hypertower {

HugeBuffer::HugeBuffer(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  void* map = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) throw std::bad_alloc();
  ::madvise(map, bytes, MADV_HUGEPAGE);  // a wish: refused where the kernel has none
  map_ = map;
}

HugeBuffer::~HugeBuffer() {
  if (map_ != nullptr) ::munmap(map_, size_);
}

void advise_huge_pages(void* data, size_t bytes) {
  constexpr size_t kPage = 4096;
  const size_t skip = (kPage - reinterpret_cast<uintptr_t>(data) % kPage) % kPage;
  if (bytes < skip + kPage) return;
  ::madvise(static_cast<char*>(data) + skip, (bytes - skip) / kPage * kPage, MADV_HUGEPAGE);
}

}  // namespace hypertower
