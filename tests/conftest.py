"""The fixtures of the servers; each lives in the module of its server."""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Set
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from services.fetcher import mixed_up_mails
from shared.mailbox.net import pipelining
from shared.mailbox.pop3 import capa_breaks
from tests.rig.commands import Commands
from tests.rig.temporary_files import keep_in_memory

keep_in_memory()
# Nearly all that is made until the first test begins stays: a third of that time went into
# collections that found nothing.
gc.disable()

# A busy machine is no failure; CI judges a change by the same examples every time.
settings.register_profile("posthouse", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("posthouse")

# As by default, but for tracebacks: with every variable in them drawn in colours, which takes a
# tenth of a second for each error that the services in a test's own process log.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

pytest_plugins = [
    "tests.alone",
    "tests.servers.certificates",
    "tests.servers.chromium",
    "tests.servers.dovecot",
    "tests.servers.courier",
    "tests.servers.cyrus",
    "tests.servers.graph",
    "tests.servers.kafka",
    "tests.servers.nats",
    "tests.servers.oidc",
    "tests.servers.oauth_dovecot",
    "tests.servers.gmail",
    "tests.servers.mailutils",
    "tests.servers.openssl_ca",
    "tests.servers.pop3_rules",
    "tests.servers.postgres",
    "tests.servers.rabbitmq",
    "tests.servers.redis",
    "tests.servers.s3",
    "tests.servers.webhooks",
]


#: What tools of our own keep there.
OWN = {
    ".hypothesis",
    ".import_linter_cache",
    ".mypy_cache",
    ".pictures",
    ".pytest_cache",
    ".ruff_cache",
}


#: What was in the working folder before the first test.
THERE = pytest.StashKey[Set[str]]()
#: The exit code where there is more after the last one: no test is to blame, or to be tried again.
LEFT_BEHIND = 10


def pytest_sessionstart(session: pytest.Session) -> None:
    session.stash[THERE] = left_in(Path.cwd())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Servers under test leave dumps, logs and data in folders of their own."""
    left = left_in(Path.cwd()) - session.stash[THERE]
    if left and not hasattr(session.config, "workerinput"):
        session.exitstatus = LEFT_BEHIND
        print(f"A server under test left behind: {sorted(left)}", file=sys.stderr)


@pytest.fixture(autouse=True)
def servers_are_met_anew() -> None:
    """A port that a server of another test had says nothing of the next one there."""
    pipelining.KNOWN.clear()
    capa_breaks.KNOWN.clear()
    mixed_up_mails.KNOWN.clear()


@pytest.fixture(scope="session")
def commands() -> Generator[Commands]:
    """Runs `posthouse …`."""
    process = Commands()
    yield process
    process.close()


def left_in(folder: Path) -> Set[str]:
    return {path.name for path in folder.iterdir()} - OWN


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no collection of garbage goes over it again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells how much room there was: servers without any fail in strange ways."""
    report = yield
    if report.failed:
        room = shutil.disk_usage(tempfile.gettempdir()).free >> 20
        report.sections.append(("room", f"{room} MB free in {tempfile.gettempdir()}"))
    return report
