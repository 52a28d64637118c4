"""Mails and parts as answers that a browser saves and never shows, whatever they claim to be."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final
from urllib.parse import quote

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from services.admin.operations.parts import DecodedPart

_SAVED: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-store",
}


def download_mail(name: str, size: int, chunks: Iterator[bytes]) -> StreamingResponse:
    """A whole mail (RFC 5322); `name` is ours, of letters, digits, dots and hyphens."""
    headers = {
        **_SAVED,
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    return StreamingResponse(chunks, media_type="message/rfc822", headers=headers)


class PartDownload(StreamingResponse):
    """One part, or its octets from `first` up to `end` (206).

    Closes the part at its end, and where its client goes away in the middle.
    """

    def __init__(self, part: DecodedPart, octets: tuple[int, int] | None = None) -> None:
        first, end = octets or (0, part.size)
        headers = {
            **_SAVED,
            # As a field: to a text without a charset Starlette adds that it is UTF-8.
            "Content-Type": part.content_type,
            "Accept-Ranges": "bytes",
            "Content-Length": str(end - first),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(part.name, safe='')}",
        }
        if octets:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{part.size}"
        self._part = part
        self._pieces: Generator[bytes] = part.stream(first, end)
        super().__init__(self._pieces, 206 if octets else 200, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pieces.close()
            self._part.close()
