// Files as the model directory needs them: read whole, written durably, told apart by a checksum.
// Failures of the operating system throw std::system_error; callers turn them into an Error that
// says what the file was for. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace hypertower {

std::string read_file(const std::string& path);

// Creates or truncates `path`, writes the parts in order and fsyncs. A failed file is removed.
void write_file(const std::string& path, std::span<const std::span<const std::byte>> parts);
void write_file(const std::string& path, const std::string& text);

// Makes the names in a directory durable.
void sync_directory(const std::string& path);

// XXH64 with seed 0 as 16 hexadecimal digits, most significant first (what `xxhsum -H64` prints).
// A fast, well-tested checksum against bit rot, truncation and edits; it is no signature: whoever
// can write the directory can also write the checksum, so a cryptographic hash would promise more
// than it keeps and cost seconds on a large model.
std::string checksum(std::span<const std::byte> bytes);
std::string checksum_of_file(const std::string& path);

}  // namespace hypertower
