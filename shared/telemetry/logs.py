"""Structured logs: one JSON object a line, or coloured lines for people.

`configure` once at the start of a process; `structlog.get_logger(__name__)` everywhere. What
happens on behalf of one job carries its `correlation_id`, bound with structlog's
`bound_contextvars` and found again in every line below it, in the jobs it sends and in the ledger.
Logs of libraries take the same form. Values under a key that names a secret, and passwords inside
addresses, never leave the process. An event is a few words: what happened, in the
past; what belongs to it are keys. `docs/logs.md` lists all of them.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog
from opentelemetry import trace

from shared.clock import new_id
from shared.errors import PosthouseError
from shared.untrusted_text import escaped, shown

_SECRET_KEY: Final = re.compile(
    r"passw|passphrase|secret|token|authorization|cookie|private_key|api_?key|code_verifier",
    re.IGNORECASE,
)
#: user:password@ in any address; and what follows Bearer or Basic in a quoted header.
_ADDRESS: Final = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@")
_HEADER: Final = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_HIDDEN: Final = "[hidden]"
_DEEPEST: Final = 6

#: Libraries that say too much at INFO.
_QUIET: Final = {
    "asyncio": logging.WARNING,
    "dramatiq": logging.WARNING,
    "flufl.bounce": logging.CRITICAL,  # an error for whatever a stranger writes into a bounce
    "httpcore": logging.WARNING,
    "mail.log": logging.WARNING,  # aiosmtpd
    "httpx": logging.WARNING,
    "imapclient": logging.WARNING,
    "msal": logging.WARNING,
    "pika": logging.ERROR,  # every lost connection is told by queueing, in our words
    "psycopg.pool": logging.WARNING,
    "urllib3": logging.WARNING,
    "uvicorn.access": logging.WARNING,
}


def configure(
    service: str, *, level: str = "INFO", format: str = "json", stream: TextIO | None = None
) -> None:
    """Routes structlog and the standard library's loggers to one handler on `stream` (stderr)."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_service(service),
        _with_trace,
        _with_verdict,
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,  # the whole chain, without local variables
    ]
    if format == "console":
        colours = bool(getattr(stream or sys.stderr, "isatty", bool)())
        last += [hide_secrets, _without_controls, structlog.dev.ConsoleRenderer(colors=colours)]
    else:
        last += [
            structlog.processors.EventRenamer("message"),
            hide_secrets,
            structlog.processors.JSONRenderer(_written, default=str, ensure_ascii=False),
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, root.level))
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.captureWarnings(True)


def new_correlation_id() -> str:
    """A fresh id for one chain of work; sorts by time."""
    return new_id().hex


def correlation_id() -> str:
    """The id of the work in hand; a fresh one where nothing is bound."""
    return structlog.contextvars.get_contextvars().get("correlation_id") or new_correlation_id()


def hide_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The last step before a line is written: no secret passes, however deep it is nested."""
    for key, value in list(event.items()):
        event[key] = _HIDDEN if value and _SECRET_KEY.search(key) else _cleaned(value, 0)
    return event


def _written(event: Any, **options: Any) -> str:
    """JSON that a terminal shows as it is: servers and mails have a say in what is logged."""
    return escaped(json.dumps(event, **options))


def _without_controls(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """For lines that people read as they come: what is nested is written with escapes anyway."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = shown(value)
    return event


def without_secrets(text: str) -> str:
    """A text with passwords in addresses and credentials in headers taken out."""
    return _HEADER.sub(rf"\1 {_HIDDEN}", _ADDRESS.sub(rf"\1:{_HIDDEN}@", text))


def _cleaned(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, BaseException):
        return without_secrets(str(value))
    if depth >= _DEEPEST:
        return value if isinstance(value, (int, float, bool, type(None))) else "…"
    if isinstance(value, dict):
        return {
            key: _HIDDEN if _SECRET_KEY.search(str(key)) else _cleaned(inner, depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_cleaned(inner, depth + 1) for inner in value]
    if isinstance(value, bytes):
        return f"<{len(value)} octets>"
    return value


def _with_service(service: str) -> structlog.typing.Processor:
    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        event.setdefault("service", service)
        return event

    return add


def _with_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _with_verdict(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
    """A failure of ours tells its stable code and what to do beside its traceback."""
    failure = event.get("exc_info")
    if failure is True:
        failure = sys.exc_info()[1]
    elif isinstance(failure, tuple):
        failure = failure[1]
    if isinstance(failure, PosthouseError):
        event.setdefault("code", failure.code)
        if failure.hint:
            event.setdefault("hint", failure.hint)
    return event
