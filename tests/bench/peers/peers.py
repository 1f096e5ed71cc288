#!/usr/bin/env python3
"""Sirocco's speed next to llama.cpp's: the same file, the same threads, taking turns in the same run.

The two alternate, so that another load on the machine meets both; what counts is the ratio within each pair. llama.cpp
(llama-cpp-python) runs in a process of its own each time, as `sirocco bench` does, loads included and not timed.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time


def run_llama_cpp(model, prompt, generate, threads):
    """tokens/s of prefill and decode in one run of llama.cpp; run in a child process."""
    import llama_cpp

    llama = llama_cpp.Llama(model_path=str(model), n_ctx=prompt + generate + 1, n_batch=prompt, n_ubatch=min(prompt, 512),
                            n_threads=threads, n_threads_batch=threads, verbose=False)
    vocabulary = llama.n_vocab()
    ids = [(1000 + 7919 * i) % vocabulary for i in range(prompt)]
    llama.eval(ids[:1])  # pages in, threads up
    llama.reset()
    begin = time.perf_counter()
    llama.eval(ids)
    middle = time.perf_counter()
    for i in range(generate):
        llama.eval([ids[i % prompt]])
    end = time.perf_counter()
    return {"prefill": prompt / (middle - begin), "decode": generate / (end - middle)}


def run_sirocco(program, model, prompt, generate, threads):
    out = subprocess.run(
        [program, "bench", "--model", model, "--prompt", str(prompt), "--generate", str(generate), "--threads",
         str(threads), "--repeat", "1", "--json"], check=True, stdout=subprocess.PIPE).stdout
    report = json.loads(out)
    return {part: report[part]["tokens_per_s"] for part in ("prefill", "decode")}


def run_llama_cpp_child(args):
    command = [sys.executable, __file__, "--llama-cpp-once", "--model", args.model, "--prompt", str(args.prompt),
               "--generate", str(args.generate), "--threads", str(args.threads)]
    # llama.cpp writes to both outputs while loading; the result is the last line.
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return json.loads(out.splitlines()[-1])


def spread(values):
    """Median and the quartiles' distance, as a share of the median."""
    lower, median, upper = statistics.quantiles(values, n=4)
    return {"median": median, "spread": (upper - lower) / median, "all": values}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sirocco", help="the sirocco program")
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--llama-cpp-once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.llama_cpp_once:
        print(json.dumps(run_llama_cpp(args.model, args.prompt, args.generate, args.threads)))
        return
    if args.pairs < 2:
        parser.error("--pairs: at least 2, for a median and a spread")

    pairs = []
    for number in range(args.pairs):
        # Whoever goes first meets the colder caches: take turns.
        order = ["sirocco", "llama.cpp"] if number % 2 == 0 else ["llama.cpp", "sirocco"]
        pair = {}
        for name in order:
            pair[name] = (run_sirocco(args.sirocco, args.model, args.prompt, args.generate, args.threads)
                          if name == "sirocco" else run_llama_cpp_child(args))
        pairs.append(pair)
        print(f"pair {number + 1} of {args.pairs}: decode {pair['sirocco']['decode']:.1f} and "
              f"{pair['llama.cpp']['decode']:.1f} tokens/s", file=sys.stderr)

    report = {"model": args.model, "prompt": args.prompt, "generate": args.generate, "threads": args.threads,
              "pairs": args.pairs}
    for part in ("prefill", "decode"):
        report[part] = {name: spread([pair[name][part] for pair in pairs]) for name in ("sirocco", "llama.cpp")}
        report[part]["ratio"] = spread([pair["sirocco"][part] / pair["llama.cpp"][part] for pair in pairs])
        print(f"{part:8} sirocco {report[part]['sirocco']['median']:8.1f} tokens/s   llama.cpp "
              f"{report[part]['llama.cpp']['median']:8.1f} tokens/s   ratio {report[part]['ratio']['median']:.3f} "
              f"(spread {100 * report[part]['ratio']['spread']:.0f} %)")
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
        print(f"written: {args.out}")


if __name__ == "__main__":
    main()
