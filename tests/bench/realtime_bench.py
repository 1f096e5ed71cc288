#!/usr/bin/env python3
"""How long a realtime request waits for its first token while prompts of thousands of tokens are read and eight batch
answers are being given, next to the same request alone: at most one step more is promised. The longest step that others
make is engine.max_step_ms.

    realtime_bench.py --model build/models/demo-moe.gguf [--requests 200] [--out FILE]
"""
import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/system"))
from programs import Daemon  # noqa: E402

STEP_MS = 250
REALTIME = ("generate", "--prompt", "Stop the left arm now.", "--max-tokens", "4", "--priority", "realtime", "--json")
WORDS = "The quick brown fox jumps over the lazy dog while seven wizards brew a potion of unusual strength. "


def first_token_ms(daemon):
    result = daemon.sirocco(*REALTIME)
    if result.returncode != 0:
        raise SystemExit(result.stderr.decode())
    timings = json.loads(result.stdout)["timings"]
    return timings["queued_us"] / 1000, (timings["queued_us"] + timings["prefill_us"]) / 1000


def spread(values):
    values = sorted(values)
    at = lambda share: round(values[min(len(values) - 1, int(share * len(values)))], 2)
    return {"p50": at(0.5), "p99": at(0.99), "most": round(values[-1], 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--prompt-tokens", type=int, default=4000)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sirocco-", dir="/tmp") as folder:
        daemon = Daemon(folder, args.model, f"engine: {{max_step_ms: {STEP_MS}, max_running: 16}}\nclients: {{default: {{max_queued: 64}}}}\n"
                                            "memory: {kv_tokens: 40000}\n").start()
        stopping = threading.Event()

        def keep_asking(*arguments):
            while not stopping.is_set():
                process = daemon.start_sirocco("generate", *arguments)
                while process.poll() is None and not stopping.is_set():
                    time.sleep(0.05)
                process.kill()
                process.communicate()

        try:
            alone = [first_token_ms(daemon)[1] for _ in range(20)]
            others = [threading.Thread(target=keep_asking, args=("--prompt", f"Tell story number {i}.", "--max-tokens", "2000",
                                                                 "--priority", "batch")) for i in range(8)]
            long_prompt = WORDS * (args.prompt_tokens // 20)
            others.append(threading.Thread(target=keep_asking, args=("--prompt", long_prompt, "--max-tokens", "1")))
            for thread in others:
                thread.start()
            time.sleep(3)
            waited, first = [], []
            for _ in range(args.requests):
                queued, token = first_token_ms(daemon)
                waited.append(queued)
                first.append(token)
            status = daemon.status()
            stopping.set()
            for thread in others:
                thread.join()
        finally:
            stopping.set()
            daemon.stop()
    own = statistics.median(alone)
    report = {"requests": args.requests, "alone_first_token_ms": round(own, 2), "waited_for_the_first_step_ms": spread(waited),
              "first_token_ms": spread(first), "longest_step_ms": STEP_MS,
              "first_token_p99_of_one_step_and_own_prefill": round(spread(first)["p99"] / (STEP_MS + own), 3),
              "meanwhile": {"prompt_tokens": status["tokens_prefilled"], "generated_tokens": status["tokens_generated"]}}
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
