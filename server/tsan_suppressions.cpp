// Compiled into programs under ThreadSanitizer only. RocksDB comes without instrumentation, so
// ThreadSanitizer sees parts of its work (memcpy, templates that it shares with us) but not the
// atomics that order them. What happens inside that library is left to its authors.
extern "C" const char* __tsan_default_suppressions();  // NOLINT(bugprone-reserved-identifier)

extern "C" const char* __tsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  return "called_from_lib:librocksdb.so\nrace:librocksdb.so\n";
}
