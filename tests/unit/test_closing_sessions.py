"""A session that is being closed has its place until the server has closed it, too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.fetcher import closing_sessions
from services.fetcher.session_opening import HostBusy
from shared.connections import Connection, Mode
from shared.mailbox.base import Mailbox
from shared.mailbox.in_memory import MemoryAccount, MemoryMailbox
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.scripted import Conversation, ScriptedServer, imap, pop3
from tests.unit.test_kept_sessions import Opened, connection, pool

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


def test_the_place_of_a_session_is_free_once_it_is_closed(threads: ThreadPoolExecutor) -> None:
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
