#!/usr/bin/env python3
"""A realtime request that comes while batch requests hold the whole KV cache."""
import json
import unittest

from programs import DEMO_MODEL, PATIENCE_S, TestWithFolder, wait_until

TOKENS = 110  # of a batch answer: with its prompt, four of the cache's eight blocks


@unittest.skipUnless(DEMO_MODEL.exists(), f"no {DEMO_MODEL}: ./dev makes it")
class KvSwap(TestWithFolder):
    def serve(self, swap):
        return self.daemon(DEMO_MODEL, "memory:\n  kv_tokens: 256\n"
                                       f"  kv_swap_directory: \"{swap}\"\ncache: {{share: \"off\"}}\n")

    def start(self, daemon, prompt, tokens, priority):
        return daemon.start_sirocco("generate", "--raw", "--prompt", prompt, "--max-tokens", str(tokens), "--priority",
                                    priority, "--json")

    def answer(self, process):
        out, errors = process.communicate(timeout=2 * PATIENCE_S)
        self.assertEqual(process.returncode, 0, errors.decode())
        return json.loads(out)

    def test_it_is_answered_at_once_and_the_batch_answers_are_those_without_it(self):
        daemon = self.serve(self.folder)
        batch = [("Once upon a time there was a fox that", TOKENS, "batch"), ("The list of all rivers begins with", TOKENS, "batch")]
        realtime = ("Stop the left arm now.", 30, "realtime")
        alone = [self.answer(self.start(daemon, *request))["ids"] for request in (*batch, realtime)]
        self.assertEqual([len(ids) for ids in alone], [TOKENS, TOKENS, 30])
        self.assertEqual(daemon.status()["cache"]["moved_out"], 0)

        others = [self.start(daemon, *request) for request in batch]
        wait_until(lambda: sum(r["generated"] > 3 for r in daemon.status()["active"]) == len(batch), "both answers have begun")
        self.assertEqual(daemon.status()["cache"]["available"], 0)
        urgent = self.start(daemon, *realtime)
        self.assertEqual(self.answer(urgent)["ids"], alone[-1])
        self.assertEqual([process.poll() for process in others], [None, None])  # it did not wait for their endings
        self.assertEqual(daemon.status()["cache"]["moved_out"], 1)
        self.assertEqual([self.answer(process)["ids"] for process in others], alone[:-1])
        cache = daemon.status()["cache"]
        self.assertEqual(cache["moved_out_bytes"], 0)
        self.assertEqual(cache["available"], cache["blocks"])

    def test_a_folder_that_cannot_be_written_is_an_error_that_names_the_key(self):
        with self.assertRaises(AssertionError) as refused:
            self.serve("/nowhere")
        self.assertIn("memory.kv_swap_directory", str(refused.exception))


if __name__ == "__main__":
    unittest.main()
