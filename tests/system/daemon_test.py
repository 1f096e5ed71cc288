#!/usr/bin/env python3
"""The daemon and its clients as real processes, on a tiny model of random weights."""
import json
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import time
import unittest

from programs import BIN, PATIENCE_S, TestWithFolder, wait_until

RAW = ("generate", "--raw", "--prompt", "hello", "--max-tokens", 40)
# As docs/protocol.md shows it.
HELLO = bytes.fromhex("28000000 01000000 00000000 00000000 10000000 00000a00 0c000400 06000800"
                      "0a000000 01000100 04000000 04000000 64656d6f 00000000")


class Answers(TestWithFolder):
    def setUp(self):
        super().setUp()
        self.served = self.daemon(self.synth())

    def test_json_streamed_and_piped_answers_are_the_same(self):
        document = json.loads(self.served.sirocco(*RAW, "--json").stdout)
        self.assertEqual(document["reason"], "MAX_TOKENS")
        self.assertEqual(len(document["ids"]), 40)
        self.assertEqual(document["usage"]["generated_tokens"], 40)
        self.assertGreater(document["timings"]["decode_us"], 0)
        streamed = self.served.sirocco(*RAW)
        self.assertEqual(streamed.returncode, 0)
        self.assertEqual(streamed.stdout.decode().removesuffix("\n"), document["text"].removesuffix("\n"))
        piped = self.served.sirocco("generate", "--raw", "--max-tokens", 40, "--json", stdin=b"hello")
        self.assertEqual(json.loads(piped.stdout)["ids"], document["ids"])

    def test_an_answer_is_the_same_alone_and_among_others(self):
        sampled = (*RAW, "--temperature", "1", "--seed", "7", "--json")
        alone = json.loads(self.served.sirocco(*sampled).stdout)["ids"]
        crowd = [self.served.start_sirocco("generate", "--raw", "--prompt", f"other {i}", "--max-tokens", 300) for i in range(3)]
        among = [self.served.start_sirocco(*sampled) for _ in range(3)]
        for process in among:
            self.assertEqual(json.loads(process.communicate(timeout=PATIENCE_S)[0])["ids"], alone)
        for process in crowd:
            process.communicate(timeout=PATIENCE_S)
            self.assertEqual(process.returncode, 0)

    def test_status_shows_model_plan_and_counts(self):
        self.served.sirocco(*RAW)
        status = self.served.status()
        self.assertEqual(status["state"], "READY")
        self.assertEqual(status["model"]["experts_used"], 2)
        self.assertEqual(status["requests_done"], 1)
        self.assertGreater(status["tokens_generated"], 0)
        self.assertTrue(any("KV cache" in item["name"] and item["bytes"] > 0 for item in status["memory"]))
        text = self.served.sirocco("status").stdout.decode()
        self.assertIn("memory plan", text)
        self.assertIn("READY", text)

    def test_what_cannot_be_done_is_an_error_that_says_so(self):
        for arguments, expected in (
            (("generate", "--raw", "--prompt", "a " * 5000), "CONTEXT_OVERFLOW"),
            (("session", "rewind", "s", "1"), "NOT_FOUND"),
            (("generate", "--prompt", "x"), "--raw"),  # the model has no chat format
        ):
            result = self.served.sirocco(*arguments)
            self.assertEqual(result.returncode, 1, arguments)
            self.assertEqual(result.stdout, b"", arguments)
            self.assertIn(expected, result.stderr.decode())
        self.assertEqual(self.served.sirocco("generate", "--raw", "--prompt", "x", "--top-p", "2").returncode, 2)
        self.assertEqual(self.served.status()["state"], "READY")

    def test_with_standard_output_closed_nothing_is_written_into_the_connection(self):
        for command in (RAW, ("status",)):
            closed = subprocess.run(["bash", "-c", 'exec "$@" >&-', "bash", BIN / "sirocco", *map(str, command)],
                                    stderr=subprocess.PIPE, env=self.served.environment(), timeout=PATIENCE_S)
            self.assertEqual(closed.returncode, 1)
            self.assertIn("standard output: Bad file descriptor", closed.stderr.decode())
        self.assertEqual(self.served.status()["requests_failed"], 0)

    def test_a_client_that_speaks_nonsense_harms_nobody(self):
        for seed in range(20):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(self.served.socket))
                client.sendall(random.Random(seed).randbytes(4096))
        self.assertEqual(self.served.sirocco(*RAW).returncode, 0)

    def test_a_model_deleted_while_it_is_served_is_still_served(self):
        before = self.served.sirocco(*RAW).stdout
        (self.folder / "tiny-moe.gguf").unlink()
        self.assertEqual(self.served.sirocco(*RAW).stdout, before)

    def test_a_model_truncated_while_it_is_served_ends_in_order_with_one_clear_line(self):
        os.truncate(self.folder / "tiny-moe.gguf", 4096)
        result = self.served.sirocco(*RAW)
        self.assertEqual(result.returncode, 1)
        self.assertIn("tiny-moe.gguf", result.stderr.decode())
        self.assertEqual(self.served.process.wait(PATIENCE_S), 1)
        said = [line for line in self.served.log.read_text().splitlines() if "the file was cut short" in line]
        self.assertEqual(len([line for line in said if "request" not in line]), 1, said)
        self.assertEqual(len(said), 2, said)  # the other tells whose request it cost

    def test_a_model_overwritten_while_it_is_served_answers_no_more(self):
        other = self.synth("tiny-moe", name="other.gguf", seed=2)
        self.assertEqual(self.served.sirocco(*RAW).returncode, 0)
        subprocess.run(["cp", other, self.folder / "tiny-moe.gguf"], check=True)
        result = self.served.sirocco(*RAW)
        self.assertEqual((result.returncode, result.stdout), (1, b""))
        self.assertIn("tiny-moe.gguf: the file was written to while it was in use", result.stderr.decode())
        self.assertEqual(self.served.process.wait(PATIENCE_S), 1)
        self.assertIn("siroccod: " + str(self.folder / "tiny-moe.gguf") + ": the file was written to", self.served.log.read_text())


class Life(TestWithFolder):
    def test_without_a_daemon_the_client_says_how_to_start_one(self):
        result = subprocess.run([BIN / "sirocco", "status", "--socket", self.folder / "none.sock"], capture_output=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("siroccod --config", result.stderr.decode())

    def test_a_second_daemon_on_the_socket_is_refused_and_the_first_goes_on(self):
        daemon = self.daemon(self.synth())
        second = subprocess.run([BIN / "siroccod", "--config", daemon.config], capture_output=True, timeout=PATIENCE_S)
        self.assertEqual(second.returncode, 1)
        self.assertIn(str(daemon.process.pid), second.stderr.decode())
        self.assertEqual(daemon.sirocco(*RAW).returncode, 0)

    def test_the_socket_file_of_a_killed_daemon_is_replaced(self):
        daemon = self.daemon(self.synth())
        daemon.stop(signal.SIGKILL)
        self.assertTrue(stat.S_ISSOCK(daemon.socket.stat().st_mode))
        daemon.start()
        self.assertEqual(daemon.sirocco(*RAW).returncode, 0)

    def test_sighup_opens_the_log_again(self):
        log = self.folder / "own.log"
        daemon = self.daemon(self.synth(), f"log:\n  file: {log}\n")
        log.rename(self.folder / "old.log")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(log.exists, "a new log file")
        daemon.sirocco(*RAW)
        self.assertIn("MAX_TOKENS", log.read_text())

    def test_metrics_are_written_for_prometheus_and_removed_at_the_end(self):
        metrics = self.folder / "sirocco.prom"
        daemon = self.daemon(self.synth(), f"metrics: {{file: {metrics}, interval_s: 1}}\n")
        self.assertIn('sirocco_state{state="READY"} 1', metrics.read_text())
        daemon.sirocco(*RAW)
        wait_until(lambda: 'sirocco_requests_total{ending="done"} 1' in metrics.read_text(), "the request is counted")
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse(metrics.exists())

    def test_sighup_under_load_harms_nobody(self):
        log = self.folder / "own.log"
        daemon = self.daemon(self.synth(), f"log:\n  file: {log}\n  level: debug\n")
        unknown = struct.pack("<IHHQx", 1, 999, 0, 1)  # is refused, and each refusal is a line of the log
        end = time.monotonic() + 3
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(daemon.socket))
            client.sendall(HELLO)
            while time.monotonic() < end:
                client.sendall(unknown)
                client.recv(1 << 20)
                daemon.process.send_signal(signal.SIGHUP)
        self.assertEqual(daemon.sirocco(*RAW).returncode, 0)
        self.assertEqual(daemon.stop(), 0)
        self.assertGreater(log.read_text().count("UNKNOWN_TYPE"), 1000)

    def test_a_wrong_configuration_is_refused_with_line_and_column(self):
        config = self.folder / "wrong.yaml"
        config.write_text("server:\n  sokcet: /tmp/x\n")
        result = subprocess.run([BIN / "siroccod", "--config", config], capture_output=True, timeout=PATIENCE_S)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("wrong.yaml:2:3", result.stderr.decode())


if __name__ == "__main__":
    unittest.main()
