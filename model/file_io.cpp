#include "model/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <system_error>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace hypertower {
namespace {

constexpr size_t kChunk = size_t{1} << 20;

[[noreturn]] void fail(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags)
      : path_(path), fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (fd_ < 0) fail(path);
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  // Up to `size` bytes; 0 at the end.
  size_t read(char* data, size_t size) {
    ssize_t got;
    do {
      got = ::read(fd_, data, size);
    } while (got < 0 && errno == EINTR);
    if (got < 0) fail(path_);
    return static_cast<size_t>(got);
  }
  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t wrote = ::write(fd_, bytes.data(), bytes.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) fail(path_);
      bytes = bytes.subspan(static_cast<size_t>(wrote));
    }
  }
  void sync() {
    if (::fsync(fd_) != 0) fail(path_);
  }
  // Network file systems may report a failed write only here.
  void close() {
    const int fd = fd_;
    fd_ = -1;
    if (::close(fd) != 0) fail(path_);
  }

 private:
  std::string path_;
  int fd_;
};

std::string hex(uint64_t value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(16, '0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = kDigits[(value >> (60 - 4 * i)) & 15];
  return text;
}

}  // namespace

std::string read_file(const std::string& path) {
  Descriptor file(path, O_RDONLY);
  std::string text;
  std::array<char, 1 << 16> buffer;
  while (const size_t got = file.read(buffer.data(), buffer.size())) {
    text.append(buffer.data(), got);
  }
  return text;
}

void write_file(const std::string& path, std::span<const std::span<const std::byte>> parts) {
  try {
    Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC);
    for (const auto& part : parts) {
      for (size_t done = 0; done < part.size(); done += kChunk) {
        file.write(part.subspan(done, std::min(kChunk, part.size() - done)));
      }
    }
    file.sync();
    file.close();
  } catch (const std::system_error&) {
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode)) ::unlink(path.c_str());
    throw;
  }
}

void write_file(const std::string& path, const std::string& text) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  write_file(path, std::span(&bytes, 1));
}

void sync_directory(const std::string& path) {
  Descriptor(path, O_RDONLY | O_DIRECTORY).sync();
}

std::string checksum(std::span<const std::byte> bytes) {
  return hex(XXH64(bytes.data(), bytes.size(), 0));
}

std::string checksum_of_file(const std::string& path) {
  Descriptor file(path, O_RDONLY);
  const std::unique_ptr<XXH64_state_t, XXH_errorcode (*)(XXH64_state_t*)> state(XXH64_createState(),
                                                                                XXH64_freeState);
  XXH64_reset(state.get(), 0);
  std::string buffer(kChunk, '\0');
  while (const size_t got = file.read(buffer.data(), buffer.size())) {
    XXH64_update(state.get(), buffer.data(), got);
  }
  return hex(XXH64_digest(state.get()));
}

}  // namespace hypertower
