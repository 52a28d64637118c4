"""What travels beside a job: the correlation id and the trace it belongs to (W3C Trace Context)."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
import structlog
from opentelemetry.trace import SpanKind

from shared.telemetry import traces

_KEPT = threading.local()


def outgoing_context(correlation_id: str) -> dict[str, str]:
    """The context of the present thread, to be sent along."""
    carrier = traces.inject()
    if correlation_id:
        carrier["correlation_id"] = correlation_id
    return carrier


class JobContext(dramatiq.Middleware):
    """Keeps the context that came with a job for the thread that runs it."""

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
        _KEPT.carrier = message.options.get("context") or {}


@contextmanager
def restored_context(job: str) -> Iterator[None]:
    """A span and the log fields of the job that this thread runs now."""
    carrier: dict[str, str] = getattr(_KEPT, "carrier", {})
    fields = {"job": job}
    if "correlation_id" in carrier:
        fields["correlation_id"] = carrier["correlation_id"]
    with (
        structlog.contextvars.bound_contextvars(**fields),
        traces.span(f"{job} job", headers=carrier, kind=SpanKind.CONSUMER),
    ):
        yield


class Pulse:
    """Heartbeats of a worker, for its liveness probe. Thread-safe; times are in seconds."""

    def __init__(self) -> None:
        self._turned_at = time.monotonic()
        self._taking_at = -math.inf
        self._started: dict[int, float] = {}

    def beat(self) -> None:
        """The loop that takes jobs from the broker turned (also while the broker is away)."""
        self._turned_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Since the loop last turned."""
        return time.monotonic() - self._turned_at

    def taking(self) -> None:
        """The broker answered, and a job would have been begun."""
        self._taking_at = time.monotonic()

    @property
    def not_taking_s(self) -> float:
        """Since a job would have been begun: the broker is away, or all threads are busy."""
        return time.monotonic() - self._taking_at

    @property
    def running_jobs(self) -> int:
        return len(self._started)

    def job_started(self) -> None:
        self._started[threading.get_ident()] = time.monotonic()

    def job_ended(self) -> None:
        self._started.pop(threading.get_ident(), None)
