# What `cmake --install` puts where, for /usr. A component is a Debian package, or a part of one (systemd/debian/rules).
include(GNUInstallDirs)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(SIROCCO_UNIT_DIR ${CMAKE_INSTALL_PREFIX}/lib/systemd/system CACHE PATH "Where systemd's units go")

# --- programs: the one part that differs where there is CUDA
install(TARGETS siroccod RUNTIME COMPONENT siroccod-program)
install(TARGETS sirocco RUNTIME COMPONENT sirocco-program)

# --- siroccod: its configuration, units, user, folders and manual pages
install(FILES config/siroccod.yaml DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/sirocco COMPONENT siroccod)
install(FILES systemd/sirocco.service systemd/sirocco.socket systemd/sirocco-admin.socket systemd/sirocco.slice
        DESTINATION ${SIROCCO_UNIT_DIR} COMPONENT siroccod)
if(systemd_VERSION VERSION_GREATER_EQUAL 254)
  install(FILES systemd/sirocco.service.d/60-newer.conf DESTINATION ${SIROCCO_UNIT_DIR}/sirocco.service.d COMPONENT siroccod)
endif()
install(FILES systemd/sysusers.d/sirocco.conf DESTINATION lib/sysusers.d COMPONENT siroccod)
install(FILES systemd/tmpfiles.d/sirocco.conf DESTINATION lib/tmpfiles.d COMPONENT siroccod)
if(EXISTS ${PROJECT_SOURCE_DIR}/systemd/sirocco.catalog)
  install(FILES systemd/sirocco.catalog DESTINATION lib/systemd/catalog COMPONENT siroccod)
endif()
install(FILES systemd/sirocco.service.d/home-models.conf DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/siroccod/examples COMPONENT siroccod)

# siroccod.yaml(5) is made from the comments of the file that it describes.
set(yaml_page ${PROJECT_BINARY_DIR}/man/siroccod.yaml.5)
add_custom_command(OUTPUT ${yaml_page}
  COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/docs/man/yaml_page.py ${PROJECT_SOURCE_DIR}/config/siroccod.yaml ${yaml_page}
  DEPENDS docs/man/yaml_page.py config/siroccod.yaml VERBATIM)
add_custom_target(sirocco_manual ALL DEPENDS ${yaml_page})
install(FILES docs/man/siroccod.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8 COMPONENT siroccod)
install(FILES ${yaml_page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man5 COMPONENT siroccod)

# --- libsirocco0, libsirocco-dev, python3-sirocco: for programs that are clients
if(TARGET sirocco_client_shared)
  install(TARGETS sirocco_client_shared
          LIBRARY COMPONENT libsirocco0 NAMELINK_COMPONENT libsirocco-dev)
  install(FILES ipc/client/sirocco.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT libsirocco-dev)
  install(FILES ${PROJECT_BINARY_DIR}/sirocco.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT libsirocco-dev)
  install(DIRECTORY ipc/client/python/sirocco DESTINATION lib/python3/dist-packages COMPONENT python3-sirocco
          FILES_MATCHING PATTERN "*.py" PATTERN py.typed PATTERN __pycache__ EXCLUDE)
endif()

# --- siroccod-cuda: besides programs, access to the GPU's nodes
install(FILES systemd/sirocco.service.d/nvidia.conf DESTINATION ${SIROCCO_UNIT_DIR}/sirocco.service.d RENAME 50-nvidia.conf
        COMPONENT siroccod-cuda)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  install(FILES systemd/sirocco.service.d/jetson.conf DESTINATION ${SIROCCO_UNIT_DIR}/sirocco.service.d RENAME 50-jetson.conf
          COMPONENT siroccod-cuda)
endif()

# --- sirocco: manual page and completion
install(FILES docs/man/sirocco.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT sirocco)
install(FILES systemd/completion/sirocco.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME sirocco COMPONENT sirocco)
install(FILES systemd/completion/sirocco.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions
        RENAME _sirocco COMPONENT sirocco)
install(FILES systemd/completion/sirocco.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT sirocco)
