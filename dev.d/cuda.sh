# What of CUDA can be had on any machine. Sourced by ./dev.

# The toolkit's headers, for the tests of the kernels on the emulator: 5.5 MB, from PyPI, where no toolkit is installed.
# nvcc itself is used where it is found, and never installed.
CUDA_HEADERS=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85)

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
  say "fetching CUDA's headers (5.5 MB)"
  python_venv build/cuda/venv
  rm -rf build/cuda/wheels build/cuda/include
  build/cuda/venv/bin/pip --disable-pip-version-check install --quiet --no-deps --target build/cuda/wheels \
    "${CUDA_HEADERS[@]}" || die "CUDA's headers could not be fetched (see pip's message above)"
  rm -rf build/cuda/wheels/nvidia/cu13/include/cccl  # most of it, and nobody includes it
  mv build/cuda/wheels/nvidia/cu13/include build/cuda/include
  rm -rf build/cuda/wheels build/cuda/venv
}

# Likewise.
has_nvcc() {
  [[ -x ${CUDA_HOME:-/usr/local/cuda}/bin/nvcc || -x /usr/local/cuda/bin/nvcc || -x /usr/bin/nvcc ]]
}

# CUDA's static runtime for Arm, to link programs that are built for another machine: 4 MB, from PyPI.
fetch_cross_cudart() {
  export SIROCCO_CROSS_CUDART=$PWD/build/cuda/aarch64/libcudart_static.a
  [[ ! -e $SIROCCO_CROSS_CUDART ]] || return 0
  say "fetching CUDA's runtime for Arm"
  python_venv build/cuda/venv
  rm -rf build/cuda/wheels
  build/cuda/venv/bin/pip --disable-pip-version-check install --quiet --no-deps --target build/cuda/wheels --only-binary=:all: \
    --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 "${CUDA_HEADERS[0]}" ||
    die "CUDA's runtime for Arm could not be fetched (see pip's message above)"
  mkdir -p build/cuda/aarch64
  mv build/cuda/wheels/nvidia/cu13/lib/libcudart_static.a "$SIROCCO_CROSS_CUDART"
  rm -rf build/cuda/wheels build/cuda/venv
}
