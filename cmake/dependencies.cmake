# Every library comes from Debian; docs/decisions.md says why each was chosen. `./dev` installs them.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(PkgConfig REQUIRED)
pkg_check_modules(sentencepiece REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(systemd REQUIRED IMPORTED_TARGET libsystemd)
pkg_check_modules(edit REQUIRED IMPORTED_TARGET libedit)
pkg_check_modules(uring REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(prometheus REQUIRED IMPORTED_TARGET prometheus-cpp-core)
find_program(FLATC flatc REQUIRED)

# nlohmann-json, CLI11 and tl-expected are headers in /usr/include.
add_library(nlohmann_json INTERFACE)
target_compile_definitions(nlohmann_json INTERFACE JSON_DIAGNOSTICS=0)

# Boost.Asio is compiled once, in ipc/server/asio.cc.
find_package(Boost 1.81 REQUIRED)
add_library(sirocco_asio INTERFACE)
target_compile_definitions(sirocco_asio INTERFACE BOOST_ASIO_SEPARATE_COMPILATION BOOST_ASIO_NO_DEPRECATED)
target_link_libraries(sirocco_asio INTERFACE Boost::headers Threads::Threads)
if(SIROCCO_SANITIZE MATCHES thread)
  # ThreadSanitizer knows no bare fences: it would miss them, and g++ warns of it. Asio's locks order everything we do.
  target_compile_definitions(sirocco_asio INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
  target_compile_options(sirocco_asio INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
endif()
