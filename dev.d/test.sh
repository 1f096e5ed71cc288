# `./dev test`: every phase runs even after another failed, each test is counted, and the last line is the result.

passed=0 failed=0 skipped=0
failures=()
fuzz_seconds=${fuzz_seconds:-20}

# count_one NAME STATUS LOG
count_one() {
  if [[ $2 -eq 0 ]]; then
    passed=$((passed + 1))
    printf '    passed  %s\n' "$1"
  else
    failed=$((failed + 1))
    failures+=("$1: $3")
    printf '    FAILED  %s  (%s)\n' "$1" "$3"
  fi
}

# run_one NAME COMMAND...: one test with its own log. One that this machine cannot run ends with 77; its last line says why.
run_one() {
  local name=$1 log status=0
  shift
  log=build/test/${name//\//_}.log
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [[ $status -eq 77 ]]; then
    skipped=$((skipped + 1))
    printf '    SKIPPED %s (%s)\n' "$name" "$(tail -n 1 "$log")"
  else
    count_one "$name" "$status" "$log"
  fi
}

# why_failed LOG: what is worth reading of it where nothing but this output is at hand.
why_failed() {
  grep -nE -A 8 ': Failure$|^(FAIL|ERROR): |ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|\*\*\*(Failed|Timeout|Exception)|Subprocess aborted|terminate called' "$1" |
    head -n 60 | cut -c 1-300 | sed 's/^/      /' || true  # nothing found, or more than is shown
  tail -n 12 "$1" | cut -c 1-300 | sed 's/^/      /'
}

# build_targets PRESET TARGET...: counted only when it fails; what can be built is built all the same. No GPU runs what it builds.
build_targets() {
  local log=build/test/build-$1.log
  say "building for $1"
  if ! { cmake --preset "$1" -DSIROCCO_CUDA_QUICK=ON && cmake --build "build/$1" --target "${@:2}" -- -k 0; } >"$log" 2>&1; then
    tail -n 30 "$log"
    count_one "build $1" 1 "$log"
  fi
}

# Sanitizers of gcc 12 and clang 14 need the address layout of older kernels: without it some runs die at start.
without_aslr() {
  if setarch --addr-no-randomize true 2>/dev/null; then setarch --addr-no-randomize "$@"; else "$@"; fi
}

# run_ctest PRESET [CTEST OPTION...]: one test is one program of tests/unit.
run_ctest() {
  local log=build/test/ctest-$1.log line name
  local run=(without_aslr)
  [[ $1 != arm64 ]] || run=(in_cross_root build/package/arm64)
  say "ctest ($1)"
  "${run[@]}" ctest --test-dir "build/$1" --output-on-failure -j"$(nproc)" "${@:2}" >"$log" 2>&1 </dev/null || true
  local before=$((passed + failed + skipped))
  while read -r line; do
    name=$(sed -E 's/.*: ([^ ]+) .*/\1/' <<<"$line")
    case $line in
      *Passed*) count_one "$1/$name" 0 "$log" ;;
      *Skipped*) skipped=$((skipped + 1)) ;;
      *) count_one "$1/$name" 1 "$log" ;;
    esac
  done < <(grep -E '^ *[0-9]+/[0-9]+ Test +#' "$log")
  if [[ $before -eq $((passed + failed + skipped)) ]]; then count_one "$1/ctest found no tests" 1 "$log"; fi
  # A test that skips itself leaves its program passed; ctest keeps what every program said.
  while read -r name; do
    skipped=$((skipped + 1))
    printf '    SKIPPED %s\n' "$1/$name"
  done < <(sed -nE 's/^\[  SKIPPED \] ([^ ,]+\.[^ ,]+).*/\1/p' "build/$1/Testing/Temporary/LastTest.log" | sort -u)
}

phase_release() {
  build_targets release all
  if ! has_nvcc; then
    skipped=$((skipped + 1))
    printf '    SKIPPED %s\n' "the CUDA kernels compiled for GPUs (no nvcc; the emulator runs them)"
  else
    say "the kernels for GPUs in build/release were compiled quickly, and are slow: ./dev build optimises them"
  fi
  run_ctest release
}

phase_tidy() {
  build_targets release sirocco_schema_header  # clang-tidy reads the flags of every file, and the generated headers
  say "style and structure (clang-tidy looks at what has changed since it last passed)"
  local script
  for script in tests/tidy/*.py; do run_one "$script" python3 "$script"; done
}

# A leak is a failure, and so is any arithmetic that C++ leaves undefined (flags.cmake: no recovery).
phase_asan() { run_sanitized asan; }

phase_tsan() { run_sanitized tsan -L tsan; }

# run_sanitized PRESET [CTEST OPTION...]: a program of ctest is a target of the same name.
run_sanitized() {
  local targets
  ( configure "$1" ) || true
  mapfile -t targets < <(ctest --test-dir "build/$1" -N "${@:2}" 2>/dev/null | sed -nE 's/^ *Test +#[0-9]+: //p' | grep -v '_part[0-9]')
  build_targets "$1" "${targets[@]}"
  run_ctest "$1" "${@:2}"
}

# The kernels' tests for Arm, run by qemu: the other instruction sets' own machine is always at hand. The CUDA emulator's, too.
phase_aarch64() {
  if [[ $(uname -m) == aarch64 ]]; then return 0; fi  # the release build's tests were these
  install_packages "${CROSS_PACKAGES[@]}"
  build_targets aarch64 kernels_test $(has_cuda_headers && echo cuda_emulator_test)
  run_ctest aarch64
}

# What of the daemon is not arithmetic, for Arm, in the root that packages for Arm are built in, run by qemu. Not part of all: without a
# compiler's cache all of the engine and the daemon is compiled once more, and the root must be made.
# Only what was seen to pass is here. Under qemu 7.2 two ran into their 300 s, on a loaded machine, and nobody has found out why: kv_test in
# SwapFile.WhatDoesNotFitTheDiskLeavesItsSlotFree (a child process), server_test in ClientTest.SomebodyWhoSpeaksAnotherProtocolIsNamed.
# daemon_test, engine_test and the others have not been tried.
ARM64_TESTS=(session_test)
phase_arm64() {
  local work=build/package/arm64
  if [[ $(uname -m) == aarch64 ]]; then return 0; fi  # likewise
  if [[ $EUID -ne 0 ]]; then
    skipped=$((skipped + 1))
    printf '    SKIPPED %s\n' "the daemon's tests for Arm (built in a root of their own, which only root can make)"
    return 0
  fi
  source dev.d/package.sh
  source dev.d/cross_root.sh
  if ! ( copy_tree "$work/tree" && keep_ccache &&
    make_cross_root arm64 "$work" cross,nocheck qemu-user {libgtest,libgmock,librapidcheck}-dev:arm64 ); then
    count_one "a root that builds for Arm" 1 "see above"
    return 0
  fi
  CHECKOUT=$PWD
  keep_ccache
  say "building for arm64"
  if ! { in_cross_root "$work" cmake --preset arm64 && in_cross_root "$work" cmake --build build/arm64 --target "${ARM64_TESTS[@]}" -- -k 0; } \
    >build/test/build-arm64.log 2>&1 </dev/null; then
    tail -n 30 build/test/build-arm64.log
    count_one "build arm64" 1 build/test/build-arm64.log
  fi
  run_ctest arm64 -R "^($(IFS='|' && echo "${ARM64_TESTS[*]}"))\$"
}

# fuzz_one NAME_fuzz: works on a copy of the corpus, so that a run does not change the repository.
fuzz_one() {
  local corpus=build/test/corpus/$1
  mkdir -p "$corpus" build/test/crashes
  cp -n tests/fuzz/corpus/"${1%_fuzz}"/* "$corpus/"
  without_aslr "build/asan/bin/$1" -max_total_time="$fuzz_seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
    -artifact_prefix="build/test/crashes/$1-" "$corpus" >"build/test/$1.log" 2>&1 </dev/null
}

phase_fuzz() {
  local name index status names=() running=()
  for name in tests/fuzz/*_fuzz.cc; do names+=("$(basename "$name" .cc)"); done
  build_targets asan "${names[@]}"
  say "fuzzing, $fuzz_seconds s each, two at a time"
  for ((index = 0; index < ${#names[@]}; index += 2)); do
    running=()
    for name in "${names[@]:index:2}"; do
      fuzz_one "$name" &
      running+=("$!:$name")
    done
    for name in "${running[@]}"; do
      status=0
      wait "${name%%:*}" || status=$?
      count_one "fuzz/${name#*:}" "$status" "build/test/${name#*:}.log"
    done
  done
}

phase_system() {
  [[ -x build/release/bin/siroccod ]] || build_targets release all
  say "system tests"
  if [[ $EUID -eq 0 ]]; then install_packages "${BOOT_PACKAGES[@]}"; fi  # without root's rights no root can be booted
  ( make_demo_model ) || count_one "demo model" 1 "see above"
  local script
  for script in tests/system/*_test.{py,sh}; do
    [[ -f $script ]] || continue
    if [[ $script == *.py ]]; then
      run_one "$script" python3 "$script"
    else
      run_one "$script" bash "$script"
    fi
  done
}

minutes() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

run_tests() {
  local phase phases=()
  for phase in "$@"; do
    case $phase in
      all) phases+=(release tidy system aarch64 asan tsan fuzz) ;;
      quick) phases+=(release) ;;
      aarch64 | arm64 | asan | tsan | fuzz | system | tidy) phases+=("$phase") ;;
      *) die "no test phase \"$phase\"; there are: quick, aarch64, arm64, asan, tsan, fuzz, system, tidy" ;;
    esac
  done
  install_packages "${BUILD_PACKAGES[@]}" "${TOOL_PACKAGES[@]}"
  mkdir -p build/test
  ( install_cuda_headers ) || count_one "CUDA's headers" 1 "see above"
  if [[ " ${phases[*]} " =~ " "(release|asan|tsan|system)" " ]]; then  # their tests of a real model skip themselves without
    ( fetch_dense_model ) || count_one "SmolLM2-135M-Instruct" 1 "see above"
  fi
  local times="" before
  for phase in "${phases[@]}"; do
    before=$SECONDS
    "phase_$phase"
    times+=", $phase $(minutes $((SECONDS - before)))"
  done

  say "summary after $(minutes "$SECONDS") (${times:2}; logs: build/test/)"
  local failure
  for failure in "${failures[@]}"; do
    printf '    FAILED  %s\n' "$failure"
    if [[ -f ${failure##*: } ]]; then why_failed "${failure##*: }"; fi
  done
  local line="$passed passed, $failed failed"
  if [[ $skipped -gt 0 ]]; then line+=", $skipped skipped"; fi
  echo "$line"
  [[ $failed -eq 0 ]]
}
