// See matmul_int8.h. cuBLASLt thinks in columns: its result is [num_items, num_rows] with items
// fastest, its first factor the items, transposed (the one form that int8 tensor cores take in
// plain order), its second the rows.
#include "kernels/cuda/matmul_int8.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <string>

#include "kernels/error.h"

namespace hypertower::cuda {
namespace {

// The functions of the library, which is opened when the first product is asked for: it takes 70 ms
// and maps 200 MB, and few programs multiply.
struct CublasLt {
  void* handle = open();

// NOLINTNEXTLINE(bugprone-macro-parentheses): a name cannot be in parentheses
#define HYPERTOWER_FUNCTION(name) decltype(&::name) name = find<decltype(&::name)>(#name)
  HYPERTOWER_FUNCTION(cublasLtCreate);
  HYPERTOWER_FUNCTION(cublasLtDestroy);
  HYPERTOWER_FUNCTION(cublasLtGetStatusName);
  HYPERTOWER_FUNCTION(cublasLtGetStatusString);
  HYPERTOWER_FUNCTION(cublasLtMatmul);
  HYPERTOWER_FUNCTION(cublasLtMatmulAlgoGetHeuristic);
  HYPERTOWER_FUNCTION(cublasLtMatmulDescCreate);
  HYPERTOWER_FUNCTION(cublasLtMatmulDescDestroy);
  HYPERTOWER_FUNCTION(cublasLtMatmulDescSetAttribute);
  HYPERTOWER_FUNCTION(cublasLtMatmulPreferenceCreate);
  HYPERTOWER_FUNCTION(cublasLtMatmulPreferenceDestroy);
  HYPERTOWER_FUNCTION(cublasLtMatrixLayoutCreate);
  HYPERTOWER_FUNCTION(cublasLtMatrixLayoutDestroy);
#undef HYPERTOWER_FUNCTION

 private:
  static void* open() {
    const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
    void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw Error(ErrorKind::kArgument, missing(dlerror()));
    return library;
  }

  template <class Function>
  Function find(const char* name) const {
    void* found = dlsym(handle, name);
    if (found == nullptr) throw Error(ErrorKind::kArgument, missing(dlerror()));
    return reinterpret_cast<Function>(found);
  }

  static std::string missing(const char* what) {
    return "int8 matrix product: expected cuBLASLt " + std::to_string(CUBLAS_VER_MAJOR) +
           " beside the CUDA runtime, got \"" + what + "\"; install the package nvidia-cublas.";
  }
};

const CublasLt& lt() {
  static const CublasLt library;
  return library;
}

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ErrorKind::kArgument, std::string("int8 matrix product: expected ") + what +
                                        " to succeed, got " + lt().cublasLtGetStatusName(status) +
                                        " (" + lt().cublasLtGetStatusString(status) + ").");
}

class Layout {
 public:
  Layout(cudaDataType type, int64_t rows, int64_t cols) {
    check(lt().cublasLtMatrixLayoutCreate(&layout_, type, static_cast<uint64_t>(rows),
                                          static_cast<uint64_t>(cols), rows),
          "cublasLtMatrixLayoutCreate");
  }
  ~Layout() { lt().cublasLtMatrixLayoutDestroy(layout_); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;

  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

}  // namespace

struct Int8Matmul::State {
  explicit State(int64_t columns) : cols(columns) {
    try {
      check(lt().cublasLtCreate(&handle), "cublasLtCreate");
      check(lt().cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32I, CUDA_R_32I),
            "cublasLtMatmulDescCreate");
      const cublasOperation_t transposed = CUBLAS_OP_T;
      check(lt().cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                                sizeof transposed),
            "cublasLtMatmulDescSetAttribute");
      check(lt().cublasLtMatmulPreferenceCreate(&no_workspace), "cublasLtMatmulPreferenceCreate");
    } catch (...) {
      release();
      throw;
    }
  }
  ~State() { release(); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void release() {
    if (no_workspace != nullptr) lt().cublasLtMatmulPreferenceDestroy(no_workspace);
    if (product != nullptr) lt().cublasLtMatmulDescDestroy(product);
    if (handle != nullptr) lt().cublasLtDestroy(handle);
  }

  // The library's first choice for this shape that needs no workspace. Chunks of a scan have one
  // shape, but for the last.
  const cublasLtMatmulAlgo_t& algorithm(const Layout& items, const Layout& rows, const Layout& out,
                                        int64_t num_rows, int64_t num_items) {
    if (num_rows == chosen_rows && num_items == chosen_items) return chosen;
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    check(lt().cublasLtMatmulAlgoGetHeuristic(handle, product, items.get(), rows.get(), out.get(),
                                              out.get(), no_workspace, 1, &found, &count),
          "cublasLtMatmulAlgoGetHeuristic");
    if (count == 0) check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic");
    chosen = found.algo;
    chosen_rows = num_rows;
    chosen_items = num_items;
    return chosen;
  }

  const int64_t cols;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatmulPreference_t no_workspace = nullptr;
  cublasLtMatmulAlgo_t chosen{};
  int64_t chosen_rows = 0;
  int64_t chosen_items = 0;
};

Int8Matmul::Int8Matmul(int64_t cols) : state_(std::make_unique<State>(cols)) {}
Int8Matmul::~Int8Matmul() = default;

void Int8Matmul::run(const int8_t* rows, int64_t num_rows, const int8_t* items, int64_t num_items,
                     int* out, cudaStream_t stream) {
  State& s = *state_;
  const Layout items_layout(CUDA_R_8I, s.cols, num_items);
  const Layout rows_layout(CUDA_R_8I, s.cols, num_rows);
  const Layout out_layout(CUDA_R_32I, num_items, num_rows);
  const int32_t one = 1;
  const int32_t zero = 0;
  check(
      lt().cublasLtMatmul(s.handle, s.product, &one, items, items_layout.get(), rows,
                          rows_layout.get(), &zero, out, out_layout.get(), out, out_layout.get(),
                          &s.algorithm(items_layout, rows_layout, out_layout, num_rows, num_items),
                          nullptr, 0, stream),
      "cublasLtMatmul");
}

}  // namespace hypertower::cuda
