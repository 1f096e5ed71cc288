#!/usr/bin/env python3
"""How many times the tokens a second of one client 16 clients get together that decode at the same time over the socket, and
whether each gets the tokens that it gets alone. A step reads a weight once for all its rows: 3.5 times is wanted.

Rounds are interleaved: some clients alone, then all together. A rate counts from the first token of the first client to the
end of the last one.

    streams_bench.py --model build/models/mixtral-4-layers.gguf [--clients 16] [--tokens 48] [--rounds 4] [--out FILE]
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


def ask(daemon, client, tokens):
    """The ids of the answer, when its first token came and when the client had all."""
    result = daemon.sirocco("generate", "--raw", "--prompt", f"Client {client} asks for a story about the number {client}.",
                            "--max-tokens", tokens, "--json")
    end = time.monotonic()
    if result.returncode != 0:
        raise SystemExit(result.stderr.decode())
    answer = json.loads(result.stdout)
    return answer["ids"], end - answer["timings"]["decode_us"] / 1e6, end


def together(daemon, clients, tokens):
    answers = [None] * clients

    def run(client):
        answers[client] = ask(daemon, client, tokens)

    threads = [threading.Thread(target=run, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if None in answers:
        raise SystemExit("a client has no answer; its message is above")
    return answers


def rate(answers):
    """Tokens a second after the first ones."""
    seconds = max(end for _, _, end in answers) - min(first for _, first, _ in answers)
    return sum(len(ids) - 1 for ids, _, _ in answers) / seconds


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
                               "ids": [ids for ids, _, _ in all_of_them]})
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
