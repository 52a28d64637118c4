"""Whoever has no token and no session leaves nothing behind in the database."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from services.admin.auth.authentication import SAFE_METHODS
from services.admin.auth.login_attempts import OF_A_NETWORK
from shared.telemetry.metrics import REGISTRY
from tests.integration.api.conftest import Api
from tests.integration.api.test_rights import Route, api_routes, page_routes

#: Its own heartbeat, which the service writes whoever asks.
OWN = {"service_heartbeat", "heartbeat", "service"}


def rows(api: Api) -> dict[str, int]:
    """Table → how many rows it has."""
    tables = api.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " AND relkind = 'r'"
    )
    return {
        name: api.execute(f'SELECT count(*) FROM "{name}"')[0][0]
        for (name,) in tables
        if name not in OWN
    }


def added(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def asked(api: Api) -> Iterator[Route]:
    yield from api_routes(api)
    yield from page_routes(api)


@pytest.mark.promise("T1")
def test_an_anonymous_call_writes_no_row(api: Api) -> None:
    """Every operation and page, as itself and with a form or a document of nobody's."""
    before = rows(api)
    with httpx.Client(base_url=api.url, timeout=60) as nobody:
        for route in asked(api):
            given = {"name": "nobody"}
            for form, document in ((None, None), (given, None), (None, given)):
                if (form or document) and route.method in SAFE_METHODS:
                    continue
                answer = nobody.request(route.method, route.concrete, data=form, json=document)
                assert answer.status_code < 500, (route, answer.text)
    assert added(before, rows(api)) == {}


@pytest.mark.promise("T1")
def test_what_guesses_leave_is_bounded(api: Api) -> None:
    """A counted attempt and a line in the audit log, fifty of each in a quarter of an hour."""
    before = rows(api)
    with httpx.Client(base_url=api.url, timeout=60) as nobody:
        nobody.get("/login")
        token = next(value for name, value in nobody.cookies.items() if name.endswith("login"))
        for number in range(OF_A_NETWORK + 30):
            form = {"csrf": token, "way": "token", "token": "x" * 40, "name": f"n{number}"}
            nobody.post("/login", data=form)
            nobody.get("/api/v1/overview", headers={"Authorization": f"Bearer guess{number}"})
    left = added(before, rows(api))
    assert 0 < left.pop("audit") <= OF_A_NETWORK + 2
    assert sum(left.values()) <= OF_A_NETWORK + 2, left


def test_whoever_asks_makes_no_series_of_metrics(api: Api) -> None:
    """Each would stay in memory, here and in Prometheus: a method may have 64 KiB."""

    def series() -> int:
        return sum(len(one.samples) for one in REGISTRY.collect())

    with httpx.Client(base_url=api.url) as nobody:
        for method in ("GET", "TRACE"):
            nobody.request(method, "/warm")
        before = series()
        for number in range(20):
            nobody.request(f"MADE-UP-{number}", f"/made-up/{number}?made={number}")
    assert series() - before < 5
