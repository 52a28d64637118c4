"""Forms of handlers that two people send at once, or that nobody's page has."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_changing_while_fetched import wait_for_a_waiting
from tests.integration.api.test_logging_in_to_pages import log_in


@pytest.fixture(scope="module")
def pages(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=60) as client:
        assert log_in(client, token=TOKEN).status_code == 303
        yield client


def handler(api: Api, **fields: object) -> int:
    answer = api.http.post("handlers", json={"name": f"form-{uuid.uuid4().hex[:8]}"} | fields)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def csrf_of(pages: httpx.Client, path: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', pages.get(path).text)
    assert found is not None
    return found[1]


@pytest.mark.promise("R1")
def test_two_who_move_handlers_of_a_group_at_once_give_no_place_twice(
    api: Api, pages: httpx.Client
) -> None:
    """The other one has moved the last before the second, and is just about to say so."""
    a, b, c = (handler(api, group="moved", position=number) for number in (1, 2, 3))
    form = {"csrf": csrf_of(pages, f"/handlers/{a}/rules"), "to": "down"}
    set_place = "UPDATE handler SET position = %s WHERE id = %s"
    with (
        psycopg.connect(api.owner_url) as other,
        psycopg.connect(api.owner_url, autocommit=True) as watch,
        ThreadPoolExecutor(1) as beside,
    ):
        other.execute(set_place, [3, b])
        other.execute(set_place, [2, c])
        moving = beside.submit(pages.post, f"/handlers/{a}/move", data=form)
        wait_for_a_waiting(watch)
        other.commit()
        assert moving.result().status_code == 303
    places = {one: api.http.get(f"handlers/{one}").json()["position"] for one in (a, b, c)}
    assert places == {c: 1, a: 2, b: 3}


@pytest.mark.parametrize("do", ["", "discard", "deliver", "discard-", "discard-some", "all"])
def test_a_form_that_does_not_say_which_dead_letters_are_meant_means_none(
    api: Api, pages: httpx.Client, do: str
) -> None:
    """Of a broker that is away: who asked for anything would hear so."""
    path = f"/handlers/{handler(api)}"
    form = {"csrf": csrf_of(pages, path), "do": do, "id": "x"}
    pages.post(f"{path}/dead-letters", data=form)
    told = pages.get(f"{path}/dead-letters").text
    assert "Nothing was done: the form does not say what to do with which." in told
