#!/usr/bin/env python3
"""A model that is larger than its memory, next to the bound of memory and disk and next to llama.cpp's mmap.

Both run in turns in the same cgroup with a hard limit, without swap, the page cache dropped before each. `sirocco bench`
measures the disk between its runs and the memory before and after them. Needs root, for the cgroup.
"""
import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys

V1 = pathlib.Path("/sys/fs/cgroup/memory")
V2 = pathlib.Path("/sys/fs/cgroup")


class Group:
    """A memory cgroup, v1 or v2."""

    def __init__(self, limit):
        self.v1 = (V1 / "memory.limit_in_bytes").exists()
        self.path = (V1 if self.v1 else V2) / f"sirocco-bench-{os.getpid()}"
        self.path.mkdir()
        if self.v1:
            self.write("memory.limit_in_bytes", limit)
            with contextlib.suppress(OSError):
                self.write("memory.memsw.limit_in_bytes", limit)
        else:
            self.write("memory.max", limit)
            self.write("memory.swap.max", 0)

    def write(self, name, value):
        (self.path / name).write_text(str(value))

    def number(self, name):
        return int((self.path / name).read_text())

    def oom_kills(self):
        name = "memory.oom_control" if self.v1 else "memory.events"
        return sum(int(line.split()[1]) for line in (self.path / name).read_text().splitlines()
                   if line.split()[0] == "oom_kill")

    def enter(self):
        self.write("cgroup.procs", os.getpid())

    def remove(self):
        self.path.rmdir()


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def run_in(group, command):
    drop_caches()
    done = subprocess.run(command, preexec_fn=group.enter, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1] if "--once" in command else done.stdout)


def spread(values):
    if len(values) < 2:
        return f"{values[0]:.3f}"
    lower, median, upper = statistics.quantiles(values, n=4)
    return f"{median:.3f} ({lower:.3f} to {upper:.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sirocco", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--memory", default="6GiB")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--eviction", default="lfru")
    parser.add_argument("--foresight", action="store_true", help="a second run of ours with it, each round")
    parser.add_argument("--route-trace", help="of `sirocco bench`; for ours alone: peers and foresight ask the routers")
    parser.add_argument("--peer", action="append", default=[], help="of tests/bench/peers/peers.py, run by --python")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()

    if args.route_trace and (args.peer or args.foresight):
        parser.error("--route-trace: neither a peer nor --foresight can follow it")
    replay = ["--route-trace", args.route_trace] if args.route_trace else []

    units = {"GiB": 2**30, "MiB": 2**20}
    limit = int(float(args.memory[:-3]) * units[args.memory[-3:]])
    group = Group(limit)
    peers = pathlib.Path(__file__).parent / "peers" / "peers.py"
    rounds = []
    try:
        for number in range(args.rounds):
            entry = {"sirocco": run_in(group, [
                args.sirocco, "bench", "--model", args.model, "--prompt", str(args.prompt), "--generate",
                str(args.generate), "--memory", args.memory, "--threads", str(args.threads), "--eviction", args.eviction,
                "--repeat", "1", *replay, "--json"])}
            if args.foresight:
                entry["foresight"] = run_in(group, [
                    args.sirocco, "bench", "--model", args.model, "--prompt", str(args.prompt), "--generate",
                    str(args.generate), "--memory", args.memory, "--threads", str(args.threads), "--eviction", args.eviction,
                    "--repeat", "1", "--foresight", "--json"])
            for peer in args.peer:
                entry[peer] = run_in(group, [
                    args.python, str(peers), "--once", peer, "--model", args.model, "--prompt", str(args.prompt),
                    "--generate", str(args.generate), "--threads", str(args.threads)])
            rounds.append(entry)
            ours = entry["sirocco"]
            print(f"round {number + 1} of {args.rounds}: {ours['decode']['tokens_per_s']:.3f} tokens/s, "
                  f"{ours['experts']['share_of_bound']:.3f} of the bound, hit rate {ours['experts']['hit_rate']:.3f}, "
                  f"disk {ours['bandwidth']['disk_gb_s']:.2f} GB/s; prefill {ours['prefill']['tokens_per_s']:.2f}; " +
                  ", ".join(f"{peer} {entry[peer]['decode']:.3f}, prefill {entry[peer]['prefill']:.2f}"
                            for peer in args.peer), file=sys.stderr)
        kills = group.oom_kills()
    finally:
        group.remove()

    ours = [entry["sirocco"] for entry in rounds]
    print(f"{args.model} in {args.memory}: {ours[0]['experts']['slots']} experts in memory, {args.eviction}" +
          (f", routing from {args.route_trace}" if args.route_trace else ""))
    print(f"decode    {spread([r['decode']['tokens_per_s'] for r in ours])} tokens/s, "
          f"{spread([r['experts']['share_of_bound'] for r in ours])} of the bound, hit rate "
          f"{spread([r['experts']['hit_rate'] for r in ours])}, "
          f"{statistics.median(r['experts']['bytes_missing_per_token'] for r in ours) / 1e9:.3f} GB missing and "
          f"{statistics.median(r['experts']['bytes_read_per_token'] for r in ours) / 1e9:.3f} GB read for each token, "
          f"{100 * statistics.median(r['experts']['foreseen'] for r in ours):.0f} % of the misses foreseen")
    print(f"prefill   {spread([r['prefill']['tokens_per_s'] for r in ours])} tokens/s, "
          f"{spread([r['prefill']['tokens_per_s'] / r['experts']['prefill_bound_tokens_per_s'] for r in ours])} of "
          f"the bound")
    print(f"disk      {spread([r['bandwidth']['disk_gb_s'] for r in ours])} GB/s, memory "
          f"{spread([r['bandwidth']['memory_gb_s'] for r in ours])} GB/s")
    print(f"resident  {max(r['resident_bytes'] for r in ours) / limit:.3f} of the limit at most, {kills} OOM kills")
    if args.foresight:
        for part in ("decode", "prefill"):
            print(f"with foresight {part} x "
                  f"{spread([r['foresight'][part]['tokens_per_s'] / r['sirocco'][part]['tokens_per_s'] for r in rounds])}, "
                  f"{spread([r['foresight'][part]['tokens_per_s'] for r in rounds])} tokens/s")
    for peer in args.peer:
        for part in ("decode", "prefill"):
            print(f"{peer}: {part} {spread([r[peer][part] for r in rounds])} tokens/s, Sirocco is x "
                  f"{spread([r['sirocco'][part]['tokens_per_s'] / r[peer][part] for r in rounds])}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"memory": args.memory, "oom_kills": kills, "rounds": rounds}, indent=1) + "\n")
        print(f"written: {args.out}")


if __name__ == "__main__":
    main()
