#!/usr/bin/env python3
"""A daemon whose model is larger than its memory, and clients of every kind for some minutes: good ones, ones that are
killed, that cancel, that do not read, that send nonsense, that go on with a session, an administrator who changes the budget all the time, and two
restarts. Whatever happens around it, an answer is the one that a daemon with all of the memory gives, or an error that
says why there is none; the memory stays within its limit, and nothing leaks.

    chaos.py --sirocco build/release/bin --model build/models/demo-moe.gguf --minutes 60 [--seed 1] [--json FILE]

`./dev bench chaos --minutes N`; two minutes of it are in `./dev test`. With root it runs in a memory cgroup.
"""
import argparse
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/system"))
from memory_group import MemoryGroup  # noqa: E402
from programs import Daemon  # noqa: E402

MIB = 2**20
BUDGET = 300  # MiB, of the 425 that the demo model has
LIMIT = 420   # of the cgroup
CONFIG = f"memory: {{budget: {BUDGET}MiB, kv_tokens: 4096, hot_set: HOT}}\nengine: {{max_running: 4}}\n" \
         "sessions: {directory: SESSIONS, max_per_user: 10000}\n"
CORPUS = ROOT / "tests/fuzz/corpus/wire"
PROMPTS = ["Write a short story about a ship.", "What is the capital of France?", "Count to ten.", "Explain gravity to a child.",
           "Name three rivers. " * 20, "Translate 'good morning' to French.", "Why is the sky blue?", "List the primes below 30."]


def requests():
    """The arguments of `sirocco generate`, each of which has one right answer."""
    for index, prompt in enumerate(PROMPTS):
        yield ("--prompt", prompt, "--max-tokens", str(10 + 13 * (index % 4)))
        yield ("--prompt", prompt, "--max-tokens", "40", "--temperature", "0.9", "--top-p", "0.95", "--seed", str(index))


def conversations():
    """The questions of a session; each answer follows from all before."""
    for first, second in zip(PROMPTS, PROMPTS[3:]):
        yield (first, second)


def ask_in_session(daemon, name, prompt):
    return daemon.sirocco("generate", "--session", name, "--prompt", prompt, "--max-tokens", "12", "--json")


class Chaos:
    def __init__(self, daemon, model, answers, group, seed, seconds):
        self.daemon = daemon
        # The same answers, but another file for all that the daemon knows.
        self.models = [model.resolve(), daemon.folder / "other.gguf"]
        self.models[1].symlink_to(self.models[0])
        self.least = daemon.small_budget()
        self.answers, self.conversations = answers
        self.group = group
        self.seed = seed
        self.end = time.monotonic() + seconds
        self.lock = threading.Lock()
        self.counts = {}
        self.wrong = []
        self.up = threading.Event()  # not while it restarts
        self.up.set()
        self.restarts = 0
        self.paused = threading.Event()
        self.busy = 0

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def complain(self, what):
        with self.lock:
            self.wrong.append(what)

    # --- the clients

    def good(self, rng):
        arguments, expected = rng.choice(self.answers)
        restarts = self.restarts
        result = self.daemon.sirocco("generate", *arguments, "--json")
        if result.returncode == 0:
            text = json.loads(result.stdout)["text"]
            self.count("answered")
            if text != expected:
                self.complain(f"{arguments}: {text!r} instead of {expected!r}")
        elif b"BUSY" in result.stderr:
            self.count("busy")
        elif restarts != self.restarts or not self.up.is_set():
            self.count("ended by a restart")
        else:
            self.complain(f"{arguments}: {result.stderr.decode()}")

    def in_session(self, rng):
        """Two turns, and between them perhaps the disk, or a restart."""
        questions, expected = rng.choice(self.conversations)
        name = f"chaos-{rng.randrange(1 << 60)}"
        restarts = self.restarts
        for question, text in zip(questions, expected):
            result = ask_in_session(self.daemon, name, question)
            if result.returncode != 0:
                if b"BUSY" not in result.stderr and restarts == self.restarts and self.up.is_set():
                    self.complain(f"session, {question}: {result.stderr.decode()}")
                break
            if json.loads(result.stdout)["text"] != text:
                self.complain(f"session, {question}: {result.stdout!r} instead of {text!r}")
            self.count("turns of sessions")
            if rng.random() < 0.5:
                self.daemon.sirocco("session", "close", name, "--save")
        self.daemon.sirocco("session", "close", name)

    def cancelling(self, rng):
        arguments, expected = rng.choice(self.answers)
        client = self.daemon.start_sirocco("generate", *arguments)
        time.sleep(rng.uniform(0, 1))
        client.send_signal(signal.SIGINT)
        out, _ = client.communicate(timeout=60)
        self.count("cancelled")
        text = out.decode().rstrip("\n")
        if not expected.startswith(text) and self.up.is_set():
            self.complain(f"{arguments}, cancelled: {text!r} is not the beginning of {expected!r}")

    def killed(self, rng):
        client = self.daemon.start_sirocco("generate", *rng.choice(self.answers)[0])
        time.sleep(rng.uniform(0, 0.5))
        client.kill()
        client.communicate()
        self.count("killed")

    def connect(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(str(self.daemon.socket))
        return connection

    def nonsense(self, rng):
        with self.connect() as connection:
            frames = [(CORPUS / name).read_bytes() for name in os.listdir(CORPUS)]
            data = bytearray(b"".join([(CORPUS / "00-Hello").read_bytes()] * rng.randrange(2) + rng.sample(frames, 3)))
            for _ in range(rng.randrange(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        self.count("nonsense")

    def not_reading(self, rng):
        with self.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.sendall((CORPUS / "00-Hello").read_bytes())
            generate = bytearray((CORPUS / "04-Generate").read_bytes())
            for number in range(1, 7):
                generate[8:16] = number.to_bytes(8, "little")
                connection.sendall(generate)
            time.sleep(rng.uniform(0, 4))
        self.count("not reading")

    def administrator(self, rng):
        kind = rng.random()
        if kind < 0.3:
            self.asked(*(("evict",) if kind < 0.2 else ("reload", "--model", rng.choice(self.models))))
        else:
            self.other_budget(rng)
        time.sleep(rng.uniform(0.2, 2))

    def asked(self, *command):
        restarts = self.restarts
        result = self.daemon.sirocco(*command)
        if result.returncode == 0:
            self.count(f"{command[0]}s")
        elif restarts == self.restarts and self.up.is_set():
            self.complain(f"{command}: {result.stderr.decode()}")

    def other_budget(self, rng):
        size = "start" if rng.random() < 0.3 else f"{rng.randrange(self.least, BUDGET)}MiB"
        begin = time.monotonic()
        result = self.daemon.sirocco("budget", size, "--json")
        if result.returncode == 0:
            self.count("budgets")
            with self.lock:
                self.counts["slowest budget, ms"] = max(self.counts.get("slowest budget, ms", 0),
                                                        round(1000 * (time.monotonic() - begin)))
        elif self.up.is_set():
            self.complain(f"budget {size}: {result.stderr.decode()}")

    def work(self, number):
        rng = random.Random(f"{self.seed} {number}")
        kinds = [self.administrator] if number == 0 else [self.good] * 4 + [self.in_session, self.cancelling, self.killed, self.nonsense,
                                                                          self.not_reading]
        while time.monotonic() < self.end:
            if self.paused.is_set():
                time.sleep(0.05)
                continue
            self.up.wait(60)
            with self.lock:
                self.busy += 1
            restarts = self.restarts
            try:
                rng.choice(kinds)(rng)
            except OSError as error:  # of a socket, when the daemon goes away
                if restarts == self.restarts and self.up.is_set():
                    self.complain(f"client {number}: {error}")
            except Exception as error:  # must not end the client unseen
                self.complain(f"client {number}: {error!r}")
            finally:
                with self.lock:
                    self.busy -= 1

    # --- the daemon

    def resident(self):
        return int(pathlib.Path(f"/proc/{self.daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def at_rest(self):
        """Descriptors, threads and memory (MiB), with nobody connected, the budget of the start and a model that has just been loaded:
        what its slots and its KV blocks hold follows from the answers that are asked for here, and not from who came before."""
        self.paused.set()
        deadline = time.monotonic() + 120
        while self.busy > 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        self.daemon.sirocco("budget", "start")
        while self.daemon.status()["connections"] > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        self.asked("reload", "--model", self.models[0])
        self.asked("reload", "--model", self.models[1])  # one of the two is another than before
        for arguments, expected in self.answers:
            result = self.daemon.sirocco("generate", *arguments, "--json")
            if result.returncode != 0 or json.loads(result.stdout)["text"] != expected:
                self.complain(f"at rest, {arguments}: {result.stdout!r} {result.stderr!r}")
        status = self.daemon.status()
        if status["requests_running"] != 0 or status["requests_queued"] != 0:
            self.complain(f"requests are left behind: {status['active']}")
        process = pathlib.Path(f"/proc/{self.daemon.process.pid}")
        found = {"descriptors": len(os.listdir(process / "fd")), "threads": len(os.listdir(process / "task")),
                 "memory": round(self.resident() / MIB, 1)}
        self.paused.clear()
        return found

    def restart(self):
        self.up.clear()
        self.restarts += 1
        code = self.daemon.stop()
        if code != 0:
            self.complain(f"the daemon ended with {code}: {self.daemon.log.read_text()[-2000:]}")
        self.daemon.start(self.group.enter if self.group else None)
        self.up.set()

    def run(self, clients):
        seconds = self.end - time.monotonic()
        threads = [threading.Thread(target=self.work, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 4)
        self.restart()
        time.sleep(seconds / 8)
        self.restart()
        time.sleep(seconds / 8)
        rest = [self.at_rest()]
        most = 0
        while time.monotonic() < self.end:
            time.sleep(0.5)
            most = max(most, self.resident())
            if self.daemon.process.poll() is not None:
                self.complain(f"the daemon is gone: {self.daemon.log.read_text()[-4000:]}")
                break
        for thread in threads:
            thread.join()
        rest.append(self.at_rest())
        if rest[1]["descriptors"] != rest[0]["descriptors"] or rest[1]["threads"] != rest[0]["threads"]:
            self.complain(f"descriptors or threads leak: {rest}")
        if self.group and self.group.oom_kills() != 0:
            self.complain("the kernel killed for want of memory")
        if self.daemon.stop() != 0:
            self.complain(f"the daemon did not end well: {self.daemon.log.read_text()[-2000:]}")
        return {**self.counts, "restarts": self.restarts, "rest": rest, "most resident of the budget": round(most / BUDGET / MIB, 3),
                "memory at rest, later against earlier": round(rest[1]["memory"] / rest[0]["memory"], 4),
                "in a cgroup": self.group is not None, "wrong": self.wrong}


def right_answers(folder, model):
    """By a daemon with all of the memory, before anything else."""
    daemon = Daemon(folder, model).start()
    try:
        answers = []
        for arguments in requests():
            result = daemon.sirocco("generate", *arguments, "--json")
            if result.returncode != 0:
                raise SystemExit(result.stderr.decode())
            answers.append((arguments, json.loads(result.stdout)["text"]))
        talks = []
        for number, questions in enumerate(conversations()):
            texts = [json.loads(ask_in_session(daemon, f"talk-{number}", question).stdout)["text"] for question in questions]
            talks.append((questions, texts))
        return answers, talks
    finally:
        daemon.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "build/models/demo-moe.gguf")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", default=str(random.randrange(1 << 32)))
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sirocco-", dir="/tmp") as name:
        folder = pathlib.Path(name)
        answers = right_answers(folder, options.model)
        group = MemoryGroup.make(LIMIT * MIB)
        daemon = Daemon(folder, options.model, CONFIG.replace("HOT", str(folder / "hot"))
                        .replace("SESSIONS", str(folder / "sessions")))
        try:
            daemon.start(group.enter if group else None)
            report = Chaos(daemon, options.model, answers, group, options.seed, 60 * options.minutes).run(options.clients)
        finally:
            daemon.stop()
            if group:
                group.path.rmdir()
    print(json.dumps(report, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
