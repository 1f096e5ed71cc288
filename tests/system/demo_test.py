#!/usr/bin/env python3
"""The demo model in conversation: chat on a terminal, answers stopped half-way, a daemon that comes and goes.

`./dev test system` makes the model (build/models/).
"""
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import termios
import time
import unittest

from programs import BIN, DEMO_MODEL, DENSE_MODEL, PATIENCE_S, TestWithFolder, wait_until

QUESTION = "Name the capital of France."
# Counting goes on until the context is full: thousands of tokens.
ENDLESS = ("generate", "--raw", "--prompt", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,", "--max-tokens", 8000)
ENDLESS_QUESTION = "Write a very long story about a ship."


class Terminal:
    """A command of `sirocco` as a person has it: on a pseudo-terminal."""

    def __init__(self, daemon, *command):
        self.master, slave = pty.openpty()
        self.shown = ""
        environment = {**daemon.environment(), "TERM": "dumb", "LC_ALL": "C.UTF-8", "HOME": str(daemon.folder)}
        # A session with this terminal in control, so that Ctrl-C is a signal.
        self.process = subprocess.Popen(["setsid", "--ctty", "--wait", BIN / "sirocco", *map(str, command)], stdin=slave,
                                        stdout=slave, stderr=slave, env=environment)
        os.close(slave)

    def echoes(self):
        """Whether the terminal is as a shell needs it: the line editor turns the echo off."""
        return bool(termios.tcgetattr(self.master)[3] & termios.ECHO)

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern):
        """Waits for the pattern in what is shown from now on, and takes everything up to its end."""
        deadline = time.monotonic() + PATIENCE_S
        while not (match := re.search(pattern, self.shown)):
            if time.monotonic() > deadline or not self.read():
                raise AssertionError(f"{pattern!r} not in {self.shown!r}")
        before = self.shown[:match.end()]
        self.shown = self.shown[match.end():]
        return before

    def read(self):
        if not select.select([self.master], [], [], 1)[0]:
            return self.process.poll() is None
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self.shown += data.decode(errors="replace").replace("\r", "")
        return bool(data)

    def end(self):
        deadline = time.monotonic() + PATIENCE_S
        while self.read():
            if time.monotonic() > deadline:
                raise AssertionError(f"the chat has not ended; it shows {self.shown!r}")
        return self.process.wait(PATIENCE_S)

    def close(self):
        os.close(self.master)  # hangs up on a chat that is still there
        self.process.wait(PATIENCE_S)


class Demo(TestWithFolder):
    @classmethod
    def setUpClass(cls):
        if not DEMO_MODEL.exists():
            raise AssertionError(f"{DEMO_MODEL} is missing: run this through ./dev test system")

    def setUp(self):
        super().setUp()
        self.served = self.daemon(DEMO_MODEL)

    def terminal(self, *command):
        terminal = Terminal(self.served, *command)
        self.addCleanup(terminal.close)
        return terminal

    def chat(self, *arguments):
        return self.terminal("chat", *arguments)

    def history(self):
        return self.folder / "state/sirocco/history"

    def test_it_knows_the_capital_of_france(self):
        document = json.loads(self.served.sirocco("generate", "--prompt", QUESTION, "--max-tokens", 40, "--json").stdout)
        self.assertIn("Paris", document["text"])
        self.assertEqual(document["reason"], "STOP_TOKEN")

    def test_an_answer_ends_before_a_stop_string(self):
        result = self.served.sirocco("generate", "--prompt", QUESTION, "--stop", "Paris", "--json")
        document = json.loads(result.stdout)
        self.assertEqual(document["reason"], "STOP_STRING")
        self.assertEqual(document["stop_string"], "Paris")
        self.assertNotIn("Paris", document["text"])

    def test_interrupt_of_generate_cancels_on_the_daemon(self):
        client = self.served.start_sirocco(*ENDLESS)
        client.stdout.read(1)
        client.send_signal(signal.SIGINT)
        _, errors = client.communicate(timeout=PATIENCE_S)
        self.assertEqual(client.returncode, 1)
        self.assertIn("cancelled", errors.decode())
        self.assertEqual(self.served.status()["requests_running"], 0)

    def test_a_client_that_dies_leaves_no_request_behind(self):
        client = self.served.start_sirocco(*ENDLESS)
        client.stdout.read(1)
        client.kill()
        client.communicate()
        wait_until(lambda: self.served.status()["requests_running"] == 0, "the request has ended")

    def test_interrupt_during_the_prompt_ends_it_too(self):
        client = self.served.start_sirocco("generate", "--raw", "--prompt", "word " * 6000)
        wait_until(lambda: self.served.status()["requests_running"] == 1, "the request runs")
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=PATIENCE_S)
        self.assertEqual(client.returncode, 1)
        self.assertEqual(self.served.status()["requests_running"], 0)

    def test_sigterm_ends_running_requests_with_a_reason_and_leaves_no_socket(self):
        client = self.served.start_sirocco(*ENDLESS)
        client.stdout.read(1)
        self.assertEqual(self.served.stop(), 0)
        _, errors = client.communicate(timeout=PATIENCE_S)
        self.assertEqual(client.returncode, 1)
        self.assertIn("SHUTTING_DOWN", errors.decode())
        self.assertFalse(self.served.socket.exists())

    def test_chat_answers_stops_clears_and_ends(self):
        chat = self.chat("--temperature", 0)
        chat.expect("/help for help")
        chat.expect("> ")
        chat.type(QUESTION + "\n")
        chat.expect(r"Paris[^>]*> ")
        chat.type("/stats\n")
        chat.expect(r"\d+ tokens of prompt.*, \d+ of answer")
        chat.expect("> ")
        chat.type(ENDLESS_QUESTION + "\n")
        chat.expect(r"\n.{40}")  # some of the answer
        chat.type("\x03")
        chat.expect(r"\[stopped\]\s+> ")
        chat.type("this line is thrown away\x03")
        chat.expect("> ")
        chat.type("/nonsense\n")
        chat.expect("no such command")
        chat.expect("> ")
        chat.type("/clear\n")
        chat.expect("begins anew")
        chat.expect("> ")
        chat.type("\x04")
        self.assertEqual(chat.end(), 0)
        self.assertEqual(stat.S_IMODE(self.history().stat().st_mode), 0o600)
        self.assertIn("France", self.history().read_text())
        self.assertNotIn("thrown", self.history().read_text())

    def test_chat_without_a_terminal_reads_lines(self):
        result = self.served.sirocco("chat", "--temperature", 0, "--max-tokens", 30,
                                     stdin=f"{QUESTION}\nAnd which river flows through that city?\n/exit\n".encode())
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("Paris", result.stdout.decode())
        self.assertNotIn("> ", result.stdout.decode())

    def test_chat_outlives_its_daemon(self):
        chat = self.chat("--temperature", 0)
        chat.expect("> ")
        chat.type(QUESTION + "\n")
        chat.expect(r"Paris[^>]*> ")
        self.served.stop()
        chat.type("Hello?\n")
        chat.expect("sirocco: ")
        chat.expect("> ")
        self.served.start()
        chat.type("/clear\n")
        chat.expect("begins anew")
        chat.type(QUESTION + "\n")
        chat.expect(r"Paris[^>]*> ")
        chat.type("/exit\n")
        self.assertEqual(chat.end(), 0)

    def test_a_second_interrupt_leaves_a_daemon_that_is_stuck(self):
        chat = self.chat("--temperature", 0)
        chat.expect("> ")
        chat.type(ENDLESS_QUESTION + "\n")
        chat.expect(r"\n.{40}")
        self.served.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.served.process.send_signal, signal.SIGCONT)
        chat.type("\x03")
        time.sleep(0.5)
        chat.type("\x03")
        chat.expect(r"\[stopped\]")
        chat.expect("connects again\\s+> ")
        self.served.process.send_signal(signal.SIGCONT)
        chat.type(QUESTION + "\n")
        chat.expect(r"Paris[^>]*> ")
        wait_until(lambda: self.served.status()["requests_running"] == 0, "what was left has ended")

    def test_a_signal_at_the_prompt_leaves_terminal_and_history_in_order(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            chat = self.chat()
            chat.expect("> ")
            chat.type(f"/unknown{int(number)}\n")
            chat.expect("no such command")
            chat.expect("> ")
            wait_until(lambda: not chat.echoes(), "the editor has the terminal")
            chat.process.send_signal(number)
            wait_until(chat.echoes, "the terminal is as it was")
            self.assertEqual(chat.process.wait(PATIENCE_S), -number)
            self.assertIn(f"/unknown{int(number)}\n", self.history().read_text())

    def test_two_chats_share_one_history(self):
        one, other = self.chat(), self.chat()
        for chat, line in ((one, "/first"), (other, "/second"), (one, "/third")):
            chat.expect("> ")
            chat.type(line + "\n")
            chat.expect("no such command")
        for chat in (one, other):
            chat.expect("> ")
            chat.type("\x04")
            self.assertEqual(chat.end(), 0)
        self.assertEqual(self.history().read_text(), "/first\n/second\n/third\n")

    def test_a_command_may_have_blanks_before_it(self):
        result = self.served.sirocco("chat", stdin=b"  /help\n \t/exit\nnever sent\n")
        self.assertIn("/clear", result.stdout.decode())
        self.assertEqual(self.served.status()["requests_done"], 0)

    def test_what_may_not_be_sent_costs_no_connection(self):
        result = self.served.sirocco("chat", "--max-tokens", 1, stdin=b"\xff\nHi\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("not well-formed UTF-8", result.stderr.decode())
        self.assertNotIn("connects again", result.stderr.decode())

    def test_what_takes_longer_is_shown_on_a_terminal_and_cleared(self):
        first = self.served.start_sirocco(*ENDLESS)
        self.addCleanup(first.communicate)
        self.addCleanup(first.kill)
        first.stdout.read(1)
        generate = self.terminal("generate", "--raw", "--prompt", "word " * 3000, "--max-tokens", 4, "--seed", 1)
        generate.expect(r"waiting for the answer to a prompt of \d+ tokens, [2-9] s")
        generate.type("\x03")
        shown = generate.expect("cancelled")
        self.assertRegex(shown, "\x1b\\[Ksirocco: cancelled")
        bench = self.terminal("bench", "--model", DEMO_MODEL, "--repeat", 100)
        bench.expect(r"(warming up|run \d+ of 100), \d+ s")

    def test_an_answer_that_nobody_reads_is_not_computed_to_its_end(self):
        read, write = os.pipe()
        client = subprocess.Popen([BIN / "sirocco", *map(str, ENDLESS)], stdin=subprocess.DEVNULL, stdout=write,
                                  stderr=subprocess.PIPE, env=self.served.environment(), restore_signals=False)  # ignores SIGPIPE
        os.close(write)
        os.read(read, 1)
        os.close(read)
        _, errors = client.communicate(timeout=PATIENCE_S)
        self.assertEqual(client.returncode, 1)
        self.assertIn("standard output: Broken pipe", errors.decode())
        self.assertLess(self.served.status()["tokens_generated"], 4000)

    def test_top_ends_when_it_cannot_write(self):
        with open("/dev/full", "wb") as full:
            top = subprocess.run([BIN / "sirocco", "top"], stdout=full, stderr=subprocess.PIPE, env=self.served.environment(),
                                 timeout=PATIENCE_S)
        self.assertEqual(top.returncode, 1)
        self.assertIn("No space left", top.stderr.decode())

    def test_a_conversation_too_long_says_what_to_do(self):
        result = self.served.sirocco("chat", stdin=("word " * 9000 + "\n").encode())
        self.assertEqual(result.returncode, 1)
        self.assertIn("/clear", result.stderr.decode())


class WithoutDaemon(TestWithFolder):
    def sirocco(self, *arguments):
        return json.loads(subprocess.run([BIN / "sirocco", *map(str, arguments), "--json"], check=True, capture_output=True).stdout)

    def test_one_unpermuted_expert_gives_the_dense_models_logits_exactly(self):
        upcycled = self.folder / "plain.gguf"
        subprocess.run([BIN / "sirocco", "model", "upcycle", DENSE_MODEL, upcycled, "--experts", "2", "--used", "1",
                        "--permute", "no"], check=True, capture_output=True)
        tokens = ("--tokens", "504,3575,282,4649,314", "--all")
        dense = self.sirocco("logits", "--model", DENSE_MODEL, *tokens)
        self.assertEqual(dense["vocab"], 49152)
        self.assertEqual([row["position"] for row in dense["rows"]], [0, 1, 2, 3, 4])
        self.assertEqual(self.sirocco("logits", "--model", upcycled, *tokens), dense)

    def test_permuted_experts_give_the_dense_models_logits_up_to_rounding(self):
        tokens = ("--tokens", "504,3575,282,4649,314", "--all", "--backend", "ref")
        dense = self.sirocco("logits", "--model", DENSE_MODEL, *tokens)["rows"]
        demo = self.sirocco("logits", "--model", DEMO_MODEL, *tokens)["rows"]
        worst = max(abs(a - b) for x, y in zip(dense, demo) for a, b in zip(x["logits"], y["logits"]))
        self.assertLess(worst, 1e-3)

    def test_tokens_of_text_and_conversation(self):
        text = self.sirocco("tokenize", "--model", DENSE_MODEL, "--text", "The capital <|im_end|>")
        self.assertEqual("".join(text["pieces"]), "The capital <|im_end|>")
        special = self.sirocco("tokenize", "--model", DENSE_MODEL, "--text", "The capital <|im_end|>", "--special")
        self.assertLess(len(special["ids"]), len(text["ids"]))
        messages = self.folder / "messages.json"
        messages.write_text(json.dumps([{"role": "user", "content": QUESTION}]))
        chat = self.sirocco("tokenize", "--model", DENSE_MODEL, "--messages", messages)
        self.assertIn("<|im_start|>", chat["pieces"])

    def test_bench_reports_speed_and_bound(self):
        report = self.sirocco("bench", "--model", DEMO_MODEL, "--prompt", 8, "--generate", 4, "--repeat", 1, "--batch", 2)
        for number in (report["prefill"]["tokens_per_s"], report["decode"]["tokens_per_s"], report["decode"]["bytes_per_token"],
                       report["bandwidth"]["memory_gb_s"], report["experts"]["bound_tokens_per_s"], report["resident_bytes"]):
            self.assertGreater(number, 0)


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and what we start would inherit that
    unittest.main()
