#!/usr/bin/env python3
"""A whole model next to this machine's bounds: decode as a share of the memory's speed times the bytes of a token,
prefill as a share of the integer units' peak, and decode after a long context next to decode after a short one.
`sirocco bench` measures the bounds between its runs.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys


def bench(args, prompt, generate, repeat):
    return json.loads(subprocess.run(
        [args.sirocco, "bench", "--model", args.model, "--prompt", str(prompt), "--generate", str(generate), "--threads",
         str(args.threads), "--repeat", str(repeat), "--json"], check=True, stdout=subprocess.PIPE).stdout)


def spread(values):
    lower, median, upper = statistics.quantiles(values, n=4)
    return f"{median:.3f} ({lower:.3f} to {upper:.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sirocco", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()

    rounds = []
    for number in range(args.rounds):
        rounds.append(bench(args, 512, 32, 1))
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
    last = rounds[-1]
    print(f"{args.model}: {last['backend']} ({last['isa']}), {last['threads']} threads")
    memory = statistics.median(r["bandwidth"]["memory_gb_s"] for r in rounds)
    print(f"decode   {statistics.median(r['decode']['tokens_per_s'] for r in rounds):.2f} tokens/s, "
          f"{spread([r['decode']['share_of_bandwidth'] for r in rounds])} of reading its bytes at {memory:.1f} GB/s")
    print(f"prefill  {statistics.median(r['prefill']['tokens_per_s'] for r in rounds):.2f} tokens/s, "
          f"{spread([r['prefill']['share_of_peak'] for r in rounds])} of the integer units' peak")
    if args.out:
        args.out.write_text(json.dumps({"rounds": rounds}, indent=1) + "\n")
        print(f"written: {args.out}")


if __name__ == "__main__":
    main()
