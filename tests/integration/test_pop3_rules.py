"""Fetching by the rules that POP3 servers have: dates, cut mails, time between logins.

For an administrator: what is not taken is in the quarantine with the reason and what to do (page,
`mail-quarantined` alert, `posthouse_quarantined_total`), or the connection is failing with it
(`connection-failing` alert, `posthouse_fetch_runs_total`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from shared.clock import new_id
from shared.storage import connections
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.pop3_rules import RuledPop3, Stored, gmail_rules

OLD = [
    b"Date: Mon, 05 Jan 2026 10:00:0%d +0000\r\nSubject: old %d\r\n\r\nold\r\n" % (n, n)
    for n in range(4)
]
NEW = [mail(number, 700, seed=6) for number in range(3)]  # of June 2026
SINCE = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def here(redis_url: str, build_stack: Callable[..., Stack]) -> Iterator[FetcherHere]:
    stack = build_stack(redis_url, batch_mails="2")
    stack.add_handler()
    with FetcherHere(stack).working() as fetcher:
        yield fetcher


def start(here: FetcherHere, connection: int, *, now: bool = False) -> None:
    with here.stack.database.transaction() as session:
        connections.start_from(session, connection, since=None if now else SINCE, skip_existing=now)


def error(here: FetcherHere) -> str:
    """The code of the failure that the page shows, and of which the alert was raised."""
    ((found,),) = here.stack.query("SELECT error->>'code' FROM connection_state")
    told = "SELECT data->>'code' FROM alert WHERE kind = 'connection-failing'"
    assert here.stack.query(told) == [(found,)]
    return str(found)


def quarantined(here: FetcherHere) -> list[str]:
    """The codes of what was quarantined; of each an alert was raised."""
    found = [row[0] for row in here.stack.query("SELECT code FROM quarantine ORDER BY code")]
    told = here.stack.query("SELECT data->>'code' FROM alert WHERE kind = 'mail-quarantined'")
    assert {code for (code,) in told} == set(found)
    return found


# ---- dates


@pytest.mark.promise("M17", "M7")
def test_without_top_nothing_is_fetched_from_a_date_and_nothing_deleted(
    here: FetcherHere,
) -> None:
    with RuledPop3(top=False) as server:
        server.deliver("alice", [*OLD, *NEW])
        connection = watch(here, server, "delete")
        start(here, connection)
        here.run(connection)
        assert error(here) == "no-dates"
        assert server.left("alice") == [*OLD, *NEW]
        assert here.had() == []
        assert server.retrieved == 0


@pytest.mark.promise("M17", "M7")
def test_a_mail_whose_header_is_refused_once_waits_and_is_judged_later(here: FetcherHere) -> None:
    refusing = [True]
    hidden = OLD[1]

    def refuse(stored: Stored) -> bytes | None:
        return b"[SYS/TEMP] try again" if refusing and stored.raw == hidden else None

    with RuledPop3(refuse_top=refuse) as server:
        server.deliver("alice", [*OLD, *NEW])
        connection = watch(here, server, "delete")
        start(here, connection)
        here.run(connection)
        # All others came, it is shown, and it is untouched.
        assert here.had() == digests(NEW)
        assert error(here) == "date-refused"
        assert server.left("alice") == OLD
        refusing.clear()
        here.run_until_idle(connection)
        assert here.had() == digests(NEW)
        assert server.left("alice") == OLD
        assert here.stack.query("SELECT health FROM connection_state") == [("working",)]


@pytest.mark.promise("M17", "M7")
def test_a_server_that_refuses_every_header_is_said_to_tell_no_dates(here: FetcherHere) -> None:
    """It names TOP among its capabilities: that it is tried again would never help."""
    with RuledPop3(refuse_top=lambda stored: b"not supported") as server:
        server.deliver("alice", [*OLD, *NEW])
        connection = watch(here, server, "delete")
        start(here, connection)
        here.run(connection)
        assert error(here) == "no-dates"
        assert server.left("alice") == [*OLD, *NEW]
        assert here.had() == []


@pytest.mark.promise("M17")
def test_a_mail_without_a_date_is_quarantined_where_one_is_asked_for(here: FetcherHere) -> None:
    undated = b"Subject: no date\r\n\r\ntext\r\n"
    with RuledPop3() as server:
        server.deliver("alice", [undated, *NEW])
        connection = watch(here, server, "delete")
        start(here, connection)
        here.run_until_idle(connection)
        assert here.had() == digests(NEW)
        assert quarantined(here) == ["mail-undated"]
        assert server.left("alice") == [undated]


@pytest.mark.promise("M17")
@pytest.mark.parametrize("now", [True, False])
def test_a_start_that_gmail_makes_impossible_takes_nothing_and_says_so(
    now: bool, here: FetcherHere
) -> None:
    with gmail_rules() as server:
        server.deliver("alice", [*OLD, *NEW])
        connection = watch(here, server, "delete")
        start(here, connection, now=now)
        here.run(connection)
        assert error(here) == "start-impossible"
        assert server.listed("alice") == [*OLD, *NEW]
        assert here.had() == []


# ---- servers that do not stuff dots


@pytest.mark.promise("H4", "I1")
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_mail_cut_at_a_lone_dot_is_quarantined_and_stays_on_the_server(
    position: int, pipelining: bool, here: FetcherHere
) -> None:
    cut = (
        b"Subject: cut\r\nDate: Mon, 01 Jun 2026 10:00:00 +0000\r\n\r\nbefore\r\n.\r\n"
        b"the rest of it\r\n"
    )
    plain = [b"Subject: plain %d\r\n\r\nno dot\r\n" % n for n in range(2)]
    mails = [*plain[:position], cut, *plain[position:]]
    with RuledPop3(stuffs=False, pipelining=pipelining) as server:
        server.deliver("alice", mails)
        connection = watch(here, server, "delete")
        for _ in range(6):
            here.run(connection)
        assert here.had() == digests(plain)
        assert quarantined(here) == ["mail-cut"]
        assert server.left("alice") == [cut]
        assert here.stack.query("SELECT health FROM connection_state") == [("working",)]


DOTTED = {
    "one dot": b".hidden\r\n.profile\r\n",
    "more dots": b"...and so on\r\n",
    "at the start": b"",
}


@pytest.mark.promise("H4", "I1")
@pytest.mark.parametrize("dotted", DOTTED)
def test_a_mail_whose_lines_would_lose_a_dot_is_quarantined_and_stays_on_the_server(
    dotted: str, here: FetcherHere
) -> None:
    start = b".Subject: dots\r\n" if dotted == "at the start" else b"Subject: dots\r\n"
    altered = start + b"Date: Mon, 01 Jun 2026 10:00:00 +0000\r\n\r\n" + DOTTED[dotted] + b"end\r\n"
    plain = [b"Subject: plain %d\r\n\r\nno dot\r\n" % n for n in range(2)]
    # Without a second dot it shows whatever size is listed.
    size = len if dotted == "more dots" else lambda raw: len(raw) - raw.count(b"\r\n")
    with RuledPop3(stuffs=False, size=size) as server:
        server.deliver("alice", [plain[0], altered, plain[1]])
        connection = watch(here, server, "delete")
        here.run_until_idle(connection)
        assert here.had() == digests(plain)
        assert quarantined(here) == ["mail-altered"]
        assert server.left("alice") == [altered]
        assert here.stack.query("SELECT health FROM connection_state") == [("working",)]


@pytest.mark.promise("H4", "I1")
def test_a_server_that_was_seen_not_to_double_dots_is_believed_in_none_behind(
    here: FetcherHere,
) -> None:
    """Two dots may be one that was doubled, or two that were not."""
    start = b"Subject: dots\r\nDate: Mon, 01 Jun 2026 10:00:00 +0000\r\n\r\n"
    altered = [start + b".hidden\r\n", start + b"..and so on\r\n"]
    plain = b"Subject: plain\r\n\r\nno dot\r\n"
    with RuledPop3(stuffs=False, size=lambda raw: len(raw) + 40) as server:
        server.deliver("alice", [altered[0], plain, altered[1]])
        connection = watch(here, server, "delete")
        here.run_until_idle(connection)
        assert here.had() == digests([plain])
        assert quarantined(here) == ["mail-altered"] * 2
        assert server.left("alice") == altered


@pytest.mark.promise("I1")
@pytest.mark.parametrize(
    "size",
    [len, lambda raw: len(raw) + 40, lambda raw: len(raw) - raw.count(b"\r\n")],
    ids=["exact", "larger", "bare line feeds"],
)
def test_dots_that_are_doubled_quarantine_no_mail(
    size: Callable[[bytes], int], here: FetcherHere
) -> None:
    dotted = [b"Subject: dots\r\n\r\n" + text + b"end\r\n" for text in DOTTED.values()]
    dotted.append(b".Subject: dots\r\n\r\n.\r\n..\r\n")
    with RuledPop3(size=size, pipelining=True) as server:
        server.deliver("alice", dotted)
        here.run_until_idle(watch(here, server, "delete"))
        assert server.left("alice") == []
    assert here.had() == digests(dotted)
    assert quarantined(here) == []


@pytest.mark.promise("I1")
def test_sizes_that_a_server_lists_wrongly_quarantine_no_mail(here: FetcherHere) -> None:
    """Larger than they are, or counted with bare line feeds: seen at Exchange, and at mbox."""
    with RuledPop3(size=lambda raw: len(raw) + 40) as large:
        large.deliver("alice", NEW)
        here.run_until_idle(watch(here, large, "delete"))
        assert large.left("alice") == []
    assert here.had() == digests(NEW)
    more = [mail(number, 700, seed=7) for number in range(3)]
    with RuledPop3(size=lambda raw: len(raw) - raw.count(b"\r\n")) as small:
        small.deliver("alice", more)
        here.run_until_idle(watch(here, small, "delete", description="small"))
        assert small.left("alice") == []
    assert here.had() == digests([*NEW, *more])
    assert quarantined(here) == []


# ---- time between logins


@pytest.mark.promise("M4")
def test_what_lies_behind_a_window_waits_for_no_interval(here: FetcherHere) -> None:
    many = [mail(number, 500, seed=99) for number in range(7)]
    with gmail_rules(window=3) as server:
        server.deliver("alice", many)
        connection = watch(here, server, "mark-read")
        here.stack.execute("UPDATE connection_state SET due_at = now() + interval '1 hour'")
        here.fetcher.dispatcher.run_job([connection], str(new_id()))
        assert len(here.had()) < len(many)
        assert here.stack.query("SELECT due_at <= now() FROM connection_state") == [(True,)]


@pytest.mark.promise("M4")
def test_many_mails_come_in_one_session_and_one_settling(here: FetcherHere) -> None:
    mails = [mail(number, 400, seed=8) for number in range(41)]
    with RuledPop3(login_delay=600) as server:
        server.deliver("alice", mails)
        connection = watch(here, server, "delete")
        here.run(connection)
        assert here.had() == digests(mails)
        assert server.left("alice") == []
        assert (server.logins, server.quits) == (1, 1)


@pytest.mark.promise("M4")
def test_a_session_lasts_as_long_as_the_next_login_has_to_wait(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Where a run lasts one batch only, all mails come in one session all the same."""
    mails = [mail(number, 400, seed=8) for number in range(9)]
    stack = build_stack(redis_url, batch_mails="2")
    stack.add_handler()
    with RuledPop3(login_delay=600) as server, FetcherHere(stack).working() as here:
        tools = here.fetcher.dispatcher.tools
        settings = tools.settings.model_copy(update={"slice_seconds": 0.0})
        here.fetcher.dispatcher.tools = dataclasses.replace(tools, settings=settings)
        server.deliver("alice", mails)
        # In the slow lane: how long a server is waited for in the common one follows from a slice.
        connection = watch(here, server, "delete")
        here.fetcher.dispatcher.run_slow_job([connection], str(new_id()))
        assert here.had() == digests(mails)
        assert (server.left("alice"), server.logins) == ([], 1)


@pytest.mark.promise("M4", "M27")
@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (b"[LOGIN-DELAY] Logins must be at least 10 minutes apart", 600),
        (b"[LOGIN-DELAY] minimum time between mail checks violation", 600),
        (b"login allowed only every 15 minutes", 900),
    ],
)
def test_a_login_too_soon_is_waited_for_and_no_failure(
    words: bytes, seconds: int, here: FetcherHere
) -> None:
    with RuledPop3(login_delay=600, delay_words=words) as server:
        server.deliver("alice", NEW[:1])
        connection = watch(here, server, "mark-read")
        here.run(connection)
        due = "SELECT extract(epoch FROM due_at - now()) FROM connection_state"
        # The next turn waits by itself for as long as the server said before.
        ((wait,),) = here.stack.query(due)
        assert 580 < wait <= 600
        server.deliver("alice", NEW[1:2])
        here.run(connection)
        assert here.stack.query("SELECT health, failures, error FROM connection_state") == [
            ("working", 0, None)
        ]
        ((wait,),) = here.stack.query(due)
        assert seconds - 20 < wait <= seconds
        server.pass_time(seconds)
        here.run(connection)
        assert here.had() == digests(NEW[:2])


@pytest.mark.promise("M27")
def test_a_locked_mailbox_is_no_wrong_password(here: FetcherHere) -> None:
    with RuledPop3(login_words=lambda: b"another session is already open") as server:
        server.deliver("alice", NEW)
        connection = watch(here, server, "mark-read")
        here.run(connection)
        assert error(here) == "mailbox-in-use"
        assert here.stack.query("SELECT health FROM connection_state") == [("failing",)]
