# Libraries that live inside Python wheels, each as one imported target linked by full path:
#   hypertower::torch   headers and libraries of LibTorch
#   hypertower::arrow   headers and libraries of Arrow and Parquet
#   hypertower::cuda    CUDA runtime (only where HYPERTOWER_WITH_CUDA)
# torch's own CMake package is not used: it needs nvcc, probes GPUs and adds its own flags to every
# CUDA source. The Python is that of an active environment, else .venv of the checkout.
if(NOT DEFINED Python_EXECUTABLE AND NOT DEFINED ENV{VIRTUAL_ENV}
   AND EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  set(Python_EXECUTABLE "${PROJECT_SOURCE_DIR}/.venv/bin/python")
endif()
if(HYPERTOWER_PYTHON)
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
elseif(HYPERTOWER_TRAINER OR HYPERTOWER_WITH_CUDA)
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter)
endif()

# Sets VARIABLE to what the Python expression prints, or to an empty string.
function(hypertower_ask_python variable expression)
  execute_process(COMMAND "${Python_EXECUTABLE}" -c "${expression}" OUTPUT_VARIABLE answer
                  ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(${variable} "${answer}" PARENT_SCOPE)
endfunction()

# The folder of a package, found without importing it (torch takes seconds).
function(hypertower_find_wheel variable package)
  hypertower_ask_python(folder "import importlib.util as u; s = u.find_spec('${package}'); \
print(s.submodule_search_locations[0] if s else '')")
  set(${variable} "${folder}" PARENT_SCOPE)
endfunction()

# Declares NAME with the include folders and libraries given.
function(hypertower_imported name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "INCLUDES;LIBRARIES")
  foreach(path ${arg_INCLUDES} ${arg_LIBRARIES})
    if(NOT EXISTS "${path}")
      message(FATAL_ERROR "${name}: ${path} does not exist; run scripts/setup")
    endif()
  endforeach()
  add_library(${name} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${name} SYSTEM INTERFACE ${arg_INCLUDES})
  target_link_libraries(${name} INTERFACE ${arg_LIBRARIES})
  # The libraries find their own dependencies by their own rpath, which the linker does not follow.
  target_link_options(${name} INTERFACE "LINKER:--allow-shlib-undefined")
endfunction()

if(HYPERTOWER_TRAINER)
  hypertower_find_wheel(torch_dir torch)
  hypertower_find_wheel(arrow_dir pyarrow)
  if(NOT torch_dir OR NOT arrow_dir)
    message(FATAL_ERROR "HYPERTOWER_TRAINER=ON needs torch and pyarrow in ${Python_EXECUTABLE}: "
                        "run scripts/setup, or configure with -DHYPERTOWER_TRAINER=OFF")
  endif()
  set(torch_libraries "${torch_dir}/lib/libtorch_cpu.so" "${torch_dir}/lib/libc10.so")
  if(HYPERTOWER_WITH_CUDA AND EXISTS "${torch_dir}/lib/libtorch_cuda.so")
    # Nothing refers to libtorch_cuda, it registers itself: keep it where linkers drop such.
    list(APPEND torch_libraries "-Wl,--push-state,--no-as-needed"
         "${torch_dir}/lib/libtorch_cuda.so" "-Wl,--pop-state" "${torch_dir}/lib/libc10_cuda.so")
  endif()
  hypertower_imported(hypertower::torch
    INCLUDES "${torch_dir}/include" "${torch_dir}/include/torch/csrc/api/include")
  target_link_libraries(hypertower::torch INTERFACE ${torch_libraries})
  # torch's libraries export their own copies of std::filesystem, made for an older libstdc++:
  # the system's must come first, or they are called in its place.
  target_link_options(hypertower::torch INTERFACE
                      "LINKER:--push-state,--no-as-needed,-lstdc++,--pop-state")

  # The wheel carries one version, named by its soname: libarrow.so.2600.
  file(GLOB arrow_libraries "${arrow_dir}/libparquet.so.*" "${arrow_dir}/libarrow.so.*")
  hypertower_imported(hypertower::arrow INCLUDES "${arrow_dir}/include"
                      LIBRARIES ${arrow_libraries})
endif()

if(HYPERTOWER_PYTHON)
  hypertower_ask_python(pybind11_DIR "import pybind11; print(pybind11.get_cmake_dir())")
  find_package(pybind11 CONFIG REQUIRED)
endif()

if(HYPERTOWER_WITH_CUDA)
  # One process must load one CUDA runtime, and torch brings its own: link that where it is
  # installed. cuBLASLt, beside it, is opened at run time by the code that calls it.
  hypertower_find_wheel(nvidia_dir nvidia)
  set(major ${CUDAToolkit_VERSION_MAJOR})
  set(cuda_dir "${nvidia_dir}/cu${major}/lib")
  if(EXISTS "${cuda_dir}/libcudart.so.${major}")
    set(cuda_library "${cuda_dir}/libcudart.so.${major}")
  else()
    set(cuda_library CUDA::cudart)
  endif()
  hypertower_imported(hypertower::cuda INCLUDES ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(hypertower::cuda INTERFACE
                        "-Wl,--push-state,--as-needed" ${cuda_library} ${CMAKE_DL_LIBS} "-Wl,--pop-state")
endif()
