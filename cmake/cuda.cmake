# CUDA. The toolkit's headers alone are enough for the emulated build, with which every machine tests the kernels:
# kernels/cuda compiled by g++ against tests/support/cuda_emulator. Where nvcc is found, the same sources are compiled for
# GPUs as well.
#
#   SIROCCO_CUDA_INCLUDE        the toolkit's headers, 13.0 or newer; empty: not found
#   SIROCCO_NVCC                nvcc; empty: not found, or not wanted
#   sirocco_kernels_cuda        the kernels for GPUs, if there is nvcc
#   sirocco_cuda_headers

set(SIROCCO_CUDA_INCLUDE "")
set(SIROCCO_NVCC "")
if(SIROCCO_CUDA STREQUAL "OFF")
  return()
endif()

# `./dev` puts the headers into build/cuda where no toolkit is installed.
foreach(folder IN ITEMS $ENV{CUDA_HOME}/include /usr/local/cuda/include /usr/include ${PROJECT_SOURCE_DIR}/build/cuda/include)
  if(EXISTS ${folder}/cuda_runtime_api.h AND EXISTS ${folder}/crt/host_config.h)
    file(STRINGS ${folder}/cuda_runtime_api.h version REGEX "^#define CUDART_VERSION +[0-9]+")
    string(REGEX REPLACE "[^0-9]" "" version "${version}")
    if(version GREATER_EQUAL 13000)
      set(SIROCCO_CUDA_INCLUDE ${folder})
      break()
    endif()
  endif()
endforeach()

# For another processor only where it is asked for: the tests that qemu runs want no GPU.
if(SIROCCO_CUDA_INCLUDE AND NOT SIROCCO_SANITIZE AND (SIROCCO_CUDA STREQUAL "ON" OR NOT CMAKE_CROSSCOMPILING))
  # Of the same toolkit, with its static runtime.
  get_filename_component(toolkit ${SIROCCO_CUDA_INCLUDE} DIRECTORY)
  find_program(nvcc nvcc PATHS ${toolkit}/bin NO_DEFAULT_PATH NO_CACHE)
  if(CMAKE_CROSSCOMPILING)
    file(GLOB cudart $ENV{SIROCCO_CROSS_CUDART} ${toolkit}/targets/sbsa-linux/lib/libcudart_static.a)
  else()
    file(GLOB cudart ${toolkit}/lib64/libcudart_static.a ${toolkit}/lib/*/libcudart_static.a ${toolkit}/targets/*/lib/libcudart_static.a)
  endif()
  if(nvcc AND cudart)
    set(SIROCCO_NVCC ${nvcc})
    list(GET cudart 0 SIROCCO_CUDART)
  endif()
endif()
if(SIROCCO_CUDA STREQUAL "ON" AND NOT SIROCCO_NVCC)
  message(FATAL_ERROR "SIROCCO_CUDA=ON, but no CUDA toolkit 13 (nvcc, headers, libcudart_static.a) is in $CUDA_HOME or /usr/local/cuda (libcudart_static.a for another processor: $SIROCCO_CROSS_CUDART). "
                      "Install it, or use SIROCCO_CUDA=AUTO.")
endif()
if(NOT SIROCCO_CUDA_INCLUDE)
  message(STATUS "CUDA: no toolkit's headers (version 13): neither kernels nor their tests are built")
  return()
endif()

add_library(sirocco_cuda_headers INTERFACE)
target_include_directories(sirocco_cuda_headers SYSTEM INTERFACE ${SIROCCO_CUDA_INCLUDE})

file(GLOB SIROCCO_CUDA_KERNELS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu)
sirocco_sources(SIROCCO_CUDA_SOURCES kernels/cuda)

# --- for GPUs, by nvcc: without CMake's own CUDA language, whose version 3.25 does not know this nvcc
set(SIROCCO_CUDA_ARCHITECTURES "87;90a;110" CACHE STRING
    "Compute capabilities that the kernels are compiled for: 87 Orin, 90a Hopper, 110 Thor")
# To see that they compile, and run: a third of the time, and kernels that are several times slower.
option(SIROCCO_CUDA_QUICK "Compile the kernels for GPUs quickly, for tests on machines without one" OFF)
set(SIROCCO_NVCC_FLAGS -std=c++20 -O3 -lineinfo --threads 2
    --fmad=false  # as -ffp-contract=off: a kernel that wants a fused multiply-add says so
    --Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror,-fPIC -I${PROJECT_SOURCE_DIR})
if(SIROCCO_CUDA_QUICK)
  list(APPEND SIROCCO_NVCC_FLAGS --Ofast-compile=max -Xptxas --suppress-stack-size-warning)
endif()
if(CMAKE_CROSSCOMPILING)
  list(APPEND SIROCCO_NVCC_FLAGS -ccbin ${CMAKE_CXX_COMPILER} -isystem ${SIROCCO_CUDA_INCLUDE})  # it looks in folders of the target
endif()
foreach(architecture IN LISTS SIROCCO_CUDA_ARCHITECTURES)
  list(APPEND SIROCCO_NVCC_FLAGS -gencode arch=compute_${architecture},code=sm_${architecture})
endforeach()

# sirocco_nvcc_objects(OUT file.cu...): compiles them.
function(sirocco_nvcc_objects OUT)
  set(objects)
  foreach(source IN LISTS ARGN)
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${source})
    set(object ${PROJECT_BINARY_DIR}/nvcc/${name}.o)
    get_filename_component(folder ${object} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(OUTPUT ${object} DEPENDS ${source} DEPFILE ${object}.d
      COMMAND ${CMAKE_CXX_COMPILER_LAUNCHER} ${SIROCCO_NVCC} ${SIROCCO_NVCC_FLAGS} -MD -MF ${object}.d -c ${source} -o ${object}
      COMMENT "nvcc ${name}" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  set(${OUT} ${objects} PARENT_SCOPE)
endfunction()

if(SIROCCO_NVCC)
  sirocco_nvcc_objects(objects ${SIROCCO_CUDA_KERNELS})
  find_package(Threads REQUIRED)
  if(objects OR SIROCCO_CUDA_SOURCES)
    add_library(sirocco_kernels_cuda STATIC ${objects} ${SIROCCO_CUDA_SOURCES})
    set_target_properties(sirocco_kernels_cuda PROPERTIES LINKER_LANGUAGE CXX)
    target_link_libraries(sirocco_kernels_cuda PUBLIC sirocco_kernels sirocco_cuda_headers ${SIROCCO_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)
  endif()
elseif(NOT SIROCCO_SANITIZE)
  message(STATUS "CUDA: no nvcc; the kernels are compiled for the emulator alone")
endif()
