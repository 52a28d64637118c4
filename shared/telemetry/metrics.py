"""Every metric of Posthouse, named once. `docs/metrics.md` is written from this file.

No label here grows with the number of connections, handlers or mails. What is told per connection
(the age of its last success, its oldest pending mail) is read from Postgres by one collector, so
that it costs nothing in the services and is bounded there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

disable_created_metrics()  # type: ignore[no-untyped-call] # they double the number of series and nothing here reads them

#: What `/metrics` shows.
REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_SECONDS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_DELAYS: Final = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 6 * 3600, 24 * 3600)
_OCTETS: Final = (4096, 16384, 65536, 262144, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 150 << 20)


# A counter that alerts read has its labels from the start: one that begins with its first event
# has never risen for Prometheus.


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"posthouse_{name}", text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"posthouse_{name}", text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"posthouse_{name}", text, labels, registry=REGISTRY, buckets=buckets)


BUILD = Info("posthouse_build", "Version and name of the service.", registry=REGISTRY)

# Scheduler
SCHEDULING_LAG: Final = _histogram(
    "scheduling_lag_seconds", "From when a connection was due to its fetch job.", _SECONDS
)
FETCHES_EMITTED: Final = _counter(
    "fetches_emitted_total",
    "Connections sent to be fetched, one to many in a job. own: to the fetcher that keeps the "
    "session.",
    "lane",
)
RESENT: Final = _counter(
    "resent_total",
    "Work sent again from Postgres because it did not finish in time, by what it was. "
    "refill: a handler's queue that was lost.",
    "what",
)
REVOCATION_REQUESTS: Final = _counter(
    "revocation_requests_total",
    "Requests to authorities about revoked certificates. put-off: the host failed lately, or was "
    "asked as often as it may be.",
    "source",
    "outcome",
)
HOUSEKEEPING: Final = _counter(
    "housekeeping_removed_total", "Rows and objects removed by retention.", "what"
)

# Fetcher
FETCH_RUNS: Final = _counter(
    "fetch_runs_total",
    "Runs over a mailbox. outcome: without or with new mails, slow-lane (its server takes longer "
    "than the common lane waits; it goes on in the slow one), or the verdict of the failure.",
    "mode",
    "outcome",
)
FETCH_SECONDS: Final = _histogram(
    "fetch_seconds", "How long one run over a mailbox took.", _SECONDS, "mode"
)
FETCHES_RUNNING: Final = _gauge("fetches_running", "Runs in progress in this process.")
PUSH_SESSIONS: Final = _gauge(
    "push_sessions", "Sessions on which this process waits for push events (IMAP IDLE)."
)
PUSH_RUNS: Final = _counter(
    "push_runs_total", "Runs that began because a server pushed, without a job."
)
POLLS_OF_OPEN_SESSIONS: Final = _counter(
    "kept_polls_total", "Polls from a fetcher's own queue, over sessions that it keeps open."
)
DOWNLOADED_MESSAGES: Final = _counter(
    "downloaded_messages_total", "Mails committed to the ledger.", "mode"
)
DOWNLOADED_BYTES: Final = _counter(
    "downloaded_bytes_total", "Octets of the mails committed to the ledger.", "mode"
)
MESSAGE_SIZE: Final = _histogram("message_size_bytes", "Octets of downloaded mails.", _OCTETS)
COMMITTED_TOGETHER: Final = _histogram(
    "committed_together",
    "Batches of as many mailboxes that were made durable and committed at once.",
    (1, 2, 4, 8, 16, 32, 64),
)
SETTLED_MESSAGES: Final = _counter(
    "settled_messages_total", "Mails marked read or deleted on their server.", "action"
)
LEASE_LOSSES: Final = _counter(
    "lease_losses_total", "Commits refused because another worker had taken the lease over."
)
SESSION_REFUSALS: Final = _counter(
    "session_refusals_total",
    "Times that a mail server refused one more session of ours, so that kept ones give way.",
)
GRAPH_THROTTLED: Final = _counter(
    "graph_throttled_total",
    "Answers of Microsoft Graph that asked to come back later (429). What servers of every kind "
    "put off: connections_throttled.",
)
TOKEN_REFRESHES: Final = _counter(
    "token_refreshes_total",
    "OAuth2 tokens asked for.",
    "provider",
    "outcome",
)
QUARANTINED: Final = _counter(
    "quarantined_total", "Mails put into quarantine, by the code of the reason.", "code"
)
for _code in (
    "breaks-session",
    "bytes-missing",
    "cannot-process",
    "mail-altered",
    "mail-cut",
    "mail-refused",
    "mail-undated",
    "server-note",
    "too-large",
):
    QUARANTINED.labels(_code)

# Decryptor and hand-over
DECRYPTED_MESSAGES: Final = _counter(
    "decrypted_messages_total",
    "Mails that went through the decryptor. status as in the event.",
    "status",
)
STORE_MISSES: Final = _counter(
    "store_misses_total",
    "Mails whose octets the store lacked when they were to be opened, at each attempt.",
)
DECRYPT_SECONDS: Final = _histogram(
    "decrypt_seconds", "How long opening and verifying one mail took.", _SECONDS
)
SIGNATURES: Final = _counter(
    "signatures_total", "Signed mails, by what the signature is worth.", "signature"
)
PUBLISHED_EVENTS: Final = _counter(
    "published_events_total",
    "Events confirmed by the output queue, for the first time or again.",
    "kind",
)
PUBLISH_FAILURES: Final = _counter(
    "publish_failures_total", "Attempts to publish that the output did not confirm."
)
PUBLISH_SECONDS: Final = _histogram(
    "publish_seconds", "From sending a batch of events to its confirmation.", _SECONDS
)
ARRIVAL_TO_EVENT: Final = _histogram(
    "arrival_to_event_seconds",
    "From a mail's arrival at its server (the server's clock) to its confirmed event.",
    _DELAYS,
)
DOWNLOAD_TO_EVENT: Final = _histogram(
    "download_to_event_seconds", "From a mail's download to its confirmed event.", _DELAYS
)

# Forwarder
FORWARDED_EVENTS: Final = _counter(
    "forwarded_events_total",
    "Attempts to pass an event on. failed: tried again; paused: the endpoint wants no more.",
    "kind",
    "outcome",
)
FORWARD_SECONDS: Final = _histogram(
    "forward_seconds", "How long the endpoint took to answer one attempt.", _SECONDS, "kind"
)
FORWARD_WORKERS: Final = _gauge(
    "forward_workers",
    "Handlers whose events this process passes on. waiting: the endpoint fails.",
    "state",
)

# Admin
HTTP_REQUESTS: Final = _counter(
    "http_requests_total",
    "Answered requests by route template. method: those of HTTP, other.",
    "method",
    "route",
    "status",
)
HTTP_SECONDS: Final = _histogram(
    "http_request_seconds", "How long answering a request took.", _SECONDS, "route"
)
ALERT_DELIVERIES: Final = _counter("alert_deliveries_total", "Webhook calls.", "outcome")
ALERT_DELIVERIES.labels("given-up")

# Every service
STORE_REQUESTS: Final = _counter(
    "store_requests_total",
    "Requests to the bucket: put, get, list (at most 1000 keys), delete (at most 1000 objects). A "
    "large object that is sent in parts counts once. None for a store of files.",
    "operation",
)
for _operation in ("put", "get", "list", "delete"):
    STORE_REQUESTS.labels(_operation)
UNDECODABLE_JOBS: Final = _counter(
    "undecodable_jobs_total",
    "Jobs that could not be read or have no meaning here, moved to the broker's dead letters.",
    "queue",
)
HEARTBEAT_AGE: Final = _gauge(
    "heartbeat_age_seconds", "Since the service last made progress; /healthz fails on it."
)


@dataclass(frozen=True, slots=True)
class Description:
    """One metric as the documentation shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def described() -> list[Description]:
    """Every metric defined in this module, by name."""
    found = []
    for value in globals().values():
        if isinstance(value, (Counter, Gauge, Histogram, Info)):
            family = next(iter(value.describe()))
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            found.append(
                Description(
                    family.name + suffix,
                    family.type,
                    tuple(value._labelnames),
                    family.documentation,
                )
            )
    return sorted(found, key=lambda d: d.name)


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observes how long the block took, also where it fails."""
    started = monotonic()
    try:
        yield
    finally:
        histogram.observe(monotonic() - started)
