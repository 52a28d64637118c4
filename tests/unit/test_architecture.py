"""The import contracts catch what they say: violations are planted in a copy of the tree."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.queueing.broker import RabbitmqJobs, RedisJobs

ROOT = Path(__file__).parents[2]
#: (where, what is imported there, words of the contract that forbids it)
PLANTED = [
    ("shared/handlers.py", "import psycopg", "Postgres only in storage"),
    ("services/fetcher/storing.py", "import psycopg", "Postgres only in storage"),
    ("shared/handlers.py", "import imaplib", "no tests in the product"),
    ("services/scheduler/emitting.py", "import imapclient", "mail protocols only in mailbox"),
    ("shared/handlers.py", "import dramatiq", "brokers only in queueing"),
    ("services/decryptor/spool.py", "import redis", "brokers only in queueing"),
    ("shared/utils.py", "import psycopg", "Postgres only in storage"),
    ("shared/utils.py", "", "inside shared"),
    ("shared/mailbox/pop3/login.py", "import shared.mailbox.imap.login", "inside mailbox"),
    ("shared/mailbox/extra.py", "", "inside mailbox"),
    ("services/admin/operations/people.py", "import services.admin.pages.app", "inside admin"),
    ("services/admin/pages/mails.py", "import services.admin.api.messages", "inside admin"),
    ("services/admin/pages/mails.py", "import shared.storage.people", "storage is reached"),
    ("services/admin/extra.py", "", "inside admin"),
    ("services/fetcher/storing.py", "import services.fetcher.fetch_job", "inside the fetcher"),
    ("services/decryptor/cms/ber.py", "import services.decryptor.trust", "inside the decryptor"),
    (
        "services/scheduler/queue_guard.py",
        "import services.scheduler.retention",
        "inside the sched",
    ),
    ("services/fetcher/main.py", "import services.admin.app", "services never import"),
    ("services/fetcher/main.py", "import fastapi", "the web only in admin"),
    ("shared/vault.py", "import services.fetcher.main", "cli, then services"),
    ("sdk/src/posthouse/event.py", "import shared.errors", "cli, then services"),
    ("services/scheduler/retention.py", "import services.scheduler.main", "no circles"),
    ("shared/clock.py", "import tests.rig", "no tests in the product"),
    ("cli/tail.py", "import psycopg", "Postgres only in storage"),
    ("cli/connections_commands.py", "import shared.storage.people", "storage is reached"),
    ("services/fetcher/storing.py", "import obstore", "object stores only in the store"),
    ("services/fetcher/run.py", "import cel_expr_python", "expressions only where rules are"),
    ("shared/telemetry/logs.py", "import rich", "the terminal only in the command line"),
    ("shared/forwarding/signed_links.py", "import OpenSSL", "foreign formats of keys"),
    (
        "services/forwarder/forward_worker.py",
        "import services.forwarder.forward_workers",
        "inside the forwarder",
    ),
    ("shared/storage/outbox.py", "import shared.mailbox.base", "inside shared"),
    ("services/admin/pages/mails.py", "import shared.mailbox.imap.session", "packages of kinds"),
    ("services/scheduler/emitting.py", "import httpx", "HTTP only where addresses"),
    ("shared/rules/ruleset.py", "import shared.telemetry.metrics", "values know no settings"),
    ("services/scheduler/emitting.py", "import requests", "requests only for single sign-on"),
    ("services/admin/operations/people.py", "import fastapi", "operations know no web"),
    ("services/decryptor/spool.py", "import shared.mailbox.open", "a mailbox is opened where"),
    (
        "services/forwarder/forward_worker.py",
        "import confluent_kafka",
        "clients of endpoints only in",
    ),
    ("services/admin/pages/mails.py", "import shared.store.open", "raw mails only where"),
]


def test_nothing_private_of_dramatiq_is_used() -> None:
    """What begins with an underscore changes without notice."""
    for path in (ROOT / "shared/queueing").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"from dramatiq\S* import .*\b_\w+", text), path
        tree = ast.parse(text)
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and re.fullmatch(r"_[a-z]\w*", node.attr)
        }
        own = {
            name
            for node in ast.walk(tree)
            for name in [
                node.name if isinstance(node, ast.FunctionDef) else "",
                node.attr
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
                else "",
            ]
        }
        assert not used - own, path
    for broker in (RedisJobs, RabbitmqJobs):
        inherited = {name for base in broker.__mro__[1:] for name in vars(base)}
        # As the source has them: dramatiq sets some on the class while it runs.
        (written,) = ast.parse(inspect.getsource(broker)).body
        assert isinstance(written, ast.ClassDef)
        own = {node.name for node in written.body if isinstance(node, ast.FunctionDef)}
        own |= {
            target.id
            for node in written.body
            if isinstance(node, (ast.Assign, ast.AnnAssign))
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        assert not {name for name in own if re.fullmatch(r"_[a-z]\w*", name)} & inherited


def test_the_sdk_needs_only_python_and_the_client_of_a_broker() -> None:
    """Handlers' authors install it into environments of theirs."""
    project = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {re.split(r"\W", one)[0] for names in extras.values() for one in names}
    assert not project["dependencies"]
    allowed = sys.stdlib_module_names | wanted | {"posthouse"}
    for path in (ROOT / "sdk/src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert {name.split(".")[0] for name in names} <= allowed, path


#: Run in the tree: reads what to plant, a line of JSON each, and says which contracts that breaks.
#: One process for all: what does not change is read once.
_PLANTING = """
import contextlib, io, json, pathlib, sys
sys.path[:0] = ["sdk/src", "."]
from importlinter.cli import lint_imports
for line in sys.stdin:
    place, statement = json.loads(line)
    path = pathlib.Path(place)
    before = path.read_text() if path.exists() else None
    path.write_text((before or "") + statement)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        lint_imports(cache_dir=".import_linter_cache")
    print(json.dumps([one for one in said.getvalue().splitlines() if "BROKEN" in one]))
    if before is None:
        path.unlink()
    else:
        path.write_text(before)
"""


def broken_contracts(tree: Path, planted: Sequence[tuple[str, str]]) -> list[str]:
    """For each (file, statement at its end), the contracts that the tree breaks with it alone."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _PLANTING],
        input="\n".join(json.dumps(one) for one in planted),
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
    )
    return [" ".join(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for part in ("cli", "services", "shared", "sdk/src", "pyproject.toml"):
        if (ROOT / part).is_dir():
            shutil.copytree(
                ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / part, tmp_path / part)
    return tmp_path


def test_every_planted_import_is_caught(tree: Path) -> None:
    nothing = ("shared/handlers.py", "")
    planted = [(place, f"\n{statement}\n") for place, statement, _ in PLANTED]
    without, *found, after = broken_contracts(tree, [nothing, *planted, nothing])
    assert (without, after) == ("", "")
    missed = [
        f"{place}: {statement or 'a module that no layer names'}"
        for (place, statement, contract), broken in zip(PLANTED, found, strict=True)
        if contract not in broken
    ]
    assert not missed
