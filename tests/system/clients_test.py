#!/usr/bin/env python3
"""Who may do what, and how much of it: clauses of the configuration, kept by a running daemon; and clients in crowds, half-open
and stalled, whom the others do not notice."""
import json
import os
import pathlib
import socket
import struct
import subprocess
import threading
import time
import unittest

from programs import BIN, PATIENCE_S, ROOT, TestWithFolder, wait_until

CORPUS = ROOT / "tests/fuzz/corpus/wire"
HELLO = (CORPUS / "00-Hello").read_bytes()
STATUS = struct.pack("<IHHQ", 12, 13, 0, 1) + bytes.fromhex("08000000 04000400 04000000")  # an empty table
RAW = ("generate", "--raw", "--prompt", "hello", "--max-tokens", 40, "--json")
NOBODY = 65534
EXTRA_GROUP = 54321
ERROR, STATUS_REPORT = 7, 14


def read_frame(connection):
    """(type, request_id, payload); None at the end."""
    def exactly(size):
        data = b""
        while len(data) < size:
            more = connection.recv(size - len(data))
            if not more:
                return None
            data += more
        return data

    header = exactly(16)
    if header is None:
        return None
    length, kind, _, request_id = struct.unpack("<IHHQ", header)
    return kind, request_id, exactly(length)


def connect(daemon, hello=True):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    connection.connect(str(daemon.socket))
    if hello:
        connection.sendall(HELLO)
    return connection


def frame_of(folder, *arguments):
    """The frame that `sirocco ARGUMENTS` sends after its Hello."""
    path = folder / "fake.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        client = subprocess.Popen([BIN / "sirocco", *map(str, arguments), "--socket", path], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        connection = listening.accept()[0]
        with connection:
            connection.settimeout(PATIENCE_S)
            read_frame(connection)
            connection.sendall((CORPUS / "01-Welcome").read_bytes())
            kind, request_id, payload = read_frame(connection)
        client.wait(PATIENCE_S)
    path.unlink()
    return struct.pack("<IHHQ", len(payload), kind, 0, request_id) + payload


class ClientsTest(TestWithFolder):
    def serve(self, config, mode="0600"):
        daemon = self.daemon(self.synth(), f"  mode: \"{mode}\"\n{config}")
        self.folder.chmod(0o755)
        return daemon

    def ids(self, daemon):
        done = daemon.sirocco(*RAW)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["ids"]

    def refused(self, daemon, *arguments, **how):
        done = subprocess.run([BIN / "sirocco", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=PATIENCE_S, env=daemon.environment(), **how)
        self.assertEqual(done.returncode, 1, done.stdout)
        return done.stderr.decode()


class Policy(ClientsTest):
    def test_a_class_that_is_not_allowed_is_refused_with_those_that_are(self):
        daemon = self.serve("clients: {default: {classes: interactive batch}}\n")
        said = self.refused(daemon, *RAW, "--priority", "realtime")
        self.assertIn("PERMISSION_DENIED", said)
        self.assertIn("but interactive, batch (clients.default.classes)", said)
        self.ids(daemon)

    @unittest.skipIf(os.geteuid() != 0, "not root: cannot become another user")
    def test_a_user_is_refused_and_a_group_is_limited_while_others_are_served(self):
        daemon = self.serve(f"""clients:
  rules:
    team: {{group: "{EXTRA_GROUP}", classes: batch}}
    nobody: {{user: "{NOBODY}", allowed: false}}
""", "0666")
        said = self.refused(daemon, *RAW, user=NOBODY, group=NOBODY, extra_groups=[])
        self.assertIn("user 65534 may not use this daemon (clients.rules.nobody)", said)
        self.assertIn("PERMISSION_DENIED", said)
        # A supplementary group counts, and the first rule that fits.
        said = self.refused(daemon, *RAW, user=NOBODY, group=NOBODY, extra_groups=[7, EXTRA_GROUP])
        self.assertIn("but batch (clients.rules.team.classes)", said)
        done = subprocess.run([BIN / "sirocco", *map(str, RAW), "--priority", "batch"], capture_output=True,
                              env=daemon.environment(), user=NOBODY, group=NOBODY, extra_groups=[7, EXTRA_GROUP])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["ids"], self.ids(daemon))

    @unittest.skipIf(os.geteuid() != 0, "not root: cannot become another user")
    def test_what_a_user_has_is_charged_to_that_user(self):
        daemon = self.serve("clients: {default: {connections: 3}}\n", "0666")
        held = [connect(daemon) for _ in range(3)]
        for connection in held:
            read_frame(connection)
        said = self.refused(daemon, *RAW)
        self.assertIn("user 0 has 3 connections, the limit", said)
        self.assertIn("TOO_MANY_CONNECTIONS", said)
        done = subprocess.run([BIN / "sirocco", *map(str, RAW)], capture_output=True, env=daemon.environment(), user=NOBODY,
                              group=NOBODY, extra_groups=[])
        self.assertEqual(done.returncode, 0, done.stderr)
        for connection in held:
            connection.close()
        wait_until(lambda: daemon.sirocco("status").returncode == 0, "there is room again")
        self.ids(daemon)

    def test_tokens_per_minute_end_with_the_time_to_come_again(self):
        daemon = self.serve("clients: {default: {tokens_per_minute: 60}}\n")
        self.ids(daemon)
        self.ids(daemon)
        said = self.refused(daemon, *RAW)
        self.assertIn("user 0 has used up its 60 tokens per minute" if os.getuid() == 0 else "tokens per minute", said)
        self.assertIn("TOO_MANY_REQUESTS", said)

    def test_requests_in_flight_are_limited_over_all_connections(self):
        daemon = self.serve("clients: {default: {in_flight: 3}}\nengine: {backend: ref}\n")
        generate = frame_of(self.folder, "generate", "--raw", "--prompt", "x", "--max-tokens", 1500)
        with connect(daemon) as first, connect(daemon) as second:
            first.sendall(generate[:8] + struct.pack("<Q", 1) + generate[16:] + generate[:8] + struct.pack("<Q", 2) + generate[16:])
            kinds = [read_frame(first)[0] for _ in range(3)]
            self.assertIn(4, kinds)  # Accepted
            second.sendall(generate[:8] + struct.pack("<Q", 1) + generate[16:])
            self.assertEqual([read_frame(second)[0] for _ in range(2)], [2, 4])
            second.sendall(STATUS[:8] + struct.pack("<Q", 9) + STATUS[16:])
            while True:
                kind, request_id, payload = read_frame(second)
                if request_id == 9:
                    break
            self.assertEqual(kind, ERROR)
            self.assertIn(b"TOO_MANY_REQUESTS", payload)
            self.assertIn(b"3 requests in flight on all its connections", payload)
        wait_until(lambda: daemon.sirocco("status").returncode == 0, "they are gone")

    def test_a_rule_for_a_user_that_does_not_exist_is_refused_at_the_start(self):
        with self.assertRaisesRegex(AssertionError, 'clients.rules.a.user: there is no user "no-such-user"'):
            self.serve("clients: {rules: {a: {user: no-such-user}}}\n")


class Crowds(ClientsTest):
    def test_a_thousand_connections_are_served_and_leave_nothing_behind(self):
        daemon = self.serve("  limits: {connections: 1200}\nclients: {default: {connections: 1200, in_flight: 1200}}\n")
        expected = self.ids(daemon)
        descriptors = lambda: len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
        before = descriptors()
        crowd = [connect(daemon) for _ in range(1000)]
        for connection in crowd:
            connection.sendall(STATUS)
        self.assertEqual(self.ids(daemon), expected)
        for connection in crowd:
            self.assertEqual(read_frame(connection)[0], 2)  # Welcome
            self.assertEqual(read_frame(connection)[:2], (STATUS_REPORT, 1))
        self.assertEqual(daemon.status()["connections"], 1001)
        for connection in crowd:
            connection.close()
        wait_until(lambda: descriptors() <= before, "their descriptors are closed")
        self.assertEqual(daemon.status()["connections"], 1)
        self.assertEqual(self.ids(daemon), expected)

    def test_who_connects_and_says_nothing_is_sent_away_in_time(self):
        daemon = self.serve("  limits: {hello_timeout_ms: 700}\n")
        expected = self.ids(daemon)
        began = time.monotonic()
        silent = [connect(daemon, hello=False) for _ in range(40)]
        halves = [connect(daemon, hello=False) for _ in range(20)]
        for connection in halves:
            connection.sendall(HELLO[:20])
        self.assertEqual(self.ids(daemon), expected)
        for connection in silent + halves:
            kind, _, payload = read_frame(connection)
            self.assertEqual(kind, ERROR)
            self.assertIn(b"no Hello within 700 ms", payload)
            self.assertIsNone(read_frame(connection))
            connection.close()
        self.assertGreater(time.monotonic() - began, 0.6)
        self.assertEqual(daemon.status()["connections"], 1)

    def test_readers_that_stall_lose_their_requests_and_others_notice_nothing(self):
        daemon = self.serve("  limits: {queued_bytes: 64KiB}\n")
        expected = self.ids(daemon)
        generate = frame_of(self.folder, "generate", "--raw", "--prompt", "x", "--max-tokens", 1800)
        stalled = []
        for _ in range(3):
            connection = connect(daemon)
            stalled.append(connection)
            for number in range(1, 9):
                connection.sendall(generate[:8] + struct.pack("<Q", number) + generate[16:])
        answers = []
        others = [threading.Thread(target=lambda: answers.append(self.ids(daemon))) for _ in range(4)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        self.assertEqual(answers, [expected] * 4)
        wait_until(lambda: daemon.status()["requests_running"] + daemon.status()["requests_queued"] == 0, "all have ended")
        self.assertGreater(daemon.status()["requests_failed"], 0)
        for connection in stalled:
            endings = {}
            while len(endings) < 8:
                kind, request_id, payload = read_frame(connection)
                if kind in (6, ERROR):
                    self.assertNotIn(request_id, endings)
                    endings[request_id] = payload if kind == ERROR else b"Done"
            self.assertTrue(any(b"SLOW_CONSUMER" in ending for ending in endings.values()), endings)
            self.assertTrue(all(b"SLOW_CONSUMER" in e or e == b"Done" for e in endings.values()), endings)
            connection.close()
        self.assertEqual(self.ids(daemon), expected)


if __name__ == "__main__":
    unittest.main()
