"""For middlewares that answer a request themselves before its body has come in whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send


async def answered(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    given_up: type[BaseException],
    answer: Callable[[], Awaitable[None]],
) -> None:
    """Lets `app` answer. Where `receive` raises `given_up`, `answer` does, unless `app` has begun.

    `given_up` is no Exception, so that it passes through everything that handles errors.
    """
    started = False

    async def noted(message: Message) -> None:
        nonlocal started
        started = started or message["type"] == "http.response.start"
        await send(message)

    try:
        await app(scope, receive, noted)
    except given_up:
        if not started:
            await answer()
