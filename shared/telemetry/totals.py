"""Metrics of all connections and handlers together: read from Postgres when scraped.

The services count nothing per connection. Whoever has the database registers one `TotalsCollector`;
its cost and its number of series do not grow with the connections: counts, one histogram, and the
few worst by name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.telemetry.metrics import REGISTRY, Description

log = structlog.get_logger(__name__)

#: How many of the worst connections, and how many handlers, are told by name.
NAMED: Final = 20
NAMED_HANDLERS: Final = 200
#: Upper bounds, in seconds, of the ages of the last success.
AGE_BOUNDS: Final = (60.0, 120.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)

DESCRIBED: Final = tuple(
    Description(f"posthouse_{name}", kind, labels, text)
    for name, kind, labels, text in (
        (
            "chore_age_seconds",
            "gauge",
            ("chore",),
            "Since any scheduler last began this chore (housekeeping and the like).",
        ),
        (
            "connection_pending_seconds",
            "gauge",
            ("connection", "name"),
            f"Age of the oldest unpublished mail, of the {NAMED} connections where it is oldest.",
        ),
        (
            "connection_success_age_seconds",
            "histogram",
            (),
            "Since the last successful run, over all enabled connections.",
        ),
        (
            "connection_success_oldest_seconds",
            "gauge",
            ("connection", "name"),
            f"Since the last success, of the {NAMED} enabled connections where it is longest ago.",
        ),
        ("connections", "gauge", ("health",), "Connections by health."),
        (
            "connections_overdue",
            "gauge",
            (),
            "Enabled connections without a run for one and a half intervals, whatever the reason.",
        ),
        (
            "connections_throttled",
            "gauge",
            ("mode",),
            "Enabled connections whose last run failed as their server asked to come back later.",
        ),
        (
            "handler_backlog_messages",
            "gauge",
            ("handler",),
            "Mails on the queue of an enabled handler, acknowledged by nobody yet.",
        ),
        (
            "handler_dead_letters",
            "gauge",
            ("handler",),
            "Mails on the dead-letter queue of an enabled handler.",
        ),
        (
            "handler_oldest_seconds",
            "gauge",
            ("handler",),
            "Age of the oldest mail that an enabled handler has not acknowledged; 0 where none.",
        ),
        ("outbox_messages", "gauge", (), "Downloaded mails not yet published to every handler."),
        (
            "outbox_oldest_seconds",
            "gauge",
            (),
            "Age of the oldest downloaded mail not yet published to every handler; 0 where none.",
        ),
        ("quarantined_messages", "gauge", (), "Mails in quarantine, waiting for a person."),
        (
            "revocation_certificates",
            "gauge",
            ("status",),
            "Certificates of signers and their authorities, by what is known of their revocation.",
        ),
        (
            "revocation_failing",
            "gauge",
            (),
            "Certificates of which nothing could be learned the last time it was tried.",
        ),
        (
            "revocation_oldest_seconds",
            "gauge",
            (),
            "Age of the oldest answer of an authority by which a certificate is still good.",
        ),
        (
            "service_failing",
            "gauge",
            ("service", "check"),
            "1 where a process of this service cannot reach what the check names, or (heartbeat) "
            "none is at work.",
        ),
        (
            "settlements_oldest_seconds",
            "gauge",
            (),
            "Age of the oldest downloaded mail of an enabled connection whose server has still to "
            "mark it read or delete it; 0 where none.",
        ),
        (
            "settlements_pending",
            "gauge",
            (),
            "Downloaded mails whose server has still to mark them read or delete them.",
        ),
    )
)
_BY_NAME: Final = {description.name: description for description in DESCRIBED}


@dataclass(frozen=True, slots=True)
class Named:
    """One of the worst: connection id, name, seconds."""

    connection_id: int
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class HandlerQueue:
    name: str
    backlog: int
    oldest_seconds: float
    dead_letters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """All of it at one moment. `success_ages`: how many fall below each of AGE_BOUNDS, and above.

    `success_ages` has one more item than AGE_BOUNDS; ages are in seconds.
    """

    connections: Mapping[str, int] = field(default_factory=dict)
    success_ages: Sequence[int] = (0,) * (len(AGE_BOUNDS) + 1)
    success_ages_sum: float = 0.0
    oldest_successes: Sequence[Named] = ()
    oldest_pending: Sequence[Named] = ()
    overdue: int = 0
    #: By mode; none where no server asks to come back later.
    throttled: Mapping[str, int] = field(default_factory=dict)
    outbox: int = 0
    outbox_oldest_seconds: float = 0.0
    settlements: int = 0
    settlements_oldest_seconds: float = 0.0
    quarantined: int = 0
    handlers: Sequence[HandlerQueue] = ()
    chores: Mapping[str, float] = field(default_factory=dict)
    failing: Sequence[tuple[str, str]] = ()
    #: By what is known of their revocation: certificates, and the age of the oldest answer.
    revocations: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    revocation_failing: int = 0


class TotalsCollector(Collector):
    """Reads the totals when scraped, at most once in `fresh_seconds`; says nothing if it cannot.

    A scrape waits `timeout_s` seconds for Postgres and no longer: a scheduler whose other metrics
    did not come either would look like one that is gone.
    """

    def __init__(
        self, read: Callable[[], Totals], fresh_seconds: float = 10.0, timeout_s: float = 3.0
    ) -> None:
        self._read = read
        self._fresh_seconds = fresh_seconds
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="totals")
        self._reading: Future[Totals | None] | None = None
        self._read_at = float("-inf")

    def describe(self) -> list[Metric]:
        """Nothing: registering must not read from Postgres."""
        return []

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            reading = self._reading
            is_old = time.monotonic() - self._read_at >= self._fresh_seconds
            if reading is None or (is_old and reading.done()):
                self._read_at = time.monotonic()
                reading = self._reading = self._reader.submit(self._try)
        try:
            totals = reading.result(self._timeout_s)
        except TimeoutError:
            return
        if totals is not None:
            yield from families(totals)

    def _try(self) -> Totals | None:
        try:
            return self._read()
        except Exception as error:
            # Stale numbers would look like health; their absence is alerted on.
            log.warning("totals not read", error=str(error))
            return None

    def close(self) -> None:
        self._reader.shutdown(wait=False)


@contextmanager
def total_metrics(read: Callable[[], Totals]) -> Iterator[None]:
    """The totals are in `/metrics` while the block runs."""
    collector = TotalsCollector(read)
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)
        collector.close()


def families(totals: Totals) -> Iterator[Metric]:
    """The totals as Prometheus' metric families."""
    yield _gauge("connections", {(health,): n for health, n in totals.connections.items()})
    yield _gauge("connections_throttled", {(mode,): n for mode, n in totals.throttled.items()})
    yield _success_ages(totals)
    for name, worst in (
        ("connection_success_oldest_seconds", totals.oldest_successes),
        ("connection_pending_seconds", totals.oldest_pending),
    ):
        yield _gauge(name, {(str(w.connection_id), w.name): w.seconds for w in worst})
    for name, value in (
        ("connections_overdue", totals.overdue),
        ("outbox_messages", totals.outbox),
        ("outbox_oldest_seconds", totals.outbox_oldest_seconds),
        ("settlements_pending", totals.settlements),
        ("settlements_oldest_seconds", totals.settlements_oldest_seconds),
        ("quarantined_messages", totals.quarantined),
    ):
        yield _gauge(name, {(): value})
    known = totals.revocations
    yield _gauge("revocation_certificates", {(word,): n for word, (n, _) in known.items()})
    yield _gauge("revocation_failing", {(): totals.revocation_failing})
    yield _gauge("revocation_oldest_seconds", {(): known.get("good", (0, 0.0))[1]})
    queues = totals.handlers
    yield _gauge("handler_backlog_messages", {(q.name,): q.backlog for q in queues})
    yield _gauge("handler_oldest_seconds", {(q.name,): q.oldest_seconds for q in queues})
    yield _gauge("handler_dead_letters", {(q.name,): q.dead_letters for q in queues})
    yield _gauge("service_failing", dict.fromkeys(totals.failing, 1.0))
    yield _gauge("chore_age_seconds", {(name,): age for name, age in totals.chores.items()})


def _gauge(name: str, values: Mapping[tuple[str, ...], float]) -> Metric:
    description = _BY_NAME[f"posthouse_{name}"]
    family = GaugeMetricFamily(description.name, description.text, labels=description.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _success_ages(totals: Totals) -> Metric:
    description = _BY_NAME["posthouse_connection_success_age_seconds"]
    total = 0
    buckets = []
    for bound, count in zip((*AGE_BOUNDS, float("inf")), totals.success_ages, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    family = HistogramMetricFamily(description.name, description.text)
    family.add_metric((), buckets, totals.success_ages_sum)
    return family
