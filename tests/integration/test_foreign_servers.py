"""The servers that live in root file systems of their own: what the suites rely on."""

from __future__ import annotations

import poplib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.interruption import message_id
from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.mail_server import PASSWORD, MailServer
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
    # Where the first look meets a new second, the UIDVALIDITY is another one before the mails are
    # marked, and the next run goes on: two minutes later, as a failed one.
    stack.wait_settled(len(MAILS), 240)
    stack.wait(
        lambda: list(mailutils.flags("carol").values()) == [{r"\Seen"}] * len(MAILS),
        "the mails are read for everybody",
        20,
    )


@pytest.mark.promise("I9", "I3")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
def test_mails_that_their_server_alters_and_numbers_anew_come_once(
    after_download: str,
    mailutils: Mailutils,
    mail_user: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """mailutils' imap4d writes UIDs and flags into the mails and shows it, and begins a new
    UIDVALIDITY with it: at the first look, and whenever new mails came."""
    stack = build_stack(redis_url)
    stack.add_handler()
    mails = [mail(number, 500, seed=77) for number in range(9)]
    connection = 0
    with FetcherHere(stack).working() as here:
        for round_number in range(3):
            mailutils.deliver(mail_user, mails[3 * round_number : 3 * round_number + 3])
            connection = connection or stack.watch(
                mailutils, mail_user, after_download=after_download
            )
            here.run_until_idle(connection)
            _next_second()
    validities = stack.query("SELECT count(DISTINCT uid_validity) FROM message")
    assert validities[0][0] > 1, "the server numbered them anew"
    came = [found for (found,) in stack.query("SELECT message_id FROM message")]
    assert sorted(came) == sorted(map(message_id, mails))
    assert stack.count("settlement") == 0
    left = list(mailutils.flags(mail_user).values())
    assert left == ([] if after_download == "delete" else [{r"\Seen"}] * len(mails))


def _next_second() -> None:
    """mailutils' UIDVALIDITY is the time in seconds: within one it gives UIDs a second time under
    the same one, as no server does that is polled once a minute."""
    now = time.time()
    time.sleep(1.05 - now % 1)


@pytest.mark.promise("I1")
@pytest.mark.parametrize("kind", ["dovecot", "courier", "cyrus", "mailutils"])
def test_lines_that_begin_with_a_dot_come_from_real_pop3_servers(
    kind: str,
    request: pytest.FixtureRequest,
    mail_user: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """They double such dots, and their sizes do not count the second ones: none is quarantined."""
    server: MailServer = request.getfixturevalue(kind)
    texts = (b".\r\n", b"..\r\n", b".hidden\r\n...x\r\n", b".\r\n..\r\n.a\r\n" * 40)
    dotted = [
        b"Subject: dots %d\r\nDate: Mon, 01 Jun 2026 10:00:00 +0000\r\n\r\n%send\r\n" % pair
        for pair in enumerate(texts)
    ]
    server.add_user(mail_user)
    server.deliver(mail_user, dotted)
    stack = build_stack(redis_url)
    stack.add_handler()
    with FetcherHere(stack).working() as here:
        here.run_until_idle(stack.watch(server, mail_user, mode="pop3", after_download="delete"))
        assert stack.count("quarantine") == 0
        assert stack.count("message") == len(dotted)
        assert server.flags(mail_user) == {}
