"""HTTPS to providers: one way to make a client, and transport errors translated.

Whatever asks a server by HTTP asks it here: names are resolved once and the address that was
checked is the one connected to, certificates are verified, redirects are not followed, an answer
is counted as it unfolds, and has a time for all of it.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final

import httpx

from shared.clock import utc_now
from shared.errors import InvalidInput, TryAgain
from shared.mailbox.failures import Unreachable
from shared.mailbox.net.connect import AllowHost
from shared.mailbox.net.https_transport import ANSWER_LIMIT, BoundedTransport
from shared.mailbox.net.tls import set_strictness

__all__ = ["ANSWER_LIMIT", "READ_TIMEOUT", "Reach", "client", "retry_after", "translated"]

#: What is asked for beyond it is a mistake, and too much for a time stamp.
_TEN_YEARS_S: Final = 315_360_000.0

#: For a host name: says which of its addresses may be connected to.
Reach = Callable[[str], AllowHost]
#: Seconds: reading has its own bound, so that no server can hang a worker.
READ_TIMEOUT = 60.0
#: Lifts the bound on an answer that is streamed to disk: `extensions=STREAMED` of a request.
STREAMED: Final = {"answer_limit": None}


@lru_cache(maxsize=64)
def trust(ca_certificate: str) -> ssl.SSLContext:
    """The system's authorities, and those given as PEM. Raises InvalidInput."""
    context = ssl.create_default_context()
    set_strictness(context, given=bool(ca_certificate))
    if ca_certificate:
        try:
            context.load_verify_locations(cadata=ca_certificate)
        except ssl.SSLError as error:
            raise InvalidInput(
                "The private CA is not made of PEM certificates.",
                field="settings.ca_certificate",
            ) from error
    return context


def client(
    ca_certificate: str = "",
    *,
    connect: float = 10.0,
    read: float = READ_TIMEOUT,
    answer: float | None = None,
    connections: int = 4,
    reach: Reach | None = None,
) -> httpx.Client:
    """A client that verifies certificates, follows no redirects and reads at most `ANSWER_LIMIT`
    octets of an answer. Timeouts in seconds: `read` for the next octet, `answer` for all of one
    (twice `read` where it is not given; what is streamed only has to keep coming). `reach` says
    where it may connect to."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.Client(
        transport=BoundedTransport(trust(ca_certificate), limits, reach, answer or 2 * read),
        timeout=httpx.Timeout(read, connect=connect, pool=read),
        # What is not asked for (br, zstd) is not unfolded either.
        headers={"User-Agent": "Posthouse", "Accept-Encoding": "gzip"},
        follow_redirects=False,
        trust_env=False,
    )


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turns httpx' errors into ours; `where` names who was spoken to."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise TryAgain(f"{where} did not answer in time.", code="timeout") from error
    except (httpx.TransportError, httpx.DecodingError) as error:
        name = str(error) or type(error).__name__
        raise TryAgain(f"The connection to {where} broke: {name}.", code="broken-off") from error


def json_object(answer: httpx.Response, where: str) -> dict[str, Any]:
    """The JSON object of an answer that was read.

    Raises Unreachable where the answer is a page for people: then a captive portal, a web filter
    or a proxy answered in place of `where`. Any other answer without an object gives {}.
    """
    try:
        found = json.loads(answer.content)
    except (ValueError, RecursionError):
        if is_page(answer):
            raise not_the_provider(where) from None
        return {}
    return found if isinstance(found, dict) else {}


def is_page(answer: httpx.Response) -> bool:
    """Whether this is a page for people where an answer for programs was asked for."""
    kind = answer.headers.get("content-type", "").lower()
    return "html" in kind or begins_as_page(answer.content)


def begins_as_page(octets: bytes) -> bool:
    """Whether these begin as a page for people does, and no mail (RFC 5322 section 2.2: a field
    name) and no JSON."""
    return octets[:64].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def not_the_provider(where: str) -> Unreachable:
    """The error for a page of somebody else."""
    return Unreachable(
        f"A page for people came in place of an answer of {where}: something on the way there "
        "answers for it (a captive portal, a web filter, a proxy).",
        step="authorisation",
        code="not-the-provider",
        hint=f"Let Posthouse reach {where} without such a filter. It is tried again by itself.",
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for (RFC 9110 section 10.2.3: seconds or a date), if any; ten
    years at most."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
        return min(float(text), _TEN_YEARS_S)
    try:
        until = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    if until.tzinfo is None:  # section 5.6.7: the form of asctime has none, and is in UTC
        until = until.replace(tzinfo=UTC)
    return min(max(0.0, (until - utc_now()).total_seconds()), _TEN_YEARS_S)
