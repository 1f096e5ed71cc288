#!/usr/bin/env python3
"""Sirocco's speed next to llama.cpp's and ik_llama.cpp's: the same file, the same threads, taking turns in one run.

All take turns, so that another load on the machine meets every one; what counts is the ratio within a round, as a median
with the quartiles. A peer runs in a process of its own each time, as `sirocco bench` does, loads included and not timed.
--busy adds a round beside one busy process for each thread: what of the quiet speed is left of each.
"""
import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

def llama_cpp(model, length, threads, flash_attention):
    """(reset, eval) of llama.cpp. Repacking is its default; flash attention is not."""
    import llama_cpp
    llama = llama_cpp.Llama(model_path=str(model), n_ctx=length, n_batch=512, n_ubatch=512, n_threads=threads,
                            n_threads_batch=threads, flash_attn=flash_attention, verbose=False)
    return llama.reset, llama.eval


def llama_cpp_mapped(model, length, threads, flash_attention):
    """llama.cpp without repacking, which copies all weights: for models larger than memory."""
    import llama_cpp.llama_cpp as binding
    defaults = binding.llama_model_default_params

    def mapped():
        parameters = defaults()
        parameters.use_extra_bufts = False
        return parameters

    binding.llama_model_default_params = mapped
    return llama_cpp(model, length, threads, flash_attention)


def ik_llama_cpp(model, length, threads, flash_attention):
    """The same of ik_llama.cpp, as its IkLlama.generate does it."""
    import ik_llama_cpp
    from ik_llama_cpp import llama as module
    llama = ik_llama_cpp.IkLlama(str(model), n_ctx=max(length, 512), n_threads=threads, flash_attn=flash_attention, verbose=False)
    context, position = llama._context, 0

    def reset():
        nonlocal position
        context.kv_cache_clear()
        position = 0

    def evaluate(ids):
        nonlocal position
        for start in range(0, len(ids), context._n_ubatch):
            chunk = ids[start:start + context._n_ubatch]
            batch = module.make_batch_range(chunk, pos_start=position, logits_last=True)
            if context.decode(batch) != 0:
                raise RuntimeError("ik_llama.cpp: decode failed")
            module.C.llama_batch_free(batch)
            position += len(chunk)

    evaluate.keep = llama
    return reset, evaluate


PEERS = {"llama.cpp": (llama_cpp, False), "llama.cpp fa": (llama_cpp, True), "ik_llama.cpp": (ik_llama_cpp, True),
         "llama.cpp mmap": (llama_cpp_mapped, False)}
COMPARED = ["llama.cpp", "llama.cpp fa", "ik_llama.cpp"]
VOCABULARY = 32000  # ids below this are in every model that is measured


def run_peer(name, model, prompt, generate, threads):
    """tokens/s of prefill and decode in one run of a peer; run in a child process."""
    make, flash_attention = PEERS[name]
    reset, evaluate = make(model, prompt + generate + 1, threads, flash_attention)
    ids = [(1000 + 7919 * i) % VOCABULARY for i in range(prompt)]
    evaluate(ids[:1])  # pages in, threads up
    reset()
    begin = time.perf_counter()
    evaluate(ids)
    middle = time.perf_counter()
    for i in range(generate):
        evaluate([ids[i % prompt]])
    end = time.perf_counter()
    return {"prefill": prompt / (middle - begin), "decode": generate / (end - middle)}


def run_sirocco(args):
    out = subprocess.run(
        [args.sirocco, "bench", "--model", args.model, "--prompt", str(args.prompt), "--generate", str(args.generate),
         "--threads", str(args.threads), "--repeat", "1", "--json"], check=True, stdout=subprocess.PIPE).stdout
    report = json.loads(out)
    return {part: report[part]["tokens_per_s"] for part in ("prefill", "decode")}


def run_child(name, args):
    if name == "sirocco":
        return run_sirocco(args)
    command = [sys.executable, __file__, "--once", name, "--model", args.model, "--prompt", str(args.prompt),
               "--generate", str(args.generate), "--threads", str(args.threads)]
    # A peer writes to both outputs while loading; the result is the last line.
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return json.loads(out.splitlines()[-1])


@contextlib.contextmanager
def busy_processes(count):
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def spread(values):
    lower, median, upper = statistics.quantiles(values, n=4)
    return {"median": median, "quartiles": [lower, upper], "all": values}


def show(what, figures):
    return f"{what} {figures['median']:.3f} ({figures['quartiles'][0]:.3f} to {figures['quartiles'][1]:.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sirocco", help="the sirocco program")
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer", action="append", choices=PEERS, help="only these; may be given several times")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--once", choices=PEERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(run_peer(args.once, args.model, args.prompt, args.generate, args.threads)))
        return
    if args.rounds < 2:
        parser.error("--rounds: at least 2, for a median and a spread")

    names = ["sirocco", *(args.peer or COMPARED)]
    quiet, busy = [], []
    for number in range(args.rounds):
        order = names if number % 2 == 0 else names[::-1]  # whoever goes first meets the colder caches
        quiet.append({name: run_child(name, args) for name in order})
        if args.busy:
            with busy_processes(args.threads):
                busy.append({name: run_child(name, args) for name in order})
        print(f"round {number + 1} of {args.rounds}: " + ", ".join(
            f"{name} {quiet[-1][name]['prefill']:.1f} and {quiet[-1][name]['decode']:.1f}" for name in names) +
              " tokens/s of prefill and decode", file=sys.stderr)

    report = {"model": args.model, "prompt": args.prompt, "generate": args.generate, "threads": args.threads,
              "rounds": args.rounds}
    for part in ("prefill", "decode"):
        report[part] = {}
        for name in names:
            entry = report[part][name] = {"tokens_per_s": spread([round[name][part] for round in quiet])}
            line = f"{part:8} {name:13} {entry['tokens_per_s']['median']:9.1f} tokens/s"
            if name != "sirocco":
                entry["ratio"] = spread([round["sirocco"][part] / round[name][part] for round in quiet])
                line += f"   sirocco is {show('x', entry['ratio'])}"
            if busy:
                entry["busy"] = spread([b[name][part] / q[name][part] for b, q in zip(busy, quiet)])
                line += f"   beside busy processes {show('x', entry['busy'])}"
            print(line)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")
        print(f"written: {args.out}")


if __name__ == "__main__":
    main()
