"""A session that is being closed has its permit until the server has closed it, too."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from services.fetcher import closing_sessions
from services.fetcher.session_affinity import SessionAffinity
from services.fetcher.session_limits import PoolLimits
from services.fetcher.session_opening import HostBusy
from services.fetcher.session_pool import SessionPool
from shared.connections import Connection, Mode
from shared.mailbox.base import Login, Mailbox
from shared.mailbox.in_memory import MemoryAccount, MemoryMailbox
from shared.mailbox.open import open_mailbox
from shared.storage import affinity
from shared.storage.pool import Database
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.scripted import CAPABILITY, Conversation, ScriptedServer, imap, pop3
from tests.unit.test_kept_sessions import EDITED, Opened, connection, pool, use
from tests.unit.test_sessions_for_others import HOST, Others

pytestmark = pytest.mark.promise("M27")


class SlowToClose(Opened):
    """Its sessions are closed when the test says so; `highest`: the most that were open at once."""

    def __init__(self) -> None:
        super().__init__()
        self.closing, self.may_close = threading.Event(), threading.Event()
        self.highest = 0

    def __call__(self, wanted: Connection) -> Mailbox:
        self.open += 1
        self.highest = max(self.highest, self.open)
        mailbox = MemoryMailbox(MemoryAccount())

        def close() -> None:
            self.closing.set()
            self.may_close.wait(10)
            self.open -= 1

        mailbox.close = close  # type: ignore[method-assign]
        return mailbox


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as found:
        yield found


def test_the_permit_of_a_session_is_free_once_it_is_closed(threads: ThreadPoolExecutor) -> None:
    server = SlowToClose()
    sessions = pool(server, per_host=1)
    first = sessions.take(connection(1))[0]
    ending = threads.submit(sessions.discard, connection(1), first)
    assert server.closing.wait(5)
    opening = threads.submit(sessions.take, connection(2))
    threading.Timer(0.2, server.may_close.set).start()
    ending.result(5)
    opening.result(5)
    assert server.highest == 1


def test_a_session_that_is_closed_for_too_long_keeps_nobody(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_sessions, "CLOSING_S", 0.05)
    server = SlowToClose()
    sessions = pool(server, per_host=1)
    first = sessions.take(connection(1))[0]
    ending = threads.submit(sessions.discard, connection(1), first)
    assert server.closing.wait(5)
    for _ in range(2):
        with pytest.raises(HostBusy, match="still being closed"):
            sessions.take(connection(2))
    server.may_close.set()
    ending.result(5)
    sessions.take(connection(2))
    assert server.highest == 1


def test_a_session_that_is_closed_elsewhere_is_not_waited_for(threads: ThreadPoolExecutor) -> None:
    server = SlowToClose()
    sessions = pool(server, per_host=2)
    first = sessions.take(connection(1))[0]
    ending = threads.submit(sessions.discard, connection(1), first)
    assert server.closing.wait(5)
    sessions.take(connection(2))
    sessions.take(connection(3, host="other.example.org"))
    server.may_close.set()
    ending.result(5)


@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
def test_the_end_of_a_session_is_waited_for(mode: Mode) -> None:
    """Servers count it until they have closed the connection."""
    closed: list[bool] = []

    def end(answer: Callable[[bytes], bytes]) -> Callable[[Conversation, bytes, bytes], None]:
        def ends(talk: Conversation, tag: bytes, rest: bytes) -> None:
            talk.send(answer(tag))
            talk._stopping.wait(0.2)
            closed.append(True)
            talk.hang_up()

        return ends

    script = (
        imap({"LOGOUT": end(lambda tag: b"* BYE bye\r\n" + tag + b" OK done\r\n")})
        if mode is Mode.IMAP
        else pop3({"QUIT": end(lambda tag: b"+OK bye\r\n")})
    )
    with ScriptedServer(script) as server, opened(connection_to(server.port, mode)) as mailbox:
        mailbox.open("")
        mailbox.close()
        assert closed


class ClosedTogether(Opened):
    """A session is closed once all three of them are being closed."""

    def __init__(self) -> None:
        super().__init__()
        self.together = threading.Barrier(3, timeout=5)

    def __call__(self, wanted: Connection) -> Mailbox:
        mailbox = super().__call__(wanted)
        close = mailbox.close

        def close_with_others() -> None:
            self.together.wait()
            close()

        mailbox.close = close_with_others  # type: ignore[method-assign]
        return mailbox


class _Reachable:
    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        yield


def _give_up(sessions: SessionPool, others: Others) -> None:
    others.may_keep = {HOST: 0}
    sessions.give_up_shares()


def _give_way(sessions: SessionPool, _: Others) -> None:
    nobody: Any = None
    SessionAffinity(
        cast(Database, _Reachable()), lambda: sessions, nobody, nobody, "a", 60
    )._give_way()


ENDS: dict[str, Callable[[SessionPool, Others], None]] = {
    "not wanted any more": lambda sessions, _: sessions.drop([1, 2, 3]),
    "for other fetchers": _give_up,
    "for other fetchers at three servers": _give_way,
    "the fetcher stops": lambda sessions, _: sessions.close(),
}


@pytest.mark.parametrize("end", ENDS)
def test_sessions_are_closed_side_by_side(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may take its server seconds, in which the others' mailboxes would stand still."""
    hosts = [f"mail{number}.example.org" for number in range(3)]
    monkeypatch.setattr(affinity, "crowded", lambda session, seconds: hosts)
    opened, others = ClosedTogether(), Others()
    sessions = SessionPool(
        opened,
        PoolLimits(kept=10, listening=10, per_host=10, per_mailbox=5),
        on_push=lambda connection_id: None,
        on_lost=lambda connection_id, error: None,
        table=others,
    )
    several = end.endswith("servers")
    for number, host in enumerate(hosts, 1):
        use(sessions, connection(number, host if several else HOST))
    ENDS[end](sessions, others)
    assert sorted(opened.closed) == [1, 2, 3]
    assert len(sessions) == 0


def test_a_mailbox_listens_once_its_session_before_has_ended(threads: ThreadPoolExecutor) -> None:
    """Two give way, and their server takes its time to confirm; meanwhile both mailboxes run. Each
    runs once more after that, which has it listen: its next poll may be hours away."""
    asked, confirmed = threading.Semaphore(0), threading.Event()
    pushed: list[int] = []

    def idle(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"+ idling\r\n")
        if talk.line() == b"DONE":
            asked.release()
            confirmed.wait(10)
            talk.ok(tag)

    script = imap({"IDLE": idle}, capability=CAPABILITY + b" IDLE")
    sessions = SessionPool(
        lambda wanted: open_mailbox(wanted, Login("alice", "secret"), read_timeout_s=5),
        PoolLimits(kept=10, listening=10, per_host=10, per_mailbox=5),
        on_push=pushed.append,
        on_lost=lambda connection_id, error: None,
    )
    with ScriptedServer(script) as server, sessions:
        both = [
            connection_to(server.port, id=number, updated_at=EDITED, push=True) for number in (1, 2)
        ]
        for one in both:
            use(sessions, one)
            assert sessions.listen(one, None)
        pushed.clear()  # that nobody knows what was there
        ending = threads.submit(sessions._give_way, "127.0.0.1", 2)
        assert [asked.acquire(timeout=3) for _ in both] == [True, True]
        for one in both:
            assert not use(sessions, one)
            assert not sessions.listen(one, None)
            assert sessions.has_idle_session(one.id)
        assert pushed == []
        confirmed.set()
        assert ending.result(5)
        assert sorted(pushed) == [1, 2]
        assert all(use(sessions, one) for one in both), "no login is wanted"
        assert all(sessions.listen(one, None) for one in both)
