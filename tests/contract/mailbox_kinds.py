"""The kinds of mailbox that the conformance suite runs over, each with a way to be somebody else.

A kind is a fresh mailbox on a server, and what other people can do to it. To add one: write a
class like those below and put it into KINDS, by its name, as a function of the pytest request.
Mails are named by their Subject, which no test uses twice.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest
from imapclient import imap_utf7

from shared.connections import Connection, Mode, TransportSecurity
from shared.mailbox.base import Login, Mailbox
from shared.mailbox.in_memory import MemoryAccount, MemoryMailbox
from shared.mailbox.open import open_mailbox
from tests.servers.mail_server import PASSWORD, MailServer


class MailboxKind(Protocol):
    """A mailbox of its own for one test."""

    #: What this kind of mailbox has; tests of what it lacks are not for it.
    read_flag: bool
    folders: bool
    #: Mails can be flagged deleted and stay, as IMAP has it.
    deleted_flag: bool
    #: Folder names that this kind can hold, beyond plain ones.
    odd_folders: tuple[str, ...]
    #: What the server claims as the size of a mail is its size (`MailRef.size` is a hint only).
    exact_sizes: bool
    #: A cursor that was not told (`cursor_after`) takes our own flags for news.
    settling_is_news: bool
    #: The server takes mails with NUL octets and without header fields.
    takes_malformed: bool
    #: Mails are listed in the order of their arrival.
    arrival_order: bool

    def open(self) -> Mailbox:
        """A new session, logged in."""
        ...

    def deliver(self, *mails: bytes, folder: str = "", seen: bool = False) -> None: ...

    def create_folder(self, folder: str) -> None: ...

    def stored(self, folder: str = "") -> dict[str, bytes]:
        """Subject → the mail octet for octet, read by somebody else's client."""
        ...

    def is_read(self, subject: str, folder: str = "") -> bool: ...

    def set_read(self, subject: str, read: bool, folder: str = "") -> None:
        """Somebody reads a mail, or sets it unread again."""
        ...

    def flag_deleted(self, subject: str, folder: str = "") -> None: ...

    def remove(self, subject: str, folder: str = "") -> None:
        """Somebody removes a mail for good."""
        ...


class ImapKind:
    """An IMAP mailbox on a real server."""

    read_flag = True
    folders = True
    deleted_flag = True
    exact_sizes = True
    settling_is_news = True
    takes_malformed = True
    arrival_order = True
    odd_folders: tuple[str, ...] = (
        "Main/Sub",
        "Entwürfe",
        "日本/東京",
        "with space",
        'quote"s',
        "R&D",
        "back\\slash",
    )

    def __init__(self, server: MailServer, security: TransportSecurity, ca: str | None) -> None:
        self.server = server
        self.user = f"user-{uuid.uuid4().hex[:10]}"
        server.add_user(self.user)
        self.connection = Connection(
            name="under test",
            mode=Mode.IMAP,
            host="localhost" if security is not TransportSecurity.NONE else server.host,
            port=server.imaps_port if security is TransportSecurity.TLS else server.imap_port,
            security=security,
            ca_certificate=ca,
            username=self.user,
            has_password=True,
        )

    def login(self) -> Login:
        return Login(self.user, PASSWORD)

    def open(self) -> Mailbox:
        return open_mailbox(self.connection, self.login(), read_timeout_s=20)

    def deliver(self, *mails: bytes, folder: str = "", seen: bool = False) -> None:
        flags = r"\Seen" if seen else ""
        self.server.deliver(self.user, mails, self._name(folder), flags=flags)

    def create_folder(self, folder: str) -> None:
        with self.server.client(self.user) as other:
            other.folder_encode = False
            other.create_folder(self._name(folder).encode())

    def stored(self, folder: str = "") -> dict[str, bytes]:
        with self._other(folder, readonly=True) as (other, uids):
            found = other.fetch(uids or [0], ["BODY.PEEK[]"])
            return {subject_of(data[b"BODY[]"]): data[b"BODY[]"] for data in found.values()}

    def is_read(self, subject: str, folder: str = "") -> bool:
        with self._other(folder, readonly=True) as (other, _):
            uid = self._find(other, subject)
            return rb"\Seen" in other.get_flags([uid])[uid]

    def set_read(self, subject: str, read: bool, folder: str = "") -> None:
        with self._other(folder) as (other, _):
            change = other.add_flags if read else other.remove_flags
            change([self._find(other, subject)], [rb"\Seen"])

    def flag_deleted(self, subject: str, folder: str = "") -> None:
        with self._other(folder) as (other, _):
            other.add_flags([self._find(other, subject)], [rb"\Deleted"])

    def remove(self, subject: str, folder: str = "") -> None:
        with self._other(folder) as (other, _):
            uid = self._find(other, subject)
            other.add_flags([uid], [rb"\Deleted"])
            other._imap._simple_command("UID", "EXPUNGE", str(uid))  # announced or not

    def _name(self, folder: str) -> str:
        """What the server calls a folder: written here a second time, on purpose."""
        if not folder:
            return "INBOX"
        name = imap_utf7.encode(folder.replace("/", self.server.separator)).decode()
        return self.server.prefix + str(name)

    @contextmanager
    def _other(self, folder: str, *, readonly: bool = False) -> Iterator[tuple[Any, list[int]]]:
        with self.server.client(self.user) as other:
            other.folder_encode = False
            other.select_folder(self._name(folder).encode(), readonly=readonly)
            yield other, other.search("ALL")

    @staticmethod
    def _find(other: Any, subject: str) -> int:
        heads = other.fetch(other.search("ALL"), ["BODY.PEEK[HEADER]"])
        (uid,) = (u for u, h in heads.items() if subject_of(h[b"BODY[HEADER]"]) == subject)
        return int(uid)


class CyrusKind(ImapKind):
    """A mailbox on Cyrus, which allows few characters in the names of folders."""

    odd_folders = ("Main/Sub", "Entwürfe", "日本/東京", "with space")
    takes_malformed = False


class Pop3Kind(ImapKind):
    """The same server's mailbox over POP3; other people use IMAP."""

    read_flag = False
    folders = False
    deleted_flag = False
    odd_folders: tuple[str, ...] = ()

    def __init__(self, server: MailServer, security: TransportSecurity, ca: str | None) -> None:
        super().__init__(server, security, ca)
        self.connection = Connection(
            name="under test",
            mode=Mode.POP3,
            host="localhost" if security is not TransportSecurity.NONE else server.host,
            port=server.pop3s_port if security is TransportSecurity.TLS else server.pop3_port,
            security=security,
            ca_certificate=ca,
            username=self.user,
            has_password=True,
        )


class CyrusPop3Kind(Pop3Kind):
    """Cyrus over POP3."""

    takes_malformed = False


class CourierPop3Kind(Pop3Kind):
    """Courier's POP3 lists mails by the names of their files."""

    arrival_order = False


class MemoryKind:
    """The mailbox in memory."""

    read_flag = True
    folders = True
    deleted_flag = True
    exact_sizes = True
    settling_is_news = True
    takes_malformed = True
    arrival_order = True
    odd_folders: tuple[str, ...] = (
        "Main/Sub",
        "Entwürfe",
        "日本/東京",
        "with space",
        'quote"s',
        "R&D",
        "back\\slash",
    )

    def __init__(self) -> None:
        self.account = MemoryAccount()

    def open(self) -> Mailbox:
        return MemoryMailbox(self.account)

    def deliver(self, *mails: bytes, folder: str = "", seen: bool = False) -> None:
        for mail in mails:
            self.account.deliver(mail, folder or "INBOX", seen=seen, arrived=datetime.now(UTC))

    def create_folder(self, folder: str) -> None:
        self.account.create(folder)

    def stored(self, folder: str = "") -> dict[str, bytes]:
        mails = self.account.folders[folder or "INBOX"].mails.values()
        return {subject_of(mail.raw): mail.raw for mail in mails}

    def is_read(self, subject: str, folder: str = "") -> bool:
        return self.account.folders[folder or "INBOX"].mails[self._find(subject, folder)].seen

    def set_read(self, subject: str, read: bool, folder: str = "") -> None:
        self.account.change(self._find(subject, folder), folder or "INBOX", seen=read)

    def flag_deleted(self, subject: str, folder: str = "") -> None:
        self.account.change(self._find(subject, folder), folder or "INBOX", deleted=True)

    def remove(self, subject: str, folder: str = "") -> None:
        self.account.remove(self._find(subject, folder), folder or "INBOX")

    def _find(self, subject: str, folder: str) -> int:
        mails = self.account.folders[folder or "INBOX"].mails.values()
        (uid,) = (mail.uid for mail in mails if subject_of(mail.raw) == subject)
        return uid


def subject_of(raw: bytes) -> str:
    """What a test calls this mail; empty for mails without a subject."""
    match = re.search(rb"^Subject: ([^\r\n]*)", raw, re.M)
    return match[1].decode("utf-8", "replace") if match else ""


def mail(subject: str, body: bytes = b"Hello,\r\n\r\nthis is the text.\r\n") -> bytes:
    """A small mail that a test can name."""
    return f"From: a@example.org\r\nSubject: {subject}\r\n\r\n".encode() + body


def _over_tls(request: pytest.FixtureRequest, kind: type[ImapKind]) -> MailboxKind:
    authority = request.getfixturevalue("authority")
    server = request.getfixturevalue("dovecot")
    return kind(server, TransportSecurity.TLS, authority.pem)


def _plain(request: pytest.FixtureRequest, fixture: str, kind: type[ImapKind]) -> MailboxKind:
    return kind(request.getfixturevalue(fixture), TransportSecurity.NONE, None)


#: Kinds whose server runs only as root.
ROOTED = {"imap-cyrus", "pop3-cyrus", "imap-courier-5", "pop3-courier-5"}
#: Every kind by name; a function of the request, so that only servers in use are started.
KINDS: dict[str, Callable[[pytest.FixtureRequest], MailboxKind]] = {
    "imap": lambda request: _over_tls(request, ImapKind),
    "imap-courier": lambda request: _plain(request, "courier_like", ImapKind),
    "imap-poor": lambda request: _plain(request, "poor_dovecot", ImapKind),
    "pop3": lambda request: _over_tls(request, Pop3Kind),
    "pop3-plain": lambda request: _plain(request, "courier_like", Pop3Kind),
    "imap-cyrus": lambda request: _plain(request, "cyrus", CyrusKind),
    "pop3-cyrus": lambda request: _plain(request, "cyrus", CyrusPop3Kind),
    "imap-courier-5": lambda request: _plain(request, "courier", ImapKind),
    "pop3-courier-5": lambda request: _plain(request, "courier", CourierPop3Kind),
    "memory": lambda request: MemoryKind(),
}
