"""What a request says, from Python's values to the struct."""
from __future__ import annotations

import ctypes
import json
from typing import TYPE_CHECKING, Any, Mapping, Sequence, TypedDict, cast

from . import _library
from ._types import Message

if TYPE_CHECKING:
    MessageLike = Message | Mapping[str, Any]

ROLES = {"system": 1, "user": 2, "assistant": 3, "tool": 4}
PRIORITIES = {"batch": 1, "interactive": 2, "realtime": 3}


class Options(TypedDict, total=False):
    """The options of generate(), chat() and their like; what they mean is in docs/protocol.md, Generate."""
    raw: bool  # the prompt is continued as it is
    special: bool  # with raw: control tokens written in it are control tokens
    tools: str | Sequence[Any]  # OpenAI's "tools", as JSON or as the list itself
    temperature: float  # 0, the default: greedy
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    seed: int
    logit_bias: Mapping[int, float]
    stop: str | Sequence[str]
    max_tokens: int  # 0, the default: as many as the context holds
    omit_ids: bool  # the answer's ids are not wanted
    priority: str  # "batch", "interactive", "realtime"
    deadline_ms: int
    partial: bool  # what is late ends with what there is
    max_queue_ms: int
    latest_wins_key: str
    session: str
    prefill_only: bool


_NUMBERS = ("raw", "special", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty",
            "presence_penalty", "seed", "max_tokens", "omit_ids", "deadline_ms", "partial", "max_queue_ms", "prefill_only")
_NAMES = ("latest_wins_key", "session")
# The library takes 0 for "not given" where the protocol does not allow 0; here it is what was asked for, and wrong.
_ABOVE_ZERO = ("top_p", "repetition_penalty")
_UNSIGNED = {"top_k": 32, "seed": 64, "max_tokens": 32, "deadline_ms": 32, "max_queue_ms": 32}


def c_string(text: str, what: str) -> bytes:
    encoded = text.encode()
    if b"\0" in encoded:
        raise ValueError(f"{what}: a zero character is not possible here")
    return encoded


def _choice(table: Mapping[str, int], value: str, what: str) -> int:
    if value not in table:
        raise ValueError(f"{what}: {value!r} is none of {', '.join(table)}")
    return table[value]


def _number(name: str, value: Any) -> Any:
    # ctypes would cut what does not fit.
    if name in _UNSIGNED and not 0 <= value < 1 << _UNSIGNED[name]:
        raise ValueError(f"{name}: {value} is not within 0 to {(1 << _UNSIGNED[name]) - 1}")
    if name in _ABOVE_ZERO and value == 0:
        raise ValueError(f"{name}: 0 is not above 0")
    return value


def c_ids(ids: Sequence[int]) -> ctypes.Array[ctypes.c_int32]:
    for one in ids:
        if not 0 <= one < 1 << 31:
            raise ValueError(f"{one} is no token id")
    return (ctypes.c_int32 * len(ids))(*ids)


def _messages(given: Sequence[MessageLike]) -> ctypes.Array[_library.Message]:
    messages = (_library.Message * len(given))()
    for target, message in zip(messages, map(Message.of, given)):
        content = message.content.encode()
        target.role = _choice(ROLES, message.role, "role")
        target.content, target.content_bytes = content, len(content)
        target.tool_call_id = c_string(message.tool_call_id, "tool_call_id")
        calls = (_library.ToolCall * len(message.tool_calls))(
            *(_library.ToolCall(c_string(c.id, "id"), c_string(c.name, "name"), c_string(c.arguments, "arguments"))
              for c in message.tool_calls))
        target.tool_calls, target.tool_call_count = calls, len(calls)
    return messages


def request(prompt: str | None, messages: Sequence[MessageLike] | None, ids: Sequence[int] | None,
            options: Options) -> _library.Request:
    """The struct; ctypes keeps what it points to alive with it."""
    given = cast("dict[str, Any]", dict(options))
    made = _library.Request(size=ctypes.sizeof(_library.Request))
    if prompt is not None:
        made.prompt = prompt.encode()
        made.prompt_bytes = len(prompt.encode())
    if messages is not None:
        made.messages, made.message_count = _messages(messages), len(messages)
    if ids is not None:
        made.ids, made.id_count = c_ids(ids), len(ids)
    for name in _NUMBERS:
        if name in given:
            setattr(made, name, _number(name, given.pop(name)))
    for name in _NAMES:
        if given.get(name) is not None:
            setattr(made, name, c_string(given[name], name))
        given.pop(name, None)
    tools = given.pop("tools", None)
    if tools is not None:
        made.tools = c_string(tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False), "tools")
    if "priority" in given:
        made.priority = _choice(PRIORITIES, given.pop("priority"), "priority")
    stops = given.pop("stop", ())
    stops = [stops] if isinstance(stops, str) else list(stops)
    made.stop, made.stop_count = (ctypes.c_char_p * len(stops))(*(c_string(s, "stop") for s in stops)), len(stops)
    bias = given.pop("logit_bias", {})
    made.logit_bias = (_library.LogitBias * len(bias))(*map(_library.LogitBias, c_ids(list(bias)), bias.values()))
    made.logit_bias_count = len(bias)
    if given:
        raise TypeError(f"no such option: {', '.join(given)}")
    return made
