"""Posts events to one endpoint: at allowed addresses only, without following where it points."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from shared.allowed_hosts import HostRules
from shared.errors import PosthouseError
from shared.forwarding.content_modes import fields_and_body
from shared.forwarding.http_connections import Connections
from shared.forwarding.http_exchange import NoAnswer
from shared.forwarding.outcome import ForwardOutcome, ForwardVerdict, unavailable
from shared.forwards import Endpoint, Format
from shared.mailbox.failures import Refused
from shared.mailbox.net import https
from shared.mailbox.net.tls import tls_context
from shared.webhook_signatures import sign

_CONNECT_S: Final = 5.0
_STRUCTURED: Final = "application/cloudevents+json; charset=utf-8"
#: Answers by which an endpoint refuses whoever posts, and not this event.
_FOR_ALL: Final = frozenset({401, 402, 403, 404, 405, 407, 408, 421, 423, 425, 429, 451})
_LONGEST_WAIT_S: Final = 86_400.0


class HttpClient:
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
        headers, body = _compose(
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


def _compose(
    event: bytes, key: str, form: Format, secrets: Sequence[str],
    headers: Mapping[str, str], timestamp: int,
) -> tuple[dict[str, str], bytes]:  # fmt: skip
    """Header fields and body: CloudEvents 1.0.2 HTTP protocol binding, signed as Standard Webhooks
    1.0 says. `event`: CloudEvents JSON; `timestamp`: seconds since 1970.

    `webhook-id` is the idempotency key: the event's id, and with it the number of a delivery on
    purpose. A receiver that had it has had the event. The signature covers
    the body, so in binary mode the `ce-` fields are beside it.
    """
    fields, body = fields_and_body(event, form, structured=_STRUCTURED, prefix="ce-")
    at = str(timestamp)
    signatures = " ".join(sign(secret, key, at, body) for secret in secrets)
    signed = {"webhook-id": key, "webhook-timestamp": at, "webhook-signature": signatures}
    return {**headers, "user-agent": "Posthouse", **fields, **signed}, body
