# The CUDA kernels on the CPU, for tests. See tests/support/cuda_emulator/README.md.

set(emulator ${PROJECT_SOURCE_DIR}/tests/support/cuda_emulator)
find_package(Threads REQUIRED)
sirocco_sources(emulator_sources tests/support/cuda_emulator/src)
add_library(sirocco_cuda_emulator STATIC ${emulator_sources})
# PUBLIC and before the toolkit's: the shims include the headers of the same name.
target_include_directories(sirocco_cuda_emulator BEFORE PUBLIC ${emulator}/include)
target_link_libraries(sirocco_cuda_emulator PUBLIC sirocco_cuda_headers Threads::Threads)
if(SIROCCO_SANITIZE MATCHES thread)
  # Its own accesses stay invisible; it tells ThreadSanitizer what CUDA's memory model orders.
  target_compile_options(sirocco_cuda_emulator PRIVATE -fno-sanitize=thread)
  target_compile_definitions(sirocco_cuda_emulator PRIVATE EMU_TSAN=1)
endif()

# Compiles .cu files as C++ in this directory's targets. Kernels read words of structs; nvcc never minds. Its pragmas are hints here.
function(sirocco_emulate_cuda TARGET)
  if(ARGN)
    target_sources(${TARGET} PRIVATE ${ARGN})
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-Wno-unknown-pragmas;-Wno-pass-failed")
  endif()
  target_compile_options(${TARGET} PRIVATE -fno-strict-aliasing)
  target_link_libraries(${TARGET} PUBLIC sirocco_cuda_emulator)
endfunction()

if(SIROCCO_CUDA_KERNELS OR SIROCCO_CUDA_SOURCES)
  add_library(sirocco_kernels_cuda_emulated STATIC ${SIROCCO_CUDA_SOURCES})
  target_link_libraries(sirocco_kernels_cuda_emulated PUBLIC sirocco_kernels)
  sirocco_emulate_cuda(sirocco_kernels_cuda_emulated ${SIROCCO_CUDA_KERNELS})
else()
  add_library(sirocco_kernels_cuda_emulated INTERFACE)
  target_link_libraries(sirocco_kernels_cuda_emulated INTERFACE sirocco_kernels sirocco_cuda_emulator)
endif()

# sirocco_cuda_test(NAME DIR LINK lib... [PARTS n] [ASAN filter] [TSAN filter]): DIR/*_test.cc and DIR/*.cu as one program on
# the emulator, and its ctest entries. Threads and streams take turns at random; under AddressSanitizer, which also sees
# out-of-bounds and stale memory, streams as late as they may. ASAN, TSAN: the tests that these sanitizers see, which make kernels many times slower; all if not given.
function(sirocco_cuda_test NAME DIR)
  cmake_parse_arguments(TEST "" "ASAN;TSAN;PARTS" "LINK" ${ARGN})
  sirocco_sources(sources ${DIR})
  file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${DIR}/*.cu)
  if(NOT sources)
    return()
  endif()
  add_executable(${NAME} ${sources})
  sirocco_emulate_cuda(${NAME} ${kernels})
  sirocco_is_test(${NAME})
  target_link_libraries(${NAME} PRIVATE ${TEST_LINK} sirocco_test_support GTest::gtest_main)
  set(filter)
  set(environment)
  if(CMAKE_CROSSCOMPILING)  # programs that qemu runs start no others
    set(filter --gtest_filter=-*InChild*)
  elseif(SIROCCO_SANITIZE MATCHES thread AND TEST_TSAN)
    set(filter --gtest_filter=${TEST_TSAN})
  elseif(SIROCCO_SANITIZE MATCHES address)
    set(environment CUDAEMU_SCHED=late CUDAEMU_SEED=2)
    if(TEST_ASAN)
      set(filter --gtest_filter=${TEST_ASAN})
    endif()
  endif()
  sirocco_ctest(${NAME} PARTS ${TEST_PARTS} TIMEOUT 600 LABELS unit tsan ARGUMENTS ${filter} ENVIRONMENT ${environment})
endfunction()
