"""HTTPS to providers: one way to make a client, and transport errors translated."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import lru_cache

import httpx

from shared.clock import utc_now
from shared.errors import InvalidInput, NeedsPerson, TryAgain

#: Seconds: reading has its own bound, so that no server can hang a worker.
READ_TIMEOUT = 60.0


@lru_cache(maxsize=64)
def trust(ca_certificate: str) -> ssl.SSLContext:
    """The system's authorities, and those given as PEM. Raises InvalidInput."""
    context = ssl.create_default_context()
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
    connections: int = 4,
) -> httpx.Client:
    """A client that verifies certificates and follows no redirects. Timeouts in seconds."""
    return httpx.Client(
        verify=trust(ca_certificate),
        timeout=httpx.Timeout(read, connect=connect, pool=read),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        headers={"User-Agent": "Posthouse"},
    )


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turns httpx' errors into ours; `where` names who was spoken to."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise TryAgain(f"{where} did not answer in time.", code="timeout") from error
    except httpx.ConnectError as error:
        if isinstance(_root(error), ssl.SSLCertVerificationError):
            raise NeedsPerson(
                f"The certificate of {where} is not trusted: {_root(error)}.",
                hint="A private authority is named in the credential's settings.",
                code="certificate-untrusted",
            ) from error
        raise TryAgain(f"{where} cannot be reached: {error}.", code="unreachable") from error
    except (httpx.TransportError, httpx.DecodingError) as error:
        name = str(error) or type(error).__name__
        raise TryAgain(f"The connection to {where} broke: {name}.", code="broken-off") from error


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that Retry-After asks for (RFC 9110 section 10.2.3: seconds or a date), if any."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - utc_now()).total_seconds())
    except (TypeError, ValueError):
        return None


def _root(error: BaseException) -> BaseException:
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error
