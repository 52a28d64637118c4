"""Bodies of requests are bounded, by what they announce and by what comes in.

One that announces its length in two ways is refused (RFC 9112 section 6.1): a proxy may go by the
other one, and would take what is left of it for the next caller's request.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.admin.early_answers import answered
from services.admin.problems import problem

#: Octets. Nothing that the API takes comes near it; certificates are bounded more tightly.
MAX_BODY_BYTES: Final = 2 << 20
#: What is read and dropped of a body that is refused.
_READ_ON_BYTES: Final = 16 << 20
_READ_ON_SECONDS: Final = 2.0


class BodyLimit:
    """Refuses a body that is too large, by its announced length or while it comes in."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length and "transfer-encoding" in headers:
            text = "The body has a Content-Length and a Transfer-Encoding."
            await self._refuse(problem(400, "two-lengths", text), scope, receive, send)
            return
        if length.isdigit() and int(length) > self._limit:
            await self._refuse(self._too_large(), scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._limit:
                    raise _TooLarge
            return message

        async def refuse() -> None:
            await self._refuse(self._too_large(), scope, receive, send)

        await answered(self._app, scope, counted, send, given_up=_TooLarge, answer=refuse)

    def _too_large(self) -> Response:
        return problem(413, "too-large", f"A body has at most {self._limit:,} octets here.")

    async def _refuse(self, answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
        await self._read_on(receive)
        answer.headers["connection"] = "close"
        await answer(scope, receive, send)

    async def _read_on(self, receive: Receive) -> None:
        """Takes a little more of what is coming: a connection that is closed while the caller still
        sends is reset, and the answer is lost with it."""
        rest = _READ_ON_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READ_ON_SECONDS):
                while rest > 0:
                    message = await receive()
                    rest -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return


class _TooLarge(BaseException):
    """So many octets came that no more are taken."""
