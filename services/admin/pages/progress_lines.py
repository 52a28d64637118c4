"""How far the work at a mail server is, for the page that waits for it.

A form that a script of ours sends with `x-progress: yes` is answered line by line (JSON): `say` how
far it is, as often as there is something to tell, and in the last line what a form is answered with
otherwise: `status`, and `html`, or `location` with the `notice` that the next page shows.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.admin import work_progress
from services.admin.pages.rendering import HEADERS
from services.admin.redirects_with_notice import notice_in


class ProgressLines:
    """ASGI middleware in front of the pages, behind `DisconnectWatching`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and Headers(scope=scope).get("x-progress") == "yes"
        waiting = work_progress.current()
        if not asked or waiting is None:
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        def say(text: str) -> None:
            loop.call_soon_threadsafe(lines.put_nowait, {"say": text})

        async def write() -> None:
            while (line := await lines.get()) is not None:
                body = json.dumps(line).encode() + b"\n"
                await send({"type": "http.response.body", "body": body, "more_body": True})

        waiting.listen(say)
        headers = {**HEADERS, "content-type": "application/x-ndjson", "x-accel-buffering": "no"}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        writing = asyncio.ensure_future(write())
        answer = _WorkAnswer(HTTPConnection(scope))
        try:
            await self._app(scope, receive, answer.take)
            lines.put_nowait(answer.line())
        finally:
            lines.put_nowait(None)
            await writing
        await send({"type": "http.response.body", "body": b""})


class _WorkAnswer:
    """What a form is answered with otherwise."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection
        self._status = 500
        self._headers = Headers()
        self._body = b""

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = Headers(raw=list(message["headers"]))
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")

    def line(self) -> dict[str, Any]:
        if self._status != 303:
            return {"status": self._status, "html": self._body.decode()}
        notice = notice_in(self._connection, self._headers)
        return {"status": 303, "location": self._headers["location"], "notice": notice}
