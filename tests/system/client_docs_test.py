#!/usr/bin/env python3
"""Every example of docs/clients.md does what the page says, with the demo model."""
import json
import re
import subprocess
import sys
import unittest

from programs import BIN, DEMO_MODEL, PATIENCE_S, ROOT, TestWithFolder

PAGE = (ROOT / "docs/clients.md").read_text()


def examples(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


class Examples(TestWithFolder):
    def setUp(self):
        super().setUp()
        self.server = self.daemon(DEMO_MODEL)

    def told(self, prompt, tokens=50):
        """What the command answers to the same."""
        return json.loads(self.server.sirocco("generate", "--prompt", prompt, "--max-tokens", tokens, "--json").stdout)["text"]

    def run_one(self, *command, **environment):
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S,
                              env={**self.server.environment(), **environment})
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_those_in_c(self):
        shown = []
        for number, source in enumerate(examples("c")):
            file = self.folder / f"{number}.c"
            file.write_text(source)
            library = BIN.parent / "lib"
            subprocess.run(["cc", "-std=gnu99", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{ROOT / 'ipc/client'}", file,
                            "-o", file.with_suffix(""), f"-L{library}", f"-Wl,-rpath,{library}", "-lsirocco"], check=True)
            shown.append(self.run_one(file.with_suffix("")))
        capital, lunch = shown
        self.assertEqual(capital, self.told("Name the capital of France."))
        self.assertRegex(lunch, r"(?s)\w.*\n(STOP_TOKEN|MAX_TOKENS) after \d+ tokens\n")

    def test_those_in_python(self):
        shown = [self.run_one(sys.executable, "-X", "dev", "-c", source, PYTHONPATH=str(ROOT / "ipc/client/python"),
                              SIROCCO_LIBRARY=str(BIN.parent / "lib/libsirocco.so.0")) for source in examples("python")]
        capital, hello, rice = shown
        self.assertTrue(capital.startswith(self.told("Name the capital of France.")), capital)
        self.assertEqual(hello, self.told("Hello!", 20) + "\n")
        self.assertEqual(rice, self.told("What goes with rice?"))


if __name__ == "__main__":
    unittest.main()
