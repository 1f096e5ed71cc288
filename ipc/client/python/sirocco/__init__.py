"""Talk to siroccod, the language model daemon, from Python.

    import sirocco

    with sirocco.Client() as client:
        for piece in client.generate(prompt="Name the capital of France."):
            print(piece, end="", flush=True)

`sirocco.aio` is the same for asyncio. Both speak through libsirocco.so.0, which they look for as the system's loader does, or
as the file that $SIROCCO_LIBRARY names. docs/clients.md has examples, docs/protocol.md what every option means.
"""
from ._client import Answer, Chat, Client
from ._errors import (Busy, ConnectionFailed, DeadlineMissed, Error, InvalidRequest, NotFound, TimedOut)
from ._library import library_version
from ._request import Options
from ._types import Message, Model, Result, Session, Status, ToolCall

__all__ = [
    "Answer", "Busy", "Chat", "Client", "ConnectionFailed", "DeadlineMissed", "Error", "InvalidRequest", "Message", "Model",
    "NotFound", "Options", "Result", "Session", "Status", "TimedOut", "ToolCall", "library_version",
]
