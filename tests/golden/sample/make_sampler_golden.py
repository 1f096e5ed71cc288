#!/usr/bin/env python3
"""Writes sampler.json: what the logits processors of transformers leave of a few rows of logits.

    /work/peers/venv/bin/python tests/golden/sample/make_sampler_golden.py     (transformers 5.23.0, torch 2.15.0)

Frequency and presence penalties are not in transformers; they are computed here as OpenAI's API reference defines them:
logit[j] -= count[j] * frequency + (count[j] > 0) * presence, with the counts of the answer alone.
"""
import json
import pathlib

import torch
import transformers
from transformers.generation import logits_process as lp

VOCABULARY = 96
PROMPT = [3, 17, 17, 40, 91, 5]
ANSWER = [8, 17, 8, 8, 60]


def rows():
    torch.manual_seed(20261123)
    normal = torch.randn(VOCABULARY) * 3
    peaked = torch.randn(VOCABULARY)
    peaked[17] = 12.5
    flat = torch.randn(VOCABULARY) * 0.01
    masked = torch.randn(VOCABULARY) * 3
    masked[torch.arange(0, VOCABULARY, 3)] = -float("inf")
    tied = (torch.randn(VOCABULARY) * 3 * 2).round() / 2
    return {"normal": normal, "peaked": peaked, "flat": flat, "masked": masked, "tied": tied}


def cases():
    alone = [
        {},
        {"temperature": 0.1}, {"temperature": 0.7}, {"temperature": 1.9},
        {"top_k": 1}, {"top_k": 5}, {"top_k": 50}, {"top_k": 5000},
        {"top_p": 0.0}, {"top_p": 0.1}, {"top_p": 0.5}, {"top_p": 0.9}, {"top_p": 0.999},
        {"min_p": 0.01}, {"min_p": 0.1}, {"min_p": 0.9}, {"min_p": 1.0},
        {"repetition_penalty": 1.3}, {"repetition_penalty": 0.8},
        {"frequency_penalty": 0.5}, {"frequency_penalty": -1.5}, {"presence_penalty": 1.25},
        {"logit_bias": [[8, 4.5], [17, -100.0], [95, 2.25]]},
    ]
    combined = [
        {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
        {"temperature": 1.5, "top_p": 0.8, "min_p": 0.02},
        {"temperature": 0.3, "top_k": 12, "top_p": 0.6},
        {"temperature": 1.2, "top_k": 30, "min_p": 0.2, "repetition_penalty": 1.1},
        {"temperature": 0.9, "top_p": 0.9, "repetition_penalty": 1.2, "frequency_penalty": 0.4, "presence_penalty": 0.6,
         "logit_bias": [[40, 6.0], [8, 3.0]]},
    ]
    return alone + combined


def processed(logits, case):
    ids = torch.tensor([PROMPT + ANSWER])
    scores = logits[None].clone()
    if "logit_bias" in case:
        scores = lp.SequenceBiasLogitsProcessor([[[t], b] for t, b in case["logit_bias"]])(ids, scores)
    if "repetition_penalty" in case:
        scores = lp.RepetitionPenaltyLogitsProcessor(case["repetition_penalty"])(ids, scores)
    for token in sorted(set(ANSWER)):
        scores[0, token] -= (ANSWER.count(token) * case.get("frequency_penalty", 0) + case.get("presence_penalty", 0))
    for name, make in (("temperature", lp.TemperatureLogitsWarper), ("top_k", lp.TopKLogitsWarper),
                       ("top_p", lp.TopPLogitsWarper), ("min_p", lp.MinPLogitsWarper)):
        if name in case:
            scores = make(case[name])(ids, scores)
    return scores[0]


def main():
    logits = rows()
    out = {"transformers": transformers.__version__, "prompt": PROMPT, "answer": ANSWER,
           "rows": {name: [None if v == -float("inf") else v for v in row.tolist()] for name, row in logits.items()},
           "cases": []}
    for row_name, row in logits.items():
        for case in cases():
            if row_name == "tied" and "top_p" in case:
                continue  # which of equal ones top-p keeps depends on how torch sorts
            scores = processed(row, case)
            probabilities = scores.double().softmax(-1)
            kept = (scores > -float("inf")).nonzero().flatten().tolist()
            out["cases"].append({"row": row_name, "parameters": case, "kept": kept,
                                 "probabilities": [float(f"{probabilities[i].item():.9g}") for i in kept]})
    lines = ["{"] + [f"{json.dumps(k)}: {json.dumps(v)}," for k, v in out.items() if k != "cases"]
    lines += ['"cases": [', ",\n".join(json.dumps(c) for c in out["cases"]), "]}"]
    (pathlib.Path(__file__).parent / "sampler.json").write_text("\n".join(lines) + "\n")


main()
