"""How often a mail that comes alone makes a fetcher and its IMAP server wait for each other."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence

import pytest

from shared.connection_editing import edit
from shared.connections import AfterDownload, Selection
from shared.errors import PosthouseError
from shared.mailbox.base import Login, MailRef
from shared.mailbox.imap.mailbox import ImapMailbox
from shared.mailbox.open import open_mailbox
from shared.messages import Key
from tests.rig.mails import mail
from tests.servers.dovecot import Dovecot


@pytest.fixture
def mailbox(plain_dovecot: Dovecot, mail_user: str) -> Iterator[ImapMailbox]:
    """With two mails."""
    plain_dovecot.deliver(mail_user, [mail(1, 2000), mail(2, 2000)])
    fields = {
        "name": "alone",
        "mode": "imap",
        "host": "127.0.0.1",
        "port": plain_dovecot.imap_port,
        "security": "none",
        "username": mail_user,
        "password": plain_dovecot.password,
    }
    login = Login(mail_user, password=plain_dovecot.password)
    opened = open_mailbox(edit(None, fields).connection, login, read_timeout_s=20)
    assert isinstance(opened, ImapMailbox)
    yield opened
    opened.close()


def test_a_mail_alone_takes_six_round_trips_to_its_server(mailbox: ImapMailbox) -> None:
    """Opened, searched, downloaded, opened for changes, flagged, left and opened to listen. For the
    fourth and the last nobody waits who has something else to do."""
    stream = mailbox.session.stream
    stream.socket = sent = _Counting(stream.socket)  # type: ignore[assignment]
    cursor = {**mailbox.open("").cursor, "uid_next": 2, "messages": 1}
    sent.count = 0
    mailbox.open("")
    listing = mailbox.list_new(_OnlyFirst(), Selection.ALL, cursor=cursor)
    sink = _Kept()
    mailbox.download(listing.new, sink, limit=1 << 20)
    assert sink.mails == [mail(2, 2000)]
    assert sent.count == 3
    mailbox.settling_is_next()
    assert sent.count == 4
    assert [ref.key for ref in mailbox.settle(listing.new, AfterDownload.MARK_READ)] == [2]
    assert sent.count == 5
    mailbox.waiting_is_next("")
    assert sent.count == 6
    assert mailbox.wait_for_push("", None).changed
    assert sent.count == 6


def test_what_comes_next_is_another_thing_than_was_foreseen(mailbox: ImapMailbox) -> None:
    """Each of these finds what it would have found else."""
    cursor = mailbox.open("").cursor
    listed = mailbox.list_new(_OnlyFirst(), Selection.ALL).new
    otherwise: dict[str, tuple[Callable[[], object], object]] = {
        "opened": (lambda: mailbox.open("").cursor, cursor),
        "asked": (lambda: mailbox.changed_since("", cursor), None),
        "folders": (lambda: {one.name for one in mailbox.folders()} >= {"INBOX"}, True),
        "alive": (mailbox.is_alive, True),
        "left": (mailbox.leave, None),
        "foreseen again": (lambda: mailbox.waiting_is_next(""), None),
    }
    for name, (do, expected) in otherwise.items():
        for foreseen in (mailbox.settling_is_next, lambda: mailbox.waiting_is_next("")):
            mailbox.open("")
            foreseen()
            assert do() == expected, name
            assert mailbox.open("").cursor == cursor, name
    within: dict[str, Callable[[], object]] = {
        "listed": lambda: mailbox.list_new(_OnlyFirst(), Selection.ALL).new,
        "keys": lambda: list(mailbox.keys()),
    }
    expected = {"listed": listed, "keys": [1, 2]}
    for name, do in within.items():
        mailbox.open("")
        mailbox.settling_is_next()
        assert do() == expected[name], name
        assert [ref.key for ref in mailbox.settle(listed, AfterDownload.MARK_READ)] == [2], name


def test_a_folder_is_not_opened_by_what_it_was_before_a_wait(
    mailbox: ImapMailbox, plain_dovecot: Dovecot, mail_user: str
) -> None:
    """The server was to push and did not, as where no more sessions may listen."""
    mailbox.open("")
    mailbox.waiting_is_next("")
    plain_dovecot.deliver(mail_user, [mail(3, 2000)])
    assert mailbox.open("").total == 3
    assert len(mailbox.list_new(_OnlyFirst(), Selection.ALL).new) == 2


class _Counting:
    """A socket, and how often something was sent over it."""

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket
        self.count = 0

    def sendall(self, octets: bytes) -> None:
        self.count += 1
        self._socket.sendall(octets)

    def __getattr__(self, name: str) -> object:
        return getattr(self._socket, name)


class _OnlyFirst:
    """Of the folder's mails the first one is known."""

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        return [key for key in keys if key != 1]

    def count(self) -> int:
        return 1


class _Kept:
    """A sink that keeps whole mails."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    def begin(self, ref: MailRef) -> None:
        self.mails.append(b"")

    def write(self, chunk: bytes | memoryview) -> None:
        self.mails[-1] += bytes(chunk)

    def end(self) -> None: ...

    def abandon(self, ref: MailRef, reason: PosthouseError) -> None:
        raise AssertionError(reason)
