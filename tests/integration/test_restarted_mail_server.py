"""A mail server that starts anew while sessions are open has no fewer of them afterwards.

For an administrator: nothing is said of a limit on the pages of its connections or in the fetcher's
log, and all mailboxes go on side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from services.fetcher.session_limits import PoolLimits
from services.fetcher.session_pool import SessionPool
from shared.clock import utc_now
from shared.connections import Connection
from shared.mailbox.base import Login, Mailbox
from shared.mailbox.open import open_mailbox
from tests.integration.mail_sessions import connection_to
from tests.rig.mails import mail
from tests.rig.proxy import Proxy
from tests.servers.dovecot import Dovecot

USERS = tuple(f"user-{number}" for number in range(5))


def mailboxes(server: Dovecot, port: int) -> list[Connection]:
    """Of five people on this server."""
    for user in USERS:
        server.deliver(user, [mail(0, 300, seed=49)])
    edited = utc_now()
    return [
        replace(connection_to(port, username=user), id=number, updated_at=edited)
        for number, user in enumerate(USERS)
    ]


def pool(meanwhile: Callable[[], None]) -> SessionPool:
    """`meanwhile`: what happens while it waits for the room of a session that gave way."""

    def opener(connection: Connection) -> Mailbox:
        return open_mailbox(connection, Login(connection.username, "secret"), read_timeout_s=5)

    return SessionPool(
        opener,
        PoolLimits(kept=10, listening=10, per_host=10, per_mailbox=5),
        on_push=lambda connection_id: None,
        on_lost=lambda connection_id, error: None,
        wait=lambda seconds: meanwhile(),
    )


def use(sessions: SessionPool, connection: Connection) -> None:
    mailbox, _ = sessions.take(connection)
    sessions.give_back(connection, mailbox, healthy=True)


@pytest.mark.promise("M27")
def test_a_server_that_starts_anew_beside_two_sessions_takes_more_than_two() -> None:
    with Dovecot() as server:
        them = mailboxes(server, server.imap_port)
        started: list[bool] = []

        def starts() -> None:
            if not started:
                started.append(True)
                server.start()

        sessions = pool(starts)
        with closing(sessions):
            use(sessions, them[0])
            use(sessions, them[1])
            server.stop()
            for one in them[2:]:
                use(sessions, one)  # the first one is refused, and waits until it is back
            assert not sessions.shares.knows(them[0].host)
            assert all(sessions.has_idle_session(one.id) for one in them[2:])


@pytest.mark.promise("M27")
def test_a_server_that_ends_the_third_session_beside_two_that_live_takes_two() -> None:
    with Dovecot() as server, closing(Proxy(server.imap_port, seed=1, most=2)) as proxy:
        them = mailboxes(server, proxy.port)
        sessions = pool(lambda: None)
        with closing(sessions):
            for one in them:
                use(sessions, one)
            assert sessions.shares.knows(them[0].host)
            assert len(sessions) == 2
