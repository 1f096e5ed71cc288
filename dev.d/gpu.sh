# `./dev gpu`: the CUDA kernels on a GPU. Everything that was found out is in build/gpu/report.json. Needs no Debian: nvcc 13,
# g++, cmake and ninja are enough, or programs that were built elsewhere.

GPU_PROGRAMS=build/gpu/programs
GPU_CARRIED=build/gpu/carried  # what may be taken to another machine
GPU_REPORT=build/gpu/report.json

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; }

# Stripped of what only a debugger on this machine could use; the lines of kernels stay, for compute-sanitizer.
build_gpu_programs() {
  [[ -d /usr/src/googletest ]] ||
    die "GoogleTest's sources are not in /usr/src/googletest: install libgtest-dev, or use ./dev gpu --prebuilt DIR"
  configure gpu
  say "building the tests and benchmarks with real kernels (build/gpu; some minutes at first)"
  local targets=(cuda_test) program
  [[ ! -e tests/bench/cuda_bench.cu ]] || targets+=(cuda_bench)
  cmake --build build/gpu --target "${targets[@]}" ||
    die "the GPU programs could not be built; the compiler's messages are above"
  mkdir -p "$GPU_CARRIED"
  for program in "${targets[@]}"; do
    strip --strip-debug -o "$GPU_CARRIED/$program" "$GPU_PROGRAMS/$program"
  done
}

# gpu_step NAME SECONDS COMMAND...: one step of the report, with its own log. Never ends the run.
gpu_results=()
gpu_failed=0
gpu_step() {
  local name=$1 limit=$2 log status=0 begin=$SECONDS outcome=passed
  shift 2
  log=build/gpu/$name.log
  timeout "$limit" "$@" >"$log" 2>&1 </dev/null || status=$?
  case $status in
    0) ;;
    124) outcome="not finished in $limit s" ;;
    *) outcome="failed" ;;
  esac
  if [[ $status -ne 0 ]]; then
    gpu_failed=$((gpu_failed + 1))
    tail -n 25 "$log"
  fi
  gpu_results+=("{\"name\": \"$name\", \"outcome\": \"$outcome\", \"seconds\": $((SECONDS - begin))}")
  printf '    %-10s %s (%s s, %s)\n' "$name" "$outcome" $((SECONDS - begin)) "$log"
}

gpu_skip() {
  gpu_results+=("{\"name\": \"$1\", \"outcome\": \"skipped: $2\"}")
  printf '    %-10s skipped: %s\n' "$1" "$2"
}

# A file's content, if it is JSON to its end, else null.
json_or_null() {
  if [[ -s $1 && $(tail -c 2 "$1" | tr -d '[:space:]') == "}" ]]; then cat "$1"; else printf null; fi
}

write_gpu_report() {
  local device driver steps
  IFS=, read -r device driver < <(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1)
  printf -v steps '%s, ' "${gpu_results[@]}"
  {
    printf '{"device": "%s", "driver": "%s", "commit": "%s",\n' "$device" "${driver# }" \
      "$(git rev-parse --short HEAD 2>/dev/null || printf unknown)"
    printf '"steps": [%s],\n"tests": ' "${steps%, }"
    json_or_null build/gpu/tests.json
    printf ',\n"benchmarks": '
    json_or_null build/gpu/benchmarks.json
    printf '}\n'
  } >"$GPU_REPORT"
}

# run_gpu_programs DIR: at most 8 minutes. The sanitizers make kernels tens of times slower: they leave out the tests that
# have "Large" in their names.
run_gpu_programs() {
  local programs=$1 sanitizer=${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer
  [[ -x $sanitizer ]] || sanitizer=$(command -v compute-sanitizer) || sanitizer=
  [[ -x $programs/cuda_test ]] || die "$programs has no program cuda_test: ./dev gpu builds it, where nvcc is"
  say "$(nvidia-smi -L | head -n 1)"
  rm -f build/gpu/tests.json build/gpu/benchmarks.json
  gpu_step tests 150 "$programs/cuda_test" --gtest_output=json:build/gpu/tests.json
  if grep -q "no NVIDIA GPU on this machine" build/gpu/tests.log; then
    die "nvidia-smi names a GPU, but the CUDA runtime finds none: CUDA 13 wants driver 580 or newer"
  fi
  if [[ -n $sanitizer ]]; then
    gpu_step memcheck 120 "$sanitizer" --tool memcheck --error-exitcode 1 "$programs/cuda_test" '--gtest_filter=-*Large*'
    gpu_step racecheck 90 "$sanitizer" --tool racecheck --error-exitcode 1 "$programs/cuda_test" '--gtest_filter=-*Large*'
  else
    gpu_skip memcheck "no compute-sanitizer in the toolkit here"
    gpu_skip racecheck "no compute-sanitizer in the toolkit here"
  fi
  if [[ -x $programs/cuda_bench ]]; then
    gpu_step benchmarks 110 bash -c '"$0" >build/gpu/benchmarks.json' "$programs/cuda_bench"
  else
    gpu_skip benchmarks "$programs has no cuda_bench"
  fi
  write_gpu_report
  say "$GPU_REPORT"
  [[ $gpu_failed -eq 0 ]] || die "$gpu_failed of the steps failed"
}

run_gpu() {
  mkdir -p build/gpu
  if [[ ${1:-} == --prebuilt ]]; then
    [[ -n ${2:-} ]] || die "--prebuilt wants the folder with cuda_test"
    has_gpu || die "no NVIDIA GPU here (nvidia-smi -L names none)"
    run_gpu_programs "$2"
    return
  fi
  [[ $# -eq 0 ]] || die "./dev gpu knows --prebuilt DIR, not \"$1\""
  if ! has_nvcc; then
    if has_gpu; then die "a GPU but no nvcc 13 (\$CUDA_HOME, /usr/local/cuda): install the toolkit, or ./dev gpu --prebuilt DIR"; fi
    die "neither an NVIDIA GPU nor nvcc here: nothing to build or run. ./dev test runs the kernels on the emulator"
  fi
  build_gpu_programs
  if has_gpu; then
    run_gpu_programs "$GPU_PROGRAMS"
  else
    say "no GPU here. $(du -sh "$GPU_CARRIED" | cut -f1) in $GPU_CARRIED: copy the folder into a checkout on a machine with one, and there:"
    echo "    ./dev gpu --prebuilt $GPU_CARRIED"
  fi
}
