# tests/fuzz/<name>_fuzz.cc is one libFuzzer program; its corpus is tests/fuzz/corpus/<name>/.
if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "SIROCCO_FUZZ needs clang: use the preset 'fuzz'")
endif()

# sirocco_fuzz(NAME LINK lib...)
function(sirocco_fuzz NAME)
  cmake_parse_arguments(FUZZ "" "" "LINK" ${ARGN})
  if(NOT EXISTS ${PROJECT_SOURCE_DIR}/tests/fuzz/${NAME}_fuzz.cc)
    return()
  endif()
  add_executable(${NAME}_fuzz tests/fuzz/${NAME}_fuzz.cc)
  target_link_libraries(${NAME}_fuzz PRIVATE ${FUZZ_LINK})
  target_link_options(${NAME}_fuzz PRIVATE -fsanitize=fuzzer)
endfunction()

sirocco_fuzz(gguf LINK sirocco_gguf)
sirocco_fuzz(wire LINK sirocco_wire)
sirocco_fuzz(config LINK sirocco_daemon)
