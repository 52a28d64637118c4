"""When news of a listening session is acted on, and when it is held back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, cast

from services.fetcher.kept_session_runs import KeptSessionRuns
from services.fetcher.push_events import FIRST_RECONNECT, LONGEST_GAP, REFUSED_S, PushEvents
from shared.mailbox.failures import Refused, SessionLost


def runs_in_vain(push_events: PushEvents, times: int) -> None:
    for _ in range(times):
        push_events.announced(7)
        push_events.wait(0)
        push_events.ran(7, productive=False)


def test_news_is_acted_on_at_once_and_told_once() -> None:
    push_events = PushEvents()
    for _ in range(3):
        push_events.announced(7)
    push_events.announced(3)
    assert push_events.wait(0) == ([3, 7], {})
    assert push_events.wait(0) == ([], {})


def test_whoever_waits_is_woken() -> None:
    push_events = PushEvents()
    told = threading.Timer(0.05, push_events.announced, [7])
    told.start()
    assert push_events.wait(30) == ([7], {})
    told.join()


def test_news_in_vain_is_acted_on_ever_more_rarely() -> None:
    push_events = PushEvents()
    runs_in_vain(push_events, 2)
    delays = []
    for _ in range(10):
        push_events.announced(7)
        now, later = push_events.wait(0)
        assert now == []
        delays.append(later[7])
        push_events.ran(7, productive=False)
    assert delays[:4] == [1, 2, 4, 8]
    assert delays[-1] == LONGEST_GAP


def test_a_mail_that_arrived_ends_that() -> None:
    push_events = PushEvents()
    runs_in_vain(push_events, 5)
    push_events.announced(7)
    push_events.wait(0)
    push_events.ran(7, productive=True)
    push_events.announced(7)
    assert push_events.wait(0) == ([7], {})


def test_polls_that_nobody_asked_for_are_not_in_vain() -> None:
    push_events = PushEvents()
    push_events.announced(7)
    push_events.wait(0)
    push_events.ran(7, productive=True)
    for _ in range(5):
        push_events.ran(7, productive=False)
    push_events.announced(7)
    assert push_events.wait(0) == ([7], {})


def test_a_session_that_breaks_again_and_again_is_opened_later_each_time() -> None:
    push_events = PushEvents()
    delays = []
    for _ in range(6):
        push_events.listening(7)
        push_events.lost(7, SessionLost("cut"))
        delays.append(push_events.wait(0)[1][7])
    assert 0 < delays[0] <= FIRST_RECONNECT
    assert delays[5] > FIRST_RECONNECT


def test_a_server_that_does_not_push_is_left_alone_until_an_edit() -> None:
    push_events = PushEvents()
    assert push_events.may_listen(7, "first edit")
    push_events.lost(7, Refused("no", code="no-push"))
    assert not push_events.may_listen(7, "first edit")
    assert push_events.may_listen(7, "second edit")


def test_a_server_that_did_not_push_is_asked_once_more_after_an_hour() -> None:
    """Whatever its words, it may have meant the moment."""
    now = [0.0]
    push_events = PushEvents(lambda: now[0])
    assert push_events.may_listen(7, "an edit")
    push_events.lost(7, Refused("no", code="no-push"))
    for now[0], asked in ((REFUSED_S - 1, False), (REFUSED_S + 1, True)):
        assert push_events.may_listen(7, "an edit") is asked


def test_what_could_not_be_acted_on_is_given_again() -> None:
    push_events = PushEvents()
    push_events.announced(3)
    push_events.again([7], {8: 5.0})
    assert push_events.wait(0) == ([3, 7], {8: 5.0})


def test_what_is_forgotten_begins_anew() -> None:
    push_events = PushEvents()
    runs_in_vain(push_events, 5)
    push_events.announced(7)
    push_events.forget([7])
    assert push_events.wait(0) == ([], {})
    push_events.announced(7)
    assert push_events.wait(0) == ([7], {})


def test_a_server_that_takes_idle_and_never_tells_is_noticed() -> None:
    """Five polls in a row found what a session that listened had not told."""
    now = [1000.0]
    push_events = PushEvents(lambda: now[0])

    def poll(seconds: float, *, told: bool = False) -> bool | None:
        push_events.listening(7)
        now[0] += seconds
        if told:
            push_events.announced(7)
        return push_events.ran(7, productive=True)

    assert [poll(60) for _ in range(5)] == [None, None, None, None, True]
    assert poll(60, told=True) is False  # it does tell after all
    assert [poll(60) for _ in range(4)] == [None] * 4
    assert poll(5) is None  # too short a time to be sure
    push_events.listening(7)
    now[0] += 60
    assert push_events.ran(7, productive=False) is None  # nothing was there to be told
    push_events.lost(7, SessionLost("gone"))
    assert push_events.ran(7, productive=True) is None  # nobody listened


def test_what_is_on_record_of_a_silent_server_is_not_said_again() -> None:
    """Each mail that a server announces would be a transaction that changes nothing."""
    push_events = PushEvents()

    def told() -> bool | None:
        push_events.announced(7)
        return push_events.ran(7, productive=True)

    assert told() is False
    assert told() is False  # it could not be recorded
    push_events.silence_recorded(7, silent=False)
    assert told() is None
    push_events.silence_recorded(7, silent=True)  # by other polls
    assert told() is False
    push_events.silence_recorded(7, silent=False)
    push_events.forget([7])  # another fetcher may record something else
    assert told() is False


def test_what_is_held_back_is_moved_in_one_order() -> None:
    """Two fetchers that moved the same mailboxes in another order would wait for each other."""
    push_events, stop = PushEvents(), threading.Event()
    moved: list[int] = []

    class Recorded:
        def execute(self, _statement: object, given: dict[str, list[int]]) -> None:
            moved.extend(given["ids"])

    class Recording:
        @contextlib.contextmanager
        def transaction(self) -> Iterator[Recorded]:
            yield Recorded()
            stop.set()

    class Dispatcher:
        database = Recording()

    for connection_id in (9, 2, 40, 3):
        push_events.lost(connection_id, SessionLost("gone"))
    KeptSessionRuns(
        cast(Any, Dispatcher()), push_events, cast(Any, None), cast(Any, None), 1
    ).listen(stop)
    assert moved == [2, 3, 9, 40]
