"""The fixtures of the servers; each lives in the module of its server."""

import os
import shutil
import tempfile
from collections.abc import Generator

import pytest
from hypothesis import settings

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
    "tests.servers.oidc",
    "tests.servers.oauth_dovecot",
    "tests.servers.gmail",
    "tests.servers.mailutils",
    "tests.servers.pop3_rules",
    "tests.servers.postgres",
    "tests.servers.rabbitmq",
    "tests.servers.redis",
    "tests.servers.webhooks",
]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells how much room there was: servers without any fail in strange ways."""
    report = yield
    if report.failed:
        room = shutil.disk_usage(tempfile.gettempdir()).free >> 20
        report.sections.append(("room", f"{room} MB free in {tempfile.gettempdir()}"))
    return report
