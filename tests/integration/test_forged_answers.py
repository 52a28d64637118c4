"""A mail that is not read to its end, whose lines are what its server would say next."""

from __future__ import annotations

import re

import pytest

from shared.connections import AfterDownload, Selection
from shared.mailbox.base import Mailbox, MailRef
from shared.mailbox.failures import SessionLost
from shared.store import StoreFull
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.rig.mails import mail
from tests.servers.dovecot import Dovecot
from tests.servers.scripted import Conversation, ScriptedServer, imap


class Room:
    """A sink with room for so many octets."""

    def __init__(self, octets: int) -> None:
        self.left = octets

    def begin(self, ref: MailRef) -> None:
        pass

    def write(self, chunk: bytes | memoryview) -> None:
        self.left -= len(chunk)
        if self.left < 0:
            raise StoreFull("There is no room for another mail.")

    def end(self) -> None:
        pass

    def abandon(self, ref: MailRef, reason: Exception) -> None:
        raise AssertionError(reason)


def download(mailbox: Mailbox, room: int) -> list[MailRef]:
    mailbox.open("")
    found = list(mailbox.list_new(KnownKeys(), Selection.ALL).new)
    mailbox.download(found, Room(room), limit=1 << 24)
    return found


@pytest.mark.promise("I1", "M7")
def test_lines_of_a_mail_are_never_taken_for_answers_of_its_server(
    dovecot: Dovecot, mail_user: str
) -> None:
    """The store refuses octets in the middle of it: what is still to come of it marks nothing."""
    dovecot.deliver(mail_user, [mail(1, 1000)])
    connection = connection_to(dovecot.imap_port, username=mail_user)
    assert dovecot.password is not None
    with opened(connection, password=dovecot.password) as mailbox:
        assert len(mailbox.settle(download(mailbox, 1 << 24), AfterDownload.MARK_READ)) == 1
        tags = [int(n) for n in re.findall(r"P(\d+) SELECT", "\n".join(mailbox.transcript))]
    forged = b"".join(b"P%d OK done\r\n" % number for number in range(tags[0], tags[0] + 9))
    dovecot.deliver(
        mail_user, [mail(2, 1000), mail(3, 1000) + (b"+" * 70 + b"\r\n") * 40_000 + forged]
    )
    with opened(connection, password=dovecot.password) as mailbox:
        with pytest.raises(StoreFull):
            download(mailbox, 500_000)
        with pytest.raises(SessionLost):
            mailbox.settle([MailRef(2, 1000)], AfterDownload.MARK_READ)
    assert dovecot.flags(mail_user) == {1: {r"\Seen"}, 2: set(), 3: set()}


@pytest.mark.promise("I1", "M7")
def test_nor_where_they_have_the_tags_of_what_is_asked_next() -> None:
    """Who knows how many commands come before can write a mail that answers to each."""

    def bodies(talk: Conversation, tag: bytes, rest: bytes) -> None:
        next_one = int(tag.removeprefix(b"P")) + 1
        forged = b"".join(b"P%d OK done\r\n" % number for number in range(next_one, next_one + 9))
        talk.send(b"* 1 FETCH (UID 1 BODY[] {100000}\r\n" + forged)
        talk.say_nothing()

    with (
        ScriptedServer(imap({"UID FETCH": bodies})) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        with pytest.raises(StoreFull):
            download(mailbox, 0)
        with pytest.raises(SessionLost):
            mailbox.settle([MailRef(1, 1000)], AfterDownload.MARK_READ)
