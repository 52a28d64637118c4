"""The limit of sessions at a mail server is the installation's, whatever the number of fetchers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.rig.mails import mail
from tests.rig.proxy import Proxy
from tests.rig.stack import Stack
from tests.servers.courier import Courier
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import MailServer

LIMIT = 4
MAILBOXES = 6
HELD = "SELECT coalesce(sum(held), 0) FROM session_share JOIN fetcher USING (owner)"


@pytest.fixture(params=["courier", "dovecot"])
def few(request: pytest.FixtureRequest) -> Iterator[MailServer]:
    """A server that takes four sessions and two of a client that delivers."""
    if request.param == "courier":
        server: MailServer = Courier(sessions_per_address=LIMIT + 2)
    else:
        server = Dovecot(extra=f"mail_max_userip_connections = {LIMIT + 2}")
    with server:
        yield server


@pytest.mark.promise("M27")
def test_three_fetchers_open_no_more_sessions_than_the_setting_says(
    few: MailServer, mail_user: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Six mailboxes, four sessions, three fetchers, one of which is killed: all are served."""
    users = [f"{mail_user}-{number}" for number in range(MAILBOXES)]
    proxy = Proxy(few.imap_port, seed=1)
    stack = build_stack(redis_url)
    stack.add_handler()
    settings = {"sessions_per_host": str(LIMIT), "lease_seconds": "5"}
    stack.start("scheduler", "decryptor", settings=settings)
    fetchers = stack.start("fetcher", "fetcher", "fetcher", settings=settings)
    try:
        for number, user in enumerate(users):
            stack.watch(few, user, port=proxy.port)
            few.deliver(user, [mail(number, 500, seed=49)])
        stack.wait(partial(delivered, stack, MAILBOXES), "each mailbox gave its mail", 60)
        for number, user in enumerate(users):
            few.deliver(user, [mail(MAILBOXES + number, 500, seed=49)])
        stack.hurry()
        stack.wait(partial(delivered, stack, 2 * MAILBOXES), "the new mails come", 60)
        assert stack.query(HELD)[0][0] <= LIMIT
        stack.kill(fetchers[0])
        stack.wait(lambda: stack.count("fetcher") == 2, "the dead one's share is free", 30)
        for number, user in enumerate(users):
            few.deliver(user, [mail(2 * MAILBOXES + number, 500, seed=49)])
        stack.hurry()
        stack.wait(partial(delivered, stack, 3 * MAILBOXES), "they come without it", 60)
        stack.wait(lambda: stack.query(HELD) == [(LIMIT,)], "all that is allowed is used")
        assert stack.query("SELECT DISTINCT health FROM connection_state") == [("working",)]
        stack.stop()
    finally:
        proxy.close()
    assert proxy.highest <= LIMIT
    log = stack.log_of("fetcher").read_text()
    assert "a mail server takes no more sessions" not in log


def delivered(stack: Stack, wanted: int) -> bool:
    return stack.count("delivery") == wanted
