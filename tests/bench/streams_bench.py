#!/usr/bin/env python3
"""How many times the tokens a second of one client 16 clients get together that decode at the same time over the socket, and
whether each gets the tokens that it gets alone. A step reads a weight once for all its rows: 3.5 times is wanted.

Rounds are interleaved: some clients alone, then all together. A rate counts while all of them are given tokens. Each says
something else, so that their experts differ.

    streams_bench.py --model build/models/mixtral-4-layers.gguf [--clients 16] [--tokens 48] [--rounds 4] [--out FILE]
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/system"), str(ROOT / "ipc/client/python")]
from programs import BIN, Daemon  # noqa: E402

os.environ["SIROCCO_LIBRARY"] = str(BIN.parent / "lib/libsirocco.so.0")
import sirocco  # noqa: E402


def ask(daemon, client, tokens):
    """The ids of the answer, and when how many of them had come."""
    with sirocco.Client(str(daemon.socket)) as connection:
        answer = connection.generate(f"Client {client} asks for a story about the number {client}.", raw=True, max_tokens=tokens)
        came = [(time.monotonic(), len(answer.ids)) for _ in answer]
        return list(answer.ids), came


def together(daemon, clients, tokens):
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda client: ask(daemon, client, tokens), range(clients)))


def rate(answers):
    """Tokens a second while all of them are being given."""
    begin = max(came[0][0] for _, came in answers)
    end = min(came[-1][0] for _, came in answers)
    if begin >= end:
        raise SystemExit("the first answer ended before the last one began: ask for more tokens (--tokens)")
    count = 0
    for _, came in answers:
        before = [ids for at, ids in came if at <= begin]
        count += max(ids for at, ids in came if at <= end) - (before[-1] if before else 0)
    return count / (end - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    alone_ids, different, rounds = {}, 0, []
    with tempfile.TemporaryDirectory(prefix="sirocco-", dir="/tmp") as folder:
        # Nothing is found in the prefix cache: every round computes the same.
        daemon = Daemon(folder, options.model, f"engine: {{max_running: {options.clients}}}\nmemory: {{kv_tokens: 8192}}\n"
                                               "cache: {share: \"off\"}\n").start()
        try:
            ask(daemon, 0, options.tokens)  # the pages of the file are read
            together(daemon, options.clients, 2)
            for number in range(options.rounds):
                alone = []
                for client in range(number % options.clients, options.clients, options.rounds):
                    answer = ask(daemon, client, options.tokens)
                    alone_ids[client] = answer[0]
                    alone.append(rate([answer]))
                all_of_them = together(daemon, options.clients, options.tokens)
                rounds.append({"alone": statistics.median(alone), "together": rate(all_of_them),
                               "ids": [ids for ids, _ in all_of_them]})
                print(f"round {number + 1} of {options.rounds}: {rounds[-1]['alone']:.2f} tokens/s alone, "
                      f"{rounds[-1]['together']:.2f} together", file=sys.stderr)
        finally:
            daemon.stop()
    for one in rounds:
        different += sum(ids != alone_ids[client] for client, ids in enumerate(one.pop("ids")))
    times = [one["together"] / one["alone"] for one in rounds]
    report = {"clients": options.clients, "tokens_each": options.tokens, "rounds": rounds,
              "times_the_tokens_per_s_of_one": round(statistics.median(times), 3), "least": round(min(times), 3),
              "most": round(max(times), 3), "wanted": 3.5, "answers_compared": options.clients * len(rounds),
              "answers_that_differ_from_alone": different}
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
