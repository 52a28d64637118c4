"""A consumer asks, before its first mail, whether its token is its handler's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from posthouse import AccessRefused, Consumer
from tests.integration.api.conftest import TOKEN, Api
from tests.servers.redis import RedisServer


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with RedisServer() as server:
        yield server.url


def _start(api: Api, redis_url: str, handler: str, token: str | None, **options: str) -> None:
    """Runs a consumer until it has begun: it waits for its queue then."""
    stop = threading.Event()
    consumer = Consumer(
        redis_url,
        handler,
        verify=False,
        posthouse_url=options.get("url", api.url),
        handler_token=token,
    )
    threading.Timer(0.5, stop.set).start()
    consumer.run(lambda event: None, stop=stop)


def test_its_own_token_is_taken(api: Api, redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    made = api.http.post("handlers", json={"name": "tickets", "connections": "all"}).json()
    caplog.set_level(logging.WARNING, logger="posthouse")
    _start(api, redis_url, "tickets", made["token"])
    assert "not checked" not in caplog.text


def test_another_handlers_token_ends_it_at_the_start(api: Api, redis_url: str) -> None:
    made = api.http.post("handlers", json={"name": "archive", "connections": "all"}).json()
    with pytest.raises(AccessRefused, match="is that of the handler 'archive', not of 'tickets'"):
        _start(api, redis_url, "tickets", made["token"])


@pytest.mark.parametrize("token", ["posthouse_handler_of_nobody", TOKEN], ids=["wrong", "person"])
def test_a_token_that_is_no_handlers_ends_it_at_the_start(
    api: Api, redis_url: str, token: str
) -> None:
    with pytest.raises(AccessRefused, match="the token"):
        _start(api, redis_url, "tickets", token)


def test_posthouse_away_is_said_and_holds_up_nothing(
    api: Api, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    _start(api, redis_url, "tickets", "posthouse_handler_x", url="http://127.0.0.1:1")
    assert "the handler's token was not checked: http://127.0.0.1:1" in caplog.text
