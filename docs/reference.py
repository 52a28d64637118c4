"""Writes docs/settings.md and docs/metrics.md from the code: `python docs/reference.py`.

A test compares both files with what this would write, so neither can tell of what is not there.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from shared.settings import PREFIX, MigrationSettings, Settings
from shared.telemetry import metrics, totals

DOCS: Final = Path(__file__).parent
SERVICES: Final = ("scheduler", "fetcher", "decryptor", "forwarder", "admin")

#: Variables that are read elsewhere than in a settings class.
OTHERS: Final = {
    "POSTHOUSE_URL": "Commands that talk to the API, and handlers' programs: where it is "
    "(commands: by default that of `up`).",
    "POSTHOUSE_TOKEN": "Commands that talk to the API: the token.",
    "POSTHOUSE_DATA_DIR": "`up`: the folder that everything is kept in (`--data-dir`).",
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
        labels = ", ".join(f"`{label}`" for label in item.labels) or "–"
        rows.append(f"| `{item.name}` | {item.kind} | {labels} | {_cell(item.text)} |")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    (DOCS / "settings.md").write_text(settings_text(), encoding="utf-8")
    (DOCS / "metrics.md").write_text(metrics_text(), encoding="utf-8")
