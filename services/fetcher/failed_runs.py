"""A run that failed: its reason, its next attempt and its alert are recorded."""

from __future__ import annotations

from datetime import timedelta

import structlog

from services.fetcher.backoff import described, health_after, retry_delay
from services.fetcher.lease_renewer import LeaseRenewer
from services.fetcher.run import Run
from shared.alerts.connections import ConnectionFailing, ConnectionNeedsAuthorisation
from shared.connections import Connection, Failure, Health
from shared.errors import PosthouseError
from shared.storage import alerts, ledger, scheduling, settlements
from shared.storage.pool import Database, DatabaseUnavailable, Session
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)


def record(database: Database, renewer: LeaseRenewer, run: Run, error: PosthouseError) -> bool:
    """Records the reason and the next attempt, and gives the lease back. Whether Postgres took it.

    Nothing of the failure is recorded where the lease was taken
    away: what an edit has mended is not failing, and is due at once. Where an edit or a new grant
    came that takes no lease away (another password), the failure stands in the history alone.
    """
    connection, report = run.connection, run.report
    metrics.DOWNLOADED_MESSAGES.labels(connection.mode.value).inc(report.downloaded)
    metrics.DOWNLOADED_BYTES.labels(connection.mode.value).inc(report.octets)
    duration_ms = report.duration_ms
    _log.warning(
        "run failed",
        code=error.code,
        error=str(error),
        failures=run.state.failures + 1,
        downloaded=report.downloaded,
    )
    try:
        with database.transaction() as session:
            held = renewer.release(session, [run.lease])
            settlements.record_settled(session, report.confirmed)
            if held:
                _record(session, run, error, duration_ms)
    except DatabaseUnavailable as outage:
        _log.warning("failed run not recorded", error=str(outage))
        return False
    return True


def _record(session: Session, run: Run, error: PosthouseError, duration_ms: int) -> None:
    connection, report = run.connection, run.report
    failure, health = described(error), health_after(error)
    failed = scheduling.fail_run(
        session,
        connection.id,
        duration_ms=duration_ms,
        health=health,
        error=failure,
        delay=_delay(run, error),
        awaited_since=run.state.awaited_since,
    )
    ledger.record_run(
        session,
        connection.id,
        duration_ms=duration_ms,
        found=report.found,
        downloaded=report.downloaded,
        octets=report.octets,
        error=failure,
    )
    if failed is None:
        return
    before, failures = failed
    if before != health:
        alert = _alert(connection, failure, health, failures)
        alerts.raise_failing(session, alert, _silence(run, health))
    if failures == run.tools.settings.alert_after_failures:
        alerts.hasten(session, connection.id)


def _delay(run: Run, error: PosthouseError) -> float:
    """Seconds until the next attempt. A run that makes progress is not backed off, nor one of
    which nothing but settling failed."""
    first = _first_delay(run.connection)
    if error is run.report.settling_refused:
        return 60.0 * first
    return retry_delay(error, 0 if run.report.downloaded else run.state.failures, first)


def _silence(run: Run, health: Health) -> timedelta:
    """How long people are not told: a server that is started anew is back by then, a login
    that a person has to renew is not."""
    if health is Health.NEEDS_AUTHORISATION:
        return timedelta(0)
    return timedelta(minutes=run.tools.settings.alert_after_minutes)


def _first_delay(connection: Connection) -> int:
    """Minutes. With push the interval may be long, and until it is back nobody listens."""
    return 1 if connection.push else connection.interval_minutes


def _alert(
    connection: Connection, failure: Failure, health: Health, failures: int
) -> ConnectionFailing:
    kind = (
        ConnectionNeedsAuthorisation if health is Health.NEEDS_AUTHORISATION else ConnectionFailing
    )
    return kind(
        connection_id=connection.id,
        name=connection.name,
        message=failure.message,
        hint=failure.hint,
        code=failure.code,
        step=failure.step,
        failures=failures,
        host=connection.endpoint[0].lower(),
    )
