"""Fetching a raw mail by its url, with the handler's token and nothing but the standard library."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import IO, Any
from urllib.parse import urlsplit

TOKEN_VARIABLE = "POSTHOUSE_HANDLER_TOKEN"  # noqa: S105 (the name of a variable)


class RawUnavailable(OSError):
    """The raw mail cannot be fetched now; `status` is the HTTP status where there was one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def open_url(url: str, *, token: str | None, timeout_s: float) -> IO[bytes]:
    """A stream of the bytes at `url`. `timeout_s` bounds connecting and each read."""
    if urlsplit(url).scheme not in {"http", "https"}:
        raise RawUnavailable(f"{url} is no address of the API")
    token = token or os.environ.get(TOKEN_VARIABLE, "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (scheme checked above)
    opener = urllib.request.build_opener(_TokenStaysHome)
    try:
        stream: IO[bytes] = opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        hints = {
            401: f"; is the handler's token given, or in {TOKEN_VARIABLE}?",
            403: "; the token belongs to another handler",
            404: "; raw mail is removed after the retention of the server",
        }
        raise RawUnavailable(
            f"{url} answers {error.code}{hints.get(error.code, '')}", error.code
        ) from error
    except urllib.error.URLError as error:
        raise RawUnavailable(f"{url} cannot be reached: {error.reason}") from error
    return stream


class _TokenStaysHome(urllib.request.HTTPRedirectHandler):
    """The API may redirect to a pre-signed address of the store, which must not see the token."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and _origin(newurl) != _origin(req.full_url):
            following.remove_header("Authorization")
        return following


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
