"""Several mails of one mailbox break the session: all others come in that very run.

For an administrator: the connection is failing with what happened (page, `connection-failing`
alert, `posthouse_fetch_runs_total`) until each of them stands in quarantine with the reason (page,
`mail-quarantined` alert, `posthouse_quarantined_total{code="breaks-session"}`); then it is well.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

from services.fetcher.run import MOST_BREAKS, STEPS
from shared.storage import connections
from shared.storage.download_failures import MOST
from shared.telemetry import metrics
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.pop3_rules import RuledPop3, gmail_rules
from tests.servers.scripted import Conversation, ScriptedServer, body_response, imap, read_set

COUNT = 23
MAILS = [mail(number, 600, seed=12) for number in range(COUNT)]
BY_NUMBER = dict(enumerate(MAILS, 1))


@dataclass(frozen=True)
class Mailbox:
    mode: str
    port: int
    #: How many there were.
    sessions: Callable[[], int]
    server: RuledPop3 | ScriptedServer | None


@pytest.fixture
def here(redis_url: str, build_stack: Callable[..., Stack]) -> Iterator[FetcherHere]:
    stack = build_stack(redis_url, batch_mails="10")
    stack.add_handler()
    with FetcherHere(stack).working() as fetcher:
        yield fetcher


@contextmanager
def imap_breaking(breaks: Callable[[bytes], bool], *, bye: bytes = b"") -> Iterator[Mailbox]:
    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], COUNT)):
            if breaks(BY_NUMBER[uid]):
                talk.send(b"* BYE " + bye + b"\r\n" if bye else b"")
                talk.hang_up()
            talk.send(body_response(uid, BY_NUMBER[uid]))
        talk.ok(tag)

    with ScriptedServer(imap({"UID FETCH": fetch}, mails=BY_NUMBER, settles=True)) as there:
        yield Mailbox(
            "imap", there.port, lambda: sum(b" LOGIN " in line for line in there.heard), there
        )


@contextmanager
def pop3_breaking(breaks: Callable[[bytes], bool], server: RuledPop3) -> Iterator[Mailbox]:
    server.breaks = lambda stored: breaks(stored.raw)
    with server:
        server.deliver("alice", MAILS)
        yield Mailbox("pop3", server.pop3_port, lambda: server.logins, server)


SERVERS: dict[str, Callable[[Callable[[bytes], bool]], AbstractContextManager[Mailbox]]] = {
    "imap, cut": imap_breaking,
    "imap, BYE": lambda breaks: imap_breaking(
        breaks, bye=b"Cached message size larger than expected"
    ),
    "pop3": lambda breaks: pop3_breaking(breaks, RuledPop3(pipelining=True)),
    "gmail pop3": lambda breaks: pop3_breaking(breaks, gmail_rules()),
    "expire 0": lambda breaks: pop3_breaking(breaks, RuledPop3(expire=0, pipelining=True)),
}


def add(here: FetcherHere, mailbox: Mailbox, after_download: str, *, name: str = "alice") -> int:
    return here.stack.add_plain_connection(
        mailbox.port, name=name, mode=mailbox.mode, after_download=after_download
    )


def health(here: FetcherHere) -> str:
    ((found,),) = here.stack.query("SELECT health FROM connection_state")
    return str(found)


def quarantined_total() -> float:
    return float(metrics.QUARANTINED.labels("breaks-session")._value.get())


@pytest.mark.promise("M27", "H4", "I5")
@pytest.mark.parametrize(
    ("server", "after_download", "bad"),
    [
        ("imap, cut", "mark-read", {1, 2}),
        ("imap, cut", "delete", {5, 13, 21}),
        ("imap, BYE", "delete", {22, 23}),
        ("pop3", "mark-read", {5, 13, 21}),
        ("pop3", "delete", {1, 2}),
        ("gmail pop3", "mark-read", {5, 13, 21}),
        ("gmail pop3", "delete", {1, 2}),
        ("expire 0", "mark-read", {1, 2, 22, 23}),
    ],
)
def test_several_mails_that_break_the_session_cost_no_interval_each(
    after_download: str, server: str, bad: set[int], here: FetcherHere
) -> None:
    others = [raw for number, raw in BY_NUMBER.items() if number not in bad]
    counted = quarantined_total()
    with SERVERS[server](lambda raw: raw not in others) as mailbox:
        connection = add(here, mailbox, after_download)
        here.run(connection)
        assert here.had() == digests(others)
        # What a session had that broke is settled over the next one; the last of them has none.
        assert here.stack.count("settlement") <= 1
        asked = "SELECT error ->> 'message' FROM connection_state"
        told = "SELECT data ->> 'message' FROM alert WHERE kind = 'connection-failing'"
        assert health(here) == "failing"
        assert here.stack.query(told) == here.stack.query(asked)
        # Who is cut off without a word may be the link's victim: once more.
        for _ in range(1 if "BYE" in server else 2):
            assert here.stack.count("quarantine") == 0
            here.run(connection)
        here.run(connection)
        assert mailbox.sessions() <= 4 * MOST_BREAKS
    assert here.had() == digests(others)
    assert here.stack.query("SELECT code FROM quarantine") == [("breaks-session",)] * len(bad)
    alerts = "SELECT data ->> 'code' FROM alert WHERE kind = 'mail-quarantined'"
    assert set(here.stack.query(alerts)) == {("breaks-session",)}
    assert quarantined_total() == counted + len(bad)
    assert health(here) == "working"
    assert here.stack.count("download_failure") == 0
    assert here.stack.count("settlement") == 0
    if isinstance(mailbox.server, RuledPop3):
        left = mailbox.server.left("alice")
        assert {raw for raw in MAILS if raw not in others} <= set(left)


@pytest.mark.promise("M27", "I5")
@pytest.mark.parametrize("server", ["imap, cut", "imap, BYE", "gmail pop3"])
def test_a_server_that_breaks_every_session_is_not_asked_for_ever(
    server: str, here: FetcherHere
) -> None:
    """Three mails come, and none after them in whatever session: no mail is the cause."""
    given: set[bytes] = set()

    def breaks(raw: bytes) -> bool:
        given.update({raw} if len(given) < 3 else ())
        return raw not in given

    with SERVERS[server](breaks) as mailbox:
        connection = add(here, mailbox, "mark-read")
        for runs in range(1, 3):
            here.run(connection)
            # Over POP3, what was recognised by headers is retrieved in a session of its own.
            assert mailbox.sessions() <= runs * 2 * MOST_BREAKS + 1
            assert health(here) == "failing"
        assert here.stack.count("quarantine") == 0
        given.update(MAILS)
        here.run_until_idle(connection)
    assert here.had() == digests(MAILS)
    assert here.stack.count("quarantine") == 0
    assert health(here) == "working"


@pytest.mark.promise("M27")
def test_a_server_that_says_it_goes_away_is_left_alone(here: FetcherHere) -> None:
    with imap_breaking(
        lambda raw: raw == BY_NUMBER[5], bye=b"[UNAVAILABLE] Server shutting down, try again"
    ) as mailbox:
        connection = add(here, mailbox, "mark-read")
        here.run(connection)
        assert mailbox.sessions() == 1
        assert health(here) == "failing"


@pytest.mark.promise("M17", "M27")
def test_what_arrives_after_the_start_from_now_is_not_skipped_in_a_fresh_session(
    here: FetcherHere,
) -> None:
    """It breaks the session it is first asked for in; the start is over by then."""
    there = {1: MAILS[0]}
    searches: list[bytes] = []
    asked: list[int] = []

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        found = b"".join(b" %d" % uid for uid in there if b"DELETED" not in rest[:10])
        talk.send(b"* SEARCH" + found + b"\r\n")
        talk.ok(tag)
        searches.append(rest)
        there.update({2: MAILS[1], 3: MAILS[2]})  # they arrive behind the first look

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], 3)):
            asked.append(uid)
            if asked == [2]:
                talk.hang_up()
            talk.send(body_response(uid, there[uid]))
        talk.ok(tag)

    with ScriptedServer(imap({"UID SEARCH": search, "UID FETCH": fetch}, live=there)) as server:
        connection = add(here, Mailbox("imap", server.port, lambda: 0, None), "mark-read")
        with here.stack.database.transaction() as session:
            connections.start_from(session, connection, since=None, skip_existing=True)
        here.run_until_idle(connection)
    assert asked[0] == 2, searches
    assert here.had() == digests(MAILS[1:3])


@pytest.mark.promise("M27")
def test_where_logins_have_to_wait_the_next_run_goes_on_as_soon_as_it_may(
    here: FetcherHere,
) -> None:
    """The connection is failing meanwhile, and is not backed off longer than the server wants."""
    bad = {MAILS[4], MAILS[12]}
    server = RuledPop3(login_delay=70, delay_words=b"[LOGIN-DELAY] try later", pipelining=True)
    with pop3_breaking(lambda raw: raw in bad, server) as mailbox:
        connection = add(here, mailbox, "delete")
        for mails in (4, 6):  # of batches of ten
            here.run(connection)
            assert here.stack.count("message") == mails
            assert health(here) == "failing"
            asked = "SELECT extract(epoch FROM due_at - last_run_at)::float8 FROM connection_state"
            ((delay,),) = here.stack.query(asked)
            assert 60 < delay < 80
            server.pass_time(70)
        # No session could delete, as each broke: now one does, and leaves the bad ones alone.
        assert len(server.left("alice")) == COUNT
        here.run(connection)
        assert here.stack.count("message") == COUNT - 2
        assert set(server.left("alice")) == bad
        server.pass_time(70)
        here.run(connection)
        assert health(here) == "failing"
    assert here.stack.count("quarantine") == 0


@pytest.mark.long
@pytest.mark.promise("I1", "I3", "M27")
@pytest.mark.parametrize("server", ["imap, BYE", "gmail pop3"])
def test_killed_at_any_step_between_the_sessions_nothing_is_lost_or_comes_twice(
    server: str, here: FetcherHere
) -> None:
    bad = {MAILS[4], MAILS[12]}
    others = [raw for raw in MAILS if raw not in bad]
    connection_of: dict[int, str] = {}
    for time, step in zip(itertools.cycle((1, 3)), STEPS[:-1], strict=False):
        with SERVERS[server](lambda raw: raw in bad) as mailbox:
            connection = add(here, mailbox, "delete", name=f"{step} {time}")
            connection_of[connection] = step
            here.fail_at(step, lambda: SystemExit(9), time)
            with contextlib.suppress(SystemExit):
                here.run(connection)
            here.stop_failing()
            for _ in range(4):
                here.run(connection)
            if isinstance(mailbox.server, RuledPop3):
                assert set(mailbox.server.left("alice")) >= bad
    asked = "SELECT connection_id, sha256 FROM message"
    had = sorted((number, digest.hex()) for number, digest in here.stack.query(asked))
    assert had == sorted((number, one) for number in connection_of for one in digests(others))
    asked = "SELECT connection_id, count(*) FROM quarantine GROUP BY 1"
    assert dict(here.stack.query(asked)) == dict.fromkeys(connection_of, len(bad))
    assert here.stack.count("settlement") == 0


@pytest.mark.promise("M27")
def test_a_kept_session_that_breaks_at_the_only_new_mail_is_replaced_in_the_run(
    here: FetcherHere,
) -> None:
    there = {1: MAILS[0]}
    asked: list[int] = []

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], 2)):
            asked.append(uid)
            if asked == [1, 2]:
                talk.hang_up()
            talk.send(body_response(uid, there[uid]))
        talk.ok(tag)

    with ScriptedServer(imap({"UID FETCH": fetch}, live=there, settles=True)) as server:
        connection = add(here, Mailbox("imap", server.port, lambda: 0, None), "mark-read")
        here.run(connection)
        there[2] = MAILS[1]
        here.run(connection)
    assert asked == [1, 2, 2]
    assert here.had() == digests(MAILS[:2])
    assert health(here) == "working"


@contextmanager
def imap_ending(ends: Callable[[int, Conversation], None]) -> Iterator[tuple[Mailbox, list[int]]]:
    """`ends` may end the session at a mail. With the UIDs that were asked for alone."""
    alone: list[int] = []

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        uids = sorted(read_set(rest.split(b" ")[0], COUNT))
        alone.extend(uids if len(uids) == 1 else [])
        for uid in uids:
            ends(uid, talk)
            talk.send(body_response(uid, BY_NUMBER[uid]))
        talk.ok(tag)

    with ScriptedServer(imap({"UID FETCH": fetch}, mails=BY_NUMBER, settles=True)) as there:
        yield Mailbox("imap", there.port, lambda: 0, there), alone


@pytest.mark.promise("M27")
def test_a_mail_that_broke_a_session_alone_is_asked_for_once_a_run(here: FetcherHere) -> None:
    """Also where the first one under way, and asked for last, was the victim of a link; and though
    all others came, the run does not end well."""
    victims = [5]
    others = [raw for number, raw in BY_NUMBER.items() if number not in {7, 9}]

    def ends(uid: int, talk: Conversation) -> None:
        if uid in {7, 9} or (uid in victims and not victims.remove(uid)):
            talk.hang_up()

    with imap_ending(ends) as (mailbox, alone):
        connection = add(here, mailbox, "mark-read")
        for runs in (1, 2):
            here.run(connection)
            assert here.had() == digests(others)
            assert health(here) == "failing"
            assert (alone.count(7), alone.count(9)) == (runs, runs)
    assert here.stack.count("quarantine") == 0


@pytest.mark.promise("M27", "H4")
def test_where_one_of_two_is_quarantined_the_connection_is_failing_for_the_other(
    here: FetcherHere,
) -> None:
    """Whose session the server itself ends is known sooner than who is cut off without a word."""

    def ends(uid: int, talk: Conversation) -> None:
        if uid == 9:
            talk.send(b"* BYE Cached message size larger than expected\r\n")
        if uid in {5, 9}:
            talk.hang_up()

    with imap_ending(ends) as (mailbox, _):
        connection = add(here, mailbox, "mark-read")
        for _ in range(2):
            here.run(connection)
            assert health(here) == "failing"
        assert here.stack.query("SELECT native_key FROM quarantine") == [("9",)]
        here.run(connection)
        here.run(connection)
        assert here.stack.count("quarantine") == 2
        assert health(here) == "working"


@pytest.mark.promise("M27", "H4")
def test_the_last_mail_at_which_a_server_throttles_is_not_blamed(here: FetcherHere) -> None:
    """It says so each time it is asked for that one, while all others were given."""
    bye = b"[OVERQUOTA] Account exceeded command or bandwidth limits"
    with imap_breaking(lambda raw: raw == MAILS[-1], bye=bye) as mailbox:
        connection = add(here, mailbox, "mark-read")
        for _ in range(MOST + 2):
            here.run(connection)
            assert health(here) == "failing"
        assert mailbox.sessions() > MOST
    assert here.had() == digests(MAILS[:-1])
    assert here.stack.count("quarantine") == 0


@pytest.mark.promise("M27", "H4")
def test_a_session_that_broke_at_the_mail_that_is_quarantined_is_not_kept(
    here: FetcherHere,
) -> None:
    """The run ends well, as nothing is left; its session is of no use to the next one."""
    with SERVERS["imap, BYE"](lambda raw: raw == MAILS[-1]) as mailbox:
        connection = add(here, mailbox, "mark-read")
        for _ in range(MOST):
            here.run(connection)
            if here.stack.count("quarantine"):
                break
        assert health(here) == "working"
        assert not here.fetcher.dispatcher.sessions.has_idle_session(connection)
        assert here.stack.query("SELECT affinity FROM connection_state") == [(None,)]
