# Configuring and building with the presets of CMakePresets.json.

# configure PRESET [OPTION...]: quiet where all is well.
configure() {
  mkdir -p build
  cmake --preset "$@" >"build/configure-$1.log" 2>&1 || die_with_log "build/configure-$1.log" "cmake --preset $1 failed"
}

# The programs and the clients' library, and nothing of the tests.
build_programs() {
  install_packages "${BUILD_PACKAGES[@]}"
  configure release -DSIROCCO_CUDA_QUICK=OFF
  say "building siroccod and sirocco (build/release)"
  cmake --build build/release --target siroccod sirocco sirocco_client_shared ||
    die "the programs could not be built; the compiler's messages are above"
}

# Every C++ file of the repository, separated by zero bytes.
cpp_sources() {
  git ls-files -z --cached --others --exclude-standard '*.cc' '*.h' '*.cu' '*.cuh'
}

# python_venv FOLDER: an empty virtual environment, made once.
python_venv() {
  [[ -x $1/bin/pip ]] || python3 -m venv --clear "$1" || die "python3 -m venv $1 failed (package python3-venv)"
}
