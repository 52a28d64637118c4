"""A fetcher's sessions where other fetchers wait for a session at the same server."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import pytest

from services.fetcher.session_limits import PoolLimits
from services.fetcher.session_opening import HostBusy
from services.fetcher.session_pool import SessionPool
from services.fetcher.session_shares import GrantedShare, Limit, OneFetcher
from shared.storage.pool import DatabaseUnavailable
from tests.unit.test_kept_sessions import Opened, connection, use

HOST = "mail.example.org"


class Others(OneFetcher):
    """Other fetchers wait there: this one may keep so many. Knows the share told last."""

    def __init__(self) -> None:
        super().__init__()
        self.may_keep: dict[str, int] = {}
        self.told: dict[str, int] = {}
        self.counts = True

    def request(self, destination: str, held: int, many: int, limit: int) -> GrantedShare:
        if not self.counts and destination != HOST:
            return GrantedShare(0, counted=False)
        return super().request(destination, held, many, limit)

    def contested(self) -> Sequence[str]:
        return list(self.may_keep)

    def wanted_by_others(self, destinations: Sequence[str], limit: Limit) -> dict[str, int]:
        return dict(self.may_keep)

    def hold(self, held: Mapping[str, int], anew: bool) -> None:
        self.told.update(held)


def pool(opened: Opened, table: Others) -> SessionPool:
    return SessionPool(
        opened,
        PoolLimits(kept=10, listening=10, per_host=10, per_mailbox=5),
        on_push=lambda connection_id: None,
        on_lost=lambda connection_id, error: None,
        table=table,
    )


def test_a_session_for_whose_permit_another_fetcher_waits_is_not_kept_after_its_run() -> None:
    opened, others = Opened(), Others()
    sessions = pool(opened, others)
    first, second = connection(1), connection(2)
    running = [(one, sessions.take(one)[0]) for one in (first, second)]
    others.may_keep = {HOST: 1}
    sessions.give_up_shares()
    assert opened.closed == []  # both are used
    for one, mailbox in running:
        sessions.give_back(one, mailbox, healthy=True)
    assert opened.closed == [1]
    assert sessions.has_idle_session(2)


def test_the_permit_of_a_session_is_not_given_up_while_it_is_being_closed() -> None:
    """Its server counts it until then; and no other one has to go in its stead."""
    opened, others = Opened(), Others()
    sessions = pool(opened, others)
    use(sessions, connection(1))
    mailbox, _ = sessions.take(connection(2))
    closing, go_on = threading.Event(), threading.Event()

    def close() -> None:
        closing.set()
        assert go_on.wait(30)

    mailbox.close = close  # type: ignore[method-assign]
    sessions.give_back(connection(2), mailbox, healthy=True)
    ending = threading.Thread(target=sessions.drop, args=([2],))
    ending.start()
    assert closing.wait(30)
    others.may_keep = {HOST: 1}
    for _ in range(3):
        sessions.give_up_shares()
    assert HOST not in others.told
    assert sessions.has_idle_session(1)
    go_on.set()
    ending.join()
    for _ in range(2):
        sessions.give_up_shares()
    assert others.told == {HOST: 1}


def test_nobody_goes_for_a_permit_that_was_taken_meanwhile_where_the_share_can_grow() -> None:
    opened = Opened()
    sessions = pool(opened, Others())
    use(sessions, connection(1))
    asked = sessions.shares.request

    def ask(destination: str, needed: int) -> bool:
        granted = asked(destination, needed)
        sessions.shares.request = asked  # type: ignore[method-assign]
        use(sessions, connection(3))  # another run is quicker
        return granted

    sessions.shares.request = ask  # type: ignore[method-assign]
    use(sessions, connection(2))
    assert opened.closed == []
    assert len(sessions) == 3


def test_the_sessions_of_a_mailbox_are_shared_with_other_fetchers_too() -> None:
    opened, others = Opened(), Others()
    sessions = pool(opened, others)
    for number in (1, 2, 3):
        use(sessions, connection(number, username="team", folder=f"f{number}"))
    others.may_keep = {f"team at {HOST}": 1}
    sessions.give_up_shares()
    assert opened.closed == [1, 2]
    sessions.give_up_shares()
    assert others.told == {f"team at {HOST}": 1}
    assert [number for number in (1, 2, 3) if sessions.has_idle_session(number)] == [3]


def test_a_session_that_was_not_counted_is_counted_once_another_fetcher_waits_for_it() -> None:
    """The mailbox had one connection when it was opened: nobody had to count it."""
    opened, others = Opened(), Others()
    others.counts = False
    sessions = pool(opened, others)
    use(sessions, connection(1, username="team"))
    others.may_keep = {f"team at {HOST}": 0}
    sessions.give_up_shares()
    assert others.told == {f"team at {HOST}": 1}
    assert opened.closed == [1]


def test_no_session_is_opened_while_nobody_can_say_how_many_others_have() -> None:
    opened = Opened()

    class Away(Others):
        def request(self, destination: str, held: int, many: int, limit: int) -> GrantedShare:
            raise DatabaseUnavailable("Postgres is away.")

    with pytest.raises(HostBusy, match="cannot be counted"):
        pool(opened, Away()).take(connection(1))
    assert opened.calls == []
