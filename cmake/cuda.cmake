# Decides whether the CUDA kernels are compiled. Sets HYPERTOWER_WITH_CUDA to ON or OFF and, when
# ON, enables the language; python_wheels.cmake then declares hypertower::cuda.
set(HYPERTOWER_WITH_CUDA OFF)
if(HYPERTOWER_CUDA STREQUAL "AUTO" OR HYPERTOWER_CUDA)
  find_program(HYPERTOWER_NVCC nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin)
  if(HYPERTOWER_NVCC)
    set(HYPERTOWER_WITH_CUDA ON)
  elseif(NOT HYPERTOWER_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "HYPERTOWER_CUDA=ON, but nvcc is neither on PATH nor in "
                        "/usr/local/cuda/bin: install the CUDA 13 toolkit or leave AUTO")
  endif()
endif()

if(NOT HYPERTOWER_WITH_CUDA)
  if(HYPERTOWER_CUDA STREQUAL "AUTO")
    message(STATUS "HYPERTOWER_CUDA=OFF: no nvcc on PATH or in /usr/local/cuda/bin; "
                   "everything but the CUDA kernels is built")
  else()
    message(STATUS "HYPERTOWER_CUDA=OFF as asked: everything but the CUDA kernels is built")
  endif()
  return()
endif()

set(CMAKE_CUDA_COMPILER "${HYPERTOWER_NVCC}")
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80 90a)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
# By default nvcc links its static runtime, next to torch's shared one: two in one program.
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
message(STATUS "HYPERTOWER_CUDA=ON: nvcc ${CMAKE_CUDA_COMPILER_VERSION}, "
               "architectures ${CMAKE_CUDA_ARCHITECTURES}")
