// hypertower._core: kernels and model, torch-free. Loading it costs milliseconds.
#include <pybind11/pybind11.h>

#include "python/bindings/convert.h"
#include "python/bindings/model.h"
#include "python/bindings/ops.h"
#include "python/bindings/tables.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "Compiled part of hypertower: kernels and inference, without torch.";
  m.attr("version") = HYPERTOWER_VERSION;
  hypertower::bindings::register_errors();
  hypertower::bindings::bind_ops(m);
  hypertower::bindings::bind_tables(m);
  hypertower::bindings::bind_model(m);
}
