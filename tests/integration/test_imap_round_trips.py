"""How often a mail that comes alone makes a fetcher and its IMAP server wait for each other."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from shared.connection_editing import edit
from shared.connections import AfterDownload, Selection
from shared.errors import PosthouseError
from shared.mailbox.base import Login, MailRef
from shared.mailbox.imap.mailbox import ImapMailbox
from shared.mailbox.open import open_mailbox
from shared.messages import Key
from tests.rig.mails import mail
from tests.servers.dovecot import Dovecot


def test_a_mail_alone_takes_seven_round_trips_to_its_server(plain_dovecot: Dovecot) -> None:
    """Opened, searched, downloaded, opened for changes, flagged, left, opened to listen."""
    plain_dovecot.deliver("seven", [mail(1, 2000), mail(2, 2000)])
    fields = {
        "name": "seven",
        "mode": "imap",
        "host": "127.0.0.1",
        "port": plain_dovecot.imap_port,
        "security": "none",
        "username": "seven",
        "password": plain_dovecot.password,
    }
    connection = edit(None, fields).connection
    mailbox = open_mailbox(
        connection, Login("seven", password=plain_dovecot.password), read_timeout_s=20
    )
    assert isinstance(mailbox, ImapMailbox)
    stream = mailbox.session.stream
    stream.socket = sent = _Counting(stream.socket)  # type: ignore[assignment]
    cursor = {**mailbox.open("").cursor, "uid_next": 2, "messages": 1}
    sent.count = 0
    mailbox.open("")
    listing = mailbox.list_new(_OnlyFirst(), Selection.ALL, cursor=cursor)
    sink = _Kept()
    mailbox.download(listing.new, sink, limit=1 << 20)
    assert sink.mails == [mail(2, 2000)]
    assert [ref.key for ref in mailbox.settle(listing.new, AfterDownload.MARK_READ)] == [2]
    mailbox.leave()
    assert not mailbox.wait_for_push("", mailbox.open("").cursor).changed
    assert sent.count - 1 == 7, "one of the last two opens it to have something to compare"
    mailbox.close()


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
