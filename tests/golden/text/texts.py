"""Writes texts.json: the texts that every tokeniser is compared on. Run: python3 texts.py"""
import json
import pathlib
import random

WORDS = """hello world The quick brown fox jumps over the lazy dog's back I'll we've they're it'd can't I'M DON'T
naïve façade Straße ΑΒΓ αβγ Привет мир שלום עולם مرحبا بالعالم 你好世界 日本語 テスト 한국어 ภาษาไทย สวัสดีครับ
नमस्ते दुनिया क्षत्रिय தமிழ் வணக்கம் বাংলা ভাষা తెలుగు ಕನ್ನಡ മലയാളം ગુજરાતી ਪੰਜਾਬੀ ქართული հայերեն አማርኛ ខ្មែរ မြန်မာ ລາວ
👨‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇫🇷 ❤️ 🤷🏻‍♀️ e\u0301cole A\u030angstro\u0308m \u1e9b\u0323 ﬁn ½ Ⅷ ² 一二三 ٣٤٥ 𝟘𝟙 𓀀 𐍈""".split()

SINGLE = [
    "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r\n\r\n", "\t", "\t\t x", " a", "a ", "  a  ", "a  b", "a   b", "a\n b",
    "a \n b", "a\n\n\nb", "\n a", " \n", " \n ", "x\r\ny\r\n", "x\ry", "\u00a0a\u00a0", "a\u3000b", "\u2028x\u2029y", "\u0085x",
    "a\u180eb c", "a\u200bb", "\ufeffBOM", "a\u200db", "\x00", "a\x00b", "\x01\x02\x03", "\x04\x06\x7f", "\x1c\x1d\x1e\x1f x",
    "0", "12", "123", "1234", "12345", "1234567890", "3.14159", "1,000,000", "1 2 3", "a1b2c3", "  12", "x  12  y", "2024-11-23",
    "١٢٣٤", "१२३४५", "½¾ ²³", "Ⅳ Ⅴ", "𝟙𝟚𝟛", "1\n2", "\t1", "12km", "v1.2.3-rc4", "0xDEADBEEF",
    "'s", "it's", "IT'S", "it'S", "we'LL", "o'clock", "'tis", "rock 'n' roll", "it’s", "'\u017f", "x'\u017fy", "''''s", "'re're", "I'dve",
    "<s>", "</s>", "<unk>", "[INST]", "[/INST] hi [INST]", "<|im_start|>user\nhi<|im_end|>", "<|endoftext|>", "<think>so</think>",
    "a<tool_call>b", "[REFERENCE_DOC_1] says", "[TOOL_CALLS][{}]", "<0x0A>", "▁", "▁▁a ▁b", "a▁b", "⁇", "Ġ", "Ġa Ċ", "<|im_end", "<<|im_end|>>",
    "<|im_start|><|im_start|>", "<|endoftext|><think><|im_end|></think>",
    "def f(x):\n    return x ** 2  # square\n", "for (int i = 0; i < n; ++i) {\n\t\tsum += a[i];\n}\n", "<div class=\"a\">&nbsp;</div>",
    "SELECT * FROM t WHERE a != 'b';", "https://example.org/a/b?c=d&e=%20f#g", "user@example.com", "C:\\Users\\x\\", "a//b///c", "/* x */\n//\n/",
    "{\"a\": [1, 2, {\"b\": null}]}", "$x^2 + y^2 = z^2$", "\\frac{1}{2}", "#!/bin/sh\nset -e\n", "```python\nprint('hi')\n```", "!!!", "...", "?!?!",
    "a-b_c.d", "--flag=value", "→←↑↓", "“quoted” — ‘text’…", "CamelCaseIdentifier", "snake_case_id", "SCREAMING_SNAKE", "iPhone iOS eBay", "ABCdefGHIjkl",
    "ÀÉÎõü", "İstanbul ıI", "ǅ ǆ Ǆ", "ʰʲ ªº", "нет\u0301", "a\u0301\u0323\u0302", "q\u0307\u0323", "\u0301x", " \u0301x", "\u1100\u1161\u11a8", "각 각", "Å Å",
    "क्षि क्ष क्\u200dष", "หน้าที่ ก็", "தமிழ்நாடு கொ", "কোলকাতা ক্ষ", "സ്വാതന്ത്ര്യം", "ශ්‍රී ලංකා", "བོད་ཡིག", "ᠮᠣᠩᠭᠣᠯ", "你好，世界！", "「日本」の、テスト。", "漢字かなカナ",
    "👩‍💻👨🏿‍🚀", "👍👍🏻👍🏿", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "☺️☺", "🇩🇪🇫🇷🇮", "\U0010ffff\U000f0000", "\ufffd\ufffe\uffff", "a" * 300, "ab" * 200, " " * 200, "\n" * 100, "0" * 100,
    "A" * 100 + "b", "é" * 100, "न" * 64, "好" * 100, "👍" * 40, "!" * 150, "-" * 77 + "\n", "=" * 33, "Donaudampfschifffahrtsgesellschaftskapitän" * 3,
    " \t \t x", "a \t\n\t b", "   \n   \n", "x   \n   y", "\u2003\u2003x", "  !", "!  ", " ! a", "a !b", "\n!", "!\n", "!\r\n\r\n!", "/\n/", "a/\n\n", "//\r\n",
]  # fmt: skip

SPACES = [" ", " ", " ", " ", "  ", "\n", "\n\n", "\t", "\r\n", "    ", " \n", "", ", ", ". ", "! ", "-", "/", "'s ", " 1", "42 ", "\u00a0"]


def main():
    rng = random.Random(20261123)
    texts = list(SINGLE)
    for _ in range(100):
        texts.append("".join(rng.choice(WORDS) + rng.choice(SPACES) for _ in range(rng.randint(2, 14))))
    # Any characters at all, one plane and script after another.
    blocks = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x900, 0xDFF), (0xE00, 0xEFF), (0x1E00, 0x206F),
              (0x2190, 0x27BF), (0x3000, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xACFF), (0x1F300, 0x1F6FF)]  # fmt: skip
    for _ in range(40):
        characters = []
        for _ in range(rng.randint(3, 40)):
            low, high = rng.choice(blocks)
            characters.append(chr(rng.randint(low, high)))
        texts.append("".join(characters))
    assert len(set(texts)) == len(texts)
    path = pathlib.Path(__file__).with_name("texts.json")
    path.write_text(json.dumps(texts, ensure_ascii=True, indent=0) + "\n")
    print(len(texts), "texts")


main()
