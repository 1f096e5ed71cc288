# `./dev bench`: benchmarks of the release build. Results are written to build/bench/*.json. They want a quiet machine.

# Every type's linear kernel, one row and 512, next to what this machine's memory and integer units can do.
bench_kernels() {
  build_bench linear_bench
  build/release/bin/linear_bench --threads "$(threads_of_peers)" --json build/bench/kernels.json
}

# Choosing a token of a large vocabulary.
bench_sampling() {
  build_bench sampling_bench
  build/release/bin/sampling_bench
}

# A model at Mixtral's dimensions, cut to fit the memory.
LARGE_MODEL=build/models/mixtral-4-layers.gguf
make_large_model() {
  [[ -e $LARGE_MODEL ]] ||
    build/release/bin/sirocco model synth "$LARGE_MODEL" --preset mixtral-8x7b --layers 4 --type Q4_K ||
    die "$LARGE_MODEL could not be made"
}

# It, next to the same bounds.
bench_model() {
  build_programs
  make_large_model
  python3 tests/bench/model_bench.py --sirocco build/release/bin/sirocco --model "$LARGE_MODEL" \
    --out build/bench/model.json
}

# Next to llama.cpp, on the same file, taking turns in the same run. It is compiled for this processor but for AMX: its
# AMX code built by gcc 12 crashes on the first prompt (ldtilecfg in ggml_backend_amx_mul_mat). Without pip's cache: it
# may hold another build. ik_llama.cpp's wheel is AVX2.
peers_venv() {
  python_venv build/bench-venv
  if ! build/bench-venv/bin/python -c 'import llama_cpp; assert llama_cpp.__version__ == "0.3.36"' 2>/dev/null; then
    say "building llama.cpp (llama-cpp-python 0.3.36, once, about 11 minutes on two cores)"
    local no_amx=
    [[ $(uname -m) != x86_64 ]] || no_amx="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    CMAKE_ARGS="-DCMAKE_C_FLAGS='$no_amx' -DCMAKE_CXX_FLAGS='$no_amx'" \
      build/bench-venv/bin/pip --disable-pip-version-check install --quiet --no-cache-dir llama-cpp-python==0.3.36 ||
      die "llama-cpp-python could not be built (see pip's message above)"
  fi
  build/bench-venv/bin/pip --disable-pip-version-check install --quiet ik-llama-cpp-python==0.1.5 ||
    die "ik-llama-cpp-python could not be installed (see pip's message above)"
}

bench_peers() {
  build_programs
  make_demo_model
  peers_venv
  local name
  for name in "$DENSE_MODEL" "$DEMO_MODEL"; do
    say "$name"
    build/bench-venv/bin/python tests/bench/peers/peers.py --sirocco build/release/bin/sirocco --model "$name" \
      --out "build/bench/peers-$(basename "$name" .gguf).json"
  done
  # Few tokens: beside busy processes the peers take seconds for each.
  say "$DEMO_MODEL, beside one busy process for each thread"
  build/bench-venv/bin/python tests/bench/peers/peers.py --sirocco build/release/bin/sirocco --model "$DEMO_MODEL" --busy \
    --prompt 64 --generate 16 --peer llama.cpp --peer ik_llama.cpp --out build/bench/peers-busy.json
  say "$LARGE_MODEL"
  make_large_model
  build/bench-venv/bin/python tests/bench/peers/peers.py --sirocco build/release/bin/sirocco --model "$LARGE_MODEL" \
    --generate 32 --out build/bench/peers-mixtral.json
}

# A model larger than its memory, next to the bounds of memory and disk and to llama.cpp's mmap; eviction policies on
# traces of routing; and lossy modes next to exact answers. Needs root, for cgroups.
ROUTE_TRACE=${ROUTE_TRACE:-../shared/traces/qwen3-30b-a3b.route.csv.gz}
bench_experts() {
  build_programs
  build_bench policy_bench
  peers_venv
  [[ $EUID -eq 0 ]] || die "./dev bench experts makes a cgroup with a memory limit: run it as root"
  build/release/bin/policy_bench --json build/bench/policies.json
  if [[ -f $ROUTE_TRACE ]]; then
    gunzip -c "$ROUTE_TRACE" >build/bench/route.csv
    build/release/bin/policy_bench --trace build/bench/route.csv --json build/bench/policies-trace.json
  fi
  bench_larger mixtral-8x7b 15 6GiB
  bench_larger qwen3-30b-a3b 12 2GiB
  if [[ -f $ROUTE_TRACE ]]; then bench_replayed; fi
  build/bench-venv/bin/python tests/bench/lossy_bench.py --sirocco build/release/bin/sirocco \
    --model build/models/qwen3-30b-a3b-12-layers.gguf --memory 2GiB --out build/bench/lossy-qwen3-30b-a3b.json
  bench_disk
}

# Qwen3's dimensions with a real model's routing, of 6 experts for each token; random weights route at random.
bench_replayed() {
  local model=build/models/qwen3-30b-a3b-12-layers-6-used.gguf
  [[ -e $model ]] ||
    build/release/bin/sirocco model synth "$model" --preset qwen3-30b-a3b --layers 12 --used 6 --type Q4_K ||
    die "$model could not be made"
  python3 tests/bench/experts_bench.py --sirocco build/release/bin/sirocco --model "$model" --memory 2GiB --generate 12 \
    --route-trace build/bench/route.csv --out build/bench/experts-qwen3-30b-a3b-replayed.json
}

# The transfer queue next to fio, and the time to READY next to what the disk needs for the dense weights.
bench_disk() {
  build_programs
  build_bench transfer_bench
  install_packages fio
  [[ $EUID -eq 0 ]] || die "./dev bench disk drops the page cache: run it as root"
  local model=build/models/qwen3-30b-a3b-12-layers.gguf
  make_larger_model qwen3-30b-a3b 12
  python3 tests/bench/disk_bench.py --transfer-bench build/release/bin/transfer_bench --siroccod build/release/bin/siroccod \
    --model "$model" --memory 2GiB --out build/bench/disk.json
}

# make_larger_model PRESET LAYERS
make_larger_model() {
  local model=build/models/$1-$2-layers.gguf
  [[ -e $model ]] || build/release/bin/sirocco model synth "$model" --preset "$1" --layers "$2" --type Q4_K ||
    die "$model could not be made"
}

# bench_larger PRESET LAYERS MEMORY
bench_larger() {
  local model=build/models/$1-$2-layers.gguf
  make_larger_model "$1" "$2"
  python3 tests/bench/experts_bench.py --sirocco build/release/bin/sirocco --model "$model" --memory "$3" --generate 12 \
    --foresight --peer "llama.cpp mmap" --python build/bench-venv/bin/python --out "build/bench/experts-$1.json"
}

# How far the logits are from those of unquantised activations, next to llama.cpp's, over 2,000 tokens of SmolLM2.
bench_accuracy() {
  build_programs
  make_demo_model
  peers_venv
  build/bench-venv/bin/python tests/bench/peers/accuracy.py --sirocco build/release/bin/sirocco --model "$DENSE_MODEL" \
    --text docs/architecture.md --text docs/protocol.md --out build/bench/accuracy.json
}

# What daemon, socket and client add to an engine that computes nothing; the scheduler's decisions a second; a realtime
# request among others; a session's second turn; 16 clients against one.
bench_serving() {
  build_programs
  build_bench ipc_bench
  build_bench sched_bench
  build/release/bin/ipc_bench --json build/bench/ipc.json
  build/release/bin/sched_bench
  make_demo_model
  python3 tests/bench/realtime_bench.py --model "$DEMO_MODEL" --out build/bench/realtime.json
  python3 tests/bench/session_bench.py --model "$DEMO_MODEL" --out build/bench/session.json
  make_large_model
  python3 tests/bench/streams_bench.py --model "$LARGE_MODEL" --out build/bench/streams.json
}

# Clients of every kind, budgets and restarts against one daemon, with its answers compared. Options: --minutes N (60).
bench_chaos() {
  build_programs
  make_demo_model
  python3 tests/bench/chaos.py --json build/bench/chaos.json "$@"
}

build_bench() {
  configure release -DSIROCCO_CUDA_QUICK=OFF
  cmake --build build/release --target "$1" || die "$1 could not be built; the compiler's messages are above"
}

# As many as the peers are given: every CPU that may be used.
threads_of_peers() { python3 -c 'import os; print(len(os.sched_getaffinity(0)))'; }

run_bench() {
  install_packages "${BUILD_PACKAGES[@]}"
  mkdir -p build/bench
  case $1 in
    all)
      bench_kernels
      bench_sampling
      bench_model
      bench_peers
      bench_accuracy
      bench_experts
      bench_serving
      ;;
    kernels | sampling | model | peers | accuracy | experts | disk | serving) "bench_$1" ;;
    chaos) bench_chaos "${@:2}" ;;
    *) die "no benchmark \"$1\"; there are: kernels, sampling, model, peers, accuracy, experts, disk, serving, chaos" ;;
  esac
}
