"""What protects the service from its callers: bounded bodies, and few wrong tokens a minute."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict, deque
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.admin.api.problems import problem

#: Octets. Nothing that the API takes comes near it; certificates are bounded more tightly.
MAX_BODY_BYTES: Final = 2 << 20
WRONG_TOKENS: Final = 30
WINDOW_SECONDS: Final = 60.0
_ADDRESSES: Final = 10_000


class BodyLimit:
    """Refuses a body that is too large, by its announced length or while it comes in."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdigit() and int(length) > self._limit:
            await self._refuse(scope, receive, send)
            return
        seen = 0
        started = False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._limit:
                    raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLarge:
            if not started:
                await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = problem(413, "too-large", f"A body has at most {self._limit:,} octets here.")
        answer.headers["connection"] = "close"
        await answer(scope, receive, send)


class _TooLarge(BaseException):
    """Passes through everything that handles errors, up to the limit that raised it."""


class WrongTokens:
    """Slows down who guesses tokens: after `WRONG_TOKENS` refusals within a minute an address is
    answered 429, but for tokens that were accepted before. Counted per process."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._good: OrderedDict[bytes, None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = Headers(scope=scope).get("authorization", "") if scope["type"] == "http" else ""
        if not token:
            await self._app(scope, receive, send)
            return
        address = scope["client"][0] if scope.get("client") else ""
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        if digest not in self._good and self._too_many(address):
            answer = problem(
                429,
                "too-many-attempts",
                "Too many wrong tokens from this address.",
                hint="Wait a minute, then try again with a valid one.",
                headers={"Retry-After": str(int(WINDOW_SECONDS))},
            )
            await answer(scope, receive, send)
            return

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(address, digest, message["status"] == 401)
            await send(message)

        await self._app(scope, receive, noted)

    def _too_many(self, address: str) -> bool:
        times = self._wrong.get(address)
        if not times:
            return False
        while times and times[0] < time.monotonic() - WINDOW_SECONDS:
            times.popleft()
        return len(times) >= WRONG_TOKENS

    def _note(self, address: str, digest: bytes, wrong: bool) -> None:
        if wrong:
            self._good.pop(digest, None)
            self._wrong.setdefault(address, deque(maxlen=WRONG_TOKENS)).append(time.monotonic())
            self._wrong.move_to_end(address)
            if len(self._wrong) > _ADDRESSES:
                self._wrong.popitem(last=False)
        else:
            self._good[digest] = None
            self._good.move_to_end(digest)
            if len(self._good) > _ADDRESSES:
                self._good.popitem(last=False)
