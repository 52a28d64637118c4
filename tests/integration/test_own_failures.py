"""What fails here is no reason to log in again: mail servers count logins, and lock out for them.

For an administrator: the run is failing with its reason (the connection's page, the
`connection-failing` alert, `posthouse_fetch_runs_total`), and the mailbox has one login a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from shared.errors import LeaseLost, SecretKeyMissing
from shared.storage.pool import DatabaseUnavailable
from shared.store import StoreFull
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.proxy import Proxy
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

FIRST, *OTHERS = [mail(number, 900, seed=31) for number in range(4)]


class Site:
    """A mailbox whose session is kept after its first mail; logins are counted on the way."""

    def __init__(self, here: FetcherHere, dovecot: Dovecot, user: str, proxy: Proxy) -> None:
        self.here, self.proxy = here, proxy
        dovecot.deliver(user, [FIRST])
        self.connection = here.stack.watch(dovecot, user, port=proxy.port)
        self.run()
        assert (self.logins, here.had()) == (1, digests([FIRST]))
        dovecot.deliver(user, OTHERS)

    @property
    def logins(self) -> int:
        return self.proxy.taken

    def run(self) -> None:
        self.here.run(self.connection)

    def comes_after_one_more_login(self) -> None:
        self.run()
        assert self.here.had() == digests([FIRST, *OTHERS])
        assert self.logins == 2
        assert self.here.stack.count("quarantine") == 0


@pytest.fixture
def site(
    redis_url: str, build_stack: Callable[..., Stack], dovecot: Dovecot, mail_user: str
) -> Iterator[Site]:
    # A session that died and was counted on would be the only one that may be.
    stack = build_stack(redis_url, sessions_per_mailbox="1")
    stack.add_handler()
    proxy = Proxy(dovecot.imap_port, seed=1)
    with FetcherHere(stack).working() as here:
        yield Site(here, dovecot, mail_user, proxy)
    proxy.close()


@pytest.mark.promise("I1", "M7")
@pytest.mark.parametrize(
    "fault",
    [
        lambda: DatabaseUnavailable("Postgres went away."),
        lambda: StoreFull("There is no room for another mail."),
        lambda: LeaseLost("Somebody else holds the lease."),
        lambda: SecretKeyMissing("Sealed with a key that is not here."),
    ],
    ids=["database", "store", "lease", "key"],
)
@pytest.mark.parametrize("step", ["listed", "downloaded", "stored", "committed"])
def test_a_failure_of_our_own_costs_no_second_login(
    step: str, fault: Callable[[], Exception], site: Site
) -> None:
    happened = site.here.fail_at(step, fault)
    site.run()
    assert happened
    assert site.logins == 1, "it logged in again, for a failure that is none of the server's"
    site.here.stop_failing()
    site.comes_after_one_more_login()


@pytest.mark.promise("I1", "M7")
def test_a_store_that_is_away_costs_no_second_login(site: Site) -> None:
    store = site.here.stack.store
    elsewhere = store.rename(store.with_name("elsewhere"))
    store.write_text("no folder")
    site.run()
    assert site.logins == 1
    ((why,),) = site.here.stack.query(
        "SELECT error ->> 'message' FROM fetch_run WHERE error IS NOT NULL"
    )
    assert "could not write to the store" in why
    store.unlink()
    elsewhere.rename(store)
    site.comes_after_one_more_login()


@pytest.mark.promise("M4")
@pytest.mark.parametrize("begins", ["with a poll", "with a look at all of it"])
def test_a_session_that_died_is_replaced_within_the_run(begins: str, site: Site) -> None:
    """The other side of it: what the server may heal with a new session is asked of it at once."""
    if begins != "with a poll":
        site.here.stack.execute("UPDATE connection_state SET pruned_at = now() - interval '25 h'")
    site.proxy.drop()
    site.comes_after_one_more_login()
