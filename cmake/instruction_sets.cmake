# kernels/cpu is compiled once for each instruction set of the target, into a namespace of its own. What is common to all is in
# kernels/cpu/{kernels,activations}.cc. Nothing but those namespaces may be defined in the objects, or a program would take one
# instruction set's copy for all: tests/tidy/instruction_sets_test.py looks.

set(SIROCCO_COMMON_CPU_SOURCES kernels/cpu/kernels.cc kernels/cpu/activations.cc)
sirocco_sources(cpu_sources kernels/cpu)
foreach(source IN LISTS SIROCCO_COMMON_CPU_SOURCES)
  list(REMOVE_ITEM cpu_sources ${PROJECT_SOURCE_DIR}/${source})
endforeach()

function(sirocco_instruction_set NAME)
  add_library(sirocco_kernels_${NAME} OBJECT ${cpu_sources})
  target_include_directories(sirocco_kernels_${NAME} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(sirocco_kernels_${NAME} PRIVATE SIROCCO_ISA=${NAME})
  target_compile_options(sirocco_kernels_${NAME} PRIVATE ${ARGN})
  if(NOT SIROCCO_SANITIZE AND NOT NAME STREQUAL portable)  # which is for tests alone, and the slowest to compile
    target_compile_options(sirocco_kernels_${NAME} PRIVATE $<$<CONFIG:Release>:-O3>)
  elseif(NOT SIROCCO_SANITIZE OR NAME MATCHES "portable|avx_vnni")
    # With avx2 they share all but the instructions: not worth minutes under sanitizers.
    target_compile_options(sirocco_kernels_${NAME} PRIVATE -O1 -fno-sanitize=all)
  endif()
endfunction()

set(instruction_sets "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(instruction_sets avx2 avx_vnni avx512_vnni)
  sirocco_instruction_set(avx2 -mavx2 -mfma -mf16c)
  sirocco_instruction_set(avx_vnni -mavx2 -mfma -mf16c -mavxvnni)
  sirocco_instruction_set(avx512_vnni -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(instruction_sets neon_dotprod)
  sirocco_instruction_set(neon_dotprod -march=armv8.2-a+dotprod)
endif()
target_sources(sirocco_kernels PRIVATE ${SIROCCO_COMMON_CPU_SOURCES})
foreach(isa IN LISTS instruction_sets)
  target_sources(sirocco_kernels PRIVATE $<TARGET_OBJECTS:sirocco_kernels_${isa}>)
endforeach()

# The definition of the vectors in plain C++, for the tests alone: they link it as a library.
sirocco_instruction_set(portable)
