"""What can go wrong, as exceptions. Each has the message of the library: what happened, where, and what to do."""
from __future__ import annotations


class Error(Exception):
    """Any failure of libsirocco or of the daemon.

    code: the number of ipc/client/sirocco.h; from 100 on, of the protocol's Error.
    name: the same in words: "BUSY", "NO_DAEMON".
    retry_after: seconds after which another try makes sense; 0: trying again changes nothing.
    """

    def __init__(self, code: int, name: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.name = name
        self.retry_after = retry_after


class ConnectionFailed(Error, ConnectionError):
    """There is no daemon, it may not be reached, or it went away. `Client.connect()` tries again."""


class TimedOut(Error, TimeoutError):
    """The daemon did not answer in time."""


class InvalidRequest(Error, ValueError):
    """What was asked for is not possible: the message names the field."""


class NotFound(Error, LookupError):
    """What was named does not exist: a session, for instance."""


class DeadlineMissed(Error):
    """Not done within deadline_ms or max_queue_ms."""


class Busy(Error):
    """Too much at once, of this user or of all; `retry_after` says when to come again."""


_CLASSES: dict[str, type[Error]] = {
    "NO_DAEMON": ConnectionFailed,
    "NO_PERMISSION": ConnectionFailed,
    "DISCONNECTED": ConnectionFailed,
    "BAD_PROTOCOL": ConnectionFailed,
    "GAVE_UP": ConnectionFailed,
    "NO_ANSWER": TimedOut,
    "TIMEOUT": TimedOut,
    "INVALID": InvalidRequest,
    "INVALID_MESSAGE": InvalidRequest,
    "INVALID_ARGUMENT": InvalidRequest,
    "UNSUPPORTED": InvalidRequest,
    "CONTEXT_OVERFLOW": InvalidRequest,
    "NOT_FOUND": NotFound,
    "DEADLINE": DeadlineMissed,
    "BUSY": Busy,
    "TOO_MANY_CONNECTIONS": Busy,
    "TOO_MANY_REQUESTS": Busy,
}


def error_of(code: int, name: str, message: str, retry_after_ms: int) -> Error:
    """The exception for a code; Error itself for one that no class is for."""
    return _CLASSES.get(name, Error)(code, name, message, retry_after_ms / 1000)
