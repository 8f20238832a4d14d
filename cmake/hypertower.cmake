# What every room shares: compiler settings, CUDA, the libraries that come from Python wheels, and
# the functions that rooms call. A room's own third-party packages are found in its own file.
include(compiler)
include(cuda)
include(python_wheels)

# Adds a folder of the project. Rooms may come one at a time, so a missing one is not an error.
function(hypertower_add_room name)
  if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${name}/CMakeLists.txt")
    add_subdirectory(${name})
  endif()
endfunction()

# hypertower_add_test(NAME SOURCES a.cpp ... [LIBS lib ...] [LABELS label ...] [TIMEOUT seconds]
#                     [DEFINITIONS d ...] [ONE_PROCESS])
# A GoogleTest program. Each test case runs in its own process, so a crash names its test;
# ONE_PROCESS runs the program as one test, for those where loading libtorch dominates.
function(hypertower_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "ONE_PROCESS" "TIMEOUT" "SOURCES;LIBS;LABELS;DEFINITIONS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "hypertower_add_test(${name}): unknown arguments ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  find_package(GTest REQUIRED)
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_definitions(${name} PRIVATE ${arg_DEFINITIONS})
  target_link_libraries(${name} PRIVATE ${arg_LIBS} GTest::gtest_main)
  set(properties TIMEOUT ${arg_TIMEOUT})
  if(arg_LABELS)
    list(APPEND properties LABELS "${arg_LABELS}")
  endif()
  if(arg_ONE_PROCESS)
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
    set_tests_properties(${name} PROPERTIES ${properties})
  else()
    include(GoogleTest)
    gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST
                         WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}" PROPERTIES ${properties})
  endif()
endfunction()

# Links torch and reuses one precompiled <torch/torch.h>, which costs about 30 s a file otherwise.
function(hypertower_use_torch target)
  if(NOT TARGET hypertower_torch_pch)
    file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/torch_pch.cpp" CONTENT "")
    add_library(hypertower_torch_pch OBJECT "${PROJECT_BINARY_DIR}/torch_pch.cpp")
    target_link_libraries(hypertower_torch_pch PRIVATE hypertower::torch)
    target_precompile_headers(hypertower_torch_pch PRIVATE <torch/torch.h>)
    # GCC takes a precompiled header only where the code model agrees, programs included.
    target_compile_options(hypertower_torch_pch PRIVATE -fPIC)
  endif()
  target_link_libraries(${target} PUBLIC hypertower::torch)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fPIC>)
  target_precompile_headers(${target} REUSE_FROM hypertower_torch_pch)
endfunction()
