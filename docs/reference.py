"""Writes docs/settings.md, metrics.md and logs.md from the code: `python docs/reference.py`.

A test compares the files with what this would write, so none can name what is not there.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from shared.settings import PREFIX, MigrationSettings, Settings
from shared.telemetry import metrics, totals

DOCS: Final = Path(__file__).parent
ROOT: Final = DOCS.parent
#: Methods of loggers, and the level of the line that they write.
LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
    "log": "info or warning",
}
#: Fields of log lines that mean the same in each event.
LOG_FIELDS: Final = {
    "address": "where something was asked for",
    "again": "whether more mails are there than this run took",
    "alert": "id of the alert",
    "allowed": "how many sessions the mail server takes",
    "certificate": "id of the certificate",
    "chore": "name of the chore (`posthouse_chore_age_seconds` has the same)",
    "code": "the error in one word, as in the API; it stays the same over versions",
    "connection": "id of the connection",
    "count": "number of handlers",
    "day": "partition of the ledger",
    "downloaded": "mails downloaded",
    "error": "the error, in a sentence",
    "events": "events published",
    "failing": "checks that fail now, each with its reason",
    "failures": "how often in a row the connection failed",
    "fingerprint": "SHA-256 of the certificate",
    "folder": "path of the folder",
    "found": "mails found by the run",
    "handler": "name of the handler",
    "handler_id": "id of the handler",
    "handlers": "names of handlers",
    "hint": "what to do",
    "job": "name of the job",
    "key": "key in the store",
    "lease_keys": "mailbox folders whose leases are lost",
    "leases": "number of leases",
    "mailboxes": "number of mailboxes",
    "mails": "number of mails",
    "message_id": "id of the mail in the ledger, as on its page",
    "milliseconds": "how long it took",
    "name": "name that somebody gave to log in",
    "network": "network that a login came from",
    "octets": "size, in octets",
    "path": "path of the request",
    "pid": "id of the process",
    "destination": "mail server, or mailbox by who logs in",
    "python": "version of Python",
    "queue": "queue of jobs",
    "reason": "why, in a sentence",
    "reasons": "why, in sentences; with counts where there are many",
    "since": "from when on mails are delivered again",
    "store": "id of the store",
    "thread": "name of the thread",
    "threads": "number of threads",
    "unfinished": "jobs that go back to the queue",
    "version": "version of Posthouse",
    "webhook": "name of the webhook",
}
#: What labels of metrics may say, where that is a closed list, by metric (without `posthouse_`).
LABEL_VALUES: Final = {
    "alert_deliveries_total": {"outcome": "ok, failed, given-up"},
    "connections": {
        "health": "working, failing, unused, disabled, needs-authorisation, pending, overdue"
    },
    "decrypted_messages_total": {"status": "none, decrypted, no_recipient, unsupported, failed"},
    "fetches_emitted_total": {"lane": "common, slow, own"},
    "fetch_runs_total": {
        "outcome": "idle, mails, slow-lane, try-again, needs-person, needs-authorisation, "
        "lease-lost, internal"
    },
    "forward_workers": {"state": "working, waiting"},
    "forwarded_events_total": {"outcome": "delivered, failed, dead, paused"},
    "housekeeping_removed_total": {
        "what": "partition, object, spool, message, delivery, filtered, message_history, "
        "dead_letter, fetch_run, alert, session, oauth_flow, authorisation_link, login_attempt, "
        "revocation, revocation_list, revocation_host, forward_attempt, forward_retry"
    },
    "published_events_total": {"kind": "first, repeat"},
    "quarantined_total": {
        "code": "breaks-session, bytes-missing, cannot-process, mail-altered, mail-cut, "
        "mail-refused, mail-undated, server-note, too-large"
    },
    "resent_total": {"what": "publish, refill"},
    "revocation_certificates": {"status": "good, revoked, unknown, not-checked"},
    "revocation_requests_total": {"source": "crl, ocsp", "outcome": "ok, failed, put-off"},
    "settled_messages_total": {"action": "mark-read, delete"},
    "signatures_total": {
        "signature": "valid, mismatch, partial, ambiguous, untrusted, revoked, invalid"
    },
    "store_requests_total": {"operation": "put, get, list, delete"},
    "token_refreshes_total": {"provider": "google, microsoft", "outcome": "ok, refused, failed"},
}
SERVICES: Final = ("scheduler", "fetcher", "decryptor", "forwarder", "admin")

#: Variables that are read elsewhere than in a settings class.
OTHERS: Final = {
    "POSTHOUSE_URL": "Commands that talk to the API, and handlers' programs: where it is "
    "(commands: by default that of `up`).",
    "POSTHOUSE_TOKEN": "Commands that talk to the API: the token.",
    "POSTHOUSE_DATA_DIR": "`up`: the folder that everything is kept in; other commands: that of "
    "the `up` that they ask (`--data-dir`).",
    "POSTHOUSE_DEBUG": "Any value: the command line shows where in the code an error came from.",
    "POSTHOUSE_DEMO_PASSWORD": "`demo mailbox`: its password.",
    "POSTHOUSE_HANDLER": "A handler's own programs: its name, for `python -m posthouse run`.",
    "POSTHOUSE_HANDLER_TOKEN": "A handler's own programs: its token, for mails by reference. It is "
    "sent to the origin of POSTHOUSE_URL alone.",
    "POSTHOUSE_SIGNING_KEY": "A handler's own programs: the key that its events are signed with; "
    "two, separated by a blank, while it is renewed.",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "Where traces go (OpenTelemetry's own variable); unset: none.",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "The same, for traces alone.",
}


def settings_text() -> str:
    lines = [
        "# Settings",
        "",
        "Environment variables; a `.env` file in the working directory is read too. Every one of",
        "the classes below can also be given as the path of a file that holds it: add `_FILE` to",
        "its name, as Kubernetes and Docker mount secrets. This page is written by",
        "`python docs/reference.py`.",
        "",
        "## Every service",
        "",
        *_table(Settings, set()),
    ]
    for service in SERVICES:
        module = importlib.import_module(f"services.{service}.settings")
        kind = getattr(module, f"{service.title()}Settings")
        lines += ["", f"## {service.title()}", "", *_table(kind, set(Settings.model_fields))]
    lines += ["", "## `posthouse migrate`", "", *_table(MigrationSettings, {"database_url"})]
    lines += ["", "## Commands and libraries", "", "| Variable | Meaning |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in OTHERS.items()]
    return "\n".join(lines) + "\n"


def metrics_text() -> str:
    lines = [
        "# Metrics",
        "",
        "What `/metrics` of the services shows, in Prometheus' format. No label grows with the",
        "number of connections or mails; what is told by connection is told of the worst few.",
        "The metrics under “State” are read from Postgres by every scheduler: take `max`, not",
        "`sum`, over schedulers. This page is written by `python docs/reference.py`.",
        "",
        "## Counted by the services",
        "",
        *_metrics(metrics.described()),
        "",
        "## State",
        "",
        *_metrics(totals.DESCRIBED),
    ]
    return "\n".join(lines) + "\n"


class LogEvent(NamedTuple):
    """What a service logs: the words of `message`, its level, and the fields beside it."""

    service: str
    words: str
    level: str
    fields: tuple[str, ...]


def log_events() -> Iterator[LogEvent]:
    """Every event that the services log, read from their code."""
    for path in sorted([*(ROOT / "services").rglob("*.py"), *(ROOT / "shared").rglob("*.py")]):
        first, second = path.relative_to(ROOT).parts[:2]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name("log" | "_log"), attr=method)) if (
                    method in LEVELS
                ):
                    words = next(a.value for a in node.args if isinstance(a, ast.Constant))
                    fields = tuple(
                        str(k.arg) for k in node.keywords if k.arg not in (None, "exc_info")
                    )
                    service = second if first == "services" else "any"
                    yield LogEvent(service, str(words), LEVELS[method], fields)


def logs_text() -> str:
    lines = [
        "# Log events",
        "",
        "A service writes one JSON object a line to stderr. `message` is one of the events below:",
        "what happened, in the past. What it happened to stands in fields of its own:",
        "",
        "| Field | What it holds |",
        "|---|---|",
        *(f"| `{name}` | {text} |" for name, text in LOG_FIELDS.items()),
        "",
        "Every line has `timestamp`, `level`, `logger`, `service`; those of one job have",
        "`correlation_id`, those of a run `connection`, those within a trace `trace_id` and",
        "`span_id`. An event that is listed with two levels comes with the traceback (`exception`)",
        "where the error is not one of ours. This page is written by `python docs/reference.py`.",
    ]
    found: dict[str, dict[str, tuple[set[str], set[str]]]] = {}
    for event in log_events():
        levels, fields = found.setdefault(event.service, {}).setdefault(event.words, (set(), set()))
        levels.add(event.level)
        fields.update(event.fields)
    for service in (*SERVICES, "any"):
        title = "Any service" if service == "any" else service.title()
        lines += ["", f"## {title}", "", "| Event | Level | Fields |", "|---|---|---|"]
        for words, (levels, fields) in sorted(found[service].items()):
            named = ", ".join(f"`{name}`" for name in sorted(fields)) or "–"
            lines.append(f"| {words} | {', '.join(sorted(levels))} | {named} |")
    return "\n".join(lines) + "\n"


def _table(kind: type[BaseSettings], without: set[str]) -> list[str]:
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in kind.model_fields.items():
        if name not in without:
            text = _cell(field.description or "")
            rows.append(f"| `{PREFIX}{name.upper()}` | {_default(field)} | {text}{_range(field)} |")
    return rows


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, Path):
        return "the temporary folder"
    if value is None or value == "" or value == ():
        return "–"
    if isinstance(value, tuple):
        value = ",".join(str(item) for item in value)
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{_cell(str(value))}`"


def _range(field: FieldInfo) -> str:
    signs = {"Ge": "≥ ", "Gt": "> ", "Le": "≤ ", "Lt": "< "}
    found = [
        f"{signs[type(rule).__name__]}{getattr(rule, type(rule).__name__.lower())}"
        for rule in field.metadata
        if type(rule).__name__ in signs
    ]
    return f" ({', '.join(found)})" if found else ""


def _metrics(described: Any) -> list[str]:
    rows = ["| Metric | Type | Labels | Meaning |", "|---|---|---|---|"]
    for item in described:
        values = LABEL_VALUES.get(item.name.removeprefix("posthouse_"), {})
        labels = "; ".join(
            f"`{label}`: {values[label]}" if label in values else f"`{label}`"
            for label in item.labels
        )
        labels = labels or "–"
        rows.append(f"| `{item.name}` | {item.kind} | {labels} | {_cell(item.text)} |")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    (DOCS / "settings.md").write_text(settings_text(), encoding="utf-8")
    (DOCS / "metrics.md").write_text(metrics_text(), encoding="utf-8")
    (DOCS / "logs.md").write_text(logs_text(), encoding="utf-8")
