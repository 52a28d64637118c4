"""A client that closes its connection before the answer has given up: the work for it is ended."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.admin.work_progress import Watch, watched


class DisconnectWatching:
    """ASGI middleware: a request with a body has a `Watch`, which gives up when its caller leaves.

    Only once the body is whole: until then the application reads what comes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        listening: asyncio.Task[Message] | None = None

        def left(task: asyncio.Task[Message]) -> None:
            if not task.cancelled() and task.exception() is None:
                watch.give_up()

        async def receive_watching() -> Message:
            nonlocal listening
            if listening is not None:
                return await asyncio.shield(listening)
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                listening = asyncio.ensure_future(receive())
                listening.add_done_callback(left)
            return message

        with watched(Watch()) as watch:
            try:
                await self._app(scope, receive_watching, send)
            finally:
                if listening is not None:
                    listening.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await listening
