"""What travels beside a job: the correlation id and the trace it belongs to (W3C Trace Context)."""

from __future__ import annotations

import threading
import time
from typing import Any

import dramatiq
import structlog
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace

_KEPT = threading.local()


def outgoing_context(correlation_id: str) -> dict[str, str]:
    """The context of the present thread, to be sent along."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    if correlation_id:
        carrier["correlation_id"] = correlation_id
    return carrier


class JobContext(dramatiq.Middleware):
    """Restores a job's context around its run: trace span and log fields."""

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
        carrier = message.options.get("context") or {}
        fields = {"job": message.actor_name}
        if "correlation_id" in carrier:
            fields["correlation_id"] = carrier["correlation_id"]
        span = trace.get_tracer("posthouse").start_span(
            f"{message.actor_name} process",
            context=propagate.extract(carrier),
            kind=trace.SpanKind.CONSUMER,
            attributes={"messaging.destination.name": message.queue_name},
        )
        _KEPT.tokens = structlog.contextvars.bind_contextvars(**fields)
        _KEPT.span = span
        _KEPT.attached = otel_context.attach(trace.set_span_in_context(span))

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: Any,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        span = getattr(_KEPT, "span", None)
        if span is None:
            return
        _KEPT.span = None
        if exception is not None:
            span.record_exception(exception)
            span.set_status(trace.StatusCode.ERROR)
        span.end()
        otel_context.detach(_KEPT.attached)
        structlog.contextvars.reset_contextvars(**_KEPT.tokens)


class Pulse:
    """Signs of life of a worker, for its liveness probe. Thread-safe; times are in seconds."""

    def __init__(self) -> None:
        self._turned_at = time.monotonic()
        self._started: dict[int, float] = {}

    def beat(self) -> None:
        """The loop that takes jobs from the broker turned (also while the broker is away)."""
        self._turned_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Since the loop last turned."""
        return time.monotonic() - self._turned_at

    @property
    def longest_job_s(self) -> float:
        """How long the longest running job has been running; 0 where none is."""
        started = min(list(self._started.values()), default=None)
        return 0.0 if started is None else time.monotonic() - started

    @property
    def running_jobs(self) -> int:
        return len(self._started)

    def job_started(self) -> None:
        self._started[threading.get_ident()] = time.monotonic()

    def job_ended(self) -> None:
        self._started.pop(threading.get_ident(), None)
