"""`sirocco tokenize` on vocabulary files: what it refuses, and whom its errors name."""
import json
import pathlib
import subprocess
import unittest

from programs import BIN, TestWithFolder

VOCABULARY = pathlib.Path(__file__).parents[1] / "golden/text/mistral-v7.vocab.gguf"  # it has no chat template


class Tokenize(TestWithFolder):
    def fails(self, *arguments):
        """The exit code and what was said."""
        command = [BIN / "sirocco", "tokenize", "--model", VOCABULARY, *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(result.stdout, "")
        return result.returncode, result.stderr

    def test_an_error_names_the_file_it_is_about(self):
        messages = self.folder / "messages.json"
        messages.write_text(json.dumps([{"role": "user", "content": "a"}]))
        code, said = self.fails("--messages", messages)
        self.assertEqual(code, 1)
        self.assertIn(f"{VOCABULARY}: tokenizer.chat_template: ", said)
        messages.write_text('[{"role": "user",}]')
        code, said = self.fails("--messages", messages)
        self.assertEqual(code, 1)
        self.assertIn(f"{messages}: JSON: line 1, byte 18: ", said)

    def test_what_the_chat_format_decides_is_no_option(self):
        for flag in ("--bos", "--special"):
            code, said = self.fails("--messages", "never-read.json", flag)
            self.assertEqual(code, 2)
            self.assertIn(flag, said)


if __name__ == "__main__":
    unittest.main()
