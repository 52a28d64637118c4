"""A store with less room than one mail needs: smaller ones go on, that one waits, nothing is green.

For an administrator: the connection is failing with `store-full` (its page, `connection-failing`,
`posthouse_fetch_runs_total`) until there is room. Where the store is full for all, see
test_full_disks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.store import FileStore
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.small_disk import SmallDisk, small_disk
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import MailServer
from tests.servers.pop3_rules import gmail_rules

pytestmark = [pytest.mark.rooted, pytest.mark.promise("M7", "M19", "I1", "I5")]

LARGE = mail(50, 6_000_000, seed=21)
LARGER = mail(51, 7_000_000, seed=21)
SMALL = [mail(number, 150_000, seed=21) for number in range(8)]
MAILS = [*SMALL[:3], LARGE, *SMALL[3:6], LARGER, *SMALL[6:]]
STATE = "SELECT health, error ->> 'code' FROM connection_state"


@dataclass(frozen=True)
class Site:
    here: FetcherHere
    disk: SmallDisk

    def is_full(self) -> bool:
        return self.here.stack.query(STATE) == [("failing", "store-full")]


@pytest.fixture
def site(redis_url: str, build_stack: Callable[..., Stack], tmp_path: Path) -> Iterator[Site]:
    with small_disk(tmp_path / "store", megabytes=24) as disk:
        stack = build_stack(redis_url)
        stack.add_handler()
        disk.fill(leaving=4_000_000)
        with FetcherHere(stack).working() as here:
            yield Site(here, disk)


@contextmanager
def gmail(_: Dovecot, user: str) -> Iterator[tuple[MailServer, Callable[[], int], str]]:
    with gmail_rules() as server:
        server.deliver(user, MAILS)
        yield server, lambda: len(server.left(user)), "pop3"


@contextmanager
def imap(dovecot: Dovecot, user: str) -> Iterator[tuple[MailServer, Callable[[], int], str]]:
    dovecot.deliver(user, MAILS)
    yield dovecot, lambda: len(dovecot.flags(user)), "imap"


Server = Callable[[Dovecot, str], AbstractContextManager[tuple[MailServer, Callable[[], int], str]]]


@pytest.mark.parametrize("sizes", ["known", "found out"])
@pytest.mark.parametrize("server", [imap, gmail], ids=["imap", "gmail"])
def test_a_mail_without_room_keeps_no_smaller_ones_out(
    server: Server,
    sizes: str,
    site: Site,
    dovecot: Dovecot,
    mail_user: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if sizes == "found out":
        monkeypatch.setattr(FileStore, "space", lambda self: None)  # as an object store
    here = site.here
    with server(dovecot, mail_user) as (there, left, mode):
        connection = here.stack.watch(there, mail_user, mode=mode, after_download="delete")
        here.run(connection)
        assert here.had() == digests(SMALL)
        assert site.is_full()
        here.run(connection)
        assert site.is_full(), "green while a mail waits"
        assert left() == 2, "those that are here are settled, and no other"
        assert here.stack.count("quarantine") == 0

        site.disk.free()
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS)
        assert here.stack.query(STATE) == [("working", None)]
        assert left() == 0


@pytest.mark.parametrize("sizes", ["known", "found out"])
def test_what_has_room_is_kept_of_a_batch_that_has_not(
    sizes: str, site: Site, dovecot: Dovecot, mail_user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mails of one size, of which not all fit: those that do are there after the first run."""
    if sizes == "found out":
        monkeypatch.setattr(FileStore, "space", lambda self: None)
    many = [mail(number, 500_000, seed=22) for number in range(12)]
    here = site.here
    dovecot.deliver(mail_user, many)
    connection = here.stack.watch(dovecot, mail_user, after_download="delete")
    here.run(connection)
    assert len(here.had()) >= 4
    assert site.is_full()
    site.disk.free()
    here.run_until_idle(connection)
    assert here.had() == digests(many)
    assert dovecot.flags(mail_user) == {}
