"""Bounds the time that a request may take to come in: its head, and its body.

Uvicorn bounds neither (it closes a connection that is idle between two requests, and knows how many
there are): so whoever opens connections and sends a line a minute would keep them all. Where there
are too many all the same, the one whose caller has let us wait longest makes room for the next, so
that the many do not keep others out while their time runs.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.admin.early_answers import answered
from services.admin.problems import problem

#: Seconds for the request line and the header fields, and between two pieces of a body.
HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 20.0
#: Connections at the same time; further requests are answered 503 where all of them are at work.
CONNECTIONS: Final = 512


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 whose requests' heads must be there in time."""

    _head: asyncio.TimerHandle | None = None
    #: When (loop time) the connection, its last head, or the end of its reading came.
    _since: float = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._since = self.loop.time()
        self._expect_head()
        if len(self.connections) >= CONNECTIONS:
            self._make_room()

    def pause_writing(self) -> None:
        self._since = self.loop.time()
        super().pause_writing()

    def waits_for_caller(self) -> bool:
        """Whether nothing happens here until the caller sends, or reads, some more."""
        cycle = self.cycle
        sending = cycle is None or cycle.response_complete or cycle.more_body
        return sending or self.flow.write_paused

    def _make_room(self) -> None:
        others = (
            one
            for one in self.connections
            if isinstance(one, BoundedProtocol) and one is not self and one.waits_for_caller()
        )
        longest = min(others, key=lambda one: one._since, default=None)
        if longest is not None:
            self.connections.discard(longest)  # before it is noticed that it was lost
            longest.transport.abort()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        cycle = self.cycle
        if cycle is not before:
            self._since = self.loop.time()
        if cycle is not None and not cycle.response_complete:
            self._stop_waiting()
        elif self._head is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _give_up(self) -> None:
        self._head = None
        if not self.transport.is_closing():
            self.transport.close()


class BodyTimeout:
    """ASGI middleware: gives up on a body whose next piece does not come in time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        whole = False

        async def timed() -> Message:
            nonlocal whole
            if whole:  # what comes now is the end of the connection, which may take its time
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), BODY_SECONDS)
            except TimeoutError:
                raise _TooSlow from None
            whole = not message.get("more_body", False)
            return message

        async def refuse() -> None:
            answer = problem(408, "too-slow", "The body did not come in time.")
            answer.headers["connection"] = "close"
            await answer(scope, receive, send)

        await answered(self._app, scope, timed, send, given_up=_TooSlow, answer=refuse)


class _TooSlow(BaseException):
    """The next piece of the body did not come in time."""
