#!/usr/bin/env python3
"""What lossy modes cost and bring, on a model that is larger than its memory: tokens/s of answers beside those of exact
ones, in turns in a cgroup with a hard limit, and the Kullback-Leibler divergence of the exact distributions from theirs,
token by token with as many slots. Needs root, for the cgroup. A file of random weights says how far distributions move,
not what a trained model's answers lose.
"""
import argparse
import array
import json
import os
import pathlib
import statistics
import subprocess
import sys

import numpy

from experts_bench import Group, run_in, spread

MODES = {"exact": [],
         "skip below 0.05": ["--lossy-skip-below", "0.05"],
         "skip below 0.1": ["--lossy-skip-below", "0.1"],
         "skip below 1": ["--lossy-skip-below", "1"],
         "substitute": ["--lossy-substitute"],
         "both, 0.05": ["--lossy-skip-below", "0.05", "--lossy-substitute"]}
VOCABULARY = 32000  # that the tokens are spread over, as in `sirocco bench`


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True))


def distributions(args, slots, mode):
    """[tokens, vocabulary] f64 log probabilities after those that fill the slots, and the experts done without."""
    tokens = [(1000 + 7919 * i) % VOCABULARY for i in range(args.warm + args.tokens)]
    report = json.loads(subprocess.run(
        [args.sirocco, "logits", "--model", args.model, "--all", "--rows", "1", "--slots", str(slots), "--threads",
         str(args.threads), "--tokens", ",".join(map(str, tokens)), "--json", *mode], check=True, stdout=subprocess.PIPE).stdout)
    rows = [array.array("f", row["logits"]) for row in report["rows"][args.warm:]]
    return log_softmax(numpy.array(rows, dtype=numpy.float64)), report["lossy_experts"]


def divergences(exact, lossy):
    return [float((numpy.exp(p) * (p - q)).sum()) for p, q in zip(exact, lossy)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sirocco", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--generate", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32, help="whose distributions are compared")
    parser.add_argument("--warm", type=int, default=32, help="tokens before them")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()

    units = {"GiB": 2**30, "MiB": 2**20}
    group = Group(int(float(args.memory[:-3]) * units[args.memory[-3:]]))
    rounds = []
    try:
        for number in range(args.rounds):
            rounds.append({name: run_in(group, [
                args.sirocco, "bench", "--model", args.model, "--prompt", str(args.prompt), "--generate", str(args.generate),
                "--memory", args.memory, "--threads", str(args.threads), "--repeat", "1", "--json", *mode])
                for name, mode in MODES.items()})
            print(f"round {number + 1} of {args.rounds}: " + ", ".join(
                f"{name} {report['decode']['tokens_per_s']:.2f}" for name, report in rounds[-1].items()), file=sys.stderr)
    finally:
        group.remove()

    slots = rounds[0]["exact"]["experts"]["slots"]
    exact, _ = distributions(args, slots, MODES["exact"])
    print(f"{args.model} in {args.memory}: {slots} experts in memory; KL over {args.tokens} tokens")
    kl = {}
    for name, mode in MODES.items():
        of_mode, touched = distributions(args, slots, mode)
        kl[name] = divergences(exact, of_mode)
        same = float((exact.argmax(axis=1) == of_mode.argmax(axis=1)).mean())
        reports = [entry[name] for entry in rounds]
        print(f"{name:16} x {spread([r['decode']['tokens_per_s'] / e['exact']['decode']['tokens_per_s'] for r, e in zip(reports, rounds)])} "
              f"of the speed, {spread([r['decode']['tokens_per_s'] for r in reports])} tokens/s; for each token "
              f"{statistics.median(r['experts']['bytes_read_per_token'] for r in reports) / 1e9:.3f} GB read, "
              f"{statistics.median(r['experts']['skipped_per_token'] for r in reports):.1f} experts skipped, "
              f"{statistics.median(r['experts']['substituted_per_token'] for r in reports):.1f} replaced; "
              f"KL {numpy.mean(kl[name]):.3e}, 99th percentile {numpy.quantile(kl[name], 0.99):.3e}, the likeliest token "
              f"the same for {100 * same:.0f} % ({touched} experts done without)")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"memory": args.memory, "slots": slots, "kl": kl, "rounds": rounds}, indent=1) + "\n")
        print(f"written: {args.out}")


if __name__ == "__main__":
    main()
