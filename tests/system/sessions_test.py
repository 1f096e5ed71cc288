#!/usr/bin/env python3
"""Sessions of the daemon: a conversation that goes on after a restart, and what may happen to its file."""
import json
import os
import random
import signal
import time
import unittest

from programs import DEMO_MODEL, TestWithFolder

UID = os.getuid()


class Sessions(TestWithFolder):
    def setUp(self):
        super().setUp()
        self.model = self.synth()
        self.saved = self.folder / "sessions"

    def serve(self, model=None, more=""):
        return self.daemon(model or self.model, f"sessions:\n  directory: {self.saved}\n{more}")

    def file(self, name):
        return self.saved / f"{UID}-{name}.session"

    def turn(self, daemon, name, prompt):
        result = daemon.sirocco("generate", "--raw", "--session", name, "--prompt", prompt, "--max-tokens", 12, "--json")
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        return json.loads(result.stdout)

    def refusal(self, daemon, *arguments):
        result = daemon.sirocco(*arguments)
        self.assertEqual(result.returncode, 1, result.stdout.decode())
        return result.stderr.decode()

    def listed(self, daemon):
        return {session["name"]: session for session in json.loads(daemon.sirocco("session", "list", "--json").stdout)}

    def test_after_a_restart_the_second_turn_is_that_of_an_unbroken_conversation(self):
        daemon = self.serve()
        first = "the quick brown fox jumps over the lazy dog " * 8
        whole = [self.turn(daemon, "unbroken", text)["ids"] for text in (first, "and then", "again")]
        self.assertEqual(self.turn(daemon, "broken", first)["ids"], whole[0])
        self.assertEqual(daemon.stop(), 0)
        self.assertTrue(self.file("broken").exists())
        daemon.start()
        self.assertEqual(self.listed(daemon)["broken"]["turns"], 0)  # it is read when it is asked for
        second = self.turn(daemon, "broken", "and then")
        self.assertEqual(second["ids"], whole[1])
        self.assertGreater(second["usage"]["cached_tokens"], 0.9 * second["usage"]["prompt_tokens"])
        self.assertEqual(daemon.status()["tokens_prefilled"],
                         second["usage"]["prompt_tokens"] - second["usage"]["cached_tokens"])
        daemon.stop()
        daemon.start()
        self.assertEqual(self.turn(daemon, "broken", "again")["ids"], whole[2])

    def test_sessions_are_forked_rewound_listed_and_closed(self):
        daemon = self.serve()
        first = self.turn(daemon, "a", "hello")
        self.assertEqual(daemon.sirocco("session", "fork", "a", "b").returncode, 0)
        second = self.turn(daemon, "a", "more")
        self.assertEqual(self.turn(daemon, "b", "more")["ids"], second["ids"])
        self.assertEqual(daemon.sirocco("session", "rewind", "a", "2").returncode, 0)
        self.assertEqual(self.turn(daemon, "a", "hello")["ids"], first["ids"])
        self.assertEqual({name: s["turns"] for name, s in self.listed(daemon).items()}, {"a": 1, "b": 2})
        self.assertEqual(daemon.sirocco("session", "close", "b", "--save").returncode, 0)
        self.assertTrue(self.file("b").exists())
        self.assertEqual(daemon.sirocco("session", "close", "b").returncode, 0)
        self.assertFalse(self.file("b").exists())
        self.assertEqual(set(self.listed(daemon)), {"a"})
        self.assertIn("NOT_FOUND", self.refusal(daemon, "session", "rewind", "b", "1"))

    def test_a_damaged_file_loses_its_session_and_no_other(self):
        daemon = self.serve()
        for name in ("whole", "damaged"):
            self.turn(daemon, name, "hello")
        daemon.stop()
        content = bytearray(self.file("damaged").read_bytes())
        content[40] ^= 1
        self.file("damaged").write_bytes(content)
        daemon.start()
        said = self.refusal(daemon, "generate", "--raw", "--session", "damaged", "--prompt", "x")
        self.assertIn("CORRUPT", said)
        self.assertIn(str(self.file("damaged")), said)
        self.turn(daemon, "whole", "more")
        self.assertEqual(daemon.sirocco("session", "close", "damaged").returncode, 0)
        self.turn(daemon, "damaged", "hello")

    def test_damage_in_what_was_computed_is_computed_again(self):
        daemon = self.serve()
        first = "the quick brown fox jumps over the lazy dog " * 4
        self.turn(daemon, "s", first)
        daemon.sirocco("session", "fork", "s", "unbroken")
        expected = self.turn(daemon, "unbroken", "more")["ids"]
        daemon.stop()
        content = bytearray(self.file("s").read_bytes())
        content[-100] ^= 1
        self.file("s").write_bytes(content)
        daemon.start()
        self.assertEqual(self.turn(daemon, "s", "more")["ids"], expected)
        self.assertIn("damaged", daemon.log.read_text())

    def test_a_file_of_another_model_is_refused_and_stays(self):
        daemon = self.serve()
        first = self.turn(daemon, "s", "hello")
        daemon.stop()
        before = self.file("s").read_bytes()
        other = self.serve(self.synth(name="other.gguf", seed=2))
        self.assertIn("another model", self.refusal(other, "generate", "--raw", "--session", "s", "--prompt", "x"))
        other.stop()
        self.assertEqual(self.file("s").read_bytes(), before)
        again = self.serve()
        self.assertEqual(self.turn(again, "t", "hello")["ids"], first["ids"])
        self.turn(again, "s", "more")

    def test_the_quotas_of_a_user_are_kept(self):
        daemon = self.serve(more="  max_per_user: 2\n  disk_bytes_per_user: 4KiB\n")
        self.turn(daemon, "a", "hello")
        daemon.sirocco("session", "fork", "a", "b")
        self.assertIn("sessions.max_per_user", self.refusal(daemon, "session", "open", "c"))
        expected = self.turn(daemon, "b", "more")["ids"]
        daemon.stop()
        self.assertLess(sum(file.stat().st_size for file in self.saved.iterdir()), 4096)
        daemon.start()
        second = self.turn(daemon, "a", "more")  # its text was saved, what was computed had no room
        self.assertEqual(second["ids"], expected)
        self.assertEqual(second["usage"]["cached_tokens"], 0)
        self.assertIn("sessions.max_per_user", self.refusal(daemon, "session", "open", "c"))

    def test_a_daemon_killed_while_it_saves_leaves_the_old_file_or_the_new_one(self):
        text = "the quick brown fox jumps over the lazy dog " * 20
        daemon = self.serve()
        self.turn(daemon, "s", text)
        daemon.sirocco("session", "fork", "s", "old")
        daemon.sirocco("session", "fork", "s", "new")
        self.turn(daemon, "new", "second")
        expected = [self.turn(daemon, name, "third")["ids"] for name in ("old", "new")]
        self.assertNotEqual(expected[0], expected[1])
        for seed in range(8):
            for name in ("old", "new"):
                daemon.sirocco("session", "close", name)
            self.assertEqual(daemon.sirocco("session", "close", "s", "--save").returncode, 0)
            before = self.file("s").read_bytes()
            self.turn(daemon, "s", "second")
            saving = daemon.start_sirocco("session", "close", "s", "--save")
            time.sleep(random.Random(seed).uniform(0, 0.04))
            daemon.stop(signal.SIGKILL)
            saving.communicate()
            daemon.start()
            self.assertIn(self.turn(daemon, "s", "third")["ids"], expected)
            self.assertEqual([file.name for file in self.saved.iterdir()], [self.file("s").name])
            # The state from which the next round starts.
            daemon.stop(signal.SIGKILL)
            self.file("s").write_bytes(before)
            daemon.start()

    def test_without_a_folder_a_session_ends_with_the_daemon(self):
        daemon = self.daemon(self.model, 'sessions:\n  directory: ""\n')
        self.turn(daemon, "s", "hello")
        self.assertIn("sessions.directory", self.refusal(daemon, "session", "close", "s", "--save"))
        self.assertEqual(daemon.stop(), 0)


@unittest.skipUnless(DEMO_MODEL.exists(), f"no {DEMO_MODEL}: ./dev makes it")
class Conversations(TestWithFolder):
    CHAT = ("chat", "--temperature", "0", "--max-tokens", "12")

    def test_a_chat_that_is_left_and_taken_up_again_is_one_conversation(self):
        daemon = self.daemon(DEMO_MODEL, f"sessions:\n  directory: {self.folder}/sessions\n")
        questions = [b"What is salt?\n", b"And pepper?\n", b"Which of both is hotter?\n"]
        whole = daemon.sirocco(*self.CHAT, stdin=b"".join(questions)).stdout
        parts = b""
        for question in questions:
            parts += daemon.sirocco(*self.CHAT, "--session", "kitchen", stdin=question).stdout
            daemon.stop()
            daemon.start()
        self.assertEqual(parts, whole)

    def test_an_instruction_that_is_prepared_is_computed_once(self):
        daemon = self.daemon(DEMO_MODEL)
        opened = daemon.sirocco("session", "open", "tools", "--system", "Answer as a pirate would, in short sentences.", "--json")
        prepared = json.loads(opened.stdout)[0]["tokens"]
        self.assertGreater(prepared, 10)
        answer = json.loads(daemon.sirocco("generate", "--session", "tools", "--prompt", "Who are you?", "--max-tokens", "4",
                                           "--json").stdout)
        self.assertGreaterEqual(answer["usage"]["cached_tokens"], prepared)


if __name__ == "__main__":
    unittest.main()
