# libsirocco: the client as a shared library, of which nothing but the C interface leaves (ipc/client/sirocco.h). The number in
# its name, SOVERSION, grows when a program built for an older one could no longer work with it.
include(GNUInstallDirs)

target_compile_definitions(sirocco_client PRIVATE SIROCCO_VERSION="${PROJECT_VERSION}")
add_library(sirocco_client_shared SHARED $<TARGET_OBJECTS:sirocco_client>)
target_link_libraries(sirocco_client_shared PRIVATE sirocco_wire fmt::fmt)
set_target_properties(sirocco_client_shared PROPERTIES
  OUTPUT_NAME sirocco SOVERSION 0 VERSION ${PROJECT_VERSION} LINKER_LANGUAGE CXX
  LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib
  LINK_DEPENDS ${PROJECT_SOURCE_DIR}/ipc/client/libsirocco.map)
target_link_options(sirocco_client_shared PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/ipc/client/libsirocco.map)

# For pkg-config, of the installed library.
configure_file(ipc/client/sirocco.pc.in ${PROJECT_BINARY_DIR}/sirocco.pc @ONLY)
