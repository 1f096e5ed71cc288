"""Writes json.json: texts, and what Python's json.dumps(json.loads(text), ensure_ascii=False) makes of each; null where
json.loads refuses it. Half a surrogate pair, which no UTF-8 can hold, is U+FFFD here. Run: python3 make_json.py"""
import json
import pathlib
import random

NUMBERS = """0 -0 7 -12 9223372036854775807 -9223372036854775808 18446744073709551615 18446744073709551616
12345678901234567890123456789 -98765432109876543210 0.0 -0.0 1.0 1.5 0.1 -2.50 100000.0 1e5 1E+5 1e-5 1e15 1e16 1e22
1.5e300 1e-4 1e-7 2.5e-7 123456789012345680.0 12345678901234567890.5 123456789.123456789 5e-324 1e-310 2.2250738585072014e-308
1.7976931348623157e308 1.7976931348623159e308 1e308 1e400 -1e400 1e-400 -1e-400 1e99999999999 0e0 0e99999 NaN Infinity -Infinity""".split()
NO_NUMBERS = """00 01 -01 1. .5 +1 - -- 1e 1e+ 1.e5 -NaN nan Inf -I 0x10 1_000 1,5""".split()
STRINGS = [r'""', r'"é"', '"é你👋"', r'"\u00e9\u4f60\ud83d\udc4b"', r'"\"\\\/\b\f\n\r\t\u0000\u0001\u001f"', '"\x7f\u2028"', r'"\uD83D\uDE00"',
           r'"\ud800"', r'"\udc00\ud800"', r'"\ud83dx"', r'"\ud83d\u0041"', r'"\ud83d\ud83d\ude00"', r'"\u12"', r'"\u12g4"', r'"\x"', '"\\',
           r'"\u 123"', r'"\u-123"', r'"\U0041"', '"\\u12', '"', '"a', '"a\nb"', '"a\tb"', '"\x00"', "'a'", '"[INST] ▁"']  # fmt: skip
OTHERS = ["null", "true", "false", "[]", "{}", "[ ]", "{ }", " [1 ,2] ", "\n\t\r 1", "\x0b1", "\x0c1", "1\u00a0", "\ufeff{}", "", " ", "nul", "nullx",
          "True", "None", "[1,]", "[,]", "[", "]", "[1", "[1 2]", "{", "{,}", '{"a"}', '{"a":}', '{"a":1,}', '{"a":1 "b":2}', '{1:2}', '{"a":1', "[}", "{]",
          '{"a" :1 , "b":2}', '{"a":1,"b":2,"a":3}', '{"a":1,"a":{"a":1,"a":2}}', '{"b":1,"\\u0061":2,"a":3,"b":4}', '{"":{"":""}}', "1 2", "1//", "/**/1",
          "[" * 900 + "]" * 900, '{"a":' * 300 + "1" + "}" * 300]  # fmt: skip


def value(rng, depth):
    kind = rng.randrange(8 if depth else 4)
    space = lambda: rng.choice(["", "", "", " ", "\n", "\t", "\r\n"])  # noqa: E731
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind < 4:
        return rng.choice(STRINGS[:13] + ["null", "true", "false"])
    inner = [value(rng, depth - 1) for _ in range(rng.randrange(5))]
    if kind < 6:
        return "[" + space() + ("," + space()).join(inner) + space() + "]"
    keys = [rng.choice(['"a"', '"b"', '"\\u0061"', '"c d"', '"é"']) for _ in inner]
    return "{" + space() + ",".join(k + space() + ":" + space() + v for k, v in zip(keys, inner)) + "}" + space()


def broken(rng, text):
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(["", ",", ":", '"', "}", "]", "0", "\\", "-", " ", "e"]) + text[at + rng.randrange(2) :]


def written(text):
    try:
        return json.dumps(json.loads(text), ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    except json.JSONDecodeError:
        return None


def main():
    rng = random.Random(20261124)
    texts = NUMBERS + NO_NUMBERS + STRINGS + OTHERS
    whole = [value(rng, 4) for _ in range(150)]
    texts += whole + [broken(rng, text) for text in whole * 2]
    pairs = [[text, written(text)] for text in texts if len(text) < 2000]
    path = pathlib.Path(__file__).with_name("json.json")
    path.write_text("[\n" + ",\n".join(json.dumps(pair) for pair in pairs) + "\n]\n")
    print(len(pairs), "texts,", sum(out is None for _, out in pairs), "refused")


main()
