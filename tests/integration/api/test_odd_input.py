"""What no form of ours sends: every page refuses it or takes it as it is, and never fails."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from services.admin.auth.route_permissions import Needs
from services.admin.pages import connection_form, connection_list, forms, forwards
from shared.connection_editing import FIELDS
from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_logging_in_to_pages import log_in
from tests.integration.api.test_messages import add_mail
from tests.integration.api.test_rights import Route, built_pages, page_routes

ODD: Final[dict[str, Any]] = {
    "nul": "a\0b",
    "more digits than Python reads": "9" * 5000,
    "beyond a bigint": "9" * 19,
    "as large as numbers get": "9" * 18,
    "no number, no name": "²-' OR 1=1; DROP TABLE message --",
    "the last day": "9999-12-31",
    "half a character": b"\xed\xa0\x80",
}
#: Whatever a page asks a form for.
NAMES: Final = sorted(
    {
        name
        for file in Path(forms.__file__).parent.glob("*.py")
        for name in re.findall(
            r'form\.(?:text|raw|many|ids|flag)\("(\w+)"', file.read_text(encoding="utf-8")
        )
    }.union(FIELDS, forwards._NUMBERS, connection_form._NUMBERS, connection_form._TEXTS)
    - {"csrf"}
)


@pytest.fixture
def pages(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=60) as client:
        assert log_in(client, token=TOKEN).status_code == 303
        yield client


def csrf_of(pages: httpx.Client) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', pages.get("/connections/new").text)
    assert found
    return found[1]


def there(api: Api) -> dict[str, str]:
    """Ids of what a page can be about."""
    connection = api.create()["id"]
    handler = api.http.post("handlers", json={"name": f"h-{uuid.uuid4().hex[:6]}"}).json()["id"]
    return {
        "connection_id": str(connection),
        "handler_id": str(handler),
        "message_id": str(add_mail(api, connection)),
    }


def searched(api: Api) -> Iterator[tuple[str, str]]:
    """The path of each page with each parameter of its address that it reads."""
    for context in iter_route_contexts(built_pages(api).routes):
        route = context.original_route
        if isinstance(route, APIRoute) and "GET" in (context.methods or ()):
            read = {field.alias for field in route.dependant.query_params}
            if route.endpoint is connection_list.list_connections:  # reads them by itself
                read |= {field.name for field in fields(connection_list.Asked)}
            yield from ((str(context.path), name) for name in sorted(read))


def concrete(path: str, ids: dict[str, str]) -> str:
    """With ids of what is there, and of what nothing has where it is another thing."""
    known = re.sub(r"{(\w+)(:\w+)?}", lambda found: ids.get(found[1], found[0]), path)
    return known if "{" not in known else Route("", path, Needs(None)).concrete


@pytest.mark.promise("T1")
@pytest.mark.parametrize("odd", ODD)
def test_no_page_fails_at_what_no_form_sends(api: Api, pages: httpx.Client, odd: str) -> None:
    """In all fields of a form at once, and in each that a page is asked by."""
    assert {"certificate_ids", "concurrency", "password", "start_from"} <= set(NAMES)
    places = list(searched(api))
    assert {("/mails", "until"), ("/connections", "tag"), ("/audit", "before")} <= set(places)
    ids, csrf, value = there(api), csrf_of(pages), ODD[odd]
    wrong = []
    for route in page_routes(api):
        form: dict[str, Any] = dict.fromkeys(NAMES, value) | {"csrf": csrf}
        if route.method == "POST":
            answer = pages.post(concrete(route.path, ids), data=form)
            if answer.status_code == 500:
                wrong.append(route.path)
    for path, name in places:
        answer = pages.get(concrete(path, ids), params={name: value})
        if answer.status_code == 500:
            wrong.append(f"{path}?{name}")
    assert wrong == []


@pytest.mark.promise("T1")
@pytest.mark.parametrize("name", ["certificate_ids", "timeout_ms", "password", "description"])
@pytest.mark.parametrize("odd", ["nul", "more digits than Python reads"])
def test_one_odd_field_in_a_form_that_is_right_otherwise(
    api: Api, pages: httpx.Client, name: str, odd: str
) -> None:
    made = api.create()
    form = {
        **{field: str(made[field]) for field in ("name", "mode", "host", "port", "username")},
        "security": "none",
        "csrf": csrf_of(pages),
        name: ODD[odd],
    }
    answer = pages.post(f"/connections/{made['id']}/edit", data=form)
    assert answer.status_code != 500
    assert "\0" not in answer.text
