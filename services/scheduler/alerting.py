"""Posts alerts to webhooks: once each, tried again where a receiver fails, every attempt logged.

Alerts are rows; any number of schedulers may deliver at once. A receiver that hangs or fails delays
only its own calls. Call `deliver_due` on a thread of its own: it waits for receivers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final

import structlog

from shared.alerts.raised import Alert, retry_delay
from shared.allowed_hosts import HostRules
from shared.clock import utc_now
from shared.storage import alert_checks, alert_deliveries, services
from shared.storage.alert_deliveries import AlertedWebhook
from shared.storage.pool import Database
from shared.telemetry import metrics
from shared.vault import Vault
from shared.webhook_calls import Call, WebhookCaller

log = structlog.get_logger(__name__)

_BATCH: Final = 16
_RECEIVERS_AT_ONCE: Final = 8
#: How long an alert is left to schedulers that can read where it goes.
_LEFT_FOR: Final = timedelta(seconds=10)
#: How much of an error goes to the log.
_LONGEST_ERROR: Final = 300


def deliver_due(
    database: Database,
    vault: Vault,
    now: datetime,
    *,
    public_url: str = "",
    hosts: HostRules | None = None,
) -> int:
    """Delivers what is due, oldest first; returns how many calls were made.

    `hosts` says which addresses may be called.
    """
    made = 0
    while True:
        with database.transaction() as session:
            due = sorted(alert_deliveries.claim_due(session, _BATCH), key=lambda alert: alert.id)
            wanted = [(alert, alert_deliveries.undelivered(session, alert)) for alert in due]
        by_webhook: dict[int, list[tuple[Alert, AlertedWebhook]]] = defaultdict(list)
        for alert, targets in wanted:
            for target in targets:
                by_webhook[target.id].append((alert, target))
        caller = WebhookCaller(vault, now, public_url, hosts)
        with ThreadPoolExecutor(_RECEIVERS_AT_ONCE, thread_name_prefix="webhook") as pool:
            calls = [
                call for done in pool.map(caller.deliver, by_webhook.values()) for call in done
            ]
        _record(database, wanted, calls)
        made += len(calls)
        if len(due) < _BATCH:
            return made


def raise_expiries(database: Database, now: datetime | None = None) -> int:
    """Raises certificates and client secrets that end within 30, 7 or 1 days, once for each."""
    with database.transaction() as session:
        return alert_checks.raise_expiries(session, now or utc_now())


def raise_backlogs(database: Database, limit: timedelta) -> int:
    """Raises handlers whose oldest waiting mail is older than `limit`, and those that caught up."""
    with database.transaction() as session:
        return alert_checks.raise_backlogs(session, limit)


def raise_own_health(database: Database) -> None:
    """Raises overdue connections, services that fail or are gone, and their recoveries."""
    with database.transaction() as session:
        alert_checks.raise_overdue(session)
        services.raise_failing(session)


def _record(
    database: Database, wanted: Sequence[tuple[Alert, list[AlertedWebhook]]], calls: Sequence[Call]
) -> None:
    """Logs the calls, and decides for each alert whether it is done or when it is tried again."""
    taken = {(call.alert.id, call.target.id) for call in calls if call.is_taken}
    asked_for = {call.alert.id: call.retry_after for call in calls if call.retry_after}
    with database.transaction() as session:
        for call in calls:
            if call.left:
                log.warning("alerts left to schedulers that have the key", error=call.error)
                continue
            error = call.error[:_LONGEST_ERROR] if call.error else None
            alert_deliveries.log_delivery(session, call.alert, call.target, call.status, error)
            metrics.ALERT_DELIVERIES.labels("ok" if call.is_taken else "failed").inc()
            if error:
                log.warning(
                    "webhook failed",
                    webhook=call.target.name,
                    alert=str(call.alert.id),
                    error=error,
                )
        left = {(call.alert.id, call.target.id) for call in calls if call.left}
        for alert, targets in wanted:
            missing = [target for target in targets if (alert.id, target.id) not in taken]
            if missing and all((alert.id, target.id) in left for target in missing):
                alert_deliveries.leave(session, alert, _LEFT_FOR)
                continue
            delay = retry_delay(alert.attempts) if missing else None
            if delay is not None:
                delay = max(delay, asked_for.get(alert.id) or delay)
            for target in missing if delay is None else ():
                metrics.ALERT_DELIVERIES.labels("given-up").inc()
                log.error("alert given up", webhook=target.name, alert=str(alert.id))
            alert_deliveries.schedule(session, alert, delay)
