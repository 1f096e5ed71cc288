#!/usr/bin/env python3
"""The Python package, with the built libsirocco and a real daemon."""
import asyncio
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from programs import BIN, DEMO_MODEL, PATIENCE_S, ROOT, TestWithFolder, wait_until

PACKAGE = ROOT / "ipc/client/python"
os.environ["SIROCCO_LIBRARY"] = str(BIN.parent / "lib/libsirocco.so.0")
sys.path.insert(0, str(PACKAGE))

import sirocco  # noqa: E402
import sirocco.aio  # noqa: E402
from sirocco import _library  # noqa: E402

ENDLESS = {"prompt": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,", "raw": True, "max_tokens": 8000}
QUESTION = "Name the capital of France."
# The answer repeats it: characters of two and four bytes, of several tokens each.
FOREIGN = "🙂é🙃ü🙂é🙃ü🙂é🙃ü🙂é🙃ü"


class Package(unittest.TestCase):
    def test_structs_are_those_that_a_c_compiler_sees(self):
        structs = {"sirocco_" + re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): struct for name, struct in vars(_library).items()
                   if isinstance(struct, type) and issubclass(struct, ctypes.Structure)}
        header = (ROOT / "ipc/client/sirocco.h").read_text()
        self.assertEqual(set(structs), set(re.findall(r"^typedef struct \w+ \{.*?^\} (\w+);", header, re.M | re.S)))
        expected, asked = [], []
        for name, struct in structs.items():
            body = re.search(rf"^typedef struct {name} \{{(.*?)^\}}", header, re.M | re.S)[1]
            self.assertEqual([field for field, _ in struct._fields_], re.findall(r"^  [\w *]+?(\w+);", body, re.M))
            asked.append(f'printf("{name} %zu\\n", sizeof({name}));')
            expected.append(f"{name} {ctypes.sizeof(struct)}")
            for field, _ in struct._fields_:
                asked.append(f'printf("{name}.{field} %zu %zu\\n", offsetof({name}, {field}), sizeof((({name}*)0)->{field}));')
                expected.append(f"{name}.{field} {getattr(struct, field).offset} {getattr(struct, field).size}")
        folder = pathlib.Path(tempfile.mkdtemp(prefix="sirocco-"))
        self.addCleanup(shutil.rmtree, folder)
        (folder / "layout.c").write_text('#include <sirocco.h>\n#include <stdio.h>\nint main(void) {\n' + "\n".join(asked)
                                         + "\nreturn 0;\n}\n")
        subprocess.run(["cc", "-std=c99", f"-I{ROOT / 'ipc/client'}", folder / "layout.c", "-o", folder / "layout"], check=True)
        told = subprocess.run([folder / "layout"], check=True, capture_output=True, text=True).stdout
        self.assertEqual(told.splitlines(), expected)

    def test_every_function_of_the_header_is_declared(self):
        declared = re.findall(r"^SIROCCO_API [\w *]+?\b(sirocco_\w+)\(", (ROOT / "ipc/client/sirocco.h").read_text(), re.M)
        self.assertEqual(sorted(declared), sorted(_library.FUNCTIONS))

    def test_version_is_that_of_the_project(self):
        version = re.search(r"project\(sirocco VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
        self.assertEqual(sirocco.library_version(), version)
        self.assertIn(f'\nversion = "{version}"\n', (PACKAGE / "pyproject.toml").read_text())

    def test_a_library_that_is_not_there_is_named_with_what_to_do(self):
        done = subprocess.run([sys.executable, "-c", "import sirocco; sirocco.Client()"], capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": str(PACKAGE), "SIROCCO_LIBRARY": "/nowhere/libsirocco.so.0"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("ImportError: /nowhere/libsirocco.so.0", done.stderr)
        self.assertIn("install the package libsirocco0, or name the file in $SIROCCO_LIBRARY", done.stderr)


class WithDaemon(TestWithFolder):
    def client(self, daemon):
        client = sirocco.Client(str(daemon.socket), timeout=PATIENCE_S, answer_timeout=PATIENCE_S)
        self.addCleanup(client.close)
        return client

    def told(self, daemon, *arguments):
        """What the command answers to the same."""
        return json.loads(daemon.sirocco("generate", *arguments, "--json").stdout)

    def freeze(self, daemon):
        daemon.process.send_signal(signal.SIGSTOP)
        threads = pathlib.Path(f"/proc/{daemon.process.pid}/task")
        wait_until(lambda: all((thread / "stat").read_text().rsplit(")", 1)[1].split()[0] == "T" for thread in threads.iterdir()),
                   "it is stopped")

    def wait_until_idle(self, daemon):
        def idle():
            status = daemon.status()
            return status["requests_running"] + status["requests_queued"] == 0

        wait_until(idle, "no request is left")


class Answers(WithDaemon):
    def test_pieces_joined_are_the_answer_of_the_command(self):
        daemon = self.daemon(DEMO_MODEL)
        client = self.client(daemon)
        answer = client.generate(QUESTION, max_tokens=20)
        pieces = list(answer)
        told = self.told(daemon, "--prompt", QUESTION, "--max-tokens", 20)
        self.assertGreater(len(pieces), 1)
        self.assertEqual(("".join(pieces), answer.text, answer.ids), (told["text"], told["text"], told["ids"]))
        self.assertEqual(answer.result.reason, told["reason"])
        self.assertEqual((answer.prompt_tokens, answer.result.prompt_tokens, answer.result.generated_tokens),
                         (told["usage"]["prompt_tokens"], told["usage"]["prompt_tokens"], told["usage"]["generated_tokens"]))

    def test_options_are_those_of_the_command(self):
        daemon = self.daemon(DEMO_MODEL)
        answer = self.client(daemon).generate(QUESTION, max_tokens=30, temperature=0.9, top_k=40, top_p=0.9, min_p=0.01, seed=7,
                                              repetition_penalty=1.1, stop=["France", "zzz"])
        told = self.told(daemon, "--prompt", QUESTION, "--max-tokens", 30, "--temperature", 0.9, "--top-k", 40, "--top-p", 0.9,
                         "--min-p", 0.01, "--seed", 7, "--repetition-penalty", 1.1, "--stop", "France", "--stop", "zzz")
        self.assertEqual((answer.read(), answer.ids, answer.result.stop_string),
                         (told["text"], told["ids"], told.get("stop_string", "")))

    def test_characters_that_several_tokens_make_come_whole(self):
        daemon = self.daemon(DEMO_MODEL)
        client = self.client(daemon)
        answer = client.generate(FOREIGN, raw=True, max_tokens=40)
        pieces = list(answer)
        told = self.told(daemon, "--raw", "--prompt", FOREIGN, "--max-tokens", 40)
        self.assertEqual("".join(pieces), told["text"])
        self.assertFalse(answer.text.isascii())
        self.assertNotIn("\ufffd", answer.text)
        self.assertLess(len(pieces), len(answer.ids))
        self.assertEqual(client.detokenize(client.tokenize(FOREIGN)), FOREIGN)

    def test_messages_are_a_conversation_as_dictionaries_too(self):
        daemon = self.daemon(DEMO_MODEL)
        client = self.client(daemon)
        chat = client.chat("You answer in one word.", max_tokens=8)
        first = chat.say("What is the capital of Italy?").read()
        second = chat.say("And of Spain?").read()
        messages = [{"role": "system", "content": "You answer in one word."},
                    {"role": "user", "content": "What is the capital of Italy?"},
                    sirocco.Message("assistant", first), {"role": "user", "content": "And of Spain?"}]
        self.assertEqual(client.generate(messages=messages, max_tokens=8).read(), second)
        self.assertEqual(chat.messages[-1], sirocco.Message("assistant", second))

    def test_a_session_keeps_a_chat_of_which_only_what_is_new_is_sent(self):
        client = self.client(self.daemon(DEMO_MODEL, f"sessions: {{directory: {self.folder / 'sessions'}}}\n"))
        self.assertEqual(client.open_session("talk", drop_oldest=True).drop_oldest, True)
        without, within = client.chat("Be short.", max_tokens=8), client.chat("Be short.", session="talk", max_tokens=8)
        for words in ("Hello", "How are you?"):
            self.assertEqual(within.say(words).read(), without.say(words).read())
        self.assertEqual(client.fork_session("talk", "other").turns, 2)
        self.assertEqual(client.rewind_session("other").turns, 1)
        self.assertEqual({session.name: session.turns for session in client.sessions()}, {"talk": 2, "other": 1})
        client.close_session("talk", save=True)
        client.close_session("other")
        self.assertTrue(all(session.saved_bytes > 0 for session in client.sessions()))
        self.assertEqual(client.open_session("talk").turns, 2)
        with self.assertRaises(sirocco.NotFound):
            client.rewind_session("other")

    def test_status_is_that_of_the_command(self):
        daemon = self.daemon(DEMO_MODEL)
        status, told = self.client(daemon).status(), daemon.status()
        self.assertEqual(status.state, "READY")
        self.assertEqual(status.report.keys(), told.keys())
        self.assertEqual(vars(status.model), told["model"])


class Endings(WithDaemon):
    def test_leaving_the_loop_cancels_and_the_client_goes_on(self):
        daemon = self.daemon(DEMO_MODEL)
        client = self.client(daemon)
        client.open_session("talk")
        for _ in range(3):  # of a session, which has one request at a time
            for _ in client.generate("Write a very long story.", session="talk", max_tokens=4000):
                break
        answer = client.generate(QUESTION, max_tokens=20)
        self.assertEqual(answer.read(), self.told(daemon, "--prompt", QUESTION, "--max-tokens", 20)["text"])
        self.wait_until_idle(daemon)

    def test_cancel_of_another_thread_ends_with_what_there_is(self):
        client = self.client(self.daemon(DEMO_MODEL))
        answer = client.generate(**ENDLESS)
        next(answer)
        threading.Thread(target=answer.cancel).start()
        text = answer.read()
        self.assertEqual(answer.result.reason, "CANCELLED")
        self.assertEqual(text, answer.text)

    def test_ctrl_c_is_noticed_while_waiting_and_cancels(self):
        daemon = self.daemon(DEMO_MODEL)
        program = (f"import sirocco\nclient = sirocco.Client()\ntry:\n    for piece in client.generate(**{ENDLESS!r}):\n"
                   "        print('piece', flush=True)\nexcept KeyboardInterrupt:\n    print('interrupted', client.status().state)\n")
        # As in a terminal: a process that a shell starts in the background would ignore SIGINT.
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
                                   env={**daemon.environment(), "PYTHONPATH": str(PACKAGE)},
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "piece\n")
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(told.splitlines()[-1], "interrupted READY")
        self.assertEqual(process.returncode, 0)
        self.wait_until_idle(daemon)

    def test_what_is_late_is_an_error_or_with_partial_an_ending(self):
        client = self.client(self.daemon(DEMO_MODEL))
        with self.assertRaises(sirocco.DeadlineMissed) as caught:
            client.generate(**ENDLESS, deadline_ms=700).read()
        self.assertEqual((caught.exception.code, caught.exception.name), (205, "DEADLINE"))
        answer = client.generate(**ENDLESS, deadline_ms=700, partial=True)
        answer.read()
        self.assertEqual(answer.result.reason, "DEADLINE")

    def test_a_full_queue_says_when_to_come_again(self):
        daemon = self.daemon(DEMO_MODEL, "engine: {max_running: 1, max_queued: 1}\n")
        running, queued, refused = (self.client(daemon) for _ in range(3))
        first = running.generate(**ENDLESS)
        next(first)
        second = queued.generate(**ENDLESS)
        wait_until(lambda: daemon.status()["requests_queued"] == 1, "one waits")
        with self.assertRaises(sirocco.Busy) as caught:
            refused.generate(**ENDLESS).read()
        self.assertGreater(caught.exception.retry_after, 0)
        first.close()
        next(second)

    def test_a_daemon_that_is_killed_is_an_error_and_the_next_one_answers(self):
        daemon = self.daemon(DEMO_MODEL)
        client = self.client(daemon)
        answer = client.generate(**ENDLESS)
        next(answer)
        daemon.process.kill()
        daemon.process.wait()
        with self.assertRaisesRegex(sirocco.ConnectionFailed, "the daemon closed the connection; its log says why"):
            answer.read()
        with self.assertRaisesRegex(ConnectionError, "no daemon at .*: start it with"):
            client.connect()
        daemon.start()
        client.connect()
        self.assertEqual(client.status().state, "READY")

    def test_a_daemon_that_is_stuck_holds_nobody_who_has_left(self):
        daemon = self.daemon(DEMO_MODEL)
        client = sirocco.Client(str(daemon.socket), answer_timeout=1)
        self.addCleanup(client.close)
        answer = client.generate(**ENDLESS)
        next(answer)
        self.freeze(daemon)
        answer.close()
        try:
            with self.assertRaises(sirocco.ConnectionFailed) as caught:
                client.generate(**ENDLESS)
            self.assertEqual(caught.exception.name, "GAVE_UP")
            self.assertIn("is it stuck?", str(caught.exception))
            with self.assertRaisesRegex(sirocco.TimedOut, "no answer to Status within 1000 ms"):
                client.status()
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        client.connect()
        self.assertEqual(client.status().state, "READY")

    def test_a_socket_where_nobody_listens_is_named_with_what_to_do(self):
        with self.assertRaises(sirocco.ConnectionFailed) as caught:
            sirocco.Client(str(self.folder / "none.sock"))
        self.assertEqual(caught.exception.name, "NO_DAEMON")
        self.assertIn(f"no daemon at {self.folder}/none.sock: start it with", str(caught.exception))


class Misuse(WithDaemon):
    def test_impossible_requests_are_errors_before_anything_is_sent(self):
        client = self.client(self.daemon(DEMO_MODEL))
        for wrong, error, why in ((dict(prompt="x", ids=[1]), sirocco.InvalidRequest, "2 of prompt, messages and ids"),
                                  (dict(), sirocco.InvalidRequest, "0 of prompt, messages and ids"),
                                  (dict(prompt="x", top_p=2), sirocco.InvalidRequest, "Sampling.top_p: 2"),
                                  (dict(prompt="x", top_p=0), ValueError, "top_p: 0"),
                                  (dict(prompt="x", max_tokens=-1), ValueError, "max_tokens: -1"),
                                  (dict(prompt="x", seed=1 << 64), ValueError, "seed"),
                                  (dict(prompt="x", priority="urgent"), ValueError, "none of batch, interactive, realtime"),
                                  (dict(prompt="x", session="a\0b"), ValueError, "zero character"),
                                  (dict(ids=[1 << 40]), ValueError, "no token id"),
                                  (dict(messages=[{"role": "king"}]), ValueError, "none of system, user"),
                                  (dict(prompt="x", temprature=1), TypeError, "no such option: temprature")):
            with self.subTest(wrong), self.assertRaisesRegex(error, re.escape(why)):
                client.generate(**wrong)
        self.assertEqual(client.status().report["requests_done"] + client.status().report["requests_failed"], 0)

    def test_a_second_answer_at_once_is_refused_and_the_first_goes_on(self):
        daemon = self.daemon(DEMO_MODEL)
        client = self.client(daemon)
        answer = client.generate(QUESTION, max_tokens=20)
        with self.assertRaisesRegex(sirocco.InvalidRequest, "an answer is under way"):
            client.generate(QUESTION)
        self.assertEqual(client.status().state, "READY")
        self.assertEqual(answer.read(), self.told(daemon, "--prompt", QUESTION, "--max-tokens", 20)["text"])

    def test_a_closed_client_says_so(self):
        client = self.client(self.daemon(DEMO_MODEL))
        answer = client.generate(**ENDLESS)
        client.close()
        with self.assertRaisesRegex(sirocco.ConnectionFailed, "not connected"):
            client.status()
        with self.assertRaisesRegex(sirocco.ConnectionFailed, "not connected"):
            answer.read()
        answer.cancel()

    def test_threads_that_share_a_client_wait_for_each_other(self):
        client = self.client(self.daemon(DEMO_MODEL))
        answer, states = client.generate(**ENDLESS), []
        threads = [threading.Thread(target=lambda: states.extend(client.status().state for _ in range(20))) for _ in range(3)]
        for thread in threads:
            thread.start()
        pieces = [next(answer) for _ in range(5)]
        for thread in threads:
            thread.join()
        self.assertEqual(states, ["READY"] * 60)
        answer.cancel()
        self.assertTrue(answer.read().startswith("".join(pieces)))

    def test_four_threads_with_a_client_each_get_the_same_answer(self):
        daemon, texts = self.daemon(DEMO_MODEL), []
        threads = [threading.Thread(target=lambda: texts.append(self.client(daemon).generate(QUESTION, max_tokens=20).read()))
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(texts, [self.told(daemon, "--prompt", QUESTION, "--max-tokens", 20)["text"]] * 4)


class Asyncio(WithDaemon):
    def run_with_client(self, daemon, body):
        async def run():
            async with sirocco.aio.Client(str(daemon.socket), timeout=PATIENCE_S, answer_timeout=PATIENCE_S) as client:
                await asyncio.wait_for(body(client), 2 * PATIENCE_S)

        asyncio.run(run())

    def test_tasks_that_share_a_client_get_their_answers_one_after_the_other(self):
        daemon = self.daemon(DEMO_MODEL)
        told = self.told(daemon, "--prompt", QUESTION, "--max-tokens", 20)

        async def body(client):
            answers = [client.generate(QUESTION, max_tokens=20) for _ in range(3)]
            *texts, status, ids = await asyncio.gather(*(answer.read() for answer in answers), client.status(),
                                                       client.tokenize(QUESTION))
            self.assertEqual(texts, [told["text"]] * 3)
            self.assertEqual([answer.ids for answer in answers], [told["ids"]] * 3)
            self.assertEqual([answer.result.reason for answer in answers], [told["reason"]] * 3)
            self.assertEqual(status.state, "READY")
            self.assertEqual(await client.detokenize(ids), QUESTION)

        self.run_with_client(daemon, body)

    def test_the_loop_goes_on_while_an_answer_comes(self):
        async def body(client):
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.005)
                    ticks += 1

            ticking = asyncio.create_task(tick())
            answer = client.generate(ENDLESS["prompt"], raw=True, max_tokens=60)
            pieces = [piece async for piece in answer]
            ticking.cancel()
            self.assertEqual("".join(pieces), answer.text)
            self.assertGreater(ticks, 10)

        self.run_with_client(self.daemon(DEMO_MODEL), body)

    def test_a_cancelled_task_cancels_on_the_daemon_and_the_client_goes_on(self):
        daemon = self.daemon(DEMO_MODEL)

        async def body(client):
            await client.open_session("talk")
            for _ in range(3):
                answer = client.generate("Write a very long story.", session="talk", max_tokens=4000)
                task = asyncio.create_task(answer.read())
                while not answer.text:
                    await asyncio.sleep(0.01)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
            async for _ in client.generate("Write a very long story.", session="talk", max_tokens=4000):
                break
            self.assertEqual(await client.generate(QUESTION, max_tokens=20).read(),
                             self.told(daemon, "--prompt", QUESTION, "--max-tokens", 20)["text"])

        self.run_with_client(daemon, body)
        self.wait_until_idle(daemon)

    def test_cancel_ends_with_what_there_is(self):
        async def body(client):
            answer = client.generate(**ENDLESS)
            async for _ in answer:
                answer.cancel()
            self.assertEqual(answer.result.reason, "CANCELLED")

        self.run_with_client(self.daemon(DEMO_MODEL), body)

    def test_a_daemon_that_is_killed_is_an_error_and_the_next_one_answers(self):
        daemon = self.daemon(DEMO_MODEL)

        async def body(client):
            with self.assertRaisesRegex(sirocco.ConnectionFailed, "the daemon closed the connection"):
                async for _ in client.generate(**ENDLESS):
                    if daemon.process.poll() is None:
                        daemon.process.kill()
                        daemon.process.wait()
            daemon.start()
            await client.connect()
            self.assertEqual((await client.status()).state, "READY")

        self.run_with_client(daemon, body)

    def test_a_daemon_that_is_stuck_holds_nobody_who_has_left(self):
        daemon = self.daemon(DEMO_MODEL)

        async def body(_):
            async with sirocco.aio.Client(str(daemon.socket), answer_timeout=1) as client:
                answer = client.generate(**ENDLESS)
                await answer.__anext__()
                self.freeze(daemon)
                answer.close()
                try:
                    with self.assertRaises(sirocco.ConnectionFailed) as caught:
                        await client.generate(**ENDLESS).read()
                    self.assertEqual(caught.exception.name, "GAVE_UP")
                finally:
                    daemon.process.send_signal(signal.SIGCONT)
                await client.connect()
                self.assertEqual((await client.status()).state, "READY")

        self.run_with_client(daemon, body)

    def test_closing_wakes_who_waits(self):
        async def body(client):
            first = client.generate(**ENDLESS)
            await first.__anext__()
            reading = asyncio.create_task(first.read())
            await asyncio.sleep(0)
            await client.close()
            with self.assertRaisesRegex(sirocco.ConnectionFailed, "not connected"):
                await reading

        self.run_with_client(self.daemon(DEMO_MODEL), body)


if __name__ == "__main__":
    unittest.main()
