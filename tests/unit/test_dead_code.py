"""Nothing in the product is there for tests only, and every setting, metric and field is used."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from services.admin.settings import AdminSettings
from services.decryptor.settings import DecryptorSettings
from services.fetcher.settings import FetcherSettings
from services.forwarder.settings import ForwarderSettings
from services.scheduler.settings import SchedulerSettings

ROOT = Path(__file__).parents[2]
OURS = ("cli", "services", "shared")
#: Decorators that register nothing: what has none but these is called by its name.
PLAIN_DECORATORS = {
    "abstractmethod",
    "cache",
    "cached_property",
    "classmethod",
    "contextmanager",
    "dataclass",
    "lru_cache",
    "property",
    "staticmethod",
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
#: Called by a library under this name.
CALLED_BY_A_LIBRARY = {
    "_connect_to_server",  # nats-py
    "before_process_message",  # dramatiq
    "collect",  # prometheus_client
    "format_commands",  # typer
    "get_extra_info",  # httpcore
    "handle_DATA",  # aiosmtpd
    "log_message",  # http.server
    "on_body",  # httptools
    "on_header",  # httptools
    "on_headers_complete",  # httptools
    "on_message_begin",  # httptools
    "on_message_complete",  # httptools
    "rename_mailbox",  # pymap
}
#: The mailbox that tests and newcomers can open without a server.
ON_PURPOSE = {"MemoryMailbox"}


@cache
def trees() -> dict[Path, ast.Module]:
    return {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for top in (*OURS, "sdk/src")
        for path in (ROOT / top).rglob("*.py")
    }


def nodes() -> Iterator[ast.AST]:
    for path, tree in trees().items():
        if path.relative_to(ROOT).parts[0] in OURS:
            yield from ast.walk(tree)


@cache
def words() -> Counter[str]:
    """How often each word is written in code, templates and queries; comments do not count."""
    found: Counter[str] = Counter()
    for tree in trees().values():
        copy = ast.parse(ast.unparse(tree))
        for node in ast.walk(copy):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
        found.update(re.findall(r"\w+", ast.unparse(copy)))
    for top in OURS:
        for path in (ROOT / top).rglob("*"):
            if path.suffix in {".html", ".js", ".sql", ".mako"}:
                found.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    found.update(re.findall(r"\w+", (ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    return found


def test_every_function_and_class_is_used_by_the_product() -> None:
    defined: Counter[str] = Counter()
    for node in nodes():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            decorators = {
                re.findall(r"\w+", ast.unparse(one).partition("(")[0])[-1]
                for one in node.decorator_list
            }
            if decorators <= PLAIN_DECORATORS and not node.name.startswith("__"):
                defined[node.name] += 1
    dead = {name for name, count in defined.items() if words()[name] <= count}
    assert not sorted(dead - CALLED_BY_A_LIBRARY - ON_PURPOSE)


def test_every_setting_is_read() -> None:
    classes = (
        AdminSettings,
        DecryptorSettings,
        FetcherSettings,
        ForwarderSettings,
        SchedulerSettings,
    )
    fields = {name for one in classes for name in one.model_fields}
    assert not sorted(fields - {node.attr for node in nodes() if isinstance(node, ast.Attribute)})


def test_every_metric_is_emitted() -> None:
    source = (ROOT / "shared/telemetry/metrics.py").read_text(encoding="utf-8")
    made = r"^([A-Z][A-Z_]+)(?:: Final)? = (?:_counter|_gauge|_histogram|Info)"
    names = re.findall(made, source, re.MULTILINE)
    inside = Counter(re.findall(r"\w+", source))
    assert len(names) > 30
    assert not [name for name in names if words()[name] <= inside[name]]


def test_log_events_are_words() -> None:
    events = [
        node.args[0].value
        for node in nodes()
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"debug", "info", "warning", "error", "exception", "critical"}
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]
    assert len(events) > 50
    assert not [event for event in events if re.fullmatch(r"\w+([-._]\w+)+", str(event))]
