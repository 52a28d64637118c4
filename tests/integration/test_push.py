"""IDLE on many sessions in one thread, against a real server and against bad ones."""

from __future__ import annotations

import queue
import threading
from collections.abc import Hashable, Iterator
from typing import Any

import pytest

from shared.connections import AfterDownload, Selection
from shared.errors import PosthouseError
from shared.mailbox.base import Login, Mailbox
from shared.mailbox.failures import Refused
from shared.mailbox.open import open_mailbox
from shared.mailbox.push_loop import PushLoop
from tests.contract.mailbox_kinds import mail
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import PASSWORD
from tests.servers.scripted import Conversation, ScriptedServer, imap

IDLE = b"IMAP4rev1 IDLE UNSELECT"


class Heard:
    """What the loop told, in order."""

    def __init__(self) -> None:
        self.news: queue.Queue[Hashable] = queue.Queue()
        self.lost: queue.Queue[tuple[Hashable, PosthouseError]] = queue.Queue()

    def loop(self, **options: Any) -> PushLoop:
        return PushLoop(self.news.put, lambda key, error: self.lost.put((key, error)), **options)

    def next_news(self) -> Hashable:
        return self.news.get(timeout=20)


@pytest.fixture
def heard() -> Iterator[Heard]:
    found = Heard()
    yield found
    assert found.lost.empty()


def session(server: Dovecot, user: str) -> Mailbox:
    connection = connection_to(server.imap_port, username=user)
    return open_mailbox(connection, Login(user, PASSWORD), read_timeout_s=20)


def quiet(mailbox: Mailbox) -> Any:
    """The cursor of a mailbox in which everything is handled."""
    mailbox.open("")
    return mailbox.list_new(KnownKeys(), Selection.UNREAD).cursor


def test_news_of_many_mailboxes_in_one_thread(
    dovecot: Dovecot, mail_user: str, heard: Heard
) -> None:
    users = [f"{mail_user}-{n}" for n in range(25)]
    before = threading.active_count()
    with heard.loop() as loop:
        for user in users:
            mailbox = session(dovecot, user)
            loop.watch(user, mailbox, "", quiet(mailbox))
        assert len(loop) == 25
        assert threading.active_count() == before + 1
        dovecot.deliver_lmtp([users[3]], [mail("one")])
        assert heard.next_news() == users[3]
        dovecot.deliver_lmtp([users[20]], [mail("two")])
        assert heard.next_news() == users[20]
    assert heard.news.empty()


def test_what_came_before_the_watch_is_news_at_once(
    dovecot: Dovecot, mail_user: str, heard: Heard
) -> None:
    mailbox = session(dovecot, mail_user)
    cursor = quiet(mailbox)
    dovecot.deliver(mail_user, [mail("in between")])
    with heard.loop() as loop:
        loop.watch("key", mailbox, "", cursor)
        assert heard.next_news() == "key"


def test_a_session_is_released_fetched_with_and_watched_again(
    dovecot: Dovecot, mail_user: str, heard: Heard
) -> None:
    mailbox = session(dovecot, mail_user)
    with heard.loop() as loop:
        loop.watch("key", mailbox, "", quiet(mailbox))
        for subject in ("first", "second"):
            dovecot.deliver_lmtp([mail_user], [mail(subject)])
            assert heard.next_news() == "key"
            taken = loop.release("key")
            assert taken is mailbox
            assert len(loop) == 0
            taken.open("")
            listing = taken.list_new(KnownKeys(), Selection.UNREAD)
            assert listing.new_count == 1
            settled = taken.settle(listing.new, AfterDownload.MARK_READ)
            cursor = taken.cursor_after(listing.cursor, settled, AfterDownload.MARK_READ)
            loop.watch("key", taken, "", cursor)
    assert heard.news.empty()  # our own flags were no news


def test_sessions_come_and_go_while_the_loop_is_held_up(dovecot: Dovecot, mail_user: str) -> None:
    """With what another one's server told: no run waits for that."""
    held_up, go_on = threading.Event(), threading.Event()

    def on_push(_: Hashable) -> None:
        held_up.set()
        go_on.wait(20)

    lost: list[object] = []
    users = [f"{mail_user}-{n}" for n in range(2)]
    talking, silent = (session(dovecot, user) for user in users)
    with PushLoop(on_push, lambda *what: lost.append(what)) as loop:
        try:
            loop.watch("talking", talking, "", quiet(talking))
            loop.watch("silent", silent, "", quiet(silent))
            dovecot.deliver_lmtp([users[0]], [mail("one")])
            assert held_up.wait(20)
            assert loop.release("silent", timeout_s=5) is silent
            loop.watch("silent", silent, "", quiet(silent))
            assert silent.transcript[-1].endswith(("IDLE", "idling"))
        finally:
            go_on.set()
    assert not lost


def test_reading_is_no_news_and_unread_again_is(
    dovecot: Dovecot, mail_user: str, heard: Heard
) -> None:
    dovecot.deliver(mail_user, [mail("one")])
    mailbox = session(dovecot, mail_user)
    with heard.loop() as loop, dovecot.client(mail_user) as other:
        loop.watch("key", mailbox, "", quiet(mailbox))
        other.select_folder("INBOX")
        other.add_flags([1], [rb"\Seen"])
        other.remove_flags([1], [rb"\Seen"])
        assert heard.next_news() == "key"
    assert heard.news.empty()


def test_idle_is_sent_anew_in_time(dovecot: Dovecot, mail_user: str, heard: Heard) -> None:
    mailbox = session(dovecot, mail_user)
    with heard.loop(renew_s=0.2) as loop:
        loop.watch("key", mailbox, "", quiet(mailbox))
        renewed = threading.Event()
        for _ in range(200):
            said = [line.rpartition(" ")[2] for line in mailbox.transcript if line[0] == "C"]
            if said.count("IDLE") >= 3:
                break
            renewed.wait(0.05)
        assert said.count("DONE") >= 2
        dovecot.deliver_lmtp([mail_user], [mail("after renewal")])
        assert heard.next_news() == "key"
        assert loop.release("key") is mailbox
        assert mailbox.is_alive()
    mailbox.close()


def test_a_server_that_goes_down_is_told_once(mail_user: str) -> None:
    heard = Heard()
    with Dovecot() as server, heard.loop() as loop:
        mailboxes = {n: session(server, f"{mail_user}-{n}") for n in range(3)}
        for key, mailbox in mailboxes.items():
            loop.watch(key, mailbox, "", quiet(mailbox))
        server.stop()
        lost = dict(heard.lost.get(timeout=20) for _ in mailboxes)
        assert set(lost) == set(mailboxes)
        assert len(loop) == 0
        assert loop.release(1) is None
    assert all(error.code == "connection-lost" for error in lost.values())
    assert heard.lost.empty()


def idling(then: bytes | None) -> Any:
    """A server that takes IDLE and then says something, or hangs up."""

    def idle(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"+ idling\r\n")
        if then is None:
            talk.hang_up()
        assert then is not None
        talk.send(then)
        talk.say_nothing()

    return idle


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda talk, tag, _: talk.send(tag + b" NO not for you\r\n"), "no-push"),
        (lambda talk, tag, _: talk.send(tag + b" BAD what?\r\n"), "no-push"),
        (idling(None), "connection-lost"),
        (idling(b"* BYE idle for too long\r\n"), None),
        (idling(b"complete nonsense\r\n"), "protocol-error"),
        (idling(b"* " + b"A" * 3_000_000), "protocol-error"),
        (idling(b"\0" * 3_000_000), "protocol-error"),
    ],
)
def test_a_session_that_turns_bad_is_given_up_and_disturbs_no_other(
    dovecot: Dovecot, mail_user: str, answer: Any, code: str | None
) -> None:
    heard = Heard()
    good = session(dovecot, mail_user)
    with ScriptedServer(imap({"IDLE": answer}, capability=IDLE)) as server:
        bad = open_mailbox(connection_to(server.port), Login("alice", "secret"))
        with heard.loop() as loop:
            loop.watch("good", good, "", quiet(good))
            loop.watch("bad", bad, "", quiet(bad))
            if code is not None:
                key, error = heard.lost.get(timeout=20)
                assert (key, error.code) == ("bad", code)
                assert not bad.is_alive()
            dovecot.deliver_lmtp([mail_user], [mail("one")])
            assert heard.next_news() == "good"
            assert "good" in loop


def test_a_mailbox_that_cannot_push_stays_the_callers() -> None:
    with (
        ScriptedServer(imap()) as server,
        opened(connection_to(server.port)) as mailbox,
        Heard().loop() as loop,
    ):
        with pytest.raises(Refused) as caught:
            loop.watch("key", mailbox, "")
        assert caught.value.code == "no-push"
        assert mailbox.is_alive()
