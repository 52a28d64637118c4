"""Posts events to one endpoint: at allowed addresses only, without following where it points."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from shared.allowed_hosts import HostRules
from shared.errors import PosthouseError
from shared.forwarding.http_binding import compose
from shared.forwarding.http_connections import Connections
from shared.forwarding.http_exchange import NoAnswer
from shared.forwarding.outcome import ForwardOutcome, ForwardVerdict, unavailable
from shared.forwards import Endpoint
from shared.mailbox.failures import Refused
from shared.mailbox.net import https
from shared.mailbox.net.tls import tls_context

_CONNECT_S: Final = 5.0
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
        timeout = float(options.timeout_seconds)
        self._connections = Connections(
            endpoint.address,
            context,
            hosts,
            connect_s=min(_CONNECT_S, timeout),
            timeout_s=timeout,
            kept=options.concurrency,
        )

    def send(self, key: str, event: bytes) -> ForwardOutcome:
        """One attempt, which a receiver knows by `key`. Raises nothing: all is an outcome."""
        started = time.monotonic()
        endpoint = self._endpoint
        headers, body = compose(
            event,
            key,
            endpoint.options.format,
            endpoint.secrets,
            endpoint.headers,
            int(time.time()),
        )
        try:
            answer = self._connections.post(headers, body)
        except Refused as error:
            hint = (
                " POSTHOUSE_ALLOWED_HOSTS and POSTHOUSE_DENIED_HOSTS say where it may."
                if "forbidden" in error.code
                else ""
            )
            return unavailable(started, f"{error}{hint}")
        except PosthouseError as error:
            return unavailable(started, str(error))
        except TimeoutError:
            return unavailable(started, "No answer in time.")
        except NoAnswer as none:
            return unavailable(started, f"No answer: {none}.")
        except (OSError, ValueError) as error:
            # Their texts may hold the address, which is a secret.
            return unavailable(started, f"No answer: {type(error).__name__}.")
        status = answer.status
        verdict = _verdict(status)
        return ForwardOutcome(
            verdict=verdict,
            seconds=time.monotonic() - started,
            status=status,
            detail=""
            if verdict is ForwardVerdict.DELIVERED
            else f"The endpoint answered {status}.",
            answer=answer.body.decode("utf-8", "replace").replace("\0", "�"),
            retry_after_s=_retry_after(answer.fields) if status in (429, 503) else None,
        )

    def close(self) -> None:
        self._connections.close()


def _verdict(status: int) -> ForwardVerdict:
    if 200 <= status < 300:
        return ForwardVerdict.DELIVERED
    if status == 410:
        return ForwardVerdict.GONE
    if status == 413:
        return ForwardVerdict.TOO_LARGE
    if 300 <= status < 400 or status in _FOR_ALL or status >= 501:
        return ForwardVerdict.UNAVAILABLE
    return ForwardVerdict.REFUSED


def _retry_after(fields: Mapping[str, str]) -> float | None:
    seconds = https.retry_after(fields)
    return None if seconds is None else min(seconds, _LONGEST_WAIT_S)
