"""The fixtures of the servers; each lives in the module of its server."""

import gc
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.rig.commands import Commands
from tests.rig.temporary_files import keep_in_memory

keep_in_memory()

# A busy machine is no failure; CI judges a change by the same examples every time.
settings.register_profile("posthouse", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("posthouse")

pytest_plugins = [
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


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_in_the_working_folder() -> Generator[None]:
    """Servers under test leave dumps, logs and data in folders of their own."""
    before = left_in(Path.cwd())
    yield
    assert left_in(Path.cwd()) - before == set(), "a server under test left this behind"


@pytest.fixture(scope="session")
def commands() -> Generator[Commands]:
    """Runs `posthouse …`."""
    process = Commands()
    yield process
    process.close()


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - OWN


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no collection of garbage goes over it again."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells how much room there was: servers without any fail in strange ways."""
    report = yield
    if report.failed:
        room = shutil.disk_usage(tempfile.gettempdir()).free >> 20
        report.sections.append(("room", f"{room} MB free in {tempfile.gettempdir()}"))
    return report
