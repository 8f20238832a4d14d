// Marks a function that nvcc also compiles for the device.
#pragma once

#ifdef __CUDACC__
#define HYPERTOWER_HOST_DEVICE __host__ __device__
#else
#define HYPERTOWER_HOST_DEVICE
#endif
