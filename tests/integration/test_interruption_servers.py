"""Interrupted at every step over every server: nothing is lost, nothing is left behind.

A service is killed, or one of our own servers fails (database, store, broker, lease), exactly at a
named step of a fetch. `make test` takes each server with each kind of interruption once; all of
them together are `make servers-check`.

For an administrator: as in test_interruption.py; a broker or store that stays away is told as in
test_own_health.py, and a Postgres that does not answer by the rule PosthouseStateUnreadable.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from services.fetcher.run import STEPS
from tests.rig.faults import FAULTS
from tests.rig.interruption import SETTINGS, Scenario
from tests.rig.server_kinds import FOREIGN, KINDS, ServerKind, marks
from tests.rig.stack import Stack
from tests.servers.mail_server import MailServer
from tests.servers.redis import RedisServer

ACTIONS = ("mark-read", "delete")
#: What `make test` takes; over Dovecot everything is killed in test_interruption.py.
KILLED = {("committed", "mark-read"), ("server-settled", "delete")}
FAILED = {
    ("database-without-space", "downloaded", "delete"),
    ("database-without-space", "server-settled", "mark-read"),
    ("lease-lost", "stored", "delete"),
}
#: The same from whatever server a mail comes: over Dovecot only.
FAILED_ONCE = {
    ("database-read-only", "stored", "mark-read"),
    ("store-away", "downloaded", "mark-read"),
    ("broker-away", "committed", "delete"),
}


def kills() -> Iterator[object]:
    for kind in FOREIGN:
        for step in STEPS:
            for action in ACTIONS:
                chosen = marks(kind, long=(step, action) not in KILLED)
                yield pytest.param(
                    kind, step, action, marks=chosen, id=f"{kind.name}-{step}-{action}"
                )


def failures() -> Iterator[object]:
    for kind in KINDS:
        for fault in FAULTS:
            for step in STEPS:
                for action in ACTIONS:
                    short = FAILED | FAILED_ONCE if kind.first else FAILED
                    chosen = marks(kind, long=(fault, step, action) not in short)
                    name = f"{kind.name}-{fault}-{step}-{action}"
                    yield pytest.param(kind, fault, step, action, marks=chosen, id=name)


@pytest.fixture
def user(request: pytest.FixtureRequest) -> Iterator[tuple[MailServer, str]]:
    """The server of the test's kind, and a user that nobody had before."""
    server = request.node.callspec.params["kind"].server(request)
    name = f"user{uuid.uuid4().hex[:10]}"
    server.add_user(name)
    yield server, name
    server.forget_user(name)


@pytest.mark.promise("M7", "M26", "I1", "I3")
@pytest.mark.parametrize(("kind", "step", "after_download"), list(kills()))
def test_fetcher_dies(
    kind: ServerKind,
    step: str,
    after_download: str,
    user: tuple[MailServer, str],
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    stack = build_stack(redis_url, **SETTINGS)
    Scenario(stack, kind, *user, redis_url, after_download).kill("fetcher", step)


@pytest.mark.promise("M7", "M26", "I1", "I3")
@pytest.mark.parametrize(("kind", "fault", "step", "after_download"), list(failures()))
def test_our_own_servers_fail(
    kind: ServerKind,
    fault: str,
    step: str,
    after_download: str,
    user: tuple[MailServer, str],
    redis_url: str,
    redis_server: RedisServer,
    build_stack: Callable[..., Stack],
) -> None:
    stack = build_stack(redis_url, **SETTINGS)
    scenario = Scenario(stack, kind, *user, redis_url, after_download)
    scenario.fail(FAULTS[fault], step, redis_server)
