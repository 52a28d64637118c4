"""The kinds of mailbox that are logged in to with OAuth2: over IMAP, over POP3, and Graph."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from shared.connections import Connection, Mode, TransportSecurity
from shared.mailbox.base import Login, Mailbox
from shared.mailbox.open import open_mailbox
from tests.contract.mailbox_kinds import ImapKind, MailboxKind, Pop3Kind, subject_of
from tests.servers.dovecot import Dovecot
from tests.servers.graph import GraphServer
from tests.servers.graph.mailboxes import Item
from tests.servers.oidc import OidcServer


class OAuthImapKind(ImapKind):
    """IMAP with a bearer token of the real authorisation server, checked by a real Dovecot."""

    def __init__(self, mode: Mode, server: Dovecot, oidc: OidcServer, port: int = 0) -> None:
        super().__init__(server, TransportSecurity.TLS, oidc.ca)
        self.user = f"user-{uuid.uuid4().hex[:10]}@example.org"
        self.connection = replace(
            self.connection, mode=mode, username=self.user, ca_certificate=None, host="", port=0
        )
        self._oidc = oidc
        self._port = port or server.imaps_port

    def login(self) -> Login:
        return Login(
            self.user,
            access_token=lambda renew: self._oidc.access_token(self.user),
            endpoint=("localhost", self._port),
            ca_certificate=self._oidc.ca,
        )

    def open(self) -> Mailbox:
        return open_mailbox(self.connection, self.login(), read_timeout_s=20)


class OAuthPop3Kind(Pop3Kind):
    """POP3 with a bearer token in place of the password."""

    odd_folders: tuple[str, ...] = ()

    def __init__(self, server: Dovecot, oidc: OidcServer) -> None:
        super().__init__(server, TransportSecurity.TLS, oidc.ca)
        self.user = f"user-{uuid.uuid4().hex[:10]}@example.org"
        self.connection = replace(
            self.connection, username=self.user, has_password=False, credential_id=1
        )
        self._oidc = oidc

    def login(self) -> Login:
        # An authority of one's own is the credential's to name: the token goes nowhere else.
        return Login(
            self.user,
            access_token=lambda renew: self._oidc.access_token(self.user),
            ca_certificate=self._oidc.ca,
        )

    def open(self) -> Mailbox:
        return open_mailbox(self.connection, self.login(), read_timeout_s=20)


class GraphKind:
    """A mailbox on the test Graph; other people change it without asking Graph."""

    read_flag = True
    folders = True
    deleted_flag = False
    exact_sizes = False
    settling_is_news = False
    takes_malformed = True
    arrival_order = True
    odd_folders: tuple[str, ...] = ImapKind.odd_folders

    def __init__(self, server: GraphServer) -> None:
        self.server = server
        address = f"user-{uuid.uuid4().hex[:10]}@example.org"
        self.box = server.mailbox(address, inbox="Posteingang")
        self.connection = Connection(
            name="under test", mode=Mode.MICROSOFT_GRAPH, username=address, credential_id=1
        )
        self.token = server.token(address)

    def login(self) -> Login:
        return Login(
            self.box.address,
            access_token=lambda renew: self.token,
            endpoint=self.server.endpoint,
            ca_certificate=self.server.ca,
        )

    def open(self) -> Mailbox:
        return open_mailbox(self.connection, self.login(), read_timeout_s=20)

    def deliver(self, *mails: bytes, folder: str = "", seen: bool = False) -> None:
        from shared.clock import utc_now

        for raw in mails:
            self.box.deliver([raw], folder, read=seen, received=utc_now())

    def create_folder(self, folder: str) -> None:
        self.box.create(folder)

    def stored(self, folder: str = "") -> dict[str, bytes]:
        items = self.box.in_folder(self._folder(folder))
        return {subject_of(item.mime or b""): item.mime or b"" for item in items}

    def is_read(self, subject: str, folder: str = "") -> bool:
        return self._find(subject, folder).read

    def set_read(self, subject: str, read: bool, folder: str = "") -> None:
        self.box.mark(self._find(subject, folder).id, read)

    def flag_deleted(self, subject: str, folder: str = "") -> None:
        raise AssertionError("Graph has no deleted flag: the suite asks only kinds that do.")

    def remove(self, subject: str, folder: str = "") -> None:
        self.box.remove(self._find(subject, folder).id)

    def _folder(self, folder: str) -> str:
        return self.box.create(folder) if folder else self.box.inbox

    def _find(self, subject: str, folder: str) -> Item:
        items = self.box.in_folder(self._folder(folder))
        (found,) = (item for item in items if subject_of(item.mime or b"") == subject)
        return found


def microsoft_imap(request: pytest.FixtureRequest) -> MailboxKind:
    server = request.getfixturevalue("oauth_dovecot")
    return OAuthImapKind(Mode.MICROSOFT_IMAP, server, request.getfixturevalue("oidc"))


def google_imap(request: pytest.FixtureRequest) -> MailboxKind:
    """With Gmail's extensions: deleting moves to the trash."""
    front, server = request.getfixturevalue("oauth_gmail")
    return OAuthImapKind(Mode.GOOGLE_IMAP, server, request.getfixturevalue("oidc"), port=front.port)


def oauth_pop3(request: pytest.FixtureRequest) -> MailboxKind:
    server = request.getfixturevalue("oauth_dovecot")
    return OAuthPop3Kind(server, request.getfixturevalue("oidc"))


def graph(request: pytest.FixtureRequest) -> MailboxKind:
    return GraphKind(request.getfixturevalue("graph_server"))
