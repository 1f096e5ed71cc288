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


def bench(args, prompt, *more):
    return json.loads(subprocess.run(
        [args.sirocco, "bench", "--model", args.model, "--prompt", str(prompt), "--generate", "32", "--threads",
         str(args.threads), "--repeat", "1", "--json", *more], check=True, stdout=subprocess.PIPE).stdout)


SHORT = 1024  # tokens that a long context is compared with


def spread(values):
    lower, median, upper = statistics.quantiles(values, n=4)
    return f"{median:.3f} ({lower:.3f} to {upper:.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sirocco", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--context", type=int, default=16384, help="0: not measured")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()

    rounds = []
    for number in range(args.rounds):
        rounds.append(bench(args, 512))
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
    last = rounds[-1]
    print(f"{args.model}: {last['backend']} ({last['isa']}), {last['threads']} threads")
    memory = statistics.median(r["bandwidth"]["memory_gb_s"] for r in rounds)
    print(f"decode   {statistics.median(r['decode']['tokens_per_s'] for r in rounds):.2f} tokens/s, "
          f"{spread([r['decode']['share_of_bandwidth'] for r in rounds])} of reading its bytes at {memory:.1f} GB/s")
    print(f"prefill  {statistics.median(r['prefill']['tokens_per_s'] for r in rounds):.2f} tokens/s, "
          f"{spread([r['prefill']['share_of_peak'] for r in rounds])} of the integer units' peak")
    report = {"rounds": rounds}
    if args.context:
        # Seven turns of both positions, after one prompt.
        report["context"] = bench(args, args.context, "--at", f"{SHORT},{args.context}")
        short, long = report["context"]["decode_at"]
        slower = [a / b for a, b in zip(short["runs"], long["runs"])]
        more = long["bytes_per_token"] / short["bytes_per_token"]
        print(f"context  {long['position']} next to {short['position']}: {spread(slower)} times the time, {more:.3f} times "
              f"the bytes; {spread([more / s for s in slower])} of what the bytes allow")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")
        print(f"written: {args.out}")


if __name__ == "__main__":
    main()
