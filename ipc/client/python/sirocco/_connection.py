"""One sirocco_client: every call of the library, its values copied out, its errors raised. What is above knows no ctypes.

Calls hold a lock, since one thread at a time may use a handle; a program that breaks that rule waits instead of crashing.
cancel() holds another one, that only keeps the handle from being freed meanwhile.
"""
from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import threading
from typing import Any, Sequence

from . import _library
from ._errors import Error, error_of
from ._request import c_ids, c_string
from ._types import Model, Result, Session, Status

DEFAULT_ANSWER_TIMEOUT_S = 30.0
SPECIAL, BOS = 1, 2


@dataclasses.dataclass(frozen=True)
class Accepted:
    prompt_tokens: int
    queue_position: int


@dataclasses.dataclass(frozen=True)
class Text:
    text: str
    ids: list[int]


def _event_of(event: Any) -> Accepted | Text | Result | None:
    if event.kind == _library.ACCEPTED:
        return Accepted(event.prompt_tokens, event.queue_position)
    if event.kind == _library.TEXT:
        return Text(ctypes.string_at(event.text, event.text_bytes).decode(), event.ids[:event.id_count])
    if event.kind == _library.DONE:
        return Result(event.reason_name.decode(), event.stop_string.decode(), event.prompt_tokens, event.generated_tokens,
                      event.cached_tokens, event.dropped_turns, event.queued_us, event.prefill_us, event.decode_us,
                      event.lossy_experts)
    return None  # of a later library


def _session_of(session: Any) -> Session:
    return Session(session.name.decode(), session.uid, session.turns, session.tokens, session.overflow == 2,
                   session.busy != 0, session.idle_ms, session.saved_bytes)


def _milliseconds(seconds: float | None, what: str) -> int:
    if seconds is None:
        return 0
    if not 0 < seconds < 1 << 22:
        raise ValueError(f"{what}: {seconds} s is not above 0 and below {1 << 22}")
    return max(1, round(seconds * 1000))


class Connection:
    def __init__(self, socket: str | None, name: str, timeout: float | None, answer_timeout: float | None) -> None:
        self._options = _library.ConnectOptions(
            ctypes.sizeof(_library.ConnectOptions), None if socket is None else c_string(socket, "socket"),
            c_string(name, "name"), _milliseconds(timeout, "timeout"), _milliseconds(answer_timeout, "answer_timeout"))
        self.answer_timeout = DEFAULT_ANSWER_TIMEOUT_S if answer_timeout is None else answer_timeout
        self._using = threading.RLock()  # reentrant: a signal handler may run in the middle
        self._freeing = threading.RLock()
        self._handle: int | None = None
        self._cancelled = False
        self.abandoned = False  # an answer is under way that nobody wants any more
        self._library = _library.load()

    def connect(self) -> None:
        """Connects, also once more."""
        with self._using, self._freeing:
            if self._handle is None:
                self._handle = self._library.sirocco_new()
                if self._handle is None:
                    raise MemoryError
            self.abandoned = False
            self._call("sirocco_connect", ctypes.byref(self._options))

    def close(self) -> None:
        with self._using, self._freeing:
            handle, self._handle = self._handle, None
            if handle is not None:
                self._library.sirocco_free(handle)

    def _call(self, function: str, *arguments: Any) -> None:
        """Under the lock, which also has to last until the values have been copied."""
        if self._handle is None:
            raise error_of(4, "DISCONNECTED", "not connected: the client was closed, or never connected", 0)
        code = getattr(self._library, function)(self._handle, *arguments)
        if code != 0:
            raise error_of(code, self._library.sirocco_code_name(code).decode() or f"error {code}",
                           self._library.sirocco_error_message(self._handle).decode(),
                           self._library.sirocco_error_retry_after_ms(self._handle))

    def start(self, request: _library.Request) -> None:
        with self._using:
            self._call("sirocco_generate", ctypes.byref(request))
            self._cancelled = False

    def take(self) -> Accepted | Text | Result | None:
        """The next event that has come; None if none has."""
        event = ctypes.POINTER(_library.Event)()
        with self._using:
            while True:
                self._call("sirocco_next", 0, ctypes.byref(event))
                if not event:
                    return None
                found = _event_of(event.contents)
                if found is not None:
                    return found

    def fileno(self) -> int:
        """Readable when take() may have something; -1: not connected."""
        with self._using:
            return -1 if self._handle is None else int(self._library.sirocco_fd(self._handle))

    def cancel(self) -> None:
        """Once for each answer: the library takes a second one for giving up. From any thread."""
        if not self._cancelled:
            self.give_up()

    def give_up(self) -> None:
        """Where the answer was cancelled already, and the daemon has said nothing: take() ends it, with GAVE_UP."""
        with self._freeing:
            self._cancelled = True
            if self._handle is not None:
                self._library.sirocco_cancel(self._handle)

    def cancel_and_abandon(self) -> None:
        """The part of abandon() that does not use the handle: the daemon is told when somebody does."""
        self.cancel()
        self.abandoned = True

    def abandon(self) -> None:
        """Cancels the answer under way, which nobody wants any more. Never waits for the daemon, never raises."""
        self.cancel_and_abandon()
        with contextlib.suppress(Error):
            self.finish_abandoned()  # which tells the daemon

    def finish_abandoned(self) -> bool:
        """Whether what was abandoned has ended. A session has one request at a time, so that the next one has to wait."""
        while self.abandoned:
            try:
                event = self.take()
            except Error as error:
                self.abandoned = False
                if error.name == "GAVE_UP":
                    raise
                break
            if event is None:
                return False
            self.abandoned = not isinstance(event, Result)
        return True

    def tokenize(self, text: str, special: bool, bos: bool) -> list[int]:
        ids, count, encoded = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_size_t(), text.encode()
        flags = SPECIAL * special | BOS * bos
        with self._using:
            self._call("sirocco_tokenize", encoded, len(encoded), flags, ctypes.byref(ids), ctypes.byref(count))
            return ids[:count.value] if count.value else []

    def detokenize(self, ids: Sequence[int]) -> str:
        text, size = ctypes.c_void_p(), ctypes.c_size_t()
        with self._using:
            self._call("sirocco_detokenize", c_ids(ids), len(ids), ctypes.byref(text), ctypes.byref(size))
            return ctypes.string_at(text.value or 0, size.value).decode()

    def open_session(self, name: str, drop_oldest: bool) -> Session:
        return self._session("sirocco_session_open", c_string(name, "name"), 2 if drop_oldest else 1)

    def fork_session(self, name: str, to: str) -> Session:
        return self._session("sirocco_session_fork", c_string(name, "name"), c_string(to, "to"))

    def rewind_session(self, name: str, turns: int) -> Session:
        if not 0 <= turns < 1 << 32:  # ctypes would cut it
            raise ValueError(f"turns: {turns} is not within 0 to {(1 << 32) - 1}")
        return self._session("sirocco_session_rewind", c_string(name, "name"), turns)

    def _session(self, function: str, *arguments: Any) -> Session:
        session = ctypes.POINTER(_library.Session)()
        with self._using:
            self._call(function, *arguments, ctypes.byref(session))
            return _session_of(session.contents)

    def close_session(self, name: str, save: bool) -> None:
        with self._using:
            self._call("sirocco_session_close", c_string(name, "name"), save)

    def sessions(self) -> list[Session]:
        sessions, count = ctypes.POINTER(ctypes.POINTER(_library.Session))(), ctypes.c_size_t()
        with self._using:
            self._call("sirocco_session_list", ctypes.byref(sessions), ctypes.byref(count))
            return [_session_of(sessions[i].contents) for i in range(count.value)]

    def status(self) -> Status:
        status = ctypes.POINTER(_library.Status)()
        with self._using:
            self._call("sirocco_get_status", ctypes.byref(status))
            told = status.contents.json
        report = json.loads(told)
        model = report["model"] and Model(**{f.name: report["model"][f.name] for f in dataclasses.fields(Model)})
        return Status(report["state"], report["reasons"], report["daemon_version"], model, report)
