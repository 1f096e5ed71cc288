# The kernels and their tests for another processor, with nothing but a cross compiler: no library of that processor's is
# wanted. GoogleTest is compiled from Debian's sources.
enable_language(C)
add_subdirectory(/usr/src/googletest ${CMAKE_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
foreach(target gtest gtest_main gmock)
  target_compile_options(${target} PRIVATE -w)
endforeach()
add_executable(kernels_test)
sirocco_sources(sources tests/unit/kernels)
target_sources(kernels_test PRIVATE ${sources} tests/support/source_dir.cc)
target_compile_definitions(kernels_test PRIVATE SIROCCO_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                           SIROCCO_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
target_link_libraries(kernels_test PRIVATE sirocco_kernels sirocco_kernels_portable gtest gmock gtest_main)
add_test(NAME kernels_test COMMAND kernels_test)
