"""What one POP3 session leaves to the next one, and what its end confirms: no other mail is
deleted, none is confirmed that is not safe, and nothing that was learnt is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shared.connections import AfterDownload, Mode, Selection
from shared.mailbox.base import Mailbox, MailRef
from shared.mailbox.failures import Unreachable
from shared.store import StoreFull
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.integration.test_forged_answers import Room
from tests.rig.mails import mail
from tests.servers.pop3_rules import RuledPop3, Stored
from tests.servers.scripted import Conversation, ScriptedServer, pop3

MAILS = [mail(number, 600 + 100 * number, seed=71) for number in range(4)]
DELETE, MARK_READ = AfterDownload.DELETE, AfterDownload.MARK_READ


def listed(mailbox: Mailbox) -> list[MailRef]:
    mailbox.open("")
    return list(mailbox.list_new(KnownKeys(), Selection.ALL).new)


def downloaded(mailbox: Mailbox, refs: list[MailRef]) -> Collector:
    sink = Collector()
    mailbox.download(refs, sink, limit=1 << 20)
    return sink


@pytest.mark.promise("I1", "M7")
def test_numbers_of_the_session_before_name_no_mail_in_the_next_one() -> None:
    """A settling that needs a fresh session, after somebody removed a mail: each has another
    number."""
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            refs = listed(mailbox)
            downloaded(mailbox, refs)
            server.vanish("alice", MAILS[0])
            assert mailbox.settle(refs[1:3], DELETE) == refs[1:3]
        assert server.logins == 2, "the first session may confirm nothing"
        assert server.left("alice") == MAILS[3:]


@pytest.mark.promise("M7")
def test_what_is_not_given_again_is_confirmed_by_no_quit() -> None:
    """An earlier session had it; this one is refused it, so that the server keeps it listed."""

    def refuse(stored: Stored, given: int) -> bytes | None:
        return b"damaged" if stored.raw == MAILS[1] else None

    with RuledPop3(expire=0, refuse=refuse) as server:
        server.deliver("alice", MAILS[:3])
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            refs = listed(mailbox)
            assert mailbox.settle(refs, MARK_READ) == [refs[0], refs[2]]
        assert server.left("alice") == [MAILS[1]]


@pytest.mark.promise("I1")
def test_what_is_told_after_the_login_alone_holds_in_the_next_session() -> None:
    """EXPIRE 0, at a server that takes TOP for a retrieval as well."""
    with RuledPop3(expire=0, expire_after_login=True, top_retrieves=True) as server:
        server.deliver("alice", MAILS)
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            refs = listed(mailbox)
            downloaded(mailbox, refs[:1])
            assert mailbox.settle(refs[:1], MARK_READ) == refs[:1]
            assert len(list(mailbox.headers(refs[1:]))) == 3
            assert mailbox.capabilities.expires_days == 0
        assert (server.logins, server.quits) == (2, 1)
        assert server.left("alice") == MAILS[1:]


@pytest.mark.promise("I1")
def test_telling_mails_apart_by_their_headers_confirms_none_of_them() -> None:
    with RuledPop3(expire=0, top_retrieves=True, listed_by_uidl=0, names_alone=False) as server:
        server.deliver("alice", MAILS)
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            assert len(listed(mailbox)) == len(MAILS)
        assert server.quits == 0
        assert server.left("alice") == MAILS


@pytest.mark.promise("M7")
def test_a_refused_mail_is_no_retrieved_one() -> None:
    """The others are settled in the same session: the next login may have to wait."""

    def refuse(stored: Stored, given: int) -> bytes | None:
        return b"damaged" if stored.raw == MAILS[1] else None

    with RuledPop3(refuse=refuse, login_delay=600) as server:
        server.deliver("alice", MAILS)
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            refs = listed(mailbox)
            sink = downloaded(mailbox, refs)
            came = [ref for ref in refs if ref.key in sink.mails]
            assert came == [refs[0], *refs[2:]]
            assert mailbox.settle(came, DELETE) == came
        assert server.left("alice") == [MAILS[1]]


@pytest.mark.promise("I1")
def test_lines_of_a_mail_are_no_answers_after_an_error_in_it() -> None:
    """The store refuses octets in the middle of it: what is still to come of it says nothing."""

    def retrieve(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"+OK\r\nSubject: one\r\n\r\nIt said ")
        talk.line()  # the next command, which the rest of the mail seems to answer
        talk.send(b"+OK\r\n.\r\n")

    script = pop3({"RETR": retrieve}, mails={1: MAILS[0]}, capabilities=b"UIDL\r\nTOP\r\n")
    with (
        ScriptedServer(script) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
    ):
        refs = listed(mailbox)
        with pytest.raises(StoreFull):
            mailbox.download(refs, Room(5), limit=1 << 20)
        assert not mailbox.is_alive()


@pytest.mark.promise("M7")
def test_what_is_safe_is_settled_after_an_error_in_reading_it_again() -> None:
    """In a session of its own, as the first one is out of step. It is asked for again to see
    whether the server gives mails at all."""
    with RuledPop3() as server:
        server.deliver("alice", MAILS[:2])
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            first, _ = listed(mailbox)
            downloaded(mailbox, [first])
            assert mailbox.settle([first], MARK_READ) == [first]
            with pytest.raises(StoreFull):
                mailbox.download([first], Room(5), limit=1 << 20)
            assert mailbox.settle([first], DELETE) == [first]
        assert server.left("alice") == MAILS[1:2]


@pytest.mark.promise("M7")
def test_a_mail_that_is_not_deleted_is_not_called_settled() -> None:
    refusing = {MAILS[1]}
    with RuledPop3(refuse_deletion=lambda stored: stored.raw in refusing) as server:
        server.deliver("alice", MAILS)
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            refs = listed(mailbox)
            assert mailbox.settle(refs, DELETE) == [refs[0], *refs[2:]]
            with pytest.raises(Unreachable, match="not now"):
                mailbox.settle(refs[1:2], DELETE)
        assert server.left("alice") == MAILS[1:2]


@pytest.mark.promise("H4", "I1")
def test_a_server_that_was_seen_not_to_double_dots_is_believed_in_no_later_session() -> None:
    start = b"Subject: dots\r\nDate: Mon, 01 Jun 2026 10:00:00 +0000\r\n\r\n"
    altered = [start + b".hidden\r\n", start + b"..and so on\r\n"]
    with RuledPop3(stuffs=False, size=lambda raw: len(raw) + 40) as server:
        server.deliver("alice", altered)
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            first, second = listed(mailbox)
            assert downloaded(mailbox, [first]).abandoned[first.key].code == "mail-altered"
            assert mailbox.changed_since("", None) is not None
            sink = downloaded(mailbox, [second])
        assert server.logins == 2
        assert not sink.mails
        assert sink.abandoned[second.key].code == "mail-altered"


@pytest.mark.promise("M9")
def test_a_session_shows_no_mail_that_came_after_it_began() -> None:
    """So each look is one of its own."""
    with RuledPop3() as server:
        server.deliver("alice", MAILS[:1])
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            mailbox.open("")
            cursor = mailbox.list_new(KnownKeys(), Selection.ALL).cursor
            assert mailbox.changed_since("", cursor) is None
            server.deliver("alice", MAILS[1:2])
            assert mailbox.changed_since("", cursor) is not None
            assert len(mailbox.list_new(KnownKeys(), Selection.ALL).new) == 2


@pytest.mark.promise("H4")
def test_a_mail_known_to_be_too_large_is_not_asked_for() -> None:
    """A server may take that for a retrieval, and let go of it."""
    with RuledPop3(expire=0) as server:
        server.deliver("alice", MAILS)
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            refs = listed(mailbox)
            sink = Collector()
            mailbox.download(refs, sink, limit=len(MAILS[2]))
            assert sink.abandoned[refs[3].key].code == "too-large"
            assert server.retrieved == 3
            assert mailbox.settle(refs[:3], MARK_READ) == refs[:3]
        assert server.left("alice") == MAILS[3:]


@pytest.mark.promise("H4")
@pytest.mark.parametrize("octets", [50, 5000])
def test_a_mail_over_the_limit_is_not_taken_whatever_size_is_listed(octets: int) -> None:
    small = b"Subject: x\r\n\r\n" + b"y" * octets + b"\r\n"
    with RuledPop3(size=lambda raw: 10) as server:
        server.deliver("alice", [small])
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            (ref,) = listed(mailbox)
            sink = Collector()
            mailbox.download([ref], sink, limit=40)
        assert not sink.mails
        assert sink.abandoned[ref.key].code == "too-large"


@pytest.mark.promise("M17")
def test_a_list_with_a_mail_whose_date_is_refused_is_not_complete() -> None:
    """Who took it for complete would pass over the mail from then on."""
    refused = {MAILS[1]}

    def refuse(stored: Stored) -> bytes | None:
        return b"try again" if stored.raw in refused else None

    since = datetime(2026, 3, 1, tzinfo=UTC)
    with RuledPop3(refuse_top=refuse) as server:
        server.deliver("alice", MAILS)
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            mailbox.open("")
            listing = mailbox.list_new(KnownKeys(), Selection.ALL, since=since)
            assert (len(listing.new), len(listing.undated), listing.complete) == (3, 1, False)
            refused.clear()
            listing = mailbox.list_new(KnownKeys(), Selection.ALL, since=since)
            assert (len(listing.new), len(listing.undated), listing.complete) == (4, 0, True)
