#!/usr/bin/env python3
"""How far logits are from those of the same file computed without quantising activations (kernels/ref, F32): the mean
Kullback-Leibler divergence over some 2,000 tokens, and the perplexity, of Sirocco's kernels and of llama.cpp's.
"""
import argparse
import array
import json
import pathlib
import subprocess

import llama_cpp
import numpy

WINDOW = 200  # tokens; each window begins anew


def run(program, *arguments):
    return json.loads(subprocess.run([program, *arguments, "--json"], check=True, stdout=subprocess.PIPE).stdout)


def sirocco_logits(args, window, *backend):
    report = run(args.sirocco, "logits", "--model", args.model, "--all", "--tokens", ",".join(map(str, window)), *backend)
    return numpy.array([array.array("f", row["logits"]) for row in report["rows"]], dtype=numpy.float64)


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sirocco", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", action="append", required=True, help="a file; may be given several times")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()

    ids = []
    for text in args.text:
        ids += run(args.sirocco, "tokenize", "--model", args.model, "--text-file", text)["ids"]
    ids = ids[:args.tokens]
    llama = llama_cpp.Llama(model_path=args.model, n_ctx=WINDOW, n_batch=WINDOW, logits_all=True, verbose=False)
    divergence = {"sirocco": [], "llama.cpp": []}
    surprise = {"reference": [], "sirocco": [], "llama.cpp": []}
    for start in range(0, len(ids), WINDOW):
        window = ids[start:start + WINDOW]
        llama.reset()
        llama.eval(window)
        of = {"reference": sirocco_logits(args, window, "--backend", "ref"),
              "sirocco": sirocco_logits(args, window, "--backend", "cpu"),
              "llama.cpp": numpy.array(llama.scores[:len(window)], dtype=numpy.float64)}
        of = {name: log_softmax(logits) for name, logits in of.items()}
        p = numpy.exp(of["reference"])
        for name, log_q in of.items():
            surprise[name] += list(-log_q[numpy.arange(len(window) - 1), window[1:]])
            if name in divergence:
                divergence[name] += list((p * (of["reference"] - log_q)).sum(axis=1))
    report = {"model": args.model, "tokens": len(ids),
              "perplexity": {name: float(numpy.exp(numpy.mean(values))) for name, values in surprise.items()},
              "mean_kl": {name: float(numpy.mean(values)) for name, values in divergence.items()},
              "p99_kl": {name: float(numpy.quantile(values, 0.99)) for name, values in divergence.items()}}
    for name, value in report["perplexity"].items():
        line = f"{name:10} perplexity {value:.4f}"
        if name in divergence:
            line += f"   KL from the reference {report['mean_kl'][name]:.3e}, 99th percentile {report['p99_kl'][name]:.3e}"
        print(line)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")
        print(f"written: {args.out}")


if __name__ == "__main__":
    main()
