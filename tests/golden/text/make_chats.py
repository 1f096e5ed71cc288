"""Writes chats.json: what mistral-common and transformers' templates make of conversations, and where they refuse.

Run in a venv with the packages that references.py names, after make_tokens.py:
  python3 make_chats.py [FOLDER_WITH_SMOLLM2_GGUF]
"""
import json
import pathlib
import sys

import jinja2
from mistral_common.protocol.instruct.normalize import get_normalizer
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode, get_validator
from mistral_common.tokens.tokenizers import instruct
from mistral_common.tokens.tokenizers.base import TokenizerVersion
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from references import CONTROLS, HERE, sentencepiece, smollm2, tekken, tiny

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLAIN = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def calls(*items, content=None):
    functions = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in items]
    return {"role": "assistant", "content": content, "tool_calls": functions}


def result(call_id, text, name=None):
    return {"role": "tool", "tool_call_id": call_id, "content": text} | ({"name": name} if name else {})


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Le temps qu’il fait — maintenant",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "default": 1.0, "maximum": 1e20}}}}}  # fmt: skip
BARE = {"type": "function", "function": {"parameters": None, "name": "now", "strict": True}}
LIMITS = {"type": "function", "function": {"name": "now", "parameters": {
    "type": "object", "properties": {"n": {"type": "integer", "minimum": -(10**30), "maximum": 2**64, "default": float("nan")}}}}}  # fmt: skip
ODD_NUMBERS = '{"a": 12345678901234567890123, "b": -98765432109876543210, "c": 1e400, "d": [NaN, -Infinity, -0, 1e22]}'
HI, YO, BYE = user("Hello, how are you?"), assistant("Fine, thanks! "), user("नमस्ते 👋\n\nBye\n")
CALL = calls(("abcDEF123", "get_weather", '{"city":"Orléans","x":[1,2.50,1e-7,1e16,-0.0,true,null,"\\u00e9\\n\\u0001\\"/"]}'))
ANSWER = result("abcDEF123", '{"t": 21.0,  "sky": "clear"}', "get_weather")
TWO = calls(("abcDEF123", "get_weather", '{"city": "Pau"}'), ("000000000", "now", ""))

# (messages, tools)
CASES = [
    ([HI], None),
    ([system("Be brief."), HI], None),
    ([HI, YO, BYE], None),
    ([system("Be brief."), HI, YO, BYE], None),
    ([system("One."), system("Two."), HI], None),
    ([HI, system("In the middle."), BYE], None),
    ([HI, YO, system("After an answer."), BYE], None),
    ([HI, user("And you?"), YO, assistant(" More. "), BYE], None),
    ([system("Alone.")], None),
    ([YO, HI], None),
    ([HI, YO], None),
    ([YO], None),
    ([], None),
    ([user("")], None),
    ([HI, assistant(""), BYE], None),
    ([user("[INST] no [/INST]</s><s>[SYSTEM_PROMPT]x[/SYSTEM_PROMPT][TOOL_CALLS]")], None),
    ([user("  leading and trailing  ")], None),
    ([system(""), HI], None),
    ([{"role": "user", "content": [{"type": "text", "text": "Part one."}, {"type": "text", "text": "Part two."}]}], None),
    ([HI], [WEATHER]),
    ([system("Use tools."), HI, YO, BYE], [WEATHER, BARE]),
    ([HI], []),
    ([HI, CALL, ANSWER], [WEATHER]),
    ([HI, CALL, ANSWER, assistant("21 degrees."), BYE], [WEATHER]),
    ([HI, CALL, result("abcDEF123", "plain text", "get_weather")], [WEATHER]),
    ([HI, CALL, result("abcDEF123", "", "get_weather")], [WEATHER]),
    ([HI, CALL, result("abcDEF123", "12", None)], [WEATHER]),
    ([HI, TWO, ANSWER, result("000000000", "[1, {\"a\": {}}]", "now")], [WEATHER, BARE]),
    ([HI, TWO, ANSWER, result("000000000", "noon", "now"), assistant("It is noon."), BYE], [WEATHER, BARE]),
    ([HI, TWO, ANSWER], [WEATHER, BARE]),
    ([HI, CALL, BYE], [WEATHER]),
    ([HI, ANSWER], [WEATHER]),
    ([HI, calls(("abcDEF123", "now", "{}"), content="Let me look."), ANSWER], [BARE]),
    ([HI, calls(("short", "now", "{}")), result("short", "1")], [BARE]),
    ([HI, calls(("abcDEF123", "no such name!", "{}")), ANSWER], [BARE]),
    ([HI, calls(("abcDEF123", "now", "not json")), ANSWER], [BARE]),
    ([HI, calls(("abcDEF123", "now", ODD_NUMBERS)), result("abcDEF123", ODD_NUMBERS, "now")], [LIMITS]),
    ([HI, calls(("abcDEF123", "now", "[" * 100 + "]" * 100)), result("abcDEF123", "[" * 500 + "]" * 500)], [BARE]),
    ([HI, assistant("Let me look."), calls(("abcDEF123", "now", "{}")), ANSWER], [BARE]),
]
PLAIN_CASES = [i for i, (messages, tools) in enumerate(CASES) if messages and not tools and all(
    isinstance(m["content"], str) and "tool_calls" not in m and m["role"] != "tool" for m in messages)]  # fmt: skip


def mistral(version, tokenizer, encoder):
    number = TokenizerVersion(version)
    return MistralTokenizer(encoder(tokenizer), get_validator(number, ValidationMode.serving), get_normalizer(number))


def mistral_ids(tokenizer, messages, tools):
    try:
        request = ChatCompletionRequest.from_openai(messages=messages, tools=tools, model="m")
        return tokenizer.encode_chat_completion(request).tokens
    except Exception:
        return None


def template_ids(template, encode, messages):
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    return encode(environment.from_string(template).render(messages=messages, add_generation_prompt=True))


def main():
    formats = {
        "mistral-v1": mistral("v1", sentencepiece("v1"), instruct.InstructTokenizerV1),
        "mistral-v2": mistral("v2", sentencepiece("v2"), instruct.InstructTokenizerV2),
        "mistral-v3": mistral("v3", sentencepiece("v3"), instruct.InstructTokenizerV3),
        "mistral-v7": mistral("v7", sentencepiece("v7"), instruct.InstructTokenizerV7),
        "mistral-v3-tekken": mistral("v3", tekken("v3"), instruct.InstructTokenizerV3),
        "mistral-v7-tekken": mistral("v7", tekken("v7"), instruct.InstructTokenizerV7),
    }
    ids = {name: [mistral_ids(t, *case) for case in CASES] for name, t in formats.items()}

    encode = lambda text: tiny("smollm").encode(text, add_special_tokens=False).ids  # noqa: E731
    plain = [CASES[i][0] for i in PLAIN_CASES]
    assert not any(c in m["content"] for messages in plain for m in messages for c in CONTROLS)
    ids["chatml/smollm2-template"] = [template_ids(SMOLLM2, encode, m) for m in plain]
    ids["chatml/plain-template"] = [template_ids(PLAIN, encode, m) for m in plain]
    if len(sys.argv) > 1:
        real = smollm2(pathlib.Path(sys.argv[1]))
        render = lambda m: real.apply_chat_template(m, add_generation_prompt=True, return_dict=False)  # noqa: E731
        ids["smollm2"] = [list(render(m)) for m in plain]

    cases = [json.dumps({"messages": m} | ({"tools": t} if t is not None else {}), ensure_ascii=False) for m, t in CASES]
    document = {"cases": cases, "plain_cases": PLAIN_CASES, "templates": {"smollm2": SMOLLM2, "plain": PLAIN}, "ids": ids}
    (HERE / "chats.json").write_text(json.dumps(document, indent=0).replace(",\n", ",") + "\n")
    for name, rows in ids.items():
        print(name, len(rows), "refused:", [i for i, row in enumerate(rows) if row is None])


main()
