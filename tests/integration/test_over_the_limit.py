"""A mail over the limit is left on its server, and known by its header all the same.

For an administrator: the quarantine page, the alert `mail-quarantined` and
`posthouse_quarantined_total{code="too-large"}`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from shared.person_erasure import erase_person
from shared.storage import quarantine
from shared.store import FileStore
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.pop3_rules import RuledPop3
from tests.servers.scripted import Conversation, ScriptedServer, imap


@pytest.mark.promise("H4")
@pytest.mark.parametrize("mode", ["imap", "pop3"])
def test_a_mail_over_the_limit_shows_what_its_header_says_and_is_found_by_it(
    mode: str, redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    dovecot.deliver(mail_user, [mail(1, 50_000), mail(2, 900), mail(3, 70_000)])
    stack = build_stack(redis_url, max_message_bytes="20000")
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user, mode=mode)
    stack.wait(lambda: stack.count("quarantine") == 2, "two are left on the server")
    stack.wait_settled(1)
    with stack.database.transaction() as session:
        found = {one.subject: one for one in quarantine.entries(session)}
        assert [one.subject for one in quarantine.entries(session, q="NUMBER 3")] == [
            "Mail number 3"
        ]
        assert len(quarantine.entries(session, q="sender1@example.org")) == 1
        by_id = quarantine.entries(session, q=found["Mail number 1"].message_id)
        assert [one.subject for one in by_id] == ["Mail number 1"]
    first = found["Mail number 1"]
    assert first.sender == "sender1@example.org"
    assert first.message_id.startswith("<0.1.") and first.raw is None
    assert first.sent_at == datetime(2026, 6, 1, 10, 0, 1, tzinfo=UTC)
    assert first.size > 50_000
    # A person's right to be erased holds for what the header said, too.
    erased = erase_person(stack.database, FileStore(stack.store), first.sender)
    assert erased.messages == 1
    with stack.database.transaction() as session:
        assert [one.subject for one in quarantine.entries(session)] == ["Mail number 3"]


@pytest.mark.promise("H4", "I9")
def test_a_mail_over_the_limit_that_is_listed_again_is_quarantined_once(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """A POP3 server showed an empty mailbox for once. Another mail under its id is another one."""
    stack = build_stack(redis_url)
    stack.add_handler()
    large = [mail(number, 50_000) for number in range(2)]
    with (
        RuledPop3() as server,
        FetcherHere(stack, max_message_bytes="20000").working() as here,
    ):
        connection = stack.add_plain_connection(server.pop3_port, name="large", mode="pop3")
        for delivered, entries in (
            (large[:1], 1),
            ([], 1),
            (large[:1], 1),
            ([], 1),
            (large[1:], 2),
        ):
            server.forget_user("alice")
            server.deliver("alice", delivered)
            server.rename("alice", lambda _: "the-same-id")
            here.run_until_idle(connection)
            assert stack.count("quarantine") == entries


@pytest.mark.promise("H4", "I5")
@pytest.mark.parametrize("ends", [False, True])
def test_a_mail_that_is_larger_than_listed_and_whose_header_is_not_given_stops_no_other(
    ends: bool, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Its header was asked for before what came with it was kept: so it was in each run."""
    mails = {1: mail(1, 900), 2: mail(2, 50_000), 3: mail(3, 900)}

    def sizes(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in mails:
            talk.send(b"* %d FETCH (UID %d RFC822.SIZE 900 FLAGS ())\r\n" % (uid, uid))
        talk.ok(tag)

    def header(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* BYE see you\r\n" if ends else tag + b" NO [UNAVAILABLE] not now\r\n")
        if ends:
            raise ConnectionAbortedError

    stack = build_stack(redis_url)
    stack.add_handler()
    script = imap({"METADATA": sizes, "HEADERS": header}, mails=mails, settles=True)
    with (
        ScriptedServer(script) as server,
        FetcherHere(stack, max_message_bytes="20000").working() as here,
    ):
        connection = stack.add_plain_connection(server.port, name="large", mode="imap")
        for _ in range(2):
            here.run(connection)
        assert here.had() == digests([mails[1], mails[3]])
        assert stack.query("SELECT code FROM quarantine") == [("too-large",)]
        assert stack.query("SELECT health FROM connection_state") == [("working",)]
