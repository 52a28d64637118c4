"""Every unique id of a POP3 mailbox changes: mails that were had are known by their content.

For an administrator: there is nothing to do, as no mail comes twice; those that were left out when
the connection was enabled are told by their date.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from hashlib import md5
from typing import Any

import pytest

from services.fetcher import reused_keys, run_phases
from services.fetcher.run import Run
from shared.storage import connections
from shared.storage.pool import DatabaseUnavailable
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.pop3_rules import RuledPop3, Stored, gmail_rules

MAILS = [mail(number, 600, seed=12) for number in range(12)]
LATER = [mail(number, 600, seed=13) for number in range(2)]

RULES: dict[str, Callable[[], RuledPop3]] = {
    "keeps": lambda: RuledPop3(pipelining=True),
    "without-top": lambda: RuledPop3(top=False),
}


@pytest.fixture
def here(redis_url: str, build_stack: Callable[..., Stack]) -> Iterator[FetcherHere]:
    stack = build_stack(redis_url, batch_mails="5")
    stack.add_handler()
    with FetcherHere(stack).working() as fetcher:
        yield fetcher


def migrated(stored: Stored) -> str:
    return md5(stored.uidl.encode()).hexdigest()


def handed_over(here: FetcherHere) -> int:
    return here.stack.count("outbox")


@pytest.mark.promise("I9")
@pytest.mark.parametrize("rules", RULES)
def test_a_change_of_all_unique_ids_hands_nothing_over_again(rules: str, here: FetcherHere) -> None:
    with RULES[rules]() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        assert handed_over(here) == len(MAILS)
        server.rename("alice", migrated)
        server.deliver("alice", LATER)
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, *LATER])
        # And from then on as before.
        before = server.retrieved
        server.deliver("alice", [mail(99, 600, seed=13)])
        here.run_until_idle(connection)
        assert server.retrieved == before + 1
        server.rename("alice", migrated)
        here.run_until_idle(connection)
        assert handed_over(here) == len(MAILS) + len(LATER) + 1


@pytest.mark.promise("I9")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
def test_an_id_that_changes_once_a_mail_was_retrieved_hands_nothing_over_again(
    after_download: str, here: FetcherHere
) -> None:
    """Among many that stay: formed of a header with `Status:`, or of the name of a file."""
    with RuledPop3() as server:
        server.deliver("alice", [*MAILS, *LATER])
        connection = watch(here, server, after_download)
        with here.stack.database.transaction() as session:
            connections.start_from(session, connection, since=None, skip_existing=True)
        here.run_until_idle(connection)
        # Nobody deletes what comes: a server that refuses it for now.
        server.refuse_deletion = lambda stored: True
        new = [mail(number, 600, seed=14) for number in range(4)]
        for number, raw in enumerate(new):
            server.deliver("alice", [raw])
            here.run_until_idle(connection)
            retrieved = new[: number + 1]
            server.rename(
                "alice",
                lambda one, retrieved=retrieved: (  # type: ignore[misc]
                    f"{one.uidl.removesuffix(':2,S')}:2,S" if one.raw in retrieved else one.uidl
                ),
            )
        here.run_until_idle(connection)
        assert here.had() == digests(new)
        assert server.retrieved == len(new)
        if after_download == "delete":  # under the ids that they have now
            assert here.stack.count("settlement") == len(new)
            server.refuse_deletion = lambda stored: False
            here.run_until_idle(connection)
            assert server.left("alice") == [*MAILS, *LATER]


@pytest.mark.promise("I9")
@pytest.mark.parametrize("step", ["listed", "stored", "committed"])
def test_a_recognition_that_broke_off_goes_on(step: str, here: FetcherHere) -> None:
    with RuledPop3(top=False) as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.rename("alice", migrated)
        here.fail_at(step, lambda: DatabaseUnavailable("Postgres went away."), 2)
        here.run(connection)
        here.stop_failing()
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS)


@pytest.mark.promise("I9", "M27")
def test_a_recognition_goes_on_in_a_fresh_session(
    here: FetcherHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mail broke the one before, of which some ids are known by then."""
    monkeypatch.setattr(run_phases, "_LISTED_AT_ONCE", 5)
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.rename("alice", migrated)
        server.deliver_below("alice", LATER, len(MAILS) - 2)
        server.breaks = lambda stored: stored.raw == LATER[1]
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, LATER[0]])


@pytest.mark.promise("I9", "M7")
def test_what_was_still_to_be_deleted_is_deleted_under_its_new_id(here: FetcherHere) -> None:
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "delete")
        here.fail_at("finished", lambda: DatabaseUnavailable("Postgres went away."))
        server.refuse_deletion = lambda mail: True
        here.run(connection)
        here.stop_failing()
        assert here.stack.count("settlement") == len(MAILS)
        server.rename("alice", migrated)
        here.run(connection)  # recognised, and again not deleted
        assert here.stack.count("settlement") == len(MAILS)
        server.refuse_deletion = lambda mail: False
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS)
        assert here.stack.count("settlement") == 0
        assert server.left("alice") == []


@pytest.mark.promise("I9", "M17")
def test_what_was_skipped_at_the_start_stays_skipped(here: FetcherHere) -> None:
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "delete")
        with here.stack.database.transaction() as session:
            connections.start_from(session, connection, since=None, skip_existing=True)
        here.run_until_idle(connection)
        server.rename("alice", migrated)
        here.run_until_idle(connection)
        assert here.had() == []
        assert server.left("alice") == MAILS


def test_a_cleared_mailbox_is_no_change_of_ids(here: FetcherHere) -> None:
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.remove("alice")
        server.deliver("alice", LATER)
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, *LATER])


@pytest.mark.promise("I9")
def test_at_gmail_the_window_moves_on_over_mails_that_are_recognised(here: FetcherHere) -> None:
    with gmail_rules(window=4) as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        # Killed before QUIT: four are committed and stand in the window, then all ids change.
        here.fail_at("handed-on", lambda: SystemExit(9))
        with pytest.raises(SystemExit):
            here.run(connection)
        here.stop_failing()
        here.stack.hasten()
        server.rename("alice", migrated)
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS)
        assert server.listed("alice") == []


class Counting(RuledPop3):
    """A server that names its mails by their numbers, and a mail that is gone no more."""

    def deliver(self, user: str, mails: Iterable[bytes], *rest: Any, **more: Any) -> None:
        super().deliver(user, mails, *rest, **more)
        numbers = itertools.count(1)
        self.rename(user, lambda _: str(next(numbers)))


@pytest.mark.promise("I9")
@pytest.mark.parametrize("top", [True, False])
def test_a_unique_id_that_is_given_again_names_a_new_mail(top: bool, here: FetcherHere) -> None:
    """As RFC 1939 allows: known by the id alone, no mail would ever come any more."""
    with Counting(top=top) as server:
        connection = watch(here, server, "delete")
        for number in range(4):
            server.deliver("alice", MAILS[3 * number : 3 * number + 3])
            here.run_until_idle(connection)
            assert here.had() == digests(MAILS[: 3 * number + 3])
            assert server.left("alice") == []


@pytest.mark.promise("I9")
def test_an_id_that_is_given_again_after_somebody_cleared_the_mailbox(here: FetcherHere) -> None:
    with Counting() as server:
        connection = watch(here, server, "mark-read")
        server.deliver("alice", MAILS[:5])
        here.run_until_idle(connection)
        server.remove("alice")
        here.run_until_idle(connection)
        server.deliver("alice", [MAILS[2], *LATER])  # that one was only away
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS[:5], *LATER])


@pytest.mark.promise("I9")
def test_mails_that_are_copied_after_the_first_look_are_no_flood(here: FetcherHere) -> None:
    """The mailbox was moved behind its name, and is filled while Posthouse looks into it."""
    with RuledPop3() as server:
        connection = watch(here, server, "mark-read")
        server.deliver("alice", MAILS)
        here.run_until_idle(connection)
        server.remove("alice")
        here.run_until_idle(connection)
        server.deliver("alice", [*MAILS[:4]])
        server.rename("alice", migrated)
        here.run_until_idle(connection)
        server.deliver("alice", [*MAILS[4:], *LATER])
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, *LATER])


@pytest.mark.promise("M7")
def test_a_mail_that_was_deleted_and_is_back_is_deleted_once_more(here: FetcherHere) -> None:
    """A backup was restored."""
    with RuledPop3() as server:
        connection = watch(here, server, "delete")
        server.deliver("alice", MAILS)
        here.run_until_idle(connection)
        assert server.left("alice") == []
        server.deliver("alice", MAILS)
        here.run_until_idle(connection)
        assert server.left("alice") == []
        assert here.had() == digests(MAILS)


@pytest.fixture(params=["in-one-run", "time-is-up"])
def in_pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mailbox of many more mails than are compared at once."""
    monkeypatch.setattr(reused_keys, "_AT_ONCE", 4)
    if request.param == "time-is-up":
        monkeypatch.setattr(Run, "is_over", True)


@pytest.mark.promise("I9", "M7")
def test_many_ids_that_are_given_again_name_new_mails(here: FetcherHere, in_pieces: None) -> None:
    with Counting() as server:
        connection = watch(here, server, "delete")
        for number in range(2):
            server.deliver("alice", [mail(mine, 600, seed=14 + number) for mine in range(12)])
            here.run_until_idle(connection)
            assert len(here.had()) == 12 * (number + 1)
            assert server.left("alice") == []


@pytest.mark.promise("I9")
def test_many_ids_that_are_given_again_after_somebody_cleared_the_mailbox(
    here: FetcherHere, in_pieces: None
) -> None:
    """Nothing changes on the server until all of them are compared."""
    with Counting() as server:
        connection = watch(here, server, "mark-read")
        for number in range(2):
            server.deliver("alice", [mail(mine, 600, seed=16 + number) for mine in range(12)])
            here.run_until_idle(connection)
            assert len(here.had()) == 12 * (number + 1)
            server.remove("alice")
            here.run_until_idle(connection)


@pytest.mark.promise("M7")
def test_many_mails_that_are_back_are_deleted_once_more(here: FetcherHere, in_pieces: None) -> None:
    with RuledPop3() as server:
        connection = watch(here, server, "delete")
        for _ in range(2):
            server.deliver("alice", MAILS)
            for _ in range(4):
                here.run_until_idle(connection)
            assert server.left("alice") == []
        assert here.had() == digests(MAILS)


@pytest.mark.promise("I9")
def test_ids_that_were_changed_and_are_changed_back_name_mails_that_were_had(
    here: FetcherHere,
) -> None:
    """Of some of the mails, long after the change: not every id is another one then."""
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        before: dict[str, str] = {}
        server.rename("alice", lambda stored: before.setdefault(stored.uidl, migrated(stored)))
        here.run_until_idle(connection)
        here.stack.execute(
            "UPDATE connection_state SET validity_changed_at = now() - interval '8 days'"
        )
        server.deliver("alice", LATER[:1])
        here.run_until_idle(connection)
        assert here.stack.query("SELECT validity_changed_at FROM connection_state") == [(None,)]
        back = {new: old for old, new in list(before.items())[:4]}
        server.rename("alice", lambda stored: back.get(stored.uidl, stored.uidl))
        server.vanish("alice", LATER[0])  # all are listed then
        server.deliver("alice", LATER[1:])
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, *LATER])


class Keeping(RuledPop3):
    """Takes every deletion, and keeps the mails."""

    def _update(self, user: str, retrieved: list[Stored], deleted: list[Stored]) -> None:
        pass


def test_a_server_that_keeps_what_was_deleted_is_not_asked_for_all_of_it(
    here: FetcherHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reused_keys, "_AT_ONCE", 4)
    with Keeping() as server:
        connection = watch(here, server, "delete")
        server.deliver("alice", MAILS)
        here.run_until_idle(connection)
        before = len(server.heard)
        here.run(connection)
        said = server.heard[before:]
        assert 0 < sum(line.startswith(b"TOP") for line in said) <= 4
        assert here.had() == digests(MAILS)
        # Those that wait to be compared are no new ones, however long that takes.
        here.stack.execute("UPDATE known_key SET vanished_on = vanished_on - 31")
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS)


@pytest.mark.promise("I1", "M7", "I9")
@pytest.mark.parametrize("then", ["all are others", "they moved up"])
@pytest.mark.parametrize("expire", [None, 0])
def test_an_id_that_is_given_again_before_its_mail_was_settled_deletes_no_other(
    then: str, expire: int | None, here: FetcherHere
) -> None:
    """Killed before QUIT, and another program deletes mails meanwhile."""
    with Counting(expire=expire) as server:
        connection = watch(here, server, "mark-read" if expire == 0 else "delete")
        server.deliver("alice", MAILS[:3])
        here.fail_at("committed", lambda: SystemExit(9))
        with pytest.raises(SystemExit):
            here.run(connection)
        here.stop_failing()
        server.vanish("alice", MAILS[0])
        if then == "all are others":
            server.remove("alice")
        server.deliver("alice", LATER)
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS[:3], *LATER])
        assert server.left("alice") == []
        assert here.stack.count("settlement") == 0
