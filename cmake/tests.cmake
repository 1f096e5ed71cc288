# tests/unit/<room>/*_test.cc is one GoogleTest program, <room>_test, one ctest entry each.
if(SIROCCO_KERNELS_ONLY)
  # For another processor or machine, whose libraries nobody has here: from Debian's sources.
  enable_language(C)
  add_subdirectory(/usr/src/googletest ${CMAKE_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
  foreach(target gtest gtest_main gmock)
    target_compile_options(${target} PRIVATE -w)
  endforeach()
else()
  find_package(GTest REQUIRED)
endif()

add_library(sirocco_test_support STATIC tests/support/source_dir.cc)
target_include_directories(sirocco_test_support PUBLIC ${PROJECT_SOURCE_DIR})
target_compile_definitions(sirocco_test_support PRIVATE SIROCCO_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                           SIROCCO_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
target_link_libraries(sirocco_test_support PUBLIC GTest::gtest GTest::gmock)

# What replaces the program's operator new must not do it to the files beside it.
file(GLOB alone CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/unit/*/*_allocation_test.cc)
set_source_files_properties(${alone} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)

function(sirocco_is_test NAME)
  set_target_properties(${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests SIROCCO_IS_TEST ON
                        UNITY_BUILD ${SIROCCO_UNITY} UNITY_BUILD_BATCH_SIZE 4)
endfunction()

# sirocco_ctest(NAME PARTS n TIMEOUT seconds LABELS label... ENVIRONMENT name=value... ARGUMENTS argument...): the program as ctest
# entries, NAME, NAME_part2 and so on, each with its share of the tests, so that a long one does not keep other cores waiting.
function(sirocco_ctest NAME)
  cmake_parse_arguments(ENTRY "" "PARTS;TIMEOUT" "LABELS;ENVIRONMENT;ARGUMENTS" ${ARGN})
  if(NOT ENTRY_PARTS)
    set(ENTRY_PARTS 1)
  endif()
  foreach(part RANGE 1 ${ENTRY_PARTS})
    set(entry ${NAME})
    if(part GREATER 1)
      set(entry ${NAME}_part${part})
    endif()
    math(EXPR index "${part} - 1")
    add_test(NAME ${entry} COMMAND ${NAME} ${ENTRY_ARGUMENTS})
    set_tests_properties(${entry} PROPERTIES TIMEOUT ${ENTRY_TIMEOUT} LABELS "${ENTRY_LABELS}"
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${ENTRY_PARTS};GTEST_SHARD_INDEX=${index};${ENTRY_ENVIRONMENT}")
  endforeach()
endfunction()

# sirocco_test(NAME DIR LINK lib... [PARTS n] [TSAN filter] [CROSS filter]): TSAN: the tests that ThreadSanitizer sees, * being
# all; none if not given. CROSS: those that qemu runs; all if not given.
function(sirocco_test NAME DIR)
  cmake_parse_arguments(TEST "" "TSAN;CROSS;PARTS" "LINK" ${ARGN})
  sirocco_sources(sources ${DIR})
  if(NOT sources)
    message(FATAL_ERROR "${NAME}: no tests in ${DIR}")
  endif()
  add_executable(${NAME} ${sources})
  sirocco_is_test(${NAME})
  target_link_libraries(${NAME} PRIVATE ${TEST_LINK} sirocco_test_support GTest::gtest_main)
  set(labels unit)
  set(filter)
  set(timeout 300)
  if(TEST_TSAN)
    list(APPEND labels tsan)
    if(SIROCCO_SANITIZE MATCHES thread)
      set(filter --gtest_filter=${TEST_TSAN})
    endif()
  endif()
  if(CMAKE_CROSSCOMPILING)
    set(timeout 1200)  # by qemu, which runs one test program on one core
    if(TEST_CROSS)
      set(filter --gtest_filter=${TEST_CROSS})
    endif()
  endif()
  sirocco_ctest(${NAME} PARTS ${TEST_PARTS} TIMEOUT ${timeout} LABELS ${labels} ARGUMENTS ${filter})
endfunction()

# What is plain C++ takes qemu most of the time, and every machine runs it.
sirocco_test(kernels_test tests/unit/kernels LINK sirocco_kernels sirocco_kernels_portable PARTS 2
             CROSS -*OneRowAndManyAndEveryGroupGiveTheSameBits/*portable*)
if(SIROCCO_CUDA_INCLUDE)
  # Random weights need nothing of the engine.
  add_library(sirocco_kernel_test_data STATIC engine/gguf/random_blocks.cc)
  target_link_libraries(sirocco_kernel_test_data PUBLIC sirocco_kernels)
  if(SIROCCO_KERNELS_ONLY AND SIROCCO_NVCC)
    include(cmake/cuda_gpu.cmake)
    return()
  endif()
  include(cmake/cuda_emulator.cmake)
  sirocco_cuda_test(cuda_emulator_test tests/unit/cuda_emulator)
  set_target_properties(cuda_emulator_test PROPERTIES SIROCCO_IS_TEST OFF)  # kernels are among its files
  if(NOT SIROCCO_KERNELS_ONLY)
    # The four types have every way in which a type is multiplied; accesses outside of memory the emulator sees in every build.
    set(four_types *Q4_K*:*Q8_0*:*Q4_1*:*Q6_K*:*Norm*:*Floats*:*Mixed*:*Route*:*Rotate*:*Attention*)
    sirocco_cuda_test(cuda_test tests/unit/cuda LINK sirocco_kernels_cuda_emulated sirocco_kernel_test_data
                      ASAN ${four_types} TSAN ${four_types})
  endif()
endif()
if(SIROCCO_KERNELS_ONLY)
  return()
endif()
sirocco_test(base_test tests/unit/base LINK sirocco_base TSAN *)
sirocco_test(gguf_test tests/unit/gguf LINK sirocco_gguf rapidcheck)
sirocco_test(text_test tests/unit/text LINK sirocco_text nlohmann_json rapidcheck PkgConfig::utf8proc)
sirocco_test(model_test tests/unit/model LINK sirocco_engine nlohmann_json)
sirocco_test(sample_test tests/unit/sample LINK sirocco_sample nlohmann_json)
sirocco_test(experts_test tests/unit/experts LINK sirocco_experts TSAN *)
sirocco_test(kv_test tests/unit/kv LINK sirocco_kv)
if(SIROCCO_CUDA_INCLUDE)
  add_library(sirocco_fake_nvml SHARED tests/support/fake_nvml.cc)
  sirocco_cuda_test(cuda_backend_test tests/unit/cuda_backend
                    LINK sirocco_daemon sirocco_client sirocco_backend_cuda sirocco_kernels_cuda_emulated nlohmann_json PARTS 2
                    TSAN -CudaFailure.*:CudaIntegrated.*:CudaGraphs.AreBounded*:CudaSlots.AnswersAre*:CudaSlots.ExpertsMay*:CudaSlots.WhatIs*:DeviceLost.*:DeviceSlots.A*:DeviceSlots.C*:DeviceSlots.H*:*CudaGoldens*/quant_q*:*CudaGoldens*/quant_iq*:*CudaGoldens*/quant_*f16:Cuda.RowsDoNot*:Cuda.NoKernel*)
  target_compile_definitions(cuda_backend_test PRIVATE SIROCCO_FAKE_NVML="$<TARGET_FILE:sirocco_fake_nvml>")
  add_dependencies(cuda_backend_test sirocco_fake_nvml)
endif()
sirocco_test(sched_test tests/unit/sched LINK sirocco_sched)
# Here the simulator is what takes the time.
set_target_properties(sched_test PROPERTIES SIROCCO_IS_TEST OFF)
sirocco_test(session_test tests/unit/session LINK sirocco_session)
sirocco_test(engine_test tests/unit/engine LINK sirocco_engine nlohmann_json TSAN -SmolLM2.*)
sirocco_test(wire_test tests/unit/wire LINK sirocco_wire rapidcheck)
sirocco_test(server_test tests/unit/server LINK sirocco_server sirocco_client TSAN *)
sirocco_test(client_test tests/unit/client LINK sirocco_server sirocco_client nlohmann_json TSAN *)
sirocco_test(daemon_test tests/unit/daemon LINK sirocco_daemon sirocco_client TSAN *)
if(SIROCCO_SANITIZE)
  return()  # the command line's parser is a quarter of all compiling; what reads foreign bytes is in the rooms above
endif()
sirocco_test(cli_test tests/unit/cli LINK sirocco_cli)

# Benchmarks are programs to run by hand or by `./dev bench`, not tests.
add_executable(linear_bench tests/bench/linear_bench.cc)
target_link_libraries(linear_bench PRIVATE sirocco_cli nlohmann_json)
add_executable(sampling_bench tests/bench/sampling_bench.cc)
target_link_libraries(sampling_bench PRIVATE sirocco_sample)
add_executable(policy_bench tests/bench/policy_bench.cc)
target_link_libraries(policy_bench PRIVATE sirocco_cli nlohmann_json)
add_executable(ipc_bench tests/bench/ipc_bench.cc)
target_link_libraries(ipc_bench PRIVATE sirocco_daemon sirocco_client nlohmann_json sirocco_test_support)
add_executable(transfer_bench tests/bench/transfer_bench.cc)
target_link_libraries(transfer_bench PRIVATE sirocco_experts nlohmann_json)
add_executable(sched_bench tests/bench/sched_bench.cc)
target_link_libraries(sched_bench PRIVATE sirocco_sched)
