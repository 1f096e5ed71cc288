"""The client for asyncio.

    async with sirocco.aio.Client() as client:
        async for piece in client.generate(prompt="Name the capital of France."):
            print(piece, end="", flush=True)

Pieces are taken when the loop says that some have come. Everything else goes to the loop's threads, since it waits.
"""
from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Mapping, Sequence, TypeVar

from ._connection import Accepted, Connection, Text
from ._errors import Error
from ._request import Options, request
from ._types import Message, Result, Session, Status

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

T = TypeVar("T")


class Answer(AsyncIterator[str]):
    """An answer as it comes: an asynchronous iterator over pieces of its text. The request is sent when the first is asked for.

    A task that is cancelled, leaving the loop early, or dropping the answer cancels it on the daemon.

    text, ids: what has come so far. result: how it ended, None until then. prompt_tokens, queue_position: known once the
    daemon has accepted the request, None before.
    """

    def __init__(self, client: Client, asked: Any) -> None:
        self._client = client
        self._asked: Any = asked  # None: it was sent
        self._has_turn = False
        self.text = ""
        self.ids: list[int] = []
        self.result: Result | None = None
        self.prompt_tokens: int | None = None
        self.queue_position: int | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        try:
            asked, self._asked = self._asked, None
            if asked is not None:
                await self._client._turn.acquire()
                self._has_turn = True
                await self._client._start(asked)
            while self._has_turn:
                event = await self._client._next()
                if isinstance(event, Text):
                    self.text += event.text
                    self.ids += event.ids
                    if event.text:
                        return event.text
                elif isinstance(event, Result):
                    self.result = event
                    self._give_turn()
                else:
                    self.prompt_tokens, self.queue_position = event.prompt_tokens, event.queue_position
        except Exception:
            self._give_turn()  # it has ended with that
            raise
        except BaseException:  # CancelledError, KeyboardInterrupt
            self.close()
            raise
        raise StopAsyncIteration

    async def read(self) -> str:
        """Waits for the end; all of the text."""
        async for _ in self:
            pass
        return self.text

    def cancel(self) -> None:
        """Ends it early; the loop over it goes on to its end, with the reason "CANCELLED"."""
        if self._has_turn:
            self._client._connection.cancel()

    def close(self) -> None:
        """Cancels it, and waits for nothing more of it."""
        self._asked = None
        if self._has_turn:
            self._client._abandon()
            self._give_turn()

    def _give_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._client._turn.release()

    def __del__(self) -> None:
        self.close()


class Client:
    """A connection to the daemon, for the tasks of one event loop. The parameters are those of `sirocco.Client`.

    Answers come one after the other: a task that asks while another one's answer comes waits for its turn. For several at
    once there may be several clients. `async with`, or `connect()`, connects.
    """

    def __init__(self, socket: str | None = None, *, name: str = "sirocco-python", timeout: float | None = None,
                 answer_timeout: float | None = None) -> None:
        self._connection = Connection(socket, name, timeout, answer_timeout)
        self._turn = asyncio.Lock()  # whose answer it is
        self._using = asyncio.Lock()  # of the connection: the loop must not wait for a thread that has it
        self._wake: Callable[[], None] | None = None  # who waits for the descriptor

    async def connect(self) -> None:
        """Connects; also once more, after the daemon went away. What was under way is lost."""
        await self._in_thread(self._connection.connect)

    async def close(self) -> None:
        """Ends the connection, and with it what is under way."""
        await self._in_thread(self._connection.close)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()

    def generate(self, prompt: str | None = None, *, messages: Sequence[Message | Mapping[str, Any]] | None = None,
                 ids: Sequence[int] | None = None, **options: Unpack[Options]) -> Answer:
        """An answer to one of: a prompt, the messages of a conversation, the ids of tokens. Iterating raises Error."""
        return Answer(self, request(prompt, messages, ids, options))

    async def tokenize(self, text: str, *, special: bool = False, bos: bool = False) -> list[int]:
        """The tokens of a text. special: control tokens written in it become control tokens; bos: the BOS token first."""
        return await self._in_thread(self._connection.tokenize, text, special, bos)

    async def detokenize(self, ids: Sequence[int]) -> str:
        """The text of tokens, taken as a whole."""
        return await self._in_thread(self._connection.detokenize, ids)

    async def status(self) -> Status:
        """How the daemon is."""
        return await self._in_thread(self._connection.status)

    async def sessions(self) -> list[Session]:
        """The conversations that the daemon keeps for this user."""
        return await self._in_thread(self._connection.sessions)

    async def open_session(self, name: str, *, drop_oldest: bool = False) -> Session:
        """Begins one, or finds the one that there is. drop_oldest: a full context forgets the oldest turns."""
        return await self._in_thread(self._connection.open_session, name, drop_oldest)

    async def fork_session(self, name: str, to: str) -> Session:
        """Begins another one, `to`, with all that was said in this one."""
        return await self._in_thread(self._connection.fork_session, name, to)

    async def rewind_session(self, name: str, turns: int = 1) -> Session:
        """Forgets the last turns."""
        return await self._in_thread(self._connection.rewind_session, name, turns)

    async def close_session(self, name: str, *, save: bool = False) -> None:
        """Forgets it; save: puts it away on the daemon's disk, where its name finds it again."""
        await self._in_thread(self._connection.close_session, name, save)

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        async with self._using:
            self._stop_waiting()  # connecting and closing change the descriptor
            future = asyncio.get_running_loop().run_in_executor(None, functools.partial(call, *arguments))
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                await asyncio.wait([future])  # the connection is the thread's until then
                if not future.cancelled():
                    future.exception()
                raise
            finally:
                if self._connection.abandoned:  # meanwhile, when the daemon could not be told
                    with contextlib.suppress(Error):
                        self._connection.finish_abandoned()

    async def _start(self, asked: Any) -> None:
        deadline = time.monotonic() + self._connection.answer_timeout
        while True:
            async with self._using:
                if self._connection.finish_abandoned():
                    break
            if not await self._readable(max(0.0, deadline - time.monotonic())):
                self._connection.give_up()  # the daemon is stuck, and the next look says so
        await self._in_thread(self._connection.start, asked)

    async def _next(self) -> Accepted | Text | Result:
        while True:
            async with self._using:
                event = self._connection.take()
            if event is not None:
                return event
            await self._readable(None)

    async def _readable(self, seconds: float | None) -> bool:
        """Until the descriptor is readable, or a thread wants the connection; False: after so many seconds."""
        loop, descriptor = asyncio.get_running_loop(), self._connection.fileno()
        if self._using.locked() or descriptor < 0:
            return True
        future = loop.create_future()

        def wake() -> None:
            loop.remove_reader(descriptor)
            self._wake = None
            if not future.done():
                future.set_result(None)

        self._wake = wake
        loop.add_reader(descriptor, wake)
        try:
            await asyncio.wait_for(future, seconds)
            return True
        except asyncio.TimeoutError:
            return False
        finally:
            if self._wake is wake:
                wake()

    def _stop_waiting(self) -> None:
        if self._wake is not None:
            self._wake()

    def _abandon(self) -> None:
        if self._using.locked():
            self._connection.cancel_and_abandon()
        else:
            self._connection.abandon()
