"""The client for programs with threads, or without."""
from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

from ._connection import Accepted, Connection, Text
from ._request import Options, request
from ._types import Message, Result, Session, Status

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack


def wait_readable(descriptor: int, seconds: float | None) -> bool:
    """In Python, not in the library, so that Ctrl-C is noticed at once. True as well for one that was closed."""
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


class Answer(Iterator[str]):
    """An answer as it comes: an iterator over pieces of its text.

    Leaving the loop early, Ctrl-C, or dropping the answer cancels it on the daemon.

    text, ids: what has come so far. result: how it ended, None until then. prompt_tokens, queue_position: known once the
    daemon has accepted the request, None before.
    """

    def __init__(self, client: Client, on_end: Callable[[Answer], None] | None = None) -> None:
        self._client: Client | None = client
        self._on_end = on_end
        self.text = ""
        self.ids: list[int] = []
        self.result: Result | None = None
        self.prompt_tokens: int | None = None
        self.queue_position: int | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        try:
            while self._client is not None:
                event = self._client._next()
                if isinstance(event, Text):
                    self.text += event.text
                    self.ids += event.ids
                    if event.text:
                        return event.text
                elif isinstance(event, Result):
                    self._client, self.result = None, event
                    if self._on_end is not None:
                        self._on_end(self)
                else:
                    self.prompt_tokens, self.queue_position = event.prompt_tokens, event.queue_position
        except Exception:
            self._client = None  # it has ended with that
            raise
        except BaseException:  # KeyboardInterrupt
            self.close()
            raise
        raise StopIteration

    def read(self) -> str:
        """Waits for the end; all of the text."""
        for _ in self:
            pass
        return self.text

    def cancel(self) -> None:
        """Ends it early; the loop over it goes on to its end, with the reason "CANCELLED". From any thread."""
        client = self._client
        if client is not None:
            client._connection.cancel()

    def close(self) -> None:
        """Cancels it, and waits for nothing more of it."""
        client, self._client = self._client, None
        if client is not None:
            client._connection.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Chat:
    """A conversation: messages so far, and what the next one gets for an answer. With a session the daemon keeps it."""

    def __init__(self, client: Client, system: str | None, options: Options) -> None:
        self._client = client
        self._options = options
        self.messages: list[Message] = [] if system is None else [Message("system", system)]
        self._sent = 0  # of messages, that are in the daemon's session

    def say(self, content: str) -> Answer:
        """Adds a message of the user; iterate over the answer, which is added once it has come to its end."""
        asked = [*self.messages, Message("user", content)]

        def keep(answer: Answer) -> None:
            self.messages = [*asked, Message("assistant", answer.text)]
            self._sent = len(self.messages)

        kept = self._sent if self._options.get("session") else 0
        return self._client._generate(request(None, asked[kept:], None, self._options), keep)


class Client:
    """A connection to the daemon; over one connection comes one answer at a time.

    socket: its path; None: $SIROCCO_SOCKET, else /run/sirocco/sirocco.sock.
    name: of the program, for the daemon's log.
    timeout: seconds for connecting, 5 if None; answer_timeout: for answers to all but generate(), 30 if None.

    Clients may be used by different threads; one client by one thread at a time, cancel() apart.
    """

    def __init__(self, socket: str | None = None, *, name: str = "sirocco-python", timeout: float | None = None,
                 answer_timeout: float | None = None) -> None:
        self._connection = Connection(socket, name, timeout, answer_timeout)
        self._connection.connect()

    def connect(self) -> None:
        """Connects once more: after the daemon went away, for instance. What was under way is lost."""
        self._connection.connect()

    def close(self) -> None:
        """Ends the connection, and with it what is under way."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_connection"):
            self.close()

    def generate(self, prompt: str | None = None, *, messages: Sequence[Message | Mapping[str, Any]] | None = None,
                 ids: Sequence[int] | None = None, **options: Unpack[Options]) -> Answer:
        """Asks for an answer, to one of: a prompt, the messages of a conversation, the ids of tokens.

        Raises Error; also while iterating, where the daemon refuses or fails.
        """
        return self._generate(request(prompt, messages, ids, options))

    def chat(self, system: str | None = None, **options: Unpack[Options]) -> Chat:
        """A conversation, which begins with an instruction if one is given. The options are those of each answer."""
        return Chat(self, system, options)

    def cancel(self) -> None:
        """Ends the answer under way early. From any thread, and from signal handlers."""
        self._connection.cancel()

    def tokenize(self, text: str, *, special: bool = False, bos: bool = False) -> list[int]:
        """The tokens of a text. special: control tokens written in it become control tokens; bos: the BOS token first."""
        return self._connection.tokenize(text, special, bos)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of tokens, taken as a whole."""
        return self._connection.detokenize(ids)

    def status(self) -> Status:
        """How the daemon is."""
        return self._connection.status()

    def sessions(self) -> list[Session]:
        """The conversations that the daemon keeps for this user."""
        return self._connection.sessions()

    def open_session(self, name: str, *, drop_oldest: bool = False) -> Session:
        """Begins one, or finds the one that there is. drop_oldest: a full context forgets the oldest turns."""
        return self._connection.open_session(name, drop_oldest)

    def fork_session(self, name: str, to: str) -> Session:
        """Begins another one, `to`, with all that was said in this one."""
        return self._connection.fork_session(name, to)

    def rewind_session(self, name: str, turns: int = 1) -> Session:
        """Forgets the last turns."""
        return self._connection.rewind_session(name, turns)

    def close_session(self, name: str, *, save: bool = False) -> None:
        """Forgets it; save: puts it away on the daemon's disk, where its name finds it again."""
        self._connection.close_session(name, save)

    def _generate(self, asked: Any, on_end: Callable[[Answer], None] | None = None) -> Answer:
        self._finish_abandoned()
        self._connection.start(asked)
        return Answer(self, on_end)

    def _next(self) -> Accepted | Text | Result:
        while True:
            event = self._connection.take()
            if event is not None:
                return event
            wait_readable(self._connection.fileno(), None)

    def _finish_abandoned(self) -> None:
        deadline = time.monotonic() + self._connection.answer_timeout
        while not self._connection.finish_abandoned():
            if not wait_readable(self._connection.fileno(), max(0.0, deadline - time.monotonic())):
                self._connection.give_up()  # the daemon is stuck, and the next look says so
