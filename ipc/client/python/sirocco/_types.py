"""The values that go in and come out."""
from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """A call that the assistant made; `arguments` is JSON."""
    name: str
    arguments: str
    id: str = ""


@dataclasses.dataclass(frozen=True)
class Message:
    """One message of a conversation; role: "system", "user", "assistant" or "tool"."""
    role: str
    content: str = ""
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str = ""

    @staticmethod
    def of(given: Message | Mapping[str, Any]) -> Message:
        """A Message, also from a dictionary as OpenAI's interface has it."""
        if isinstance(given, Message):
            return given
        calls = []
        for call in given.get("tool_calls") or ():
            if not isinstance(call, ToolCall):
                function = call.get("function", call)
                call = ToolCall(function["name"], function["arguments"], call.get("id", ""))
            calls.append(call)
        return Message(given["role"], given.get("content") or "", tuple(calls), given.get("tool_call_id") or "")


@dataclasses.dataclass(frozen=True)
class Result:
    """How an answer ended.

    reason: "STOP_TOKEN", "STOP_STRING", "MAX_TOKENS", "CONTEXT_FULL", "CANCELLED", "DEADLINE" or "SUPERSEDED".
    Times are in microseconds. lossy_experts: 0 means that the answer is exact. See Done in docs/protocol.md.
    """
    reason: str
    stop_string: str
    prompt_tokens: int
    generated_tokens: int
    cached_tokens: int
    dropped_turns: int
    queued_us: int
    prefill_us: int
    decode_us: int
    lossy_experts: int


@dataclasses.dataclass(frozen=True)
class Session:
    """A conversation that the daemon keeps under a name. See SessionState in docs/protocol.md."""
    name: str
    uid: int
    turns: int
    tokens: int
    drop_oldest: bool
    busy: bool
    idle_ms: int
    saved_bytes: int


@dataclasses.dataclass(frozen=True)
class Model:
    """The model that is served. chat_format "": no conversations, only raw text and ids."""
    name: str
    architecture: str
    parameters: int
    context: int
    chat_format: str
    tokenizer: str
    experts: int
    experts_used: int
    quantisation: str
    file_bytes: int


@dataclasses.dataclass(frozen=True)
class Status:
    """How the daemon is. state: "STARTING", "READY", "DEGRADED", "DRAINING", "NO_MODEL" or "FAILED".

    report: all of it, as `sirocco status --json` prints it.
    """
    state: str
    reasons: Sequence[str]
    daemon_version: str
    model: Model | None
    report: Mapping[str, Any]
