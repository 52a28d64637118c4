"""Folders of all namespaces, on servers that name them each in their own way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.connection_editing import edit
from shared.connections import Mode
from shared.errors import InvalidInput
from shared.mailbox.base import AskingAhead, Mailbox
from shared.mailbox.failures import FolderMissing, Refused
from tests.contract.mailbox_kinds import mail, subject_of
from tests.contract.recorders import KnownKeys
from tests.contract.sessions import UNREAD, read
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import MailServer
from tests.servers.scripted import Answer, Conversation, ScriptedServer, imap

DECOMPOSED = "Entwu\u0308rfe"
#: How a folder is shown → the server's name of it.
PERSONAL = {
    "Support": b"INBOX.Support",
    "INBOX/Inbox": b"INBOX.Inbox",
    "Main/Sub": b"INBOX.Main.Sub",
    DECOMPOSED: b"INBOX.Entwu&Awg-rfe",
}
TRAILING = {"two  spaces  ": b"INBOX.two  spaces  "}


def fill(server: MailServer, user: str, folders: dict[str, bytes]) -> None:
    """One mail in each, whose subject is how the folder is to be shown."""
    server.deliver(user, [mail("INBOX")])
    for shown, raw in folders.items():
        server.deliver(user, [mail(shown)], raw.decode())


def new_subject(mailbox: Mailbox, folder: str) -> str:
    mailbox.open(folder)
    (raw,) = read(mailbox, mailbox.list_new(KnownKeys(), UNREAD).new).values()
    return subject_of(raw)


def check_offered(server: MailServer, user: str, expected: set[str]) -> None:
    """Everything that the picker offers opens, and is the folder that it says."""
    with opened(connection_to(server.imap_port, username=user)) as mailbox:
        offered = {folder.name for folder in mailbox.folders() if folder.selectable}
        assert offered == {"INBOX", *expected}
    for name in offered:
        with opened(connection_to(server.imap_port, username=user)) as mailbox:  # a fetch's way
            if name not in ("Main", "Trash"):
                assert new_subject(mailbox, name) == name
            assert mailbox.changed_since(name, None) is not None


@pytest.mark.rooted
@pytest.mark.promise("M5")
def test_cyrus_with_its_three_namespaces() -> None:
    with Cyrus() as server:
        for user in ("alice", "bob"):
            server.add_user(user)
        shared = {"/Support": b"Support", "/user/bob/Team": b"user.bob.Team"}
        with server.admin() as admin:
            for raw in (*shared.values(), b"Hidden"):
                admin.create_folder(raw.decode())
                admin.setacl(raw.decode(), "alice", "lrswipkxte" if raw != b"Hidden" else "l")
            admin.setacl("Hidden", "anyone", "l")
        folders = {**PERSONAL, **TRAILING, **shared}
        del folders[DECOMPOSED]  # Cyrus composes what it is given
        fill(server, "alice", folders)
        check_offered(server, "alice", {*folders, "Main"})
        with opened(connection_to(server.imap_port, username="alice")) as mailbox:
            (hidden,) = (folder for folder in mailbox.folders() if folder.name == "/Hidden")
            assert not hidden.selectable
            with pytest.raises(Refused) as caught:
                mailbox.open("/Hidden")
            assert caught.value.code == "no-right"


@pytest.mark.rooted
@pytest.mark.promise("M5")
def test_courier_where_everything_is_below_the_inbox(courier: Courier) -> None:
    user = "folders"
    folders = {**PERSONAL, **TRAILING}
    fill(courier, user, folders)
    check_offered(courier, user, set(folders))


@pytest.mark.promise("M5")
def test_dovecot_with_a_prefix_and_a_namespace_for_all() -> None:
    server = Dovecot(separator=".", prefix="INBOX.")
    server.extra = (
        "namespace public {\n separator = .\n prefix = Public.\n list = children\n"
        f" location = maildir:{server.folder}/mail/public\n}}\n"
    )
    with server:
        folders = {**PERSONAL, **TRAILING, "/Public/Support": b"Public.Support"}
        fill(server, "alice", folders)
        check_offered(server, "alice", {*folders, "Trash"})


@contextmanager
def listing(
    *lines: bytes, capabilities: bytes = b"IMAP4rev1 NAMESPACE"
) -> Iterator[ScriptedServer]:
    """A server with `INBOX.` before personal folders that lists these, and opens whatever it is
    asked for."""

    def listed(talk: Conversation, tag: bytes, rest: bytes) -> None:
        if rest == b'"" ""':
            talk.send(b'* LIST (\\Noselect) "." ""\r\n')
        else:
            talk.send(b"".join(b"* LIST " + line + b"\r\n" for line in lines))
        talk.ok(tag)

    def opening(answer: bytes) -> Answer:
        def opened(talk: Conversation, tag: bytes, rest: bytes) -> None:
            if rest.endswith(b"}"):
                if not rest.endswith(b"+}"):
                    talk.send(b"+ go on\r\n")
                talk.line()
            talk.send(answer)
            talk.ok(tag)

        return opened

    answers: dict[str, Answer] = {
        "NAMESPACE": b'* NAMESPACE (("INBOX." ".")) NIL NIL\r\n',
        "LIST": listed,
        "STATUS": opening(b"* STATUS x (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 7 UNSEEN 0)\r\n"),
        "SELECT": opening(b"* 0 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n"),
        "EXAMINE": opening(b"* 0 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n"),
    }
    with ScriptedServer(imap(answers, capability=capabilities)) as server:
        yield server


@pytest.mark.promise("M5")
@pytest.mark.parametrize("literals", [b"", b" LITERAL+"])
def test_names_in_utf_8_are_shown_and_opened_as_they_are(literals: bytes) -> None:
    raw = "INBOX.Grüße".encode()
    with (
        listing(
            b'(\\HasNoChildren) "." {%d}\r\n' % len(raw) + raw,
            capabilities=b"IMAP4rev1 NAMESPACE" + literals,
        ) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        assert "Grüße" in [folder.name for folder in mailbox.folders()]
        mailbox.open("Grüße")
        assert raw in b"\n".join(server.heard)
        # Nothing goes ahead for which the server has to ask: others wait for who sends it.
        assert isinstance(mailbox, AskingAhead)
        mailbox.settling_is_next()
        mailbox.keys()
        sent_ahead = b"+" in literals
        assert any(b" SELECT " in line for line in server.heard) is sent_ahead


@pytest.mark.promise("M5")
@pytest.mark.parametrize("leaves", [b" UNSELECT", b""], ids=["unselect", "close"])
def test_a_name_in_utf_8_is_opened_again(leaves: bytes) -> None:
    """What leaves the folder is not waited for, and the server asks for each name: it has answered
    to STATUS before anybody reads how the folder was left."""
    raw = "INBOX.Grüße".encode()
    with (
        listing(
            b'(\\HasNoChildren) "." {%d}\r\n' % len(raw) + raw,
            capabilities=b"IMAP4rev1 NAMESPACE" + leaves,
        ) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        cursors = [mailbox.open("Grüße").cursor for _ in range(3)]
        assert [cursor["uid_validity"] for cursor in cursors] == [7, 7, 7]
        assert any(line.split()[-1:] == [b"UNSELECT"] for line in server.heard) is bool(leaves)
        changed = mailbox.changed_since("Grüße", cursors[0])
        assert changed is not None
        assert changed.uid_validity == 7


@pytest.mark.promise("M5")
def test_a_folder_with_a_tab_is_shown_as_the_servers_fault() -> None:
    with (
        listing(b'() "." "INBOX.a\tb"') as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        (folder,) = mailbox.folders()
        assert (folder.name, folder.selectable) == ("a\tb", False)
    with pytest.raises(InvalidInput, match="control character") as caught:
        edit(None, {"name": "x", "mode": Mode.IMAP, "host": "h", "username": "u", "folder": "a\tb"})
    assert "rename" in caught.value.hint


@pytest.mark.promise("M5")
def test_a_shared_folder_is_not_taken_for_a_personal_one_of_its_name() -> None:
    with (
        listing(b'() "." "Support"') as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        with pytest.raises(FolderMissing) as caught:
            mailbox.open("Support")
        assert caught.value.near == ("/Support",)


@pytest.mark.promise("M5")
def test_namespaces_that_a_star_leaves_out_are_asked_for() -> None:
    """Courier lists its `#shared.` folders only to those who name it."""
    asked: list[bytes] = []

    def listed(talk: Conversation, tag: bytes, rest: bytes) -> None:
        asked.append(rest)
        if rest == b'"" "#shared.*"':
            talk.send(b'* LIST () "." "#shared.bob.Team"\r\n')
        talk.send(b'* LIST () "." INBOX\r\n')
        talk.ok(tag)

    namespaces = b'* NAMESPACE (("INBOX." ".")) NIL (("#shared." ".")("#news." "."))\r\n'
    script = imap({"LIST": listed, "NAMESPACE": namespaces}, capability=b"IMAP4rev1 NAMESPACE")
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        names = {folder.name for folder in mailbox.folders()}
    assert names == {"INBOX", "/#shared/bob/Team"}
    assert not any(b"#news" in words for words in asked)
