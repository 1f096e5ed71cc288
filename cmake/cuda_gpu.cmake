# For `./dev gpu` (preset gpu): the kernels' tests and benchmarks with the real kernels, as programs that can be carried to
# the machine with the GPU: they need nothing of the toolkit, nor a newer libstdc++, there.

# sirocco_gpu_program(NAME SOURCES source... LINK lib...): .cc by g++, .cu by nvcc.
function(sirocco_gpu_program NAME)
  cmake_parse_arguments(PROGRAM "" "" "SOURCES;LINK" ${ARGN})
  if(NOT PROGRAM_SOURCES)
    return()
  endif()
  set(kernels ${PROGRAM_SOURCES})
  list(FILTER kernels INCLUDE REGEX "\\.cu$")
  list(FILTER PROGRAM_SOURCES EXCLUDE REGEX "\\.cu$")
  sirocco_nvcc_objects(objects ${kernels})
  add_executable(${NAME} ${PROGRAM_SOURCES} ${objects})
  set_target_properties(${NAME} PROPERTIES LINKER_LANGUAGE CXX RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/programs)
  target_link_libraries(${NAME} PRIVATE sirocco_kernels_cuda ${PROGRAM_LINK})
  target_link_options(${NAME} PRIVATE -static-libstdc++ -static-libgcc)
endfunction()

sirocco_sources(tests tests/unit/cuda)
sirocco_gpu_program(cuda_test SOURCES ${tests} LINK sirocco_kernel_test_data sirocco_test_support GTest::gtest_main)
file(GLOB benchmark CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/bench/cuda_bench.cu)
sirocco_gpu_program(cuda_bench SOURCES ${benchmark})
