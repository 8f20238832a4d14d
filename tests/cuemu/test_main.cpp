// main() of every CUDA test program, on the emulator and on a GPU.
#include <cuda_runtime_api.h>

#include <cstdio>

#include <gtest/gtest.h>

namespace {

class NeedsDevice : public testing::Environment {
 public:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
      GTEST_SKIP() << "no CUDA device: skipped";
    }
  }
};

// A sanitizer ends the process without flushing: what has passed must be seen before.
class FlushAfterEachTest : public testing::EmptyTestEventListener {
  void OnTestEnd(const testing::TestInfo&) override { std::fflush(stdout); }
};

}  // namespace

#if defined(CUEMU_VARIANT_TSAN)
// One report is enough: what follows a race is noise. No pause before the end of the process.
extern "C" const char* __tsan_default_options() {
  return "halt_on_error=1 exitcode=66 atexit_sleep_ms=0";
}
#endif

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new NeedsDevice);
  testing::UnitTest::GetInstance()->listeners().Append(new FlushAfterEachTest);
  return RUN_ALL_TESTS();
}
