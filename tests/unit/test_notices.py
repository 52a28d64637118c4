"""What a form leaves for the next page, in a cookie that browsers keep."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Message

from services.admin.redirects_with_notice import notice_in, redirect

pytestmark = pytest.mark.promise("M15")


def left(text: str) -> tuple[int, Mapping[str, str] | None]:
    """Octets of the cookie, and what the next page is told."""
    scope = {"type": "http", "headers": [], "method": "POST", "path": "/"}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    asyncio.run(redirect("/connections", text, "warn")(scope, receive, send))
    headers = Headers(raw=sent[0]["headers"])
    return len(headers["set-cookie"]), notice_in(HTTPConnection(scope), headers)


@pytest.mark.parametrize(
    ("sign", "shown"), [("a", 1500), ('"', 600), ("ö", 400), ("日", 400), ("\U0001f4ec", 200)]
)
def test_a_notice_is_cut_to_what_browsers_keep(sign: str, shown: int) -> None:
    octets, told = left(sign * 5000)
    assert octets <= 4096
    assert told == {"text": sign * (shown - 1) + "…", "tone": "warn"}
    assert left(sign * 200)[1] == {"text": sign * 200, "tone": "warn"}
