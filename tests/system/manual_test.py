#!/usr/bin/env python3
"""The manual pages and the completion say what the programs do: every key, option and command is there."""
import importlib.util
import re
import subprocess
import unittest

from programs import BIN, ROOT

SPEC = importlib.util.spec_from_file_location("yaml_page", ROOT / "docs/man/yaml_page.py")
YAML_PAGE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(YAML_PAGE)


def told(*command):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


def page(name):
    """The words of a manual page: without the marks of roff, in one line."""
    text = (ROOT / "docs/man" / name).read_text()
    text = re.sub(r"\\f[BIPR]", "", text).replace("\\-", "-")
    return re.sub(r"\s+", " ", re.sub(r"^\.[A-Z]+ ?", "", text, flags=re.M).replace('"', ""))


def commands(path=()):
    """Every command of sirocco, as ("model", "fit"), as its --help lists them."""
    listed = told(BIN / "sirocco", *path, "--help").partition("Subcommands:\n")[2]
    for name in re.findall(r"^  ([a-z]+)  ", listed, re.M):
        inner = list(commands((*path, name)))
        yield from inner or [(*path, name)]


def completed(*words):
    """What the bash completion offers for the last word."""
    script = f'source "{ROOT}/systemd/completion/sirocco.bash"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sirocco; ' \
             'printf "%s\\n" "${COMPREPLY[@]}"'
    result = subprocess.run(["bash", "-c", script, "bash", "sirocco", *words], check=True, capture_output=True, text=True,
                            env={"PATH": f"{BIN}:/usr/bin:/bin"})
    return result.stdout.split()


class Manual(unittest.TestCase):
    def test_EveryKeyThatTheDaemonReadsIsInItsPageWithItsDefault(self):
        written = YAML_PAGE.page((ROOT / "config/siroccod.yaml").read_text())
        keys = re.findall(r'\{"([a-z_]+\.[a-z_.]+)", \[', (ROOT / "daemon/config.cc").read_text())
        self.assertGreater(len(keys), 30)
        for key in keys:
            self.assertRegex(written, rf'(?m)^\.BI {re.escape(key)} " = |^\\fB{re.escape(key)}\\fR = ')

    def test_AKeyWithoutAFormIsNotSkippedInSilence(self):
        with self.assertRaisesRegex(ValueError, "line 2"):
            YAML_PAGE.page("# About.\n- item\n")

    def test_EveryOptionOfTheDaemonIsInItsPage(self):
        options = re.findall(r"^ +(?:-\w,)?(--[a-z-]+)", told(BIN / "siroccod", "--help"), re.M)
        self.assertIn("--config", options)
        self.assertEqual([option for option in options if not re.search(rf"{option}\b", page("siroccod.8"))], [])

    def test_EveryCommandIsInItsPage(self):
        every = list(commands())
        self.assertIn(("model", "fit"), every)
        text = page("sirocco.1")
        self.assertEqual([" ".join(path) for path in every if not re.search(rf"\b{' '.join(path)}\b", text)], [])

    def test_CompletionOffersTheCommandsAndOptionsThatThereAre(self):
        self.assertEqual(set(completed("")), {path[0] for path in commands()})
        self.assertEqual(set(completed("model", "")), {path[1] for path in commands() if path[0] == "model"})
        self.assertEqual(completed("model", "fit", "some.gguf", "--mem"), ["--memory"])
        self.assertEqual(completed("no-such-command", "x"), [])


if __name__ == "__main__":
    unittest.main()
