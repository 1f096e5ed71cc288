# tests/fuzz/<name>_fuzz.cc is one libFuzzer program; its corpus is tests/fuzz/corpus/<name>/.
if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "SIROCCO_FUZZ needs clang: use the preset 'fuzz'")
endif()

# Where the golden models are that some of them start from.
add_library(sirocco_source_dir STATIC tests/support/source_dir.cc)
target_include_directories(sirocco_source_dir PUBLIC ${PROJECT_SOURCE_DIR})
target_compile_definitions(sirocco_source_dir PRIVATE SIROCCO_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                           SIROCCO_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")

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
sirocco_fuzz(session LINK sirocco_session)
sirocco_fuzz(config LINK sirocco_daemon)
sirocco_fuzz(tokenizer LINK sirocco_text)
sirocco_fuzz(template LINK sirocco_text)
sirocco_fuzz(conversation LINK sirocco_text)
sirocco_fuzz(model LINK sirocco_model sirocco_source_dir)
sirocco_fuzz(saved_hints LINK sirocco_experts sirocco_source_dir)
