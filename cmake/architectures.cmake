# Writes engine/model/architecture_list.h: every engine/model/architectures/NAME.cc defines `architecture_NAME`.
file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/engine/model/architectures/*.cc)
set(declarations "")
set(pointers "")
set(count 0)
foreach(file IN LISTS files)
  get_filename_component(name ${file} NAME_WE)
  string(APPEND declarations "extern const Architecture architecture_${name};\n")
  string(APPEND pointers "    &architecture_${name},\n")
  math(EXPR count "${count} + 1")
endforeach()
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/engine/model/architecture_list.h CONTENT
"// Written by cmake/architectures.cmake.
#pragma once
#include <array>
#include \"engine/model/architecture.h\"
namespace sirocco {
${declarations}inline constexpr std::array<const Architecture*, ${count}> kArchitectures = {
${pointers}};
}  // namespace sirocco
")
