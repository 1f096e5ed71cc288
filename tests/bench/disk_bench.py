#!/usr/bin/env python3
"""The engine's transfer queue next to fio: the same file, block size and number of reads under way, in turns.

Then the start: how long a daemon with slots takes to be READY, next to reading its dense weights at that rate. The page
cache is dropped before each start. Needs root, for that.
"""
import argparse
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import tempfile
import time


def spread(values):
    lower, median, upper = statistics.quantiles(values, n=4)
    return f"{median:.3f} ({lower:.3f} to {upper:.3f})"


def ours(args, depth):
    # Pieces of the same size: exactly `depth` of them are under way.
    done = subprocess.run([args.transfer_bench, "--file", args.model, "--extent", str(args.extent), "--piece", str(args.extent),
                           "--depth", str(depth), "--bytes", str(args.bytes)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def fio(args, depth):
    # Its memory in huge pages, as ours is: without them it reads more slowly here.
    done = subprocess.run(["fio", "--name=experts", f"--filename={args.model}", "--readonly", "--rw=randread", "--direct=1",
                           "--ioengine=io_uring", f"--bs={args.extent}", f"--iodepth={depth}", f"--io_size={args.bytes}",
                           "--size=100%", "--randrepeat=0", "--output-format=json"], check=True, stdout=subprocess.PIPE,
                          env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})
    read = json.loads(done.stdout)["jobs"][0]["read"]
    return {"gb_s": read["bw_bytes"] / 1e9}


def start(args, folder):
    """Seconds from exec to READY=1, and the dense weights' bytes."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    config = folder / "siroccod.yaml"
    config.write_text(f"model: {{path: {args.model}}}\nmemory: {{budget: {args.memory}, kv_tokens: 2048}}\n"
                      f"server: {{socket: {folder}/s.sock}}\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, open(folder / "log", "w+b") as log:
        (folder / "notify").unlink(missing_ok=True)
        notify.bind(str(folder / "notify"))
        notify.settimeout(120)
        begin = time.monotonic()
        daemon = subprocess.Popen([args.siroccod, "--config", config], stdout=log, stderr=log,
                                  env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), "STATE_DIRECTORY": str(folder)})
        try:
            while b"READY=1" not in notify.recv(4096):
                pass
            seconds = time.monotonic() - begin
        finally:
            daemon.terminate()
            daemon.wait()
        log.seek(0)
        size, unit = re.search(r"dense weights: ([\d.]+) (MiB|GiB) \(read", log.read().decode()).groups()
    return seconds, float(size) * {"MiB": 2**20, "GiB": 2**30}[unit]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transfer-bench", required=True)
    parser.add_argument("--siroccod", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--extent", type=int, default=884736, help="bytes of a read, a multiple of 4096, at most 1 MiB")
    parser.add_argument("--depth", type=int, action="append", default=[])
    parser.add_argument("--bytes", type=int, default=2**30, help="of each round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()

    report = {"depths": [], "starts": []}
    for depth in args.depth or [4, 16, 32]:
        pairs = []
        for number in range(args.rounds):
            turns = [("ours", ours), ("fio", fio)]
            pairs.append({name: read(args, depth) for name, read in (turns if number % 2 == 0 else turns[::-1])})
        report["depths"].append({"depth": depth, "rounds": pairs})
        print(f"{depth} x {args.extent} bytes under way: {spread([p['ours']['gb_s'] for p in pairs])} GB/s, fio "
              f"{spread([p['fio']['gb_s'] for p in pairs])}: x {spread([p['ours']['gb_s'] / p['fio']['gb_s'] for p in pairs])}; "
              f"{statistics.median(p['ours']['cpu_ms_per_gib'] for p in pairs):.1f} ms of CPU time for each GiB", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            disk = ours(args, 32)["gb_s"]
            seconds, dense = start(args, pathlib.Path(folder))
            report["starts"].append({"ready_s": seconds, "dense_bytes": dense, "disk_gb_s": disk, "first": number == 0})
            if number == 0:
                depth, piece = (pathlib.Path(folder) / "disk").read_text().splitlines()[-1].split()
                print(f"first start, {depth} x {int(piece) // 1024} KiB are chosen: READY after {seconds:.2f} s, "
                      f"{dense / disk / 1e9:.2f} s for {dense / 2**20:.0f} MiB of dense weights at {disk:.2f} GB/s")
    later = report["starts"][1:]
    print(f"later starts: READY after {spread([s['ready_s'] for s in later])} s, "
          f"{spread([s['ready_s'] - s['dense_bytes'] / s['disk_gb_s'] / 1e9 for s in later])} s more than the dense weights "
          f"take at the disk's rate (bound 1)")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")
        print(f"written: {args.out}")


if __name__ == "__main__":
    main()
