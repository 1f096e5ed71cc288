#!/usr/bin/env python3
"""The C interface: what leaves libsirocco.so, what compilers say about its header, and c_client.c with a real daemon."""
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from programs import BIN, DEMO_MODEL, PATIENCE_S, ROOT, TestWithFolder

CLIENT = ROOT / "ipc/client"
LIBRARY = BIN.parent / "lib"
STRICT = ("-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{CLIENT}")


def compile_c(source, program):
    subprocess.run(["cc", "-std=c99", "-D_POSIX_C_SOURCE=200809L", *STRICT, source, "-o", program, f"-L{LIBRARY}",
                    f"-Wl,-rpath,{LIBRARY}", "-lsirocco", "-pthread"], check=True)


class Library(unittest.TestCase):
    def test_nothing_but_what_the_header_declares_leaves_it(self):
        listing = subprocess.run(["nm", "-D", "--defined-only", LIBRARY / "libsirocco.so"], check=True, capture_output=True,
                                 text=True).stdout
        exported = {line.split()[2].split("@")[0] for line in listing.splitlines() if line.split()[1] != "A"}
        declared = set(re.findall(r"^SIROCCO_API [\w *]+?\b(sirocco_\w+)\(", (CLIENT / "sirocco.h").read_text(), re.M))
        self.assertGreater(len(declared), 15)
        self.assertEqual(exported, declared)

    def test_it_has_the_name_that_programs_ask_for(self):
        listing = subprocess.run(["readelf", "-d", LIBRARY / "libsirocco.so"], check=True, capture_output=True, text=True).stdout
        self.assertIn("[libsirocco.so.0]", listing)

    def test_header_is_c99_and_cpp(self):
        for how in (["cc", "-std=c99", "-xc"], ["cc", "-std=c17", "-xc"], ["c++", "-std=c++11", "-xc++"]):
            subprocess.run([*how, *STRICT, "-fsyntax-only", "-include", CLIENT / "sirocco.h", "-"], input=b"int nothing;\n",
                           check=True)


class Program(TestWithFolder):
    @classmethod
    def setUpClass(cls):
        built = pathlib.Path(tempfile.mkdtemp(prefix="sirocco-c-"))
        cls.addClassCleanup(shutil.rmtree, built)
        cls.program = built / "c_client"
        compile_c(ROOT / "tests/system/c_client.c", cls.program)

    def run_c(self, daemon, *arguments, status=0):
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, timeout=2 * PATIENCE_S,
                              env=daemon.environment())
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout

    def test_answer_is_that_of_the_command(self):
        daemon = self.daemon(DEMO_MODEL)
        for prompt in ("Name the capital of France.", "Repeat: 🙂 née Ελλάδα 🙂"):
            told = json.loads(daemon.sirocco("generate", "--prompt", prompt, "--max-tokens", 40, "--json").stdout)
            self.assertEqual(self.run_c(daemon, "answer", prompt, "40"),
                             f"{told['text']}\n{told['reason']} {told['usage']['generated_tokens']}\n")

    def test_another_thread_and_a_signal_handler_cancel(self):
        self.run_c(self.daemon(DEMO_MODEL), "cancel")

    def test_what_is_late_ends_at_its_deadline(self):
        self.assertIn("DEADLINE", self.run_c(self.daemon(DEMO_MODEL), "deadline"))

    def test_a_full_queue_says_when_to_come_again(self):
        daemon = self.daemon(DEMO_MODEL, "engine: {max_running: 1, max_queued: 1}\n")
        self.assertIn("(BUSY)", self.run_c(daemon, "busy"))

    def test_four_threads_with_a_client_each_get_the_same_answer(self):
        daemon = self.daemon(DEMO_MODEL)
        told = json.loads(daemon.sirocco("generate", "--prompt", "Count to ten.", "--max-tokens", 20, "--json").stdout)
        self.assertEqual(self.run_c(daemon, "threads"), told["text"] + "\n")

    def test_tokens_and_sessions(self):
        self.run_c(self.daemon(DEMO_MODEL), "tokens_and_sessions")

    def test_a_daemon_that_is_killed_is_an_error_and_the_next_one_answers(self):
        daemon = self.daemon(DEMO_MODEL)
        client = subprocess.Popen([self.program, "killed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                  env=daemon.environment())
        self.addCleanup(client.kill)
        self.assertEqual(client.stdout.readline(), "streaming\n")
        daemon.process.kill()
        daemon.process.wait()
        self.assertIn("the daemon closed the connection; its log says why", client.stdout.readline())
        daemon.start()
        rest, _ = client.communicate(timeout=PATIENCE_S)
        self.assertEqual((client.returncode, rest), (0, "READY\n"))

    def test_a_socket_where_nobody_listens_is_named_with_what_to_do(self):
        daemon = self.daemon(DEMO_MODEL)
        daemon.stop()
        told = self.run_c(daemon, "answer", "x", "1", status=3)
        self.assertIn(f"NO_DAEMON: no daemon at {daemon.socket}", told)
        self.assertIn("start it with", told)


if __name__ == "__main__":
    unittest.main()
