"""When news of a listening session is acted on, and when it is held back."""

from __future__ import annotations

import threading

from services.fetcher.news import FIRST_RECONNECT, LONGEST_GAP, News
from shared.mailbox.base import Refused, SessionLost


def runs_in_vain(news: News, times: int) -> None:
    for _ in range(times):
        news.heard(7)
        news.wait(0)
        news.ran(7, fruitful=False)


def test_news_is_acted_on_at_once_and_told_once() -> None:
    news = News()
    for _ in range(3):
        news.heard(7)
    news.heard(3)
    assert news.wait(0) == ([3, 7], {})
    assert news.wait(0) == ([], {})


def test_whoever_waits_is_woken() -> None:
    news = News()
    told = threading.Timer(0.05, news.heard, [7])
    told.start()
    assert news.wait(30) == ([7], {})
    told.join()


def test_news_in_vain_is_acted_on_ever_more_rarely() -> None:
    news = News()
    runs_in_vain(news, 2)
    delays = []
    for _ in range(10):
        news.heard(7)
        now, later = news.wait(0)
        assert now == []
        delays.append(later[7])
        news.ran(7, fruitful=False)
    assert delays[:4] == [1, 2, 4, 8]
    assert delays[-1] == LONGEST_GAP


def test_a_mail_that_arrived_ends_that() -> None:
    news = News()
    runs_in_vain(news, 5)
    news.heard(7)
    news.wait(0)
    news.ran(7, fruitful=True)
    news.heard(7)
    assert news.wait(0) == ([7], {})


def test_polls_that_nobody_asked_for_are_not_in_vain() -> None:
    news = News()
    news.heard(7)
    news.wait(0)
    news.ran(7, fruitful=True)
    for _ in range(5):
        news.ran(7, fruitful=False)
    news.heard(7)
    assert news.wait(0) == ([7], {})


def test_a_session_that_breaks_again_and_again_is_opened_later_each_time() -> None:
    news = News()
    delays = []
    for _ in range(6):
        news.listening(7)
        news.lost(7, SessionLost("cut"))
        delays.append(news.wait(0)[1][7])
    assert 0 < delays[0] <= FIRST_RECONNECT
    assert delays[5] > FIRST_RECONNECT


def test_a_server_that_does_not_push_is_left_alone_until_an_edit() -> None:
    news = News()
    assert news.may_listen(7, "first edit")
    news.lost(7, Refused("no", code="no-push"))
    assert not news.may_listen(7, "first edit")
    assert news.may_listen(7, "second edit")


def test_what_is_forgotten_begins_anew() -> None:
    news = News()
    runs_in_vain(news, 5)
    news.heard(7)
    news.forget([7])
    assert news.wait(0) == ([], {})
    news.heard(7)
    assert news.wait(0) == ([7], {})


def test_a_server_that_takes_idle_and_never_tells_is_noticed() -> None:
    """Five polls in a row found what a session that listened had not told."""
    now = [1000.0]
    news = News(lambda: now[0])

    def poll(seconds: float, *, told: bool = False) -> bool | None:
        news.listening(7)
        now[0] += seconds
        if told:
            news.heard(7)
        return news.ran(7, fruitful=True)

    assert [poll(60) for _ in range(5)] == [None, None, None, None, True]
    assert poll(60, told=True) is False  # it does tell after all
    assert [poll(60) for _ in range(4)] == [None] * 4
    assert poll(5) is None  # too short a time to be sure
    news.listening(7)
    now[0] += 60
    assert news.ran(7, fruitful=False) is None  # nothing was there to be told
    news.lost(7, SessionLost("gone"))
    assert news.ran(7, fruitful=True) is None  # nobody listened
