"""Posts events to one endpoint: at allowed addresses only, without following where it points."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import httpcore

from shared.errors import PosthouseError
from shared.forwarding.http_binding import compose
from shared.forwarding.outcome import Outcome, Verdict
from shared.forwards import Endpoint
from shared.hosts import HostRules
from shared.mailbox.base import Refused
from shared.mailbox.net import https
from shared.mailbox.net.connect import tls_context
from shared.mailbox.net.https_transport import Network

_CONNECT_S: Final = 5.0
#: Octets of an answer that are kept, and those that are read so that the connection can be used
#: again; who says more is hung up on.
_KEPT: Final = 1024
_READ: Final = 65_536
#: Answers by which an endpoint refuses whoever posts, and not this event.
_FOR_ALL: Final = frozenset({401, 402, 403, 404, 405, 407, 408, 421, 423, 425, 429, 451})
_LONGEST_WAIT_S: Final = 86_400.0


class HttpSender:
    """A pool of connections to one endpoint. Thread-safe. Close it."""

    def __init__(self, endpoint: Endpoint, hosts: HostRules | None) -> None:
        """Raises Refused where CA or client certificate cannot be read."""
        self._endpoint = endpoint
        options = endpoint.options
        context = tls_context(
            True, options.ca_certificate or None, endpoint.client_certificate or None
        )
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=options.concurrency + 1,
            max_keepalive_connections=options.concurrency,
            keepalive_expiry=30.0,
            network_backend=Network(hosts.at if hosts is not None else None),
        )
        timeout = float(options.timeout_seconds)
        self._timeout = {
            "connect": min(_CONNECT_S, timeout),
            "read": timeout,
            "write": timeout,
            "pool": timeout,
        }

    def send(self, event_id: str, event: bytes) -> Outcome:
        """One attempt. Raises nothing: whatever happens is an outcome."""
        started = time.monotonic()
        endpoint = self._endpoint
        headers, body = compose(
            event,
            event_id,
            endpoint.options.format,
            endpoint.secrets,
            endpoint.headers,
            int(time.time()),
        )
        try:
            with self._pool.stream(
                "POST",
                endpoint.address,
                headers=list(headers.items()),
                content=body,
                extensions={"timeout": self._timeout},
            ) as answer:
                said = _read(answer)
                found = _fields(answer)
                status = answer.status
        except Refused as error:
            hint = (
                " POSTHOUSE_ALLOWED_HOSTS and POSTHOUSE_DENIED_HOSTS say where it may."
                if "forbidden" in error.code
                else ""
            )
            return _unavailable(started, f"{error}{hint}")
        except PosthouseError as error:
            return _unavailable(started, str(error))
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            # Their texts may hold the address, which is a secret.
            return _unavailable(started, f"No answer: {type(error).__name__}.")
        except (OSError, ValueError) as error:
            return _unavailable(started, f"No answer: {type(error).__name__}.")
        verdict = _verdict(status)
        return Outcome(
            verdict=verdict,
            seconds=time.monotonic() - started,
            status=status,
            detail="" if verdict is Verdict.DELIVERED else f"The endpoint answered {status}.",
            answer=said,
            retry_after_s=_retry_after(found) if status in (429, 503) else None,
        )

    def close(self) -> None:
        self._pool.close()


def _verdict(status: int) -> Verdict:
    if 200 <= status < 300:
        return Verdict.DELIVERED
    if status == 410:
        return Verdict.GONE
    if status == 413:
        return Verdict.TOO_LARGE
    if 300 <= status < 400 or status in _FOR_ALL or status >= 501:
        return Verdict.UNAVAILABLE
    return Verdict.REFUSED


def _read(answer: httpcore.Response) -> str:
    kept, size = b"", 0
    for piece in answer.iter_stream():
        kept += piece[: _KEPT - len(kept)]
        size += len(piece)
        if size > _READ:
            break
    return kept.decode("utf-8", "replace").replace("\0", "�")


def _fields(answer: httpcore.Response) -> Mapping[str, str]:
    return {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in answer.headers}


def _retry_after(fields: Mapping[str, str]) -> float | None:
    seconds = https.retry_after(fields)
    return None if seconds is None else min(seconds, _LONGEST_WAIT_S)


def _unavailable(started: float, detail: str) -> Outcome:
    return Outcome(
        verdict=Verdict.UNAVAILABLE, seconds=time.monotonic() - started, detail=detail[:500]
    )
