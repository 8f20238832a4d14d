// From a typed kernel call to a grid that the core can run.
#pragma once

#include "tests/cuemu/core.h"
#include "tests/cuemu/runtime.h"

#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

namespace cuemu {

// Enqueues the grid, whose context `call` keeps alive. Refused configurations run nothing.
cudaError_t submit_grid(const Grid& grid, cudaStream_t stream, std::shared_ptr<const void> call);

template <class T>
void check_launch_argument(const T& value, int index, const Grid& grid) {
  if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>) {
    check_argument(value, index, grid);
  }
}

template <class... P>
struct Call {
  Call(void (*k)(P...), std::tuple<std::remove_cv_t<P>...> a)
      : kernel(k), arguments(std::move(a)) {}

  void (*kernel)(P...);
  std::tuple<std::remove_cv_t<P>...> arguments;

  static void thread_main(void* self) {
    static_cast<const Call*>(self)->run(std::index_sequence_for<P...>{});
  }
  // By value: each CUDA thread gets its own copies.
  template <size_t... kIndex>
  void run(std::index_sequence<kIndex...>) const {
    kernel(std::get<kIndex>(arguments)...);
  }
};

template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), Grid grid, cudaStream_t stream, A&&... args) {
  static_assert((!std::is_reference_v<P> && ...), "kernels take their parameters by value");
  const auto call = std::make_shared<Call<P...>>(
      kernel, std::tuple<std::remove_cv_t<P>...>(
                  static_cast<std::remove_cv_t<P>>(std::forward<A>(args))...));
  int index = 0;
  std::apply([&](const auto&... value) { (check_launch_argument(value, index++, grid), ...); },
             call->arguments);
  grid.thread_main = Call<P...>::thread_main;
  grid.context = call.get();
  return submit_grid(grid, stream, call);
}

}  // namespace cuemu
