# Tests of CUDA sources. One source serves two programs: hypertower_add_cuemu_test builds it with
# the host compiler and runs it on the CPU, hypertower_add_gpu_test builds it with nvcc.
#
#   include("${PROJECT_SOURCE_DIR}/tests/cuemu/cuemu.cmake")
#   hypertower_add_cuemu_test(topk_cuda SOURCES topk_test.cu ../../../kernels/cuda/topk.cu ...)
#   hypertower_add_gpu_test(topk_cuda SOURCES topk_test.cu LIBS hypertower_kernels)
#
# Sources ending in .cu are compiled as C++ through a generated file that includes them. GoogleTest
# and main() are supplied. Both functions do nothing where they cannot work: the emulator in a build
# that is sanitized as a whole, the GPU in one without nvcc.
include_guard(GLOBAL)

get_filename_component(cuemu_root "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
set_property(GLOBAL PROPERTY CUEMU_ROOT "${cuemu_root}")
find_package(GTest REQUIRED)
find_package(Threads REQUIRED)

# The core is never instrumented, and its loops must not become calls that sanitizers intercept.
set(cuemu_core async fiber memory report runtime scheduler streams sync)
list(TRANSFORM cuemu_core REPLACE "(.+)" "${CMAKE_CURRENT_LIST_DIR}/\\1.cpp")
set(cuemu_sanitize_plain "")
set(cuemu_sanitize_asan -fsanitize=address,undefined -fno-sanitize-recover=undefined)
set(cuemu_sanitize_tsan -fsanitize=thread)
foreach(variant plain asan tsan)
  string(TOUPPER "CUEMU_${variant}" define)
  add_library(cuemu_core_${variant} STATIC EXCLUDE_FROM_ALL ${cuemu_core})
  target_include_directories(cuemu_core_${variant} PRIVATE "${cuemu_root}")
  target_compile_features(cuemu_core_${variant} PRIVATE cxx_std_20)
  target_compile_definitions(cuemu_core_${variant} PRIVATE ${define})
  target_compile_options(cuemu_core_${variant} PRIVATE
    -O2 -g1 $<IF:$<CXX_COMPILER_ID:GNU>,-fno-tree-loop-distribute-patterns,-fno-builtin>
    -fno-omit-frame-pointer -fno-lto)
  target_link_libraries(cuemu_core_${variant} PRIVATE Threads::Threads)

  # What programs of this variant are compiled and linked with.
  add_library(cuemu_${variant} INTERFACE)
  target_include_directories(cuemu_${variant} INTERFACE
    "${CMAKE_CURRENT_LIST_DIR}/include" "${cuemu_root}")
  target_compile_features(cuemu_${variant} INTERFACE cxx_std_20)
  target_compile_definitions(cuemu_${variant} INTERFACE HYPERTOWER_CUEMU=1 HYPERTOWER_WITH_CUDA=1)
  target_compile_options(cuemu_${variant} INTERFACE
    -O2 -g1 -UNDEBUG -fno-strict-aliasing -ffp-contract=off -fno-omit-frame-pointer -fno-lto
    -Wno-unknown-pragmas ${cuemu_sanitize_${variant}})
  target_link_options(cuemu_${variant} INTERFACE ${cuemu_sanitize_${variant}})
  target_link_libraries(cuemu_${variant} INTERFACE cuemu_core_${variant} GTest::gtest
                                                   Threads::Threads)
endforeach()

# Older sanitizer runtimes fail where the system randomises more than 28 bits of addresses.
set(cuemu_launcher "")
if(EXISTS /proc/sys/vm/mmap_rnd_bits)
  file(READ /proc/sys/vm/mmap_rnd_bits cuemu_random_bits)
  find_program(CUEMU_SETARCH setarch)
  if(cuemu_random_bits GREATER 28 AND CUEMU_SETARCH)
    execute_process(COMMAND "${CUEMU_SETARCH}" --addr-no-randomize true
                    RESULT_VARIABLE cuemu_status OUTPUT_QUIET ERROR_QUIET)
    if(cuemu_status EQUAL 0)
      set(cuemu_launcher "${CUEMU_SETARCH}" --addr-no-randomize)
    endif()
  endif()
endif()
set_property(GLOBAL PROPERTY CUEMU_LAUNCHER "${cuemu_launcher}")

# cuemu_sources(OUT a.cu b.cpp ...): absolute paths, each .cu replaced by a C++ file including it.
function(cuemu_sources out)
  set(result "")
  foreach(source ${ARGN})
    get_filename_component(path "${source}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
    if(path MATCHES "\\.cu$")
      get_filename_component(name "${path}" NAME)
      string(MD5 hash "${path}")
      string(SUBSTRING "${hash}" 0 8 hash)
      set(wrapper "${CMAKE_BINARY_DIR}/cuemu/${hash}_${name}.cpp")
      file(CONFIGURE OUTPUT "${wrapper}" CONTENT "#include \"${path}\"\n" @ONLY)
      list(APPEND result "${wrapper}")
    else()
      list(APPEND result "${path}")
    endif()
  endforeach()
  set(${out} "${result}" PARENT_SCOPE)
endfunction()

# cuemu_add_program(TARGET VARIANT SOURCES...): a GoogleTest program of one variant.
function(cuemu_add_program target variant)
  get_property(root GLOBAL PROPERTY CUEMU_ROOT)
  find_package(GTest REQUIRED)  # imported targets are known per directory
  find_package(Threads REQUIRED)
  cuemu_sources(sources ${ARGN})
  add_executable(${target} ${sources} "${root}/tests/cuemu/test_main.cpp")
  string(TOUPPER "CUEMU_VARIANT_${variant}" define)
  target_compile_definitions(${target} PRIVATE ${define})
  target_link_libraries(${target} PRIVATE cuemu_${variant})
  # Many programs share sources; tools that read the compilation database want each once.
  set_target_properties(${target} PROPERTIES EXPORT_COMPILE_COMMANDS OFF)
endfunction()

# cuemu_add_run(NAME TARGET VARIANT ENV...): one ctest run of a program under one schedule.
function(cuemu_add_run name target variant)
  get_property(launcher GLOBAL PROPERTY CUEMU_LAUNCHER)
  if(variant STREQUAL "plain")
    set(launcher "")
  endif()
  add_test(NAME ${name} COMMAND ${launcher} $<TARGET_FILE:${target}>)
  set_tests_properties(${name} PROPERTIES LABELS cuemu TIMEOUT 300 ENVIRONMENT "${ARGN}")
endfunction()

function(hypertower_add_cuemu_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBS;DEFINITIONS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "hypertower_add_cuemu_test(${name}): unknown ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(HYPERTOWER_SANITIZE)
    return()
  endif()
  foreach(variant plain asan tsan)
    cuemu_add_program(${name}_${variant} ${variant} ${arg_SOURCES})
    target_compile_definitions(${name}_${variant} PRIVATE ${arg_DEFINITIONS})
    target_link_libraries(${name}_${variant} PRIVATE ${arg_LIBS})
  endforeach()
  cuemu_add_run(${name}.fwd ${name}_plain plain CUEMU_ORDER=fwd)
  cuemu_add_run(${name}.rev ${name}_plain plain CUEMU_ORDER=rev CUEMU_ASYNC=eager
                CUEMU_STREAMS=late)
  foreach(seed 1 2 3)
    cuemu_add_run(${name}.rand${seed} ${name}_plain plain CUEMU_ORDER=rand CUEMU_SEED=${seed}
                  CUEMU_RESIDENT=3 CUEMU_ASYNC=rand CUEMU_STREAMS=late)
  endforeach()
  cuemu_add_run(${name}.asan ${name}_asan asan CUEMU_ORDER=rand CUEMU_RESIDENT=2
                CUEMU_STREAMS=late)
  cuemu_add_run(${name}.tsan ${name}_tsan tsan CUEMU_ORDER=rand CUEMU_RESIDENT=4 CUEMU_ASYNC=rand)
endfunction()

function(hypertower_add_gpu_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBS;DEFINITIONS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "hypertower_add_gpu_test(${name}): unknown ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT CMAKE_CUDA_COMPILER)
    return()
  endif()
  get_property(root GLOBAL PROPERTY CUEMU_ROOT)
  find_package(GTest REQUIRED)
  find_package(Threads REQUIRED)
  set(runtime hypertower::cuda)  # the one runtime of the whole project
  if(NOT TARGET ${runtime})
    find_package(CUDAToolkit REQUIRED)
    set(runtime CUDA::cudart)
  endif()
  add_executable(${name}_gpu ${arg_SOURCES} "${root}/tests/cuemu/test_main.cpp")
  target_include_directories(${name}_gpu PRIVATE "${root}")
  target_compile_features(${name}_gpu PRIVATE cxx_std_20 cuda_std_20)
  target_compile_definitions(${name}_gpu PRIVATE ${arg_DEFINITIONS})
  target_link_libraries(${name}_gpu PRIVATE ${arg_LIBS} GTest::gtest ${runtime} Threads::Threads)
  add_test(NAME ${name}.gpu COMMAND ${name}_gpu)
  set_tests_properties(${name}.gpu PROPERTIES LABELS gpu TIMEOUT 300 SKIP_REGULAR_EXPRESSION
                                              "no CUDA device: skipped")
endfunction()
