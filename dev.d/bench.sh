# `./dev bench`: benchmarks of the release build. Results are written to build/bench/*.json.

bench_kernels() {
  configure release
  cmake --build build/release --target kernels_bench ||
    die "the benchmark could not be built; the compiler's messages are above"
  build/release/bin/kernels_bench --benchmark_out=build/bench/kernels.json --benchmark_out_format=json
}

# Next to llama.cpp, on the same file, taking turns in the same run. It is compiled for this processor but for AMX: its
# AMX code built by gcc 12 crashes on the first prompt (ldtilecfg in ggml_backend_amx_mul_mat). Without pip's cache: it may hold another build.
bench_peers() {
  build_programs
  make_demo_model
  python_venv build/bench-venv
  if ! build/bench-venv/bin/python -c 'import llama_cpp; assert llama_cpp.__version__ == "0.3.36"' 2>/dev/null; then
    say "building llama.cpp (llama-cpp-python 0.3.36, once, about 11 minutes on two cores)"
    local no_amx=
    [[ $(uname -m) != x86_64 ]] || no_amx="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    CMAKE_ARGS="-DCMAKE_C_FLAGS='$no_amx' -DCMAKE_CXX_FLAGS='$no_amx'" \
      build/bench-venv/bin/pip --disable-pip-version-check install --quiet --no-cache-dir llama-cpp-python==0.3.36 ||
      die "llama-cpp-python could not be built (see pip's message above)"
  fi
  build/bench-venv/bin/python tests/bench/peers/peers.py --sirocco build/release/bin/sirocco --model "$DEMO_MODEL" \
    --out build/bench/peers.json
}

run_bench() {
  install_packages "${BUILD_PACKAGES[@]}"
  mkdir -p build/bench
  case $1 in
    all)
      bench_kernels
      bench_peers
      ;;
    kernels | peers) "bench_$1" ;;
    *) die "no benchmark \"$1\"; there are: kernels, peers" ;;
  esac
}
