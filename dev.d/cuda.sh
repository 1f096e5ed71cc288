# What of CUDA can be had on any machine. Sourced by ./dev.

# The toolkit's headers, for the tests of the kernels on the emulator: 2.4 MB, from PyPI, where no toolkit is installed.
# nvcc itself is used where it is found, and never installed.
CUDA_HEADERS=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-crt==13.0.88)

# As cmake/cuda.cmake looks for them.
has_cuda_headers() {
  local folder version
  for folder in "${CUDA_HOME:-/usr/local/cuda}/include" /usr/local/cuda/include /usr/include build/cuda/include; do
    [[ -e $folder/cuda_runtime_api.h && -e $folder/crt/host_config.h ]] || continue
    version=$(sed -nE 's/^#define CUDART_VERSION +([0-9]+).*/\1/p' "$folder/cuda_runtime_api.h")
    [[ ${version:-0} -lt 13000 ]] || return 0
  done
  return 1
}

install_cuda_headers() {
  ! has_cuda_headers || return 0
  say "fetching CUDA's headers (2.4 MB)"
  python_venv build/cuda/venv
  rm -rf build/cuda/wheels build/cuda/include
  build/cuda/venv/bin/pip --disable-pip-version-check install --quiet --no-deps --target build/cuda/wheels \
    "${CUDA_HEADERS[@]}" || die "CUDA's headers could not be fetched (see pip's message above)"
  mv build/cuda/wheels/nvidia/cu13/include build/cuda/include
  rm -rf build/cuda/wheels build/cuda/venv
}

find_nvcc() {
  local path
  for path in "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" /usr/local/cuda/bin/nvcc "$(command -v nvcc)"; do
    if [[ -x $path ]]; then
      printf '%s\n' "$path"
      return 0
    fi
  done
  return 1
}
