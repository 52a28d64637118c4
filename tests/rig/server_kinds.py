"""The mail servers that the suites of whole runs go over, each with one of its protocols.

To add one: a fixture that yields a `MailServer`, and a line in KINDS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from tests.servers.mail_server import MailServer


@dataclass(frozen=True)
class ServerKind:
    """A protocol of a server; `fixture` starts it."""

    name: str
    mode: str
    fixture: str
    #: It runs only as root (tests/servers/rooted.py).
    rooted: bool = False
    #: A mail that was retrieved is gone once the session has ended with QUIT (EXPIRE 0).
    retrieving_removes: bool = False
    #: It adds header fields of its own to mails that it keeps.
    alters_mails: bool = False
    #: The tests were written beside it: it goes through everything in `make test`.
    first: bool = False

    def server(self, request: pytest.FixtureRequest) -> MailServer:
        server: MailServer = request.getfixturevalue(self.fixture)
        return server

    def check_left(self, server: MailServer, user: str, mails: int, after_download: str) -> None:
        """What is in the mailbox once everything was settled."""
        left = server.flags(user)
        if after_download == "delete":
            assert left == {}
        elif not self.retrieving_removes:
            assert len(left) == mails
            if self.mode == "imap":
                assert all("\\Seen" in flags for flags in left.values())


KINDS = [
    ServerKind("dovecot-imap", "imap", "dovecot", first=True),
    ServerKind("dovecot-pop3", "pop3", "dovecot", first=True),
    ServerKind("cyrus-imap", "imap", "cyrus", rooted=True),
    ServerKind("cyrus-pop3", "pop3", "cyrus", rooted=True),
    ServerKind("courier-imap", "imap", "courier", rooted=True),
    ServerKind("courier-pop3", "pop3", "courier", rooted=True),
    ServerKind(
        "mailutils-pop3",
        "pop3",
        "mailutils",
        rooted=True,
        retrieving_removes=True,
        alters_mails=True,
    ),
    ServerKind("gmail-pop3", "pop3", "gmail_pop3", retrieving_removes=True),
    ServerKind("pop3-without-top", "pop3", "pop3_without_top"),
    ServerKind("poor-imap", "imap", "imap_without_uidplus"),
]
FOREIGN = [kind for kind in KINDS if not kind.first]


def params(kinds: Iterable[ServerKind] = KINDS) -> list[object]:
    """The kinds as parameters of a test, with their marks."""
    return [pytest.param(kind, marks=marks(kind), id=kind.name) for kind in kinds]


def marks(kind: ServerKind, *, long: bool = False) -> list[pytest.MarkDecorator]:
    chosen = [pytest.mark.rooted] if kind.rooted else []
    return [*chosen, pytest.mark.long] if long else chosen
