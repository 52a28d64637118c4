"""Whatever goes wrong at a mail server: its page, the overview, the alert and the metric say so.

One row each of what servers were seen to do; what becomes of the mails is asserted elsewhere
(test_throttled_downloads.py, test_breaking_mails.py, test_pop3_rules.py, test_settling.py …). What
goes wrong with our own parts is in test_what_is_told_of_us.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any

import pytest

from shared.clock import new_id, utc_now
from shared.storage import connections
from tests.integration.graph.application import application_credential
from tests.integration.test_cut_answers import CUTS, cutting
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
from tests.unit.test_unconverted_mails import NOTE

pytestmark = pytest.mark.promise("M19", "M27", "H4")

ALICE = "alice@example.org"
HOUR = timedelta(hours=1)
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
    "a QUIT that is refused": Situation(
        mode="pop3",
        serve=lambda: filled(RuledPop3(refuse_quit=b"some deleted messages not removed"), *FEW),
        words="some deleted messages not removed",
        metric=runs("pop3", "try-again"),
        fields={"after_download": "delete"},
    ),
    "no session is left": Situation(
        serve=lambda: ScriptedServer(lambda talk: talk.send(b"* BYE Too many connections\r\n")),
        words="The mailbox has too many sessions open",
        metric=runs("imap", "try-again"),
    ),
    "a header that is refused, and a date": Situation(
        mode="pop3",
        serve=lambda: filled(
            RuledPop3(refuse_top=lambda stored: b"not now" if stored.raw == FEW[0] else None), *FEW
        ),
        words="did not show the header of a mail",
        metric=runs("pop3", "try-again"),
        since=datetime(2026, 3, 1, tzinfo=UTC),
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
    "a note in place of a mail, POP3": Situation(
        mode="pop3",
        serve=lambda: filled(RuledPop3(), NOTE, *PLAIN),
        words="gives a note of its own in place of this mail",
        metric=quarantined("server-note"),
        failing=False,
    ),
    "one mail that breaks the session, POP3": Situation(
        mode="pop3",
        serve=lambda: filled(RuledPop3(breaks=lambda stored: stored.raw == FEW[1]), *FEW),
        words="the session ended each time",
        metric=quarantined("breaks-session"),
        failing=False,
    ),
    "one mail that breaks the session, IMAP": Situation(
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
    (said,) = telling.hears("connection-failing")
    assert words in said
    assert telling.alerts() == ["connection-failing"]
    assert telling.metric("fetcher", metric)
    telling.log_in()
    assert words in telling.page(f"/connections/{connection}")
    assert words in telling.page("/"), "the overview names what fails"
    assert telling.metric("scheduler", 'posthouse_connections{health="failing"}') == 1
    assert stack.count("quarantine") == 0


def check_quarantined(stack: Stack, telling: Telling, words: str, metric: str) -> None:
    stack.wait(
        lambda: (stack.hurry(), stack.count("quarantine"))[1] == 1, "the mail is quarantined"
    )
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
        connection = stack.add_plain_connection(
            server.pop3_port if isinstance(server, RuledPop3) else server.port,
            name="watched",
            mode=situation.mode,
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
    counted = 'posthouse_connections_throttled{mode="microsoft-graph"}'
    assert telling.metric("scheduler", counted) == 1
    assert telling.metric("fetcher", "posthouse_graph_throttled_total")
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
        assert not telling.fires("PosthouseSettlementsPending", "scheduler")
        stack.query(
            "UPDATE settlement SET message_id = %s RETURNING 1", new_id(utc_now() - 2 * HOUR)
        )
        stack.wait(
            lambda: telling.fires("PosthouseSettlementsPending", "scheduler"), "the rule fires"
        )
        stack.stop()


def well(telling: Telling, connection: int) -> str:
    """The page of a connection of which nothing is to be told."""
    page = telling.page(f"/connections/{connection}")
    assert "Working" in page
    assert telling.alerts() == []
    assert not telling.metric("scheduler", 'posthouse_connections{health="failing"}')
    for outcome in ("try-again", "needs-person"):
        assert not telling.metric("fetcher", runs("pop3", outcome))
        assert not telling.metric("fetcher", runs("imap", outcome))
    return page


def pop3(stack: Stack, server: RuledPop3, name: str) -> int:
    return stack.add_connection(
        name=name,
        mode="pop3",
        host="127.0.0.1",
        port=server.pop3_port,
        security="none",
        username="alice",
    )


def test_by_which_rules_a_server_keeps_mails_is_told_before_anything_is_lost(
    stack: Stack, telling: Telling
) -> None:
    """What QUIT confirms, and how long the next login waits, is no failure: whoever tests the
    connection is warned."""
    rules = {
        "This server deletes every mail that was fetched (it says EXPIRE 0)": RuledPop3(expire=0),
        "lists only its oldest mails that no program has retrieved yet": gmail_rules(),
        "This server wants 70 seconds between two logins": RuledPop3(login_delay=70),
        "it has no TOP": RuledPop3(top=False),
    }
    with ExitStack() as servers:
        for server in rules.values():
            filled(servers.enter_context(server), FEW[0])
        mailboxes = {words: pop3(stack, server, words) for words, server in rules.items()}
        stack.wait_settled(len(rules))
        telling.log_in()
        for words, server in rules.items():
            server.pass_time(70)
            assert words in telling.tested(mailboxes[words])
        # Too soon after that login: the next one is waited for, as nothing is wrong.
        delayed = mailboxes["This server wants 70 seconds between two logins"]
        stack.fetch_now(delayed)
        log = stack.log_of("fetcher")
        stack.wait(lambda: "login put off" in log.read_text(), "the next login is put off")
        for mailbox in mailboxes.values():
            well(telling, mailbox)
        stack.stop()


def test_new_unique_ids_are_nothing_to_tell(stack: Stack, telling: Telling) -> None:
    with RuledPop3() as server:
        server.deliver("alice", FEW)
        connection = pop3(stack, server, "moved")
        stack.wait_settled(len(FEW))
        server.rename("alice", lambda stored: md5(stored.uidl.encode()).hexdigest())
        for _ in range(2):
            stack.run_once(connection)
        telling.log_in()
        well(telling, connection)
        assert telling.metric("scheduler", "posthouse_outbox_messages") == 0
        stack.stop()
    assert stack.count("delivery") == len(FEW)


def test_searches_that_a_server_cuts_are_nothing_to_tell(stack: Stack, telling: Telling) -> None:
    mails = dict(enumerate((mail(number, 600, seed=62) for number in range(90)), 1))
    with cutting(CUTS["forty"], mails=mails, read=frozenset()) as server:
        connection = stack.add_connection(
            name="cuts",
            mode="imap",
            host="127.0.0.1",
            port=server.port,
            security="none",
            username="alice",
        )
        stack.wait(lambda: stack.count("delivery") == len(mails), "every mail is delivered")
        done = "SELECT 1 FROM connection_state WHERE last_success_at IS NOT NULL"
        stack.wait(lambda: stack.query(done) != [], "the run has ended")
        telling.log_in()
        assert f"New mails today (UTC) {len(mails)}" in well(telling, connection)
        fetched = 'posthouse_downloaded_messages_total{mode="imap"}'
        assert telling.metric("fetcher", fetched) == len(mails)
        stack.stop()
