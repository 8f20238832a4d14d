# Language level, warnings, optimisation, sanitizers, and the tools that shorten the wait.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug or RelWithDebInfo" FORCE)
endif()

add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic>")
if(HYPERTOWER_WERROR)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Werror>")
endif()

# GCC 12 takes "text" + std::string for an overlapping copy (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>")
endif()

# The baseline is x86-64-v2 (every server since 2009), so that one wheel runs anywhere. Wider
# instructions (AVX2, AVX-512, VNNI) are chosen at run time inside kernels/. Never -march=native:
# it would make answers depend on the machine that compiled.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-march=x86-64-v2>")
endif()

if(HYPERTOWER_SANITIZE STREQUAL "address")
  set(sanitize -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(HYPERTOWER_SANITIZE STREQUAL "thread")
  set(sanitize -fsanitize=thread -fno-omit-frame-pointer)
elseif(NOT HYPERTOWER_SANITIZE STREQUAL "")
  message(FATAL_ERROR "HYPERTOWER_SANITIZE must be empty, 'address' or 'thread', "
                      "got '${HYPERTOWER_SANITIZE}'")
endif()
add_compile_options(${sanitize})
add_link_options(${sanitize})

find_program(HYPERTOWER_CCACHE ccache)
if(HYPERTOWER_CCACHE)
  # The sloppiness lets ccache also keep files that use a precompiled header.
  set(launcher "${CMAKE_COMMAND}" -E env CCACHE_SLOPPINESS=pch_defines,time_macros
      "${HYPERTOWER_CCACHE}")
  set(CMAKE_CXX_COMPILER_LAUNCHER "${launcher}")
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${launcher}")
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>")
  endif()
endif()

find_program(HYPERTOWER_MOLD mold)
if(HYPERTOWER_MOLD)
  include(CheckLinkerFlag)
  check_linker_flag(CXX -fuse-ld=mold HYPERTOWER_HAVE_MOLD)
  if(HYPERTOWER_HAVE_MOLD)
    set(CMAKE_LINKER_TYPE MOLD)
  endif()
endif()
