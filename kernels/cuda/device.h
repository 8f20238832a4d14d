// What the CUDA runtime says about this machine. Defined only in a build with CUDA.
#pragma once

namespace hypertower::cuda {

// Number of usable devices. No driver, a driver that is too old or any other error counts as none.
int device_count() noexcept;

}  // namespace hypertower::cuda
