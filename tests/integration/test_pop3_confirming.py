"""POP3 servers that let go of what was retrieved once QUIT was said: nothing is lost or stranded.

Gmail's rules, mailutils' `expire 0`, a server that keeps everything, and one without TOP; for both
settlements, with our own parts failing at every step.

For an administrator: the test of a connection, on its page, warns of EXPIRE and of the provider's
window; a QUIT that is refused fails the connection with the server's words (page,
`connection-failing` alert, `posthouse_fetch_runs_total`): test_what_is_told.py looks at each. A
database or store without room is told as in test_full_disks.py.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import Any

import pytest

from services.fetcher.run import STEPS
from shared.connections import AfterDownload, Mode, Selection
from shared.errors import LeaseLost
from shared.mailbox.base import MailRef
from shared.storage.pool import DatabaseUnavailable
from shared.store import StoreFull
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.pop3_rules import RuledPop3, gmail_rules

MAILS = [mail(number, 1500 + 300 * number, seed=9) for number in range(7)]
#: Two mails a batch: four batches, so that one is read ahead while another is committed.
SETTINGS = {"batch_mails": "2", "slice_seconds": "20"}

RULES: dict[str, Callable[[], RuledPop3]] = {
    # Three at a time: new ones show only when the old ones were let go of.
    "gmail": lambda: gmail_rules(window=3),
    "expire-0": lambda: RuledPop3(expire=0, pipelining=True),
    "without-top": lambda: RuledPop3(top=False),
    "keeps": lambda: RuledPop3(pipelining=True),
}
FAULTS: dict[str, Callable[[], BaseException]] = {
    "database": lambda: DatabaseUnavailable("Postgres went away."),
    "store": lambda: StoreFull("There is no room for another mail."),
    "lease": lambda: LeaseLost("Somebody else holds the lease."),
    "unexpected": lambda: OSError(errno.EIO, "Input/output error"),
    "killed": lambda: SystemExit(9),
}


@pytest.fixture
def here(redis_url: str, build_stack: Callable[..., Stack]) -> Any:
    stack = build_stack(redis_url, **SETTINGS)
    stack.add_handler()
    with FetcherHere(stack).working() as fetcher:
        yield fetcher


def watch(here: FetcherHere, server: RuledPop3, after_download: str, **fields: Any) -> int:
    return here.stack.add_connection(
        name=f"ruled {server.pop3_port}",
        mode="pop3",
        host=server.host,
        port=server.pop3_port,
        security="none",
        username="alice",
        after_download=after_download,
        **fields,
    )


def run(here: FetcherHere, connection: int) -> None:
    try:
        here.run(connection)
    except SystemExit:
        # What a process leaves behind that was killed: its sockets close, and nothing is said.
        here.stack.hasten()


@pytest.mark.promise("I1", "M7")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ("gmail", "database"),
        ("gmail", "unexpected"),
        ("gmail", "killed"),
        ("expire-0", "store"),
        ("expire-0", "lease"),
        ("without-top", "database"),
        ("keeps", "killed"),
    ],
)
def test_whatever_fails_at_whatever_step_nothing_is_lost_or_stranded(
    rules: str, fault: str, after_download: str, here: FetcherHere
) -> None:
    for step in STEPS:
        for time in (1, 2) if step in ("downloaded", "stored", "committed") else (1,):
            with RULES[rules]() as server:
                server.deliver("alice", MAILS)
                connection = watch(here, server, after_download)
                here.fail_at(step, FAULTS[fault], time)
                run(here, connection)
                here.stop_failing()
                here.run_until_idle(connection)
                assert here.had() == digests(MAILS), f"{step}:{time}"
                assert here.stack.count("settlement") == 0, f"{step}:{time}"
                assert here.stack.count("quarantine") == 0
                if after_download == "delete":
                    assert server.listed("alice") == []
                elif rules in ("keeps", "without-top"):
                    assert server.left("alice") == MAILS
                # What comes later comes, too: nothing of the old is in its way.
                later = mail(99, 800, seed=9)
                server.deliver("alice", [later])
                here.run_until_idle(connection)
                assert here.had() == digests([*MAILS, later]), f"{step}:{time}"
            forget(here.stack, connection)


@pytest.mark.promise("I1", "M7")
@pytest.mark.parametrize("rules", ["gmail", "expire-0"])
def test_nothing_is_read_ahead_over_a_settling(rules: str, here: FetcherHere) -> None:
    """The QUIT that settles one batch would confirm what was retrieved of the next one."""
    with RULES[rules]() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        more = threading.Event()
        retrieved: list[int] = []

        def reached(step: str) -> None:
            if step == "committed":
                before = server.retrieved
                more.wait(1)  # for whoever would read ahead meanwhile
                retrieved.append(server.retrieved - before)

        here.reached = reached
        here.run(connection)
        assert retrieved
        assert set(retrieved) == {0}


def forget(stack: Stack, connection: int) -> None:
    """Makes room for the next try in the same database."""
    with stack.database.transaction() as session:
        for table in ("outbox", "settlement", "message", "delivery", "known_key", "lease"):
            session.execute(f"DELETE FROM {table}")
        session.execute("DELETE FROM connection WHERE id = %s", (connection,))


# ---- the words of one session


def said(server: RuledPop3) -> list[str]:
    return [line.split()[0].decode() for line in server.heard if line]


@pytest.mark.promise("I1")
@pytest.mark.parametrize("rules", RULES)
def test_a_session_that_retrieved_ends_without_quit_until_it_is_told_that_all_is_safe(
    rules: str,
) -> None:
    with RULES[rules]() as server:
        server.deliver("alice", MAILS[:3])
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            mailbox.open("")
            refs = mailbox.list_new(KnownKeys(), Selection.ALL).new
            mailbox.download(refs, Collector(), limit=1 << 20)
        assert "QUIT" not in said(server)
        assert server.listed("alice") == MAILS[:3]


@pytest.mark.promise("I1", "M7")
@pytest.mark.parametrize("action", list(AfterDownload))
def test_a_mail_that_was_retrieved_and_not_kept_is_confirmed_by_no_settling(
    action: AfterDownload,
) -> None:
    """Three were read, two are safe: what settles these two must not let go of the third."""
    with RuledPop3(expire=0) as server:
        server.deliver("alice", MAILS[:3])
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            mailbox.open("")
            refs = mailbox.list_new(KnownKeys(), Selection.ALL).new
            mailbox.download(refs, Collector(), limit=1 << 20)
            assert mailbox.settle(refs[:2], action) == list(refs[:2])
        assert server.left("alice") == MAILS[2:3]


@pytest.mark.promise("I8")
def test_looking_and_counting_confirm_nothing_and_leave_politely() -> None:
    with gmail_rules() as server:
        server.deliver("alice", MAILS)
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            mailbox.open("")
            mailbox.list_new(KnownKeys(), Selection.ALL, limit=0)
        assert server.quits == 1
        assert server.listed("alice") == MAILS


def test_what_top_may_have_confirmed_is_not_quit_either() -> None:
    """Whether TOP counts as a retrieval is the server's to decide (RFC 1939 section 8)."""
    with RuledPop3(expire=0, top_retrieves=True) as server:
        server.deliver("alice", MAILS)
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            mailbox.open("")
            refs = mailbox.list_new(KnownKeys(), Selection.ALL).new
            assert len(list(mailbox.headers(refs))) == len(MAILS)
            assert server.quits == 0
            mailbox.download(refs[:1], Collector(), limit=1 << 20)
            assert mailbox.settle(refs[:1], AfterDownload.DELETE) == [refs[0]]
        assert server.quits == 1
        assert server.left("alice") == MAILS[1:]


@pytest.mark.promise("M7")
def test_what_an_earlier_session_had_is_let_go_of_without_deleting_it() -> None:
    """It was committed and never confirmed: on Gmail it stands before the new mails for ever."""
    with gmail_rules(window=3) as server:
        server.deliver("alice", MAILS)
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            mailbox.open("")
            refs = mailbox.list_new(KnownKeys(), Selection.ALL).new
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            again = [MailRef(ref.key, 0) for ref in refs]
            assert mailbox.settle(again, AfterDownload.MARK_READ) == again
        assert "DELE" not in said(server)
        assert server.left("alice") == MAILS
        assert server.listed("alice") == MAILS[3:6]


@pytest.mark.promise("I1")
def test_a_mail_that_is_refused_again_was_retrieved_all_the_same() -> None:
    """It came, was asked for once more to see whether the server gives mails, and was refused."""
    refusing: list[bool] = []
    with RuledPop3(
        expire=0, refuse=lambda mail, given: b"Server Unavailable. 21" if refusing else None
    ) as server:
        server.deliver("alice", MAILS[:1])
        with opened(connection_to(server.pop3_port, Mode.POP3)) as mailbox:
            mailbox.open("")
            refs = mailbox.list_new(KnownKeys(), Selection.ALL).new
            mailbox.download(refs, Collector(), limit=1 << 20)
            refusing.append(True)
            sink = Collector()
            mailbox.download(refs, sink, limit=1 << 20)
            assert not sink.mails
        assert server.quits == 0
        assert server.left("alice") == MAILS[:1]
