# Compiler flags of every target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")  # assertions stay on: they are cheap and this is a daemon
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g")

add_compile_options(
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
  -ffp-contract=off         # a float sum is what the source says: no silent fused multiply-adds
  -fno-omit-frame-pointer
  -fstack-protector-strong)
add_compile_definitions(_GLIBCXX_ASSERTIONS)

if(SIROCCO_SANITIZE)
  add_compile_options(-fsanitize=${SIROCCO_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SIROCCO_SANITIZE})
  # gcc's manual: with sanitizers this one warns of what cannot be (members of a std::variant that it does not hold).
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
else()
  add_link_options(-Wl,-z,relro,-z,now)
endif()

if(SIROCCO_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)  # here, before the rooms: what is not instrumented is not explored
endif()

find_program(SIROCCO_CCACHE ccache)
if(SIROCCO_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${SIROCCO_CCACHE})
endif()
