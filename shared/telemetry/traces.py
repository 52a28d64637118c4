"""OpenTelemetry traces, from the scheduler's job through the queues to the handler's event.

On where `OTEL_EXPORTER_OTLP_ENDPOINT` is set (the exporter reads its own variables: endpoint,
headers, timeout); otherwise everything here costs next to nothing. Jobs and events carry the W3C
`traceparent`, the latter as CloudEvents' distributed tracing extension.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from shared.errors import PosthouseError
from shared.telemetry.service_lifecycle import release

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

#: How long a process that ends waits for the collector.
_LAST_SECONDS: Final = 2.0

#: The header in which a trace comes (W3C Trace Context, section 3.2).
_TRACEPARENT: Final = "traceparent"

#: What nobody records: a mail goes through a dozen spans, and the library's own take 20 µs each.
_NOTHING: Final = nullcontext(trace.INVALID_SPAN)


def configure(service: str) -> bool:
    """Starts exporting where an endpoint is set; says whether it does. Call after a fork."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return False
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        shutdown_on_exit=False,
        resource=Resource.create(
            {
                "service.namespace": "posthouse",
                "service.name": f"posthouse-{service}",
                "service.version": release(),
            }
        ),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True


def shutdown() -> None:
    """Sends what is still waiting. Before the process ends, which waits for no collector."""
    provider = trace.get_tracer_provider()
    stop = getattr(provider, "shutdown", None)
    if stop is not None:
        sending = threading.Thread(target=stop, name="traces", daemon=True)
        sending.start()
        sending.join(_LAST_SECONDS)


def inject() -> dict[str, str]:
    """The current span as headers for a job or an event; empty where nothing is traced."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def span(
    name: str,
    *,
    headers: Mapping[str, str] | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    **attributes: Any,
) -> AbstractContextManager[Span]:
    """A span around the block, the child of the one in `headers` where there is one.

    A failure is recorded with its code; its text stays in the logs, where secrets are taken out.
    """
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider) and not (
        headers and _TRACEPARENT in headers
    ):
        return _NOTHING
    return _recorded(name, headers, kind, attributes)


@contextmanager
def _recorded(
    name: str, headers: Mapping[str, str] | None, kind: SpanKind, attributes: Mapping[str, Any]
) -> Iterator[Span]:
    context = propagate.extract(dict(headers)) if headers else None
    tracer = trace.get_tracer("posthouse")
    with tracer.start_as_current_span(
        name,
        context=context,
        kind=kind,
        attributes={f"posthouse.{key}": value for key, value in attributes.items()},
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except Exception as error:
            code = error.code if isinstance(error, PosthouseError) else type(error).__name__
            current.set_status(Status(StatusCode.ERROR, code))
            raise
