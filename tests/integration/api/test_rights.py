"""Every route of the API and every page, asked by each role: refused, or answered, as declared."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from services.admin.app import build_api
from services.admin.auth.authentication import SAFE_METHODS
from services.admin.auth.cookies import SESSION
from services.admin.auth.route_permissions import Needs, declared
from services.admin.pages import app as pages
from services.admin.pages.request_context import PagesState
from shared.people import Principal, Role
from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_access import add_token
from tests.rig.logins import browser_session, logins_and_principals

#: What must be closed whatever the code declares: (method, path, who may at the least).
CLOSED = [
    ("GET", "/api/v1/quarantine/{entry_id}/raw", Role.OPERATOR),
    ("GET", "/api/v1/messages/{message_id}/raw", Role.OPERATOR),
    ("GET", "/api/v1/messages/{message_id}/facts", Role.OPERATOR),
    ("GET", "/api/v1/messages/{message_id}/parts", Role.OPERATOR),
    ("GET", "/api/v1/messages/{message_id}/parts/{path}", Role.OPERATOR),
    ("POST", "/api/v1/certificates", Role.ADMIN),
    ("PUT", "/api/v1/certificates/{certificate_id}/file", Role.ADMIN),
    ("DELETE", "/api/v1/certificates/{certificate_id}", Role.ADMIN),
    ("POST", "/api/v1/credentials", Role.ADMIN),
    ("GET", "/api/v1/people", Role.ADMIN),
    ("GET", "/api/v1/audit", Role.ADMIN),
    ("POST", "/api/v1/tokens", Role.ADMIN),
    ("POST", "/api/v1/messages/erase", Role.ADMIN),
    ("POST", "/api/v1/connections/test", Role.OPERATOR),
    ("GET", "/mails/{message_id}/content", Role.OPERATOR),
    ("GET", "/mails/{message_id}/raw", Role.OPERATOR),
    ("GET", "/quarantine/{entry_id}/raw", Role.OPERATOR),
    ("POST", "/certificates/new", Role.ADMIN),
    ("POST", "/people/new", Role.ADMIN),
    ("POST", "/connections/new", Role.OPERATOR),
]


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    needs: Needs

    @property
    def concrete(self) -> str:
        """With ids that nothing has."""
        nobody = {"message_id": str(uuid.uuid4()), "entry_id": str(uuid.uuid4())}
        return re.sub(r"{(\w+)(:\w+)?}", lambda found: nobody.get(found[1], "999999999"), self.path)


def routes_of(app: FastAPI) -> Iterator[Route]:
    for route in declared(app):
        for method in sorted(route.methods - {"HEAD"}):
            yield Route(method, route.path, route.needs)


def api_routes(api: Api) -> list[Route]:
    return [r for r in routes_of(build_api(api.admin.app_state)) if r.path.startswith("/api/")]


def built_pages(api: Api) -> FastAPI:
    stack = api.admin.app_state
    logins, _ = logins_and_principals(stack.database, stack.vault, TOKEN)
    return pages.build(PagesState(stack, logins, None))


def page_routes(api: Api) -> list[Route]:
    return [r for r in routes_of(built_pages(api)) if r.path != "/logout"]


def may(needs: Needs, role: Role) -> bool:
    if needs.permission is None:
        return True
    return Principal(name="", role=role).may(needs.permission)


@pytest.mark.promise("T1")
@pytest.mark.parametrize("role", list(Role))
def test_each_operation_is_open_to_whom_it_says(api: Api, role: Role) -> None:
    described = api.http.get("openapi.json").json()["paths"]
    operations = {(m.upper(), path) for path, methods in described.items() for m in methods}
    assert {(r.method, r.path) for r in api_routes(api)} == operations
    wrong = []
    with api.as_token(add_token(api, role)) as client:
        for route in api_routes(api):
            answer = client.request(route.method, route.concrete.removeprefix("/api/v1/"))
            refused = answer.status_code == 403
            if refused == may(route.needs, role) or answer.status_code in (401, 500):
                wrong.append((role.value, route.method, route.path, answer.status_code))
    assert not wrong


@pytest.mark.promise("T1")
@pytest.mark.parametrize("role", list(Role))
def test_each_page_is_open_to_whom_it_says(api: Api, role: Role) -> None:
    ((person,),) = api.execute(
        "INSERT INTO person (name, role) VALUES (%(n)s, %(r)s) RETURNING id",
        n=f"{role}-{uuid.uuid4().hex[:6]}",
        r=role,
    )
    vault = api.admin.app_state.vault
    cookie, signed_in = browser_session(api.database, vault, TOKEN, person)
    wrong = []
    with httpx.Client(base_url=api.url, cookies={SESSION: cookie}, timeout=60) as browser:
        for route in page_routes(api):
            form = None if route.method in SAFE_METHODS else {"csrf": signed_in.csrf}
            answer = browser.request(route.method, route.concrete, data=form)
            refused = answer.status_code == 403
            public = route.needs.permission is None
            if not public and (refused == may(route.needs, role) or answer.status_code == 500):
                wrong.append((role.value, route.method, route.path, answer.status_code))
    assert not wrong


def test_nobody_and_a_handler_open_nothing_but_what_is_theirs(api: Api) -> None:
    made = api.http.post("handlers", json={"name": f"h-{uuid.uuid4().hex[:6]}"}).json()
    wrong = []
    with api.as_token(made["token"]) as handler, httpx.Client(base_url=api.url) as nobody:
        for route in api_routes(api):
            answer = handler.request(route.method, route.concrete.removeprefix("/api/v1/"))
            if (answer.status_code == 403) is route.needs.handlers:
                wrong.append(("handler", route.method, route.path, answer.status_code))
            answer = nobody.request(route.method, route.concrete)
            if answer.status_code != 401:
                wrong.append(("nobody", route.method, route.path, answer.status_code))
    assert not wrong


@pytest.mark.parametrize(("method", "path", "least"), CLOSED)
def test_what_must_be_closed_is_closed(api: Api, method: str, path: str, least: Role) -> None:
    found = [
        route
        for route in (*api_routes(api), *page_routes(api))
        if (route.method, re.sub(r":\w+}", "}", route.path)) == (method, path)
    ]
    assert len(found) == 1
    below = {Role.ADMIN: Role.OPERATOR, Role.OPERATOR: Role.VIEWER}[least]
    assert may(found[0].needs, least)
    assert not may(found[0].needs, below)


def test_a_bearer_token_opens_no_page(api: Api) -> None:
    """So that guessing tokens is slowed down where they are looked up, and only there."""
    answer = httpx.get(f"{api.url}/connections", headers=api.authorization)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


def test_guessing_is_counted_wherever_a_token_is_looked_up(api: Api) -> None:
    assert api.http.get("handlers").status_code == 200  # so that the right token is known
    with httpx.Client(base_url=api.url) as guesser:
        codes = [
            guesser.get(
                f"/api/v1/messages/{uuid.uuid4()}/raw",
                headers={"Authorization": f"Bearer {uuid.uuid4().hex}"},
            ).status_code
            for _ in range(32)
        ]
    assert codes[-1] == 429


def test_a_method_that_is_not_possible_names_those_that_are(api: Api) -> None:
    answer = api.http.put("overview")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert "GET" in answer.json()["detail"]
