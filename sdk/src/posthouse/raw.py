"""Fetching a raw mail by its url, with the handler's token and nothing but the standard library.

The token goes to the one origin that the handler was configured with (POSTHOUSE_URL): an address in
an event is used only where it lies there, and no redirect is followed.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from typing import IO
from urllib.parse import SplitResult, urlsplit

from posthouse.errors import PosthouseError

URL_VARIABLE = "POSTHOUSE_URL"
TOKEN_VARIABLE = "POSTHOUSE_HANDLER_TOKEN"  # noqa: S105 (the name of a variable)
#: Octets of an answer that refuses; a problem is far shorter.
_LONGEST_PROBLEM = 1 << 16
_PORTS = {"http": 80, "https": 443}


class RawUnavailable(PosthouseError, OSError):
    """The raw mail cannot be fetched now; `status` is the HTTP status where there was one, `code`
    the word for programs in Posthouse's answer, empty where it has none."""

    def __init__(self, message: str, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def open_url(
    url: str, *, token: str | None, timeout_s: float, posthouse_url: str | None = None
) -> IO[bytes]:
    """A stream of the octets at `url`. `timeout_s` bounds connecting and each read.

    `posthouse_url` (default: the environment's POSTHOUSE_URL) is where Posthouse is; `url` has to
    be of the same origin (RFC 6454: scheme, host, port). Raises RawUnavailable.
    """
    base = posthouse_url or os.environ.get(URL_VARIABLE, "")
    if not base:
        raise RawUnavailable(
            f"where Posthouse is has to be known before a token is sent: set {URL_VARIABLE} to its "
            "address, such as https://posthouse.example.com, or give posthouse_url"
        )
    if (own := _origin(base)) is None:
        raise RawUnavailable(f"{URL_VARIABLE} is no http or https address: {base}")
    if _origin(url) != own:
        raise RawUnavailable(
            f"the event names {url!r}, which is not at {base}: the token is not sent there. Where "
            f"that is your Posthouse, set {URL_VARIABLE} to the address that it has as PUBLIC_URL"
        )
    token = token or os.environ.get(TOKEN_VARIABLE, "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (scheme checked above)
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        stream: IO[bytes] = opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        code = _code_of(error)
        hints = {
            401: f"; is the handler's token given, or in {TOKEN_VARIABLE}?",
            403: "; the token belongs to another handler",
            404: "; raw mail is removed after the retention of the server",
        }
        hint = hints.get(error.code, "")
        if 300 <= error.code < 400:
            hint = f"; redirects are not followed: set {URL_VARIABLE} to where Posthouse answers"
        raise RawUnavailable(f"{url} answers {error.code}{hint}", error.code, code) from error
    except urllib.error.URLError as error:
        raise RawUnavailable(f"{url} cannot be reached: {error.reason}") from error
    except ValueError as error:  # http.client: control characters in the address
        raise RawUnavailable(f"{url!r} is no address of the API") from error
    return stream


def _code_of(answer: urllib.error.HTTPError) -> str:
    """The `code` of a problem (RFC 9457); the answer is closed."""
    with answer:
        try:
            told = json.loads(answer.read(_LONGEST_PROBLEM))
        except (OSError, ValueError, http.client.HTTPException):
            return ""
    code = told.get("code") if isinstance(told, dict) else None
    return code if isinstance(code, str) else ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The API answers itself. Whatever redirects is not it, or would have the token elsewhere."""

    def redirect_request(self, *_: object) -> None:
        return None


def _origin(url: str) -> tuple[str, str, int] | None:
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or "\\" in url:
        return None
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme]
