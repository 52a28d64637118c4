"""What was told of a failing connection ends with it: it would stay open in a pager for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.alerts.connections import ConnectionFailing
from shared.storage import alerts
from tests.integration.api.conftest import Api

pytestmark = pytest.mark.promise("H5")


def failing(api: Api, *, told: bool, **fields: Any) -> dict[str, Any]:
    made = api.create(enabled=True, acknowledged=True, **fields)
    with api.database.transaction() as session:
        alert = ConnectionFailing(
            connection_id=made["id"], name=made["name"], message="Refused.", host="mx.example.org"
        )
        alerts.raise_failing(session, alert, timedelta(minutes=10))
    if told:
        api.execute("UPDATE alert SET attempts = 1, next_attempt_at = NULL")
    return made


def raised(api: Api) -> list[tuple[Any, ...]]:
    return api.execute("SELECT kind, data ->> 'unwatched' FROM alert ORDER BY id")


@pytest.fixture(autouse=True)
def nothing_raised_yet(api: Api) -> None:
    api.execute("DELETE FROM alert")


@pytest.mark.parametrize("way", ["delete", "disable", "edit"])
def test_its_end_is_told(way: str, api: Api) -> None:
    made = failing(api, told=True)
    path = f"connections/{made['id']}"
    if way == "delete":
        done = api.http.delete(path)
    elif way == "disable":
        done = api.http.post(f"{path}/disable")
    else:
        done = api.http.patch(path, json={"enabled": False})
    assert done.is_success, done.text
    assert raised(api) == [("connection-failing", None), ("connection-recovered", "true")]


def test_what_nobody_was_told_of_is_withdrawn(api: Api) -> None:
    made = failing(api, told=False)
    assert api.http.delete(f"connections/{made['id']}").is_success
    assert raised(api) == []


def test_others_at_the_host_still_fail(api: Api) -> None:
    made = failing(api, told=False, name="One")
    other = failing(api, told=True, name="Other")
    api.execute("UPDATE connection_state SET health = 'failing'")
    assert api.http.delete(f"connections/{made['id']}").is_success
    assert raised(api) == [("connection-failing", None)]
    assert api.http.delete(f"connections/{other['id']}").is_success
    assert raised(api) == [("connection-failing", None), ("connection-recovered", "true")]


def test_a_connection_that_never_failed_ends_without_a_word(api: Api) -> None:
    made = api.create()
    assert api.http.delete(f"connections/{made['id']}").is_success
    assert raised(api) == []
