"""Forms of handlers that no page has."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.api.conftest import TOKEN, Api
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
