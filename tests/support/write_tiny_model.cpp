// write_tiny_model DIR [POPULAR] [ITEMS]: the tiny model as a directory, for tests in Python.
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "tests/support/tiny_model.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: write_tiny_model DIR [POPULAR] [ITEMS]\n");
    return 2;
  }
  try {
    hypertower::TinyModelOptions options;
    if (argc > 2) options.popular = std::atoll(argv[2]);
    if (argc > 3) options.items = std::atoll(argv[3]);
    hypertower::write_model_directory(hypertower::tiny_model(options), argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "write_tiny_model: %s\n", error.what());
    return 1;
  }
  return 0;
}
