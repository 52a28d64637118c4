"""An API token opens no more than whoever made it may at that moment."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import TOKEN, Api, Posthouse
from tests.integration.api.test_logging_in_to_pages import browser, is_in, log_in

PASSWORD = "a few words in a row"


@dataclass
class Maker:
    """An administrator in a browser, who has made a token."""

    id: int
    name: str
    token_id: int
    token: str


def made_by_somebody(api: Api, **token: Any) -> Maker:
    """A second administrator stays, so that this one may be demoted."""
    name = f"maker-{uuid.uuid4().hex[:6]}"
    for one in (name, f"{name}-other"):
        body = {"name": one, "password": PASSWORD, "role": "admin"}
        person = api.http.post("people", json=body)
        assert person.status_code == 201, person.text
    (person,) = [p for p in api.http.get("people").json()["items"] if p["name"] == name]
    with browser(api) as client:
        assert is_in(log_in(client, name=name, password=PASSWORD))
        made = send(client, "/tokens", name=f"of {name}", **{"role": "admin", "days": ""} | token)
    secret = re.search(r"posthouse_[\w-]{43}", made.text)
    assert secret, made.text
    (token_id,) = [t["id"] for t in api.http.get("tokens").json()["items"] if name in t["name"]]
    return Maker(person["id"], name, token_id, secret[0])


def send(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/tokens").text)
    assert csrf
    return client.post(path, data={"csrf": csrf[1], **fields})


def change(api: Api, maker: Maker, **fields: Any) -> None:
    answer = api.http.patch(f"people/{maker.id}", json=fields)
    assert answer.status_code == 200, answer.text


def statuses(api: Api, token: str, *paths: str) -> list[int]:
    with api.as_token(token) as program:
        return [program.get(path).status_code for path in paths]


def test_who_is_demoted_keeps_no_rights_in_a_token(api: Api) -> None:
    maker = made_by_somebody(api)
    paths = ("people", "handlers", "connections")
    assert statuses(api, maker.token, *paths) == [200, 200, 200]
    change(api, maker, role="viewer")
    assert statuses(api, maker.token, *paths) == [403, 200, 200]
    with api.as_token(maker.token) as program:
        assert program.post("connections", json={}).status_code == 403
    assert api.http.get(f"tokens/{maker.token_id}").json()["now"] == {"role": "viewer", "tags": []}
    change(api, maker, role="admin")
    assert statuses(api, maker.token, *paths) == [200, 200, 200]


def test_who_is_held_to_tags_holds_their_tokens_to_them(api: Api) -> None:
    mine, others = api.create(tags=["north"]), api.create(tags=["south"])
    maker = made_by_somebody(api, role="operator")
    paths = [f"connections/{one['id']}" for one in (mine, others)]
    assert statuses(api, maker.token, *paths) == [200, 200]
    change(api, maker, role="operator", tags=["north"])
    assert statuses(api, maker.token, *paths, "handlers") == [200, 404, 403]
    with api.as_token(maker.token) as program:
        found = program.get("connections").json()["items"]
    assert {tag for one in found for tag in one["tags"]} == {"north"}


def test_a_token_for_tags_that_its_maker_does_not_see_opens_nothing(api: Api) -> None:
    api.create(tags=["north", "south"])
    maker = made_by_somebody(api, role="viewer", tags="south, east")
    assert statuses(api, maker.token, "connections") == [200]
    change(api, maker, role="viewer", tags=["north", "east"])
    assert api.http.get(f"tokens/{maker.token_id}").json()["now"]["tags"] == ["east"]
    change(api, maker, tags=["north"])
    assert api.http.get(f"tokens/{maker.token_id}").json()["now"] is None
    assert statuses(api, maker.token, "connections", "overview") == [401, 401]


@pytest.mark.parametrize("by", ["api", "page", "command"])
def test_the_tokens_of_who_may_not_log_in_stop_until_taken_over(
    api: Api, posthouse: Posthouse, by: str
) -> None:
    maker = made_by_somebody(api)
    change(api, maker, enabled=False)
    assert statuses(api, maker.token, "connections", "people") == [401, 401]
    if by == "api":
        taken = api.http.post(f"tokens/{maker.token_id}/take-over")
        assert taken.status_code == 200, taken.text
        assert taken.json()["now"] == {"role": "admin", "tags": []}
    elif by == "page":
        with browser(api) as client:
            assert is_in(log_in(client, token=TOKEN))
            row = client.get("/tokens").text.partition(f"of {maker.name}")[2].partition("</tr>")[0]
            assert "stopped" in row
            assert f"/tokens/{maker.token_id}/take-over" in row
            assert "stopped" in client.get(f"/people/{maker.id}").text
            assert is_in(send(client, f"/tokens/{maker.token_id}/take-over"))
            row = client.get("/tokens").text.partition(f"of {maker.name}")[2].partition("</tr>")[0]
            assert "stopped" not in row
            assert "take-over" not in row
    else:
        line = next(li for li in posthouse("tokens", "list").out.splitlines() if maker.name in li)
        assert "stopped" in line
        assert posthouse("tokens", "take-over", f"of {maker.name}").code == 0
        line = next(li for li in posthouse("tokens", "list").out.splitlines() if maker.name in li)
        assert "stopped" not in line
    assert statuses(api, maker.token, "connections", "people") == [200, 200]
    log = api.http.get("audit", params={"subject": f"token/{maker.token_id}"}).json()["items"]
    assert (log[0]["action"], log[0]["before"]["created_by"]) == ("take over", maker.name)


def test_who_may_log_in_again_has_their_tokens_again(api: Api) -> None:
    maker = made_by_somebody(api)
    change(api, maker, enabled=False)
    assert statuses(api, maker.token, "connections") == [401]
    change(api, maker, enabled=True)
    assert statuses(api, maker.token, "connections") == [200]


def test_a_token_that_a_token_made_is_of_the_same_person(api: Api) -> None:
    """Else a token made by a program would outlive the rights of whoever runs it."""
    maker = made_by_somebody(api)
    with api.as_token(maker.token) as program:
        second = program.post("tokens", json={"name": f"second {maker.name}", "role": "admin"})
        assert second.status_code == 201
        assert program.post(f"tokens/{maker.token_id}/take-over").status_code == 200
    change(api, maker, enabled=False)
    assert statuses(api, second.json()["token"], "people") == [401]
    assert api.http.delete(f"people/{maker.id}").status_code == 204
    assert api.http.get(f"tokens/{second.json()['id']}").status_code == 404


def test_who_leaves_takes_nothing_over(api: Api) -> None:
    maker = made_by_somebody(api)
    with api.as_token(maker.token) as program:
        left = program.delete(f"people/{maker.id}", params={"tokens": "take-over"})
        assert (left.status_code, left.json()["code"]) == (409, "conflict")
        assert program.delete(f"people/{maker.id}").status_code == 204
    assert statuses(api, maker.token, "people") == [401]
