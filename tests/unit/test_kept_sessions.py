"""How many sessions a fetcher keeps, and for whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from services.fetcher.pipelined_polls import PollAnswer, poll_all
from services.fetcher.session_limits import PoolLimits
from services.fetcher.session_opening import HostBusy
from services.fetcher.session_pool import SessionPool
from shared.connections import Connection, Mode
from shared.mailbox.base import Mailbox
from shared.mailbox.failures import SessionLost, Unreachable
from shared.mailbox.in_memory import MemoryAccount, MemoryMailbox

EDITED = datetime(2026, 1, 1, tzinfo=UTC)


def connection(number: int, host: str = "mail.example.org", **fields: Any) -> Connection:
    return Connection(
        id=number,
        name=f"c{number}",
        host=host,
        username=fields.pop("username", f"user{number}"),
        mode=fields.pop("mode", Mode.IMAP),
        updated_at=EDITED,
        **fields,
    )


class Opened:
    """Opens mailboxes in memory, and remembers for whom."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.closed: list[int] = []
        self.failure: Exception | None = None
        #: Each meets one session that is to be opened.
        self.refusals: list[Exception] = []
        self.meanwhile: Callable[[], None] = lambda: None  # while a run waits
        #: With more sessions open than this, the next one ends at the greeting.
        self.most: int | None = None
        self.open = 0

    def __call__(self, wanted: Connection) -> Mailbox:
        self.calls.append(wanted.id)
        if self.failure is not None:
            raise self.failure
        if self.refusals:
            raise self.refusals.pop()
        if self.most is not None and self.open >= self.most:
            raise SessionLost("The mail server closed the connection.", step="greeting")
        mailbox = MemoryMailbox(MemoryAccount())
        self.open += 1

        def close() -> None:
            self.open -= 1
            self.closed.append(wanted.id)

        mailbox.close = close  # type: ignore[method-assign]
        return mailbox


def pool(opened: Opened, **limits: int) -> SessionPool:
    chosen = {"kept": 10, "listening": 10, "per_host": 10, "per_mailbox": 5, **limits}
    return SessionPool(
        opened,
        PoolLimits(**chosen),
        on_push=lambda connection_id: None,
        on_lost=lambda connection_id, error: None,
        wait=lambda seconds: opened.meanwhile(),
    )


def use(sessions: SessionPool, wanted: Connection) -> bool:
    """One run; whether its session was open already."""
    mailbox, kept = sessions.take(wanted)
    sessions.give_back(wanted, mailbox, healthy=True)
    return kept


def test_no_session_is_used_for_ever() -> None:
    """The name of its server may lead to another one, to which mails go now."""
    opened = Opened()
    sessions = pool(opened)
    wanted = connection(1)
    assert [use(sessions, wanted) for _ in range(3)] == [False, True, True]
    sessions._longest = 0.0
    sessions.drop([1])
    assert not use(sessions, wanted)
    # Its time is over: it is not asked in passing, and the next run has a fresh one.
    assert sessions.take_waiting(wanted) is None
    assert sessions.has_idle_session(1)
    assert not use(sessions, wanted)
    assert opened.closed == [1, 1]
    assert opened.open == 1
    assert not sessions.wake(wanted, 1)
    assert opened.closed == [1, 1, 1]
    sessions._longest = 60.0
    use(sessions, wanted)
    assert sessions.wake(wanted, 1)
    assert use(sessions, wanted)


def test_of_an_open_session_is_known_whose_it_is() -> None:
    sessions = pool(Opened())
    first = connection(1)
    assert sessions.connections([1, 2]) == {}
    use(sessions, first)
    assert sessions.connections([1, 2]) == {1: first}
    sessions.drop([1])
    assert sessions.connections([1, 2]) == {}


def test_a_session_serves_the_next_run() -> None:
    opened = Opened()
    sessions = pool(opened)
    assert [use(sessions, connection(1)) for _ in range(3)] == [False, True, True]
    assert opened.calls == [1]


def test_an_edit_makes_a_session_useless() -> None:
    opened = Opened()
    sessions = pool(opened)
    use(sessions, connection(1))
    edited = replace(connection(1), updated_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert sessions.take_waiting(edited) is None
    assert not use(sessions, edited)
    assert opened.closed == [1]


@pytest.mark.parametrize(
    "fields", [{"mode": Mode.POP3}, {"interval_minutes": 60}], ids=["pop3", "rare"]
)
def test_sessions_that_would_not_last_are_closed(fields: dict[str, Any]) -> None:
    opened = Opened()
    sessions = pool(opened)
    use(sessions, connection(1, **fields))
    assert opened.closed == [1]
    assert not sessions.has_idle_session(1)


@pytest.mark.parametrize(
    ("limits", "second", "freed"),
    [
        ({"per_host": 1}, connection(2), True),
        ({"per_host": 1}, connection(2, host="other.example.org"), False),
        ({"per_mailbox": 1}, connection(2, username="user1"), True),
        ({"per_mailbox": 1}, connection(2), False),
        ({"kept": 1}, connection(2, host="other.example.org"), True),
    ],
)
def test_a_session_that_waits_makes_room_within_a_limit(
    limits: dict[str, int], second: Connection, freed: bool
) -> None:
    opened = Opened()
    sessions = pool(opened, **limits)
    use(sessions, connection(1))
    use(sessions, second)
    assert sessions.has_idle_session(2)
    assert sessions.has_idle_session(1) is not freed
    assert opened.closed == ([1] if freed else [])


def test_sessions_in_use_are_waited_for() -> None:
    opened = Opened()
    sessions = pool(opened, per_host=2, per_mailbox=1)
    use(sessions, connection(1))
    in_use, _ = sessions.take(connection(2))
    with pytest.raises(HostBusy):
        sessions.take(connection(3, username="user2"))
    assert sessions.has_idle_session(1), "nobody's session ends for a run that does not begin"
    sessions.discard(connection(2), in_use)
    assert not use(sessions, connection(3, username="user2"))


def test_a_login_that_fails_takes_no_permit() -> None:
    opened = Opened()
    sessions = pool(opened, per_host=1)
    opened.failure = SessionLost("cut")
    for _ in range(3):
        with pytest.raises(SessionLost):
            sessions.take(connection(1))
    opened.failure = None
    assert not use(sessions, connection(2))


def test_a_server_that_takes_no_more_sessions_gets_fewer() -> None:
    opened = Opened()
    sessions = pool(opened, kept=100, per_host=100)
    for number in range(40):
        use(sessions, connection(number))
    opened.failure = Unreachable("Too many clients", step="login", code="login-unavailable")
    with pytest.raises(HostBusy):
        sessions.take(connection(40))
    opened.failure = None
    assert sorted(opened.closed) == [0, 1, 2, 3], "the oldest make room"
    use(sessions, connection(40))
    assert len(sessions) <= 36


@pytest.mark.promise("M27")
@pytest.mark.parametrize("most", [1, 4])
def test_a_server_that_closes_at_the_greeting_is_understood_at_any_number(most: int) -> None:
    opened = Opened()
    opened.most = most
    sessions = pool(opened)
    for _ in range(2):
        for number in range(8):
            assert not use(sessions, connection(number))
    assert len(sessions) == most
    assert opened.closed == [*range(8), *range(8 - most)], "in turn, the oldest first"
    # Once the limit is known, nobody runs into it any more.
    assert len(opened.calls) == 16 + 1


@pytest.mark.promise("M27")
def test_room_made_in_vain_is_no_limit_but_the_servers_own_trouble() -> None:
    opened = Opened()
    sessions = pool(opened)
    for number in range(3):
        use(sessions, connection(number))
    opened.failure = Unreachable("Go away", step="login", code="login-unavailable")
    with pytest.raises(Unreachable, match="Go away"):
        sessions.take(connection(3))
    assert opened.closed == [0]
    opened.failure = None
    for number in range(8):
        use(sessions, connection(number))
    assert len(sessions) == 8


@pytest.mark.promise("M27")
@pytest.mark.parametrize("step", ["tcp", "tls", "greeting"])
def test_room_that_another_run_took_is_waited_for(step: str) -> None:
    """The server says nothing of a limit: one session gave way, and somebody else was quicker."""
    opened = Opened()
    sessions = pool(opened)
    for number in range(4):
        use(sessions, connection(number))
    opened.failure = SessionLost("The mail server closed the connection.", step=step)
    with pytest.raises(HostBusy, match="no more sessions for now"):
        sessions.take(connection(7))
    opened.failure = None
    assert not use(sessions, connection(7))


@pytest.mark.promise("M27")
@pytest.mark.parametrize("step", ["tcp", "tls", "greeting"])
def test_a_known_limit_explains_a_refusal_for_a_minute_and_no_longer(step: str) -> None:
    opened = Opened()
    opened.most = 1
    sessions = pool(opened)
    for number in (1, 2):  # the limit is met, and known from now on
        use(sessions, connection(number))
    sessions.drop([1, 2])
    opened.failure = SessionLost("The mail server closed the connection.", step=step)
    for _ in range(12):
        with pytest.raises(HostBusy):
            sessions.take(connection(3))
    with pytest.raises(SessionLost, match="closed the connection"):
        sessions.take(connection(3))


@pytest.mark.promise("M27")
def test_sessions_in_use_are_no_reason_to_call_a_server_broken() -> None:
    opened = Opened()
    opened.most = 1
    sessions = pool(opened)
    in_use, _ = sessions.take(connection(1))
    with pytest.raises(HostBusy):
        sessions.take(connection(2))
    sessions.give_back(connection(1), in_use, healthy=True)
    assert not use(sessions, connection(2))


def test_folders_of_one_mailbox_give_way_to_each_other() -> None:
    opened = Opened()
    sessions = pool(opened)
    use(sessions, connection(1, username="team", folder="A"))
    opened.failure = Unreachable("Maximum sessions", step="login", code="login-unavailable")
    with pytest.raises(HostBusy):
        sessions.take(connection(2, username="team", folder="B"))
    opened.failure = None
    use(sessions, connection(2, username="team", folder="B"))
    assert opened.closed == [1]


def test_what_is_not_wanted_any_more_is_pruned() -> None:
    opened = Opened()
    sessions = pool(opened)
    for number in (1, 2, 3):
        use(sessions, connection(number))
    first, last = sessions._waiting[1].since, sessions._waiting[3].since
    wanted = {1: EDITED, 2: datetime(2026, 1, 2, tzinfo=UTC)}
    # The end of the run of the third may be still to be recorded.
    assert sessions.prune(wanted, last + 1, first - 1) == [2]
    assert sessions.prune(wanted, last + 6, last + 1) == [3]
    assert sorted(opened.closed) == [2, 3]
    assert len(sessions) == 1


def test_many_are_asked_and_a_broken_one_spoils_no_other() -> None:
    accounts = [MemoryAccount() for _ in range(4)]
    mailboxes = [MemoryMailbox(account) for account in accounts]
    cursors = [mailbox.open("").cursor for mailbox in mailboxes]
    accounts[1].deliver(b"Subject: new\r\n\r\n")
    accounts[2].fail("folder", SessionLost("cut"))
    asking = [(n, m, "", c) for n, (m, c) in enumerate(zip(mailboxes, cursors, strict=True))]
    answers = {number: answer for number, _, answer in poll_all(asking)}
    assert answers == {
        0: PollAnswer.UNCHANGED,
        1: PollAnswer.CHANGED,
        2: PollAnswer.BROKEN,
        3: PollAnswer.UNCHANGED,
    }


def test_a_mailbox_that_is_full_of_our_sessions_leaves_one_for_its_person() -> None:
    """The server takes four sessions of a login; ours for its folders keep three at most then."""
    opened = Opened()
    sessions = pool(opened, per_mailbox=10)
    folders = [connection(n, username="alice", folder=f"f{n}") for n in range(1, 6)]
    for folder in folders[:4]:
        use(sessions, folder)
    opened.refusals = [Unreachable("Too many", step="login", code="too-many-connections")]
    use(sessions, folders[4])
    assert opened.open == 3
    for folder in folders:
        use(sessions, folder)
        assert opened.open <= 3


def _race(opened: Opened, sessions: SessionPool, quick: Connection) -> list[type[Exception]]:
    """Whenever a run waits for the room that it made, `quick` tries to open a session first."""
    turned_away: list[type[Exception]] = []
    running = False

    def meanwhile() -> None:
        nonlocal running
        if running:
            return
        running = True
        try:
            sessions.take(quick)
        except (HostBusy, SessionLost) as error:
            turned_away.append(type(error))
        finally:
            running = False

    opened.meanwhile = meanwhile
    return turned_away


@pytest.mark.promise("M27")
def test_the_room_made_for_a_session_is_kept_for_it() -> None:
    """Another run that comes in between makes room of its own, or waits."""
    opened = Opened()
    opened.most = 2
    sessions = pool(opened)
    sessions.take(connection(1))  # in use to the end
    use(sessions, connection(2))
    others = _race(opened, sessions, connection(4))
    assert not use(sessions, connection(3))
    assert others == [HostBusy]
    assert opened.closed == [2]


@pytest.mark.promise("M27")
@pytest.mark.parametrize("step", ["tcp", "tls", "greeting", "login"])
def test_a_session_that_ends_without_a_word_beside_others_of_ours_is_no_failure(step: str) -> None:
    """However often other runs are quicker, as long as our own sessions explain it."""
    opened = Opened()
    sessions = pool(opened, kept=100, per_host=100)
    for number in range(20):
        use(sessions, connection(number))
    opened.failure = SessionLost("The mail server closed the connection.", step=step)
    for _ in range(12):
        with pytest.raises(HostBusy, match="no more sessions for now"):
            sessions.take(connection(99))
    with pytest.raises(SessionLost):  # this server has another reason
        sessions.take(connection(99))
    opened.failure = None
    assert not use(sessions, connection(99))


@pytest.mark.promise("M27")
@pytest.mark.parametrize("step", ["tcp", "tls", "greeting", "login"])
def test_a_session_that_ends_without_a_word_where_we_have_none_is_a_failure(step: str) -> None:
    opened = Opened()
    opened.failure = SessionLost("The mail server closed the connection.", step=step)
    with pytest.raises(SessionLost):
        pool(opened).take(connection(1))
