"""The servers that live in root file systems of their own: what the suites rely on."""

from __future__ import annotations

import poplib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.mail_server import PASSWORD
from tests.servers.mailutils import Mailutils
from tests.servers.rooted import RootedServer

pytestmark = pytest.mark.rooted
MAILS = [mail(number, 500) for number in range(3)]


def processes_in(folder: Path) -> list[str]:
    """The programs whose root is below `folder`, or who know it by their arguments."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if bytes(folder) in words:
            found.append(words.decode(errors="replace"))
    return found


@pytest.mark.parametrize("server_class", [Cyrus, Courier, Mailutils])
def test_mails_outlast_a_restart_and_no_process_outlasts_the_server(
    server_class: type[RootedServer],
) -> None:
    with server_class() as server:
        server.deliver("alice", MAILS)
        first = server.inside.parent
        session = poplib.POP3(server.host, server.pop3_port)
        session.user("alice")
        session.pass_(PASSWORD)
        assert session.stat()[0] == len(MAILS)
        server.stop()
        assert not first.exists()
        assert processes_in(server.folder) == []
        session.close()
        server.start()
        assert len(server.flags("alice")) == len(MAILS)
    assert not server.folder.exists()


def test_mailutils_removes_what_was_retrieved_when_the_session_ends_with_quit(
    mailutils: Mailutils,
) -> None:
    """EXPIRE 0 (RFC 2449 section 6.7), as Gmail has it too."""
    mailutils.deliver("bob", MAILS)
    for retrieved, end, left in ((1, "quit", 2), (1, "close", 2), (2, "quit", 0)):
        session = poplib.POP3(mailutils.host, mailutils.pop3_port)
        session.user("bob")
        session.pass_(PASSWORD)
        for number in range(1, retrieved + 1):
            session.retr(number)
        getattr(session, end)()
        assert len(mailutils.flags("bob")) == left


@pytest.mark.promise("M7", "M26")
def test_mails_are_read_for_everybody_while_the_session_is_kept(
    mailutils: Mailutils, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """mailutils' imap4d writes flags when the folder is left, and the session may last for days."""
    mailutils.deliver("carol", MAILS)
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(mailutils, "carol")
    stack.wait_settled(len(MAILS))
    stack.wait(
        lambda: list(mailutils.flags("carol").values()) == [{r"\Seen"}] * len(MAILS),
        "the mails are read for everybody",
        20,
    )
