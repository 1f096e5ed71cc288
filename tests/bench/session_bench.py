#!/usr/bin/env python3
"""How long the second turn of a long session waits for its first token: with what was computed of it in the KV cache, after
a restart of the daemon that read it from disk, and without it. The client's whole run is timed, so that reading the file
counts. At least 20 times and 5 times faster than without are wanted, for 4,000 tokens.

    session_bench.py --model build/models/demo-moe.gguf [--tokens 4000] [--rounds 5] [--out FILE]
"""
import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/system"))
from programs import Daemon  # noqa: E402

SENTENCE = "The quick brown fox jumps over the lazy dog while seven wizards brew a potion of unusual strength. "
TOKENS_OF_SENTENCE = 20


def turn(daemon, session, text):
    """Milliseconds of the client's run to one token of answer, and the usage."""
    began = time.monotonic()
    result = daemon.sirocco("generate", "--session", session, "--max-tokens", 1, "--json", stdin=text.encode())
    took = (time.monotonic() - began) * 1000
    if result.returncode != 0:
        raise SystemExit(result.stderr.decode())
    return took, json.loads(result.stdout)["usage"]


def measure(options, keep_computed):
    """First and second turns, and second turns after a restart."""
    quota = "8GiB" if keep_computed else "1MiB"  # the text alone
    with tempfile.TemporaryDirectory(prefix="sirocco-", dir="/tmp") as folder:
        daemon = Daemon(folder, options.model,
                        f"memory:\n  kv_tokens: {options.tokens * 8}\n"
                        f"sessions:\n  directory: {folder}/sessions\n  disk_bytes_per_user: {quota}\n"
                        f"  kept_tokens_per_user: {options.tokens * 8}\n").start()
        try:
            text = SENTENCE * (options.tokens // TOKENS_OF_SENTENCE)
            first, usage = turn(daemon, "s0", text)
            for i in range(1, options.rounds):
                daemon.sirocco("session", "fork", "s0", f"s{i}")
            second = [turn(daemon, f"s{i}", "And what came after that?") for i in range(options.rounds - 1)]
            daemon.stop()
            daemon.start()
            restarted = turn(daemon, f"s{options.rounds - 1}", "And what came after that?")
            return {"tokens": usage["prompt_tokens"], "first": first, "second": [ms for ms, _ in second],
                    "restarted": restarted[0], "restarted_computed": restarted[1]["prompt_tokens"] - restarted[1]["cached_tokens"]}
        finally:
            daemon.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    without = measure(options, keep_computed=False)
    saved = measure(options, keep_computed=True)
    second = statistics.median(saved["second"])
    report = {"tokens": saved["tokens"],
              "without_cache_ms": round(without["restarted"], 1),
              "second_turn_ms": round(second, 1),
              "second_turn_times_faster": round(without["restarted"] / second, 1),
              "after_restart_ms": round(saved["restarted"], 1),
              "after_restart_times_faster": round(without["restarted"] / saved["restarted"], 1)}
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
