"""Tells alerts to webhooks: once each, tried again where a receiver fails, every call logged.

Alerts are rows; any number of schedulers may deliver at once. A receiver that hangs or fails delays
only its own calls. Call `deliver_due` on a thread of its own: it waits for receivers.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import httpx
import structlog

from shared import alerts as rules
from shared.alerts import Alert
from shared.clock import utc_now
from shared.errors import InvalidInput, PosthouseError
from shared.storage import alerts
from shared.storage.alerts import Target
from shared.storage.pool import Database
from shared.telemetry import metrics
from shared.vault import Place, Vault

log = structlog.get_logger(__name__)

#: Raises InvalidInput where Posthouse may not connect to this host and port.
Permit = Callable[[str, int], None]

#: Seconds that a receiver may take to accept a connection, and to answer.
_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
_BATCH: Final = 16
_RECEIVERS_AT_ONCE: Final = 8
#: How much of an error goes to the log.
_LONGEST_ERROR: Final = 300


@dataclass(frozen=True, slots=True)
class _Call:
    alert: Alert
    target: Target
    status: int | None
    error: str | None
    retry_after: timedelta | None = None

    @property
    def is_taken(self) -> bool:
        return self.error is None


def deliver_due(
    database: Database,
    vault: Vault,
    now: datetime,
    *,
    public_url: str = "",
    permit: Permit | None = None,
    transport: httpx.BaseTransport | None = None,
) -> int:
    """Delivers what is due, oldest first; returns how many calls were made.

    `permit` is asked about every address right before it is called.
    """
    made = 0
    while True:
        with database.transaction() as session:
            due = sorted(alerts.claim_due(session, _BATCH), key=lambda alert: alert.id)
            wanted = [(alert, alerts.untold(session, alert)) for alert in due]
        by_target: dict[int, list[tuple[Alert, Target]]] = defaultdict(list)
        for alert, targets in wanted:
            for target in targets:
                by_target[target.id].append((alert, target))
        caller = _Caller(vault, now, public_url, permit, transport)
        with ThreadPoolExecutor(_RECEIVERS_AT_ONCE, thread_name_prefix="webhook") as pool:
            calls = [call for done in pool.map(caller.tell, by_target.values()) for call in done]
        _record(database, wanted, calls)
        made += len(calls)
        if len(due) < _BATCH:
            return made


def raise_expiries(database: Database, now: datetime | None = None) -> int:
    """Raises certificates and client secrets that end within 30, 7 or 1 days, once for each."""
    with database.transaction() as session:
        return alerts.raise_expiries(session, now or utc_now())


def raise_backlogs(database: Database, limit: timedelta) -> int:
    """Raises handlers whose oldest waiting mail is older than `limit`, and those that caught up."""
    with database.transaction() as session:
        return alerts.raise_backlogs(session, limit)


def send_test(
    vault: Vault,
    target: Target,
    alert: Alert,
    *,
    public_url: str = "",
    permit: Permit | None = None,
) -> tuple[int | None, str | None]:
    """Tells one alert to one webhook now, logging nothing; returns (HTTP status, error)."""
    call = _Caller(vault, utc_now(), public_url, permit, None).tell([(alert, target)])[0]
    return call.status, call.error


class _Caller:
    """Calls receivers; one `tell` a receiver, its alerts in the order they were raised."""

    def __init__(
        self,
        vault: Vault,
        now: datetime,
        public_url: str,
        permit: Permit | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        self._vault = vault
        self._now = now
        self._public_url = public_url
        self._permit = permit
        self._transport = transport

    def tell(self, work: Sequence[tuple[Alert, Target]]) -> list[_Call]:
        """Stops at the first call that gets no answer: the receiver is down, the rest waits."""
        calls = []
        # A redirect is an error: it could lead where `permit` would not.
        with httpx.Client(
            timeout=_TIMEOUT, follow_redirects=False, trust_env=False, transport=self._transport
        ) as client:
            for alert, target in work:
                calls.append(self._call(client, alert, target))
                if calls[-1].status is None:
                    break
        return calls

    def _call(self, client: httpx.Client, alert: Alert, target: Target) -> _Call:
        try:
            request = rules.compose(
                alert,
                target.template,
                url=self._opened("url", target, target.url),
                secret=self._opened("secret", target, target.secret),
                public_url=self._public_url,
                now=self._now,
            )
            self._check(request.url)
            answer = client.post(request.url, headers=dict(request.headers), content=request.body)
        except PosthouseError as error:
            return _Call(alert, target, None, str(error))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The text of httpx's errors may hold the address, which is a secret.
            return _Call(alert, target, None, f"No answer: {type(error).__name__}.")
        if answer.is_success:
            return _Call(alert, target, answer.status_code, None)
        reason = f"The receiver answered {answer.status_code} {answer.reason_phrase}."
        return _Call(alert, target, answer.status_code, reason, _retry_after(answer))

    def _opened(self, column: str, target: Target, sealed: bytes | None) -> str:
        if sealed is None:
            return ""
        place = Place(alerts.WEBHOOK_TABLE, column, str(target.id))
        return self._vault.open(sealed, place).decode()

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in {"https", "http"} or not parts.hostname:
            raise InvalidInput("The webhook's address is not an http(s) address.", field="url")
        if self._permit is not None:
            self._permit(parts.hostname, port)


def _record(
    database: Database, wanted: Sequence[tuple[Alert, list[Target]]], calls: Sequence[_Call]
) -> None:
    """Logs the calls, and decides for each alert whether it is done or when it is tried again."""
    taken = {(call.alert.id, call.target.id) for call in calls if call.is_taken}
    asked_for = {call.alert.id: call.retry_after for call in calls if call.retry_after}
    with database.transaction() as session:
        for call in calls:
            error = call.error[:_LONGEST_ERROR] if call.error else None
            alerts.log_delivery(session, call.alert, call.target, call.status, error)
            metrics.ALERT_DELIVERIES.labels("ok" if call.is_taken else "failed").inc()
            if error:
                log.warning(
                    "webhook-failed", webhook=call.target.name, alert=str(call.alert.id), why=error
                )
        for alert, targets in wanted:
            missing = [target for target in targets if (alert.id, target.id) not in taken]
            delay = rules.retry_delay(alert.attempts) if missing else None
            if delay is not None:
                delay = max(delay, asked_for.get(alert.id) or delay)
            for target in missing if delay is None else ():
                metrics.ALERT_DELIVERIES.labels("given-up").inc()
                log.error("webhook-given-up", webhook=target.name, alert=str(alert.id))
            alerts.schedule(session, alert, delay)


def _retry_after(answer: httpx.Response) -> timedelta | None:
    """RFC 9110 section 10.2.3, the form in seconds; at most a day."""
    with contextlib.suppress(ValueError):
        return timedelta(seconds=min(int(answer.headers.get("retry-after", "")), 86_400))
    return None
