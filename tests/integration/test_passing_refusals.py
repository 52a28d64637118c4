"""Refusals that pass, and refusals of what is gone: neither is taken for what it is not.

For an administrator: the connection is failing with the server's words until they pass (its page,
the alert `connection-failing`, `posthouse_fetch_runs_total`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.fetcher import backoff
from shared.connections import Mode, Selection
from shared.errors import TryAgain
from shared.mailbox.failures import StepFailed
from shared.storage import connections
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.pop3_rules import RuledPop3
from tests.servers.scripted import (
    MAILS,
    Conversation,
    ScriptedServer,
    body_response,
    imap,
    pop3,
    read_set,
)


@pytest.mark.promise("M27")
def test_a_mail_that_is_refused_as_somebody_removed_it_is_no_bad_one(here: FetcherHere) -> None:
    """RFC 5530: `[EXPUNGEISSUED]`. It was put into quarantine, and people were alerted."""

    def bodies(talk: Conversation, tag: bytes, rest: bytes) -> None:
        asked = read_set(rest.split(b" ")[0], 3)
        for uid in sorted(asked - {2}):
            talk.send(body_response(uid, MAILS[uid]))
        gone = b" NO [EXPUNGEISSUED] Some of the messages do not exist any more\r\n"
        talk.send(tag + (gone if 2 in asked else b" OK done\r\n"))

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        by_uid = rest.startswith(b"UID ")
        found = sorted(read_set(rest[4:].split(b" ")[0], 3) - {2}) if by_uid else [1, 2, 3]
        talk.send(b"* SEARCH" + b"".join(b" %d" % uid for uid in found) + b"\r\n")
        talk.ok(tag)

    with ScriptedServer(imap({"UID FETCH": bodies, "UID SEARCH": search})) as server:
        connection = here.stack.add_plain_connection(server.port, name="busy", mode="imap")
        here.run_until_idle(connection)
    assert here.had() == digests([MAILS[1], MAILS[3]])
    assert here.stack.count("quarantine") == 0


@pytest.mark.promise("M27")
def test_a_mail_that_is_refused_for_a_moment_is_no_bad_one(here: FetcherHere) -> None:
    """RFC 5530: `[INUSE]`, each time that it is asked for in a run, while all others are given."""
    in_use = {2}

    def bodies(talk: Conversation, tag: bytes, rest: bytes) -> None:
        asked = read_set(rest.split(b" ")[0], 3)
        for uid in sorted(asked - in_use):
            talk.send(body_response(uid, MAILS[uid]))
        talk.send(
            tag + (b" NO [INUSE] The mail is locked\r\n" if asked & in_use else b" OK done\r\n")
        )

    with ScriptedServer(imap({"UID FETCH": bodies})) as server:
        connection = here.stack.add_plain_connection(server.port, name="locked", mode="imap")
        here.run(connection)
        assert here.had() == digests([MAILS[1], MAILS[3]])
        assert here.stack.query("SELECT health FROM connection_state") == [("failing",)]
        assert here.stack.count("quarantine") == 0
        in_use.clear()
        here.run_until_idle(connection)
    assert here.had() == digests(list(MAILS.values()))
    assert here.stack.query("SELECT health FROM connection_state") == [("working",)]


@pytest.mark.promise("M17", "M27")
def test_no_mail_that_was_left_is_retrieved_to_see_whether_a_pop3_server_gives_any(
    here: FetcherHere,
) -> None:
    """It was skipped at the start, and what is retrieved the server may let go of (EXPIRE 0)."""
    left, new = mail(1, 500, seed=98), mail(2, 500, seed=98)
    with RuledPop3(expire=0) as server:
        server.deliver("alice", [left])
        connection = watch(here, server, "mark-read")
        with here.stack.database.transaction() as session:
            connections.start_from(session, connection, since=None, skip_existing=True)
        here.run(connection)
        server.deliver("alice", [new])
        server.refuse = lambda stored, given: (
            b"cannot read this mail" if stored.raw == new else None
        )
        here.run(connection)
        assert server.retrieved == 0
        assert here.stack.query("SELECT health FROM connection_state") == [("failing",)]
        assert here.stack.count("quarantine") == 0


@pytest.mark.promise("M17")
def test_mails_of_before_the_start_are_not_taken_as_their_dates_are_refused() -> None:
    """They were taken for mails without a date, and deleted where that was asked for."""

    def refuse(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(tag + b" NO Request is throttled. Suggested Backoff Time: 60000 milliseconds\r\n")

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* SEARCH\r\n" if b"SINCE 25-Nov" in rest else b"* SEARCH 1 2 3\r\n")
        talk.ok(tag)

    start = datetime(2026, 11, 23, tzinfo=UTC)  # all mails came the day before
    with (
        ScriptedServer(imap({"UID SEARCH": search})) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        mailbox.open("")
        assert not mailbox.list_new(KnownKeys(), Selection.UNREAD, since=start).new
    script = imap({"UID SEARCH": search, "METADATA": refuse})
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        with pytest.raises(StepFailed) as caught:
            mailbox.list_new(KnownKeys(), Selection.UNREAD, since=start)
    assert (caught.value.step, caught.value.code) == ("list", "throttled")


@pytest.mark.promise("I9", "M14")
@pytest.mark.parametrize("top", [b"TOP\r\n", b""], ids=["TOP", "no TOP"])
def test_a_pop3_server_that_lists_no_ids_for_now_has_them_later(
    top: bytes, here: FetcherHere
) -> None:
    """It was taken for one without UIDL: every mail had another id, or a person was to help."""
    busy: list[bool] = []

    def uidl(talk: Conversation, _: bytes, rest: bytes) -> None:
        if busy:
            talk.send(b"-ERR [SYS/TEMP] index is locked, try again later\r\n")
        elif rest:
            talk.send(b"+OK %s uidl-%s\r\n" % (rest, rest))
        else:
            talk.send(b"+OK\r\n" + b"".join(b"%d uidl-%d\r\n" % (n, n) for n in MAILS) + b".\r\n")

    with ScriptedServer(pop3({"UIDL": uidl}, capabilities=b"UIDL\r\n" + top)) as server:
        connection = here.stack.add_plain_connection(server.port, name="busy", mode="pop3")
        here.run_until_idle(connection)
        busy.append(True)
        here.stack.execute("UPDATE connection_state SET cursor = NULL")
        here.run(connection)
        state = "SELECT error ->> 'code', validity_changed_at FROM connection_state"
        assert here.stack.query(state) == [("server-refused", None)]
        busy.clear()
        here.run_until_idle(connection)
        assert here.stack.query(state) == [(None, None)]
    assert here.had() == digests(list(MAILS.values()))


@pytest.mark.promise("M14")
def test_why_a_pop3_server_counts_no_mails_is_told() -> None:
    script = pop3({"STAT": b"-ERR [SYS/TEMP] mailbox is being rebuilt\r\n"})
    with (
        ScriptedServer(script) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
        pytest.raises(StepFailed) as caught,
    ):
        mailbox.open("")
    assert isinstance(caught.value, TryAgain)
    assert caught.value.code == "server-refused"
    assert "mailbox is being rebuilt" in str(caught.value)


@pytest.mark.promise("I5")
def test_an_id_that_no_database_takes_strands_no_mail(here: FetcherHere) -> None:
    """RFC 1939 has it of printable characters; a NUL in one of them stopped every run."""
    uidls = {1: b"one", 2: b"t\0wo", 3: b"t\0hree"}
    with ScriptedServer(pop3(uidls=uidls)) as server:
        connection = here.stack.add_plain_connection(server.port, name="odd", mode="pop3")
        here.run_until_idle(connection)
        assert here.stack.query("SELECT health FROM connection_state") == [("working",)]
    assert here.had() == digests(list(MAILS.values()))


@pytest.mark.promise("I5", "M19")
def test_words_that_no_database_takes_are_told_all_the_same(here: FetcherHere) -> None:
    """A NUL in what a server says of a mail, and of a login: no run came to an end."""

    def bodies(talk: Conversation, tag: bytes, rest: bytes) -> None:
        asked = read_set(rest.split(b" ")[0], 3)
        for uid in sorted(asked - {2}):
            talk.send(body_response(uid, MAILS[uid]))
        talk.send(tag + (b" NO [\0] dam\0aged\r\n" if 2 in asked else b" OK done\r\n"))

    with ScriptedServer(imap({"UID FETCH": bodies})) as server:
        connection = here.stack.add_plain_connection(server.port, name="nul", mode="imap")
        here.run_until_idle(connection)
    assert here.had() == digests([MAILS[1], MAILS[3]])
    ((reason,),) = here.stack.query("SELECT reason FROM quarantine")
    assert "dam" in reason
    refused = backoff.described(TryAgain("no\0t \ud800now", hint="\0"))
    assert (refused.message, refused.hint) == ("not ?now", "")
