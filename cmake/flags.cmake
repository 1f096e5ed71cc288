# Compiler flags of every target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported(LANGUAGES CXX)  # without it CMake leaves the linking of programs to the compiler's default
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")  # assertions stay on: they are cheap and this is a daemon
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g")

add_compile_options(
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
  -ffp-contract=off         # a float sum is what the source says: no silent fused multiply-adds
  -fno-omit-frame-pointer)

# Hardening; tests/system/hardening_test.py looks at the programs. What it costs is paid at calls, not inside a kernel's loops.
add_compile_options(-fstack-protector-strong -fstack-clash-protection)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  add_compile_options(-fcf-protection=full)  # CET: jumps land where a function begins, returns go back to the call
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  add_compile_options(-mbranch-protection=standard)  # the same for Arm: BTI and signed return addresses
endif()
add_compile_definitions(_GLIBCXX_ASSERTIONS)
if(NOT SIROCCO_SANITIZE)
  # Of libc's functions those that check sizes (sanitizers check them better). It wants optimisation; Ubuntu's gcc defines it itself.
  add_compile_options($<$<CONFIG:Release>:-U_FORTIFY_SOURCE> $<$<CONFIG:Release>:-D_FORTIFY_SOURCE=2>)
endif()

if(SIROCCO_SANITIZE)
  # clang needs half of g++'s time for it, and fuzzers need clang: the tests and they are one build.
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "SIROCCO_SANITIZE=${SIROCCO_SANITIZE} needs clang: use the presets 'asan' and 'tsan'")
  endif()
  set(CMAKE_CXX_FLAGS_RELEASE "-O1 -g1")  # the kernels inline everything: at -O2 a file takes a minute and half a gigabyte
  add_compile_options(-fsanitize=${SIROCCO_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SIROCCO_SANITIZE})
  # What the tests are written in is not what is tested: unoptimised, it compiles in half of the time.
  set(of_test $<BOOL:$<TARGET_PROPERTY:SIROCCO_IS_TEST>>)
  add_compile_options($<${of_test}:-O0>)
  if(SIROCCO_SANITIZE MATCHES undefined)
    # Null pointers end a program in any case, with AddressSanitizer's report, and it sees accesses behind an object better.
    add_compile_options(-fno-sanitize=null,object-size,pointer-overflow,vptr $<${of_test}:-fno-sanitize=undefined>)
  endif()
  if(SIROCCO_SANITIZE MATCHES address)
    # Here, before the rooms: what is not instrumented is not explored.
    add_compile_options($<$<NOT:${of_test}>:-fsanitize=fuzzer-no-link>)
    add_compile_definitions(__SANITIZE_ADDRESS__)  # as g++ says it
  else()
    add_compile_definitions(__SANITIZE_THREAD__)
  endif()
else()
  add_link_options(-Wl,-z,relro,-z,now)
endif()

# What is compiled is the same wherever the checkout and its build folder lie: the packages' build, in a copy, takes its objects from
# the cache. (Of prefixes that both fit ccache takes the first that is named, and gcc the last.)
set(build_folder -ffile-prefix-map=${PROJECT_BINARY_DIR}=./build/release)
add_compile_options(${build_folder} -ffile-prefix-map=${PROJECT_SOURCE_DIR}=. "SHELL:${build_folder}")
find_program(SIROCCO_CCACHE ccache)
if(SIROCCO_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_ABSSTDERR=1 ${SIROCCO_CCACHE})
endif()

# Several files as one: what they include is compiled once. Of tests always, and of the rooms under sanitizers; the programs' files
# are compiled one by one, which shows what they forget to include, and so that a change costs seconds.
option(SIROCCO_UNITY "Compile several tests at once" ON)
