"""Whatever goes wrong at a mail server: its page, the overview, the alert and the metric say so.

One row each of what servers were seen to do; what becomes of the mails is asserted elsewhere
(test_throttled_downloads.py, test_breaking_mails.py, test_pop3_rules.py, test_settling.py …). What
goes wrong with our own parts is in test_what_is_told_of_us.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

import pytest

from shared.storage import connections
from tests.integration.graph.application import application_credential
from tests.rig.administrator_view import Telling
from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.graph import GraphServer
from tests.servers.oidc import OidcServer
from tests.servers.pop3_rules import RuledPop3, gmail_rules
from tests.servers.scripted import (
    MAILS,
    Conversation,
    ScriptedServer,
    body_response,
    imap,
    read_set,
)
from tests.unit.test_server_notes import NOTE

pytestmark = pytest.mark.promise("M19", "M27", "H4")

ALICE = "alice@example.org"
FEW = [mail(number, 600, seed=61) for number in range(3)]
PLAIN = [b"Subject: plain %d\r\n\r\nno dot\r\n" % number for number in range(2)]
CUT = (
    b"Subject: cut\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\n\r\nbefore\r\n.\r\nthe rest of it\r\n"
)
DOTTED = b"Subject: dots\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\n\r\n.hidden\r\nend\r\n"


def throttles(talk: Conversation, tag: bytes, rest: bytes) -> None:
    talk.send(body_response(1, MAILS[1]))
    talk.send(tag + b" NO Request is throttled. Suggested Backoff Time: 299910 milliseconds\r\n")


def breaks(talk: Conversation, tag: bytes, rest: bytes) -> None:
    for uid in sorted(read_set(rest.split(b" ")[0], max(MAILS))):
        if uid == 2:
            talk.send(b"* BYE Cached message size larger than expected\r\n")
            talk.hang_up()
        talk.send(body_response(uid, MAILS[uid]))
    talk.ok(tag)


def refuses_to_delete(talk: Conversation, tag: bytes, rest: bytes) -> None:
    talk.send(tag + b" NO [NOPERM] no right to expunge\r\n")


def filled(server: RuledPop3, *mails: bytes) -> RuledPop3:
    server.deliver("alice", mails)
    return server


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a server does, and what is told of it. `failing`: the connection is, with `words`; else
    mails are in quarantine, and `words` is of the reason."""

    serve: Callable[[], AbstractContextManager[Any]]
    words: str
    metric: str
    mode: str = "imap"
    failing: bool = True
    fields: dict[str, Any] = field(default_factory=dict)
    since: datetime | None = None


def runs(mode: str, outcome: str) -> str:
    return f'posthouse_fetch_runs_total{{mode="{mode}",outcome="{outcome}"}}'


def quarantined(code: str) -> str:
    return f'posthouse_quarantined_total{{code="{code}"}}'


SITUATIONS = {
    "throttled in the middle, IMAP": Situation(
        serve=lambda: ScriptedServer(imap({"UID FETCH": throttles})),
        words="Request is throttled. Suggested Backoff Time: 299910 milliseconds",
        metric=runs("imap", "try-again"),
    ),
    "throttled in the middle, POP3": Situation(
        mode="pop3",
        serve=lambda: filled(
            RuledPop3(refuse=lambda _, given: b"Server Unavailable. 21" if given else None), *FEW
        ),
        words="Server Unavailable. 21",
        metric=runs("pop3", "try-again"),
    ),
    "deletions that are refused": Situation(
        serve=lambda: ScriptedServer(imap({"UID EXPUNGE": refuses_to_delete})),
        words="no right to expunge",
        metric=runs("imap", "needs-person"),
        fields={"after_download": "delete"},
    ),
    "a date at a server without TOP": Situation(
        mode="pop3",
        serve=lambda: filled(RuledPop3(top=False), *FEW),
        words="does not tell when its mails arrived (it has no TOP)",
        metric=runs("pop3", "needs-person"),
        since=datetime(2026, 3, 1, tzinfo=UTC),
    ),
    "a date at Gmail's POP3": Situation(
        mode="pop3",
        serve=lambda: filled(gmail_rules(), *FEW),
        words="lists only its oldest mails that no program has retrieved yet",
        metric=runs("pop3", "needs-person"),
        since=datetime(2026, 3, 1, tzinfo=UTC),
    ),
    "a note in place of a mail": Situation(
        serve=lambda: ScriptedServer(imap(mails={**MAILS, 2: NOTE})),
        words="gives a note of its own in place of this mail",
        metric=quarantined("server-note"),
        failing=False,
    ),
    "a mail cut at a dot": Situation(
        mode="pop3",
        serve=lambda: filled(RuledPop3(stuffs=False), CUT, *PLAIN),
        words="sent the rest where an answer belongs",
        metric=quarantined("mail-cut"),
        failing=False,
    ),
    "lines that would lose a dot": Situation(
        mode="pop3",
        serve=lambda: filled(RuledPop3(stuffs=False), DOTTED, *PLAIN),
        words="sends lines that begin with a dot as they are",
        metric=quarantined("mail-altered"),
        failing=False,
    ),
    "one mail that breaks the session": Situation(
        serve=lambda: ScriptedServer(imap({"UID FETCH": breaks}, settles=True)),
        words="the session ended each time",
        metric=quarantined("breaks-session"),
        failing=False,
    ),
}


@pytest.fixture
def stack(redis_url: str, build_stack: Callable[..., Stack]) -> Stack:
    made = build_stack(redis_url)
    made.add_handler()
    return made


@pytest.fixture
def telling(stack: Stack) -> Iterator[Telling]:
    with Telling(stack) as told:
        yield told


def check_failing(stack: Stack, telling: Telling, connection: int, words: str, metric: str) -> None:
    asked = "SELECT health FROM connection_state WHERE connection_id = %s"
    stack.wait(lambda: stack.query(asked, connection) == [("failing",)], "it is failing")
    stack.wait(lambda: bool(telling.hears("connection-failing")), "the webhook hears of it")
    assert [words in said for said in telling.hears("connection-failing")] == [True]
    assert telling.alerts() == ["connection-failing"]
    assert telling.metric("fetcher", metric)
    telling.log_in()
    assert words in telling.page(f"/connections/{connection}")
    assert words in telling.page("/"), "the overview names what fails"
    assert telling.metric("scheduler", 'posthouse_connections{health="failing"}') == 1
    assert stack.count("quarantine") == 0


def check_quarantined(stack: Stack, telling: Telling, words: str, metric: str) -> None:
    stack.wait(lambda: (stack.hurry(), stack.count("quarantine"))[1] == 1, "the mail is put aside")
    stack.wait(lambda: bool(telling.hears("mail-quarantined")), "the webhook hears of it")
    assert [words in said for said in telling.hears("mail-quarantined")] == [True]
    assert telling.metric("fetcher", metric) == 1
    telling.log_in()
    ((entry,),) = stack.query("SELECT id FROM quarantine")
    assert words in telling.page("/quarantine")
    assert words in telling.page(f"/quarantine/{entry}")
    assert telling.metric("scheduler", "posthouse_quarantined_messages") == 1


@pytest.mark.parametrize("name", SITUATIONS)
def test_it_is_told(name: str, stack: Stack, telling: Telling) -> None:
    situation = SITUATIONS[name]
    with situation.serve() as server:
        connection = stack.add_connection(
            name="watched",
            mode=situation.mode,
            host="127.0.0.1",
            port=server.pop3_port if isinstance(server, RuledPop3) else server.port,
            security="none",
            username="alice",
            enabled=situation.since is None,
            **situation.fields,
        )
        if situation.since is not None:
            with stack.database.transaction() as session:
                connections.start_from(
                    session, connection, since=situation.since, skip_existing=False
                )
            stack.execute("UPDATE connection SET enabled = true")
            stack.fetch_now(connection)
        if situation.failing:
            check_failing(stack, telling, connection, situation.words, situation.metric)
        else:
            check_quarantined(stack, telling, situation.words, situation.metric)
        stack.stop()


def test_a_throttling_graph_is_told(
    graph_server: GraphServer, oidc: OidcServer, stack: Stack, telling: Telling
) -> None:
    graph_server.trust(oidc.public_key)
    box = graph_server.mailbox(ALICE)
    box.deliver(FEW)
    for item in box.in_folder(box.inbox)[1:]:
        graph_server.fail(f"{item.id}/$value", status=429, times=99, retry_after=600)
    connection = stack.add_connection(
        password="",
        name="graph",
        mode="microsoft-graph",
        username=ALICE,
        credential_id=application_credential(stack, graph_server, oidc),
    )
    words = "MailboxConcurrency limit"
    check_failing(stack, telling, connection, words, runs("microsoft-graph", "try-again"))
    graph_server.faults.clear()
    stack.stop()


def test_mails_that_can_only_be_flagged_are_told(
    mail_user: str, stack: Stack, telling: Telling
) -> None:
    """A server without UIDPLUS, where somebody flagged a mail deleted: no failure, as all else is
    well; the page of the connection says what to do, the metric how long it lasts."""
    with Dovecot(capabilities="IMAP4rev1") as server:
        server.deliver(mail_user, [b"Subject: a stranger\r\n\r\n"], flags=r"\Deleted \Seen")
        server.deliver(mail_user, FEW)
        connection = stack.watch(server, mail_user, after_download="delete")
        flagged = "SELECT count(*) FROM settlement WHERE flagged_at IS NOT NULL"
        stack.wait(lambda: stack.query(flagged) == [(len(FEW),)], "they could only be flagged")
        telling.log_in()
        assert "3 mails are flagged deleted" in telling.page(f"/connections/{connection}")
        assert telling.metric("scheduler", "posthouse_settlements_pending") == len(FEW)
        assert telling.metric("scheduler", "posthouse_settlements_oldest_seconds")
        stack.stop()


def test_new_unique_ids_are_nothing_to_tell(stack: Stack, telling: Telling) -> None:
    with RuledPop3() as server:
        server.deliver("alice", FEW)
        connection = stack.add_connection(
            name="moved",
            mode="pop3",
            host="127.0.0.1",
            port=server.pop3_port,
            security="none",
            username="alice",
        )
        stack.wait_settled(len(FEW))
        server.rename("alice", lambda stored: md5(stored.uidl.encode()).hexdigest())
        for _ in range(2):
            stack.run_once(connection)
        telling.log_in()
        assert telling.alerts() == []
        assert "Working" in telling.page(f"/connections/{connection}")
        assert telling.metric("scheduler", "posthouse_outbox_messages") == 0
        stack.stop()
    assert stack.count("delivery") == len(FEW)
