"""Somebody with rights by tag: every route and every list keeps to their connections."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from services.admin.auth.authentication import SAFE_METHODS
from services.admin.auth.cookies import SESSION
from shared.clock import utc_now
from tests.integration.api.conftest import TOKEN, Api, Posthouse
from tests.integration.api.test_certificates import p12
from tests.integration.api.test_connections import problem
from tests.integration.api.test_rights import Route, api_routes, page_routes
from tests.integration.rows import add_message
from tests.rig.logins import browser_session

#: Parameters that name what belongs to a connection.
NAMES = ("connection_id", "message_id", "entry_id")


@dataclass
class Others:
    """A connection of others, with a mail and an entry in quarantine, all called `canary`."""

    canary: str
    connection: int
    message: uuid.UUID
    entry: uuid.UUID


CREDENTIAL = {
    "provider": "google",
    "grant": "authorization-code",
    "client_id": "c",
    "client_secret": "s",
}


@pytest.fixture
def others(api: Api) -> Others:
    canary = f"canary-{uuid.uuid4().hex[:8]}"
    return add(api, canary, [f"tag-{canary}"])


def add(api: Api, canary: str, tags: list[str]) -> Others:
    body = {"username": f"{canary}@x", "description": canary, "tags": tags}
    connection = api.create(name=canary, **body)["id"]
    with api.database.transaction() as session:
        message = add_message(session, connection, utc_now(), sender=f"{canary}@x.example")
    entry = uuid.uuid4()
    api.execute(
        "INSERT INTO quarantine (id, connection_id, folder, native_key, uid_validity, code, reason,"
        " size, subject) VALUES (%(i)s, %(c)s, '', '1', 0, 'x', 'y', 1, %(s)s)",
        i=entry,
        c=connection,
        s=canary,
    )
    return Others(canary, connection, message, entry)


@contextmanager
def programs(api: Api, tags: list[str], role: str = "operator") -> Iterator[httpx.Client]:
    body = {"name": uuid.uuid4().hex, "role": role, "tags": tags}
    with api.as_token(api.http.post("tokens", json=body).json()["token"]) as client:
        yield client


@contextmanager
def browsers(api: Api, tags: list[str]) -> Iterator[tuple[httpx.Client, str]]:
    body = {"name": uuid.uuid4().hex, "role": "operator", "tags": tags, "password": "a" * 20}
    person = api.http.post("people", json=body).json()["id"]
    vault = api.admin.app_state.vault
    cookie, signed_in = browser_session(api.database, vault, TOKEN, person)
    with httpx.Client(base_url=api.url, cookies={SESSION: cookie}, timeout=60) as browser:
        yield browser, signed_in.csrf


def concrete(route: Route, others: Others, written: str = "{}") -> str:
    """Its path; the id of the connection `written` so."""
    ids = {
        "connection_id": written.format(others.connection),
        "message_id": str(others.message),
        "entry_id": str(others.entry),
    }
    return re.sub(r"{(\w+)(:\w+)?}", lambda found: ids.get(found[1], "1"), route.path)


def judge(route: Route, others: Others, answer: httpx.Response) -> str:
    """What is wrong with an answer, empty where nothing is."""
    if any(name in route.path for name in NAMES) and answer.status_code not in (403, 404):
        return f"{answer.status_code} for what is of others"
    if answer.status_code >= 500:
        return str(answer.status_code)
    return "tells of others" if others.canary in answer.text else ""


def test_no_route_shows_or_changes_what_is_of_others(api: Api, others: Others) -> None:
    api.create(tags=["mine"])
    wrong = []
    with programs(api, ["mine"]) as client:
        for route in api_routes(api):
            path = concrete(route, others).removeprefix("/api/v1/")
            found = judge(route, others, client.request(route.method, path))
            wrong += [(route.method, route.path, found)] if found else []
    with browsers(api, ["mine"]) as (browser, csrf):
        for route in page_routes(api):
            form = None if route.method in SAFE_METHODS else {"csrf": csrf}
            answer = browser.request(route.method, concrete(route, others), data=form)
            found = judge(route, others, answer)
            wrong += [(route.method, route.path, found)] if found else []
    assert not wrong
    there = api.http.get(f"connections/{others.connection}").json()
    assert (there["name"], there["enabled"]) == (others.canary, False)


#: What is read as the same number where it is a parameter.
WRITTEN = ["+{}", "%20{}", "{}%20", "{}.0", "0{}", "0_{}", "%0A{}", "{}.000"]


@pytest.mark.parametrize("written", WRITTEN)
def test_an_id_that_is_written_otherwise_opens_nothing(
    api: Api, others: Others, written: str
) -> None:
    """It was read as no id where rights are checked, and as one by the route."""
    api.create(tags=["mine"])
    wrong = []
    with programs(api, ["mine"]) as client:
        for route in api_routes(api):
            if "{connection_id}" not in route.path:
                continue
            path = concrete(route, others, written).removeprefix("/api/v1/")
            answer = client.request(route.method, path, json={})
            if answer.status_code not in (403, 404, 422) or others.canary in answer.text:
                wrong.append((route.method, path, answer.status_code))
        of_others = f"connection={written.format(others.connection)}"
        for method, path in (
            ("POST", "connections/test"),
            ("POST", "connections/folders"),
            ("GET", "messages"),
            ("GET", "quarantine"),
        ):
            body = {"description": "x"} if method == "POST" else None
            for query in (of_others, f"{of_others}&{of_others}"):
                answer = client.request(method, f"{path}?{query}", json=body)
                if answer.status_code not in (404, 422) or others.canary in answer.text:
                    wrong.append((method, f"{path}?{query}", answer.status_code))
    assert not wrong
    there = api.http.get(f"connections/{others.connection}").json()
    assert (there["name"], there["enabled"]) == (others.canary, False)


def test_a_name_in_a_body_or_a_filter_opens_nothing_either(api: Api, others: Others) -> None:
    with programs(api, ["mine"]) as client:
        (outcome,) = client.post(
            "connections/bulk", json={"ids": [others.connection], "action": "test"}
        ).json()["items"]
        assert (outcome["status"], others.canary in str(outcome)) == ("failed", False)
        problem(client.post(f"connections/test?connection={others.connection}", json={}), 404)
        described = client.get("openapi.json").json()["paths"]
        for path in ("messages", "quarantine"):
            problem(client.get(f"{path}?connection={others.connection}"), 404)
            assert "404" in described[f"/api/v1/{path}"]["get"]["responses"]
        for path in (f"connections?q={others.canary}", f"messages?q={others.canary}"):
            assert client.get(path).json()["items"] == []
        assert client.get(f"quarantine?q={others.canary}").json()["items"] == []
        assert client.get("connections/ids", params={"q": others.canary}).json() == {"ids": []}
        assert f"tag-{others.canary}" not in client.get("connections/tags").json()
    with browsers(api, ["mine"]) as (browser, csrf):
        act = {"csrf": csrf, "id": str(others.entry), "do": "drop"}
        browser.post("/quarantine/act", data=act)
        bulk = {"csrf": csrf, "ids": str(others.connection), "action": "change", "add_tags": "mine"}
        answer = browser.post("/connections/bulk/apply", data=bulk)
        assert (answer.status_code, others.canary in answer.text) == (200, False)
        found = browser.get("/mails", params={"connection": others.canary})
        assert found.status_code == 422
    assert api.http.get(f"quarantine/{others.entry}").status_code == 200
    assert api.http.get(f"connections/{others.connection}").json()["tags"] == [
        f"tag-{others.canary}"
    ]


def test_what_is_theirs_is_open_to_them(api: Api) -> None:
    tag = uuid.uuid4().hex[:8]
    mine = add(api, f"mine-{tag}", [tag])
    with programs(api, [tag]) as client:
        assert [one["id"] for one in client.get("connections").json()["items"]] == [mine.connection]
        assert client.get("connections").json()["counts"] == {"disabled": 1}
        assert client.get(f"messages/{mine.message}").status_code == 200
        assert len(client.get("messages").json()["items"]) == 1
        assert len(client.get("quarantine").json()["items"]) == 1
        assert client.get(f"quarantine/{mine.entry}").status_code == 200
        path = f"connections/{mine.connection}"
        assert client.patch(path, json={"description": "x", "tags": [tag]}).status_code == 200
        body = {"name": uuid.uuid4().hex, "mode": "imap", "host": "h", "username": "u"}
        body |= {"password": "p"}
        assert client.post("connections", json=body | {"tags": [tag]}).status_code == 201
    with browsers(api, [tag]) as (browser, _):
        assert browser.get("/").headers["location"] == "/connections"
        for path in (f"/connections/{mine.connection}", "/connections/new", "/mails", "/account"):
            page = browser.get(path)
            assert page.status_code == 200, path
            assert 'href="/handlers' not in page.text, "no link that is refused"
    with programs(api, [tag], role="viewer") as viewer:
        assert viewer.get(path.removeprefix("/")).status_code in (200, 404)
        problem(viewer.patch(f"connections/{mine.connection}", json={"description": "y"}), 403)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tags": ["of-others"]}, "tags"),
        ({"tags": []}, "tags"),
        ({"tags": ["mine", "of-others"]}, "tags"),
        ({"certificate_ids": [1]}, "certificate_ids"),
        ({"mode": "google-imap", "credential_id": "made", "host": ""}, "credential_id"),
    ],
)
def test_nobody_reaches_further_than_their_rights(
    api: Api, changes: dict[str, Any], field: str
) -> None:
    credential = {**CREDENTIAL, "name": uuid.uuid4().hex}
    if changes.get("credential_id") == "made":
        changes = changes | {
            "credential_id": api.http.post("credentials", json=credential).json()["id"]
        }
    mine = api.create(tags=["mine"])
    with programs(api, ["mine"]) as client:
        answer = client.patch(f"connections/{mine['id']}", json=changes)
        assert problem(answer, 422)["field"] == field
        body = {"name": uuid.uuid4().hex, "mode": "imap", "host": "h", "username": "u"}
        body |= {"password": "p", "tags": ["mine"]} | changes
        if "credential_id" in body:
            del body["password"]
        assert problem(client.post("connections", json=body), 422)["field"] == field


def test_tags_of_others_are_neither_given_nor_taken(api: Api) -> None:
    """Each is a right of others to see, change and delete a connection."""
    tag = uuid.uuid4().hex[:8]
    shared = api.create(tags=[tag, "of-others"])["id"]
    path = f"connections/{shared}"
    new = {"mode": "imap", "host": "h", "username": "u", "password": "p"}
    both = [tag, "of-others"]
    with programs(api, [tag, "mine-too"]) as client:
        for tags in ([tag], [*both, "third"]):
            assert problem(client.patch(path, json={"tags": tags}), 422)["field"] == "tags"
        for changes in ({"remove_tags": ["of-others"]}, {"add_tags": ["third"]}):
            body = {"ids": [shared], "action": "change", **changes}
            (outcome,) = client.post("connections/bulk", json=body).json()["items"]
            assert (outcome["status"], "not one of yours" in outcome["text"]) == ("failed", True)
        named = {**new, "name": uuid.uuid4().hex, "tags": both}
        (made,) = client.post("connections/many", json={"items": [named]}).json()["items"]
        assert made["error"]["field"] == "tags"
        sheet = f'name,mode,host,username,password,tags\nx,imap,h,u,p,"{tag}, of-others"\n'
        files = {"file": ("new.csv", sheet.encode(), "text/csv")}
        assert client.post("connections/import", files=files).status_code == 409
        copied = client.post(f"{path}/duplicate", json={"name": uuid.uuid4().hex}).json()
        assert copied["tags"] == [tag], "a copy has the tags that they may give"
        again = {"name": uuid.uuid4().hex, "tags": both}
        assert problem(client.post(f"{path}/duplicate", json=again), 422)["field"] == "tags"
        assert client.patch(path, json={"tags": [*both, "mine-too"]}).status_code == 200
        assert client.patch(path, json={"description": "x", "tags": both}).status_code == 200
    assert api.http.get(path).json()["tags"] == sorted(both)


def test_forms_name_no_certificate_and_no_credential_of_others(api: Api) -> None:
    """Their ids can be guessed; the forms showed the name of whatever was asked for."""
    canary = f"canary-{uuid.uuid4().hex[:8]}"
    made = api.http.post("credentials", json={**CREDENTIAL, "name": canary}).json()["id"]
    key = {"file": ("key.p12", p12(f"{canary}@x.example"))}
    named = {"password": "open sesame", "name": canary}
    certificate = api.http.post("certificates", files=key, data=named).json()["id"]
    theirs = api.create(tags=["mine"], certificate_ids=[certificate])["id"]
    mine = api.create(tags=["mine"])["id"]
    with browsers(api, ["mine"]) as (browser, csrf):
        asked = f"mode=google-imap&credential={made}"
        assert canary not in browser.get(f"/connections/new?{asked}").text
        for path in ("new", f"{mine}/edit", f"{mine}/duplicate", "test", f"{mine}/edit/test"):
            for switch in ({}, {"switch": "1"}):
                form = {"csrf": csrf, "mode": "imap", **switch}
                form |= {"certificate_ids": str(certificate), "credential_id": str(made)}
                answer = browser.post(f"/connections/{path}", data=form)
                assert (answer.status_code in (200, 422), canary in answer.text) == (True, False)
        shown = browser.get(f"/connections/{theirs}/edit").text
        assert canary in shown, "what their own connection has is shown"
        assert "/certificates" not in shown, "no link that is refused"


@pytest.mark.parametrize("mode", ["google-imap", "microsoft-imap", "imap"])
def test_credentials_of_others_are_neither_named_nor_counted(api: Api, mode: str) -> None:
    """What is answered to an id that there is, is answered to one that there is not."""
    canary = f"canary-{uuid.uuid4().hex[:8]}"
    there = api.http.post("credentials", json={**CREDENTIAL, "name": canary}).json()["id"]
    mine = api.create(tags=["mine"])["id"]

    def answers(client: httpx.Client, number: int, name: str) -> list[tuple[int, str]]:
        body = {"mode": mode, "username": "u", "credential_id": number, "tags": ["mine"]}
        new = {**body, "name": uuid.uuid4().hex}
        sheet = f"name,mode,username,tags,credential\nfresh,{mode},u,mine,{name}\n"
        found = [
            client.post("connections", json=new),
            client.patch(f"connections/{mine}", json=body),
            client.post(f"connections/{mine}/duplicate", json=new),
            client.post("connections/test", json=new),
            client.post(f"connections/test?connection={mine}", json=body),
            client.post("connections/folders", json=new),
            client.post(
                "connections/import?dry_run=true",
                files={"file": ("new.csv", sheet.encode(), "text/csv")},
            ),
        ]
        return [(one.status_code, one.text.replace(name, "NAME")) for one in found]

    with programs(api, ["mine"]) as client:
        told, untold = answers(client, there, canary), answers(client, 10**9, "nobody")
    assert told == untold
    assert {status for status, _ in told} <= {200, 422}
    assert "fresh" in told[-1][1] or "NAME" in told[-1][1], "the file was read"


def test_a_new_name_tells_of_no_handler(api: Api) -> None:
    canary = f"canary-{uuid.uuid4().hex[:8]}"
    box = api.create(name=canary, tags=["mine"])["id"]
    rules = {"expression": f'connection.startsWith("{canary}")'}
    made = api.http.post("handlers", json={"name": canary, "rules": rules}).json()
    with programs(api, ["mine"]) as client:
        told = client.patch(f"connections/{box}", json={"name": "renamed"}).json()["notice"]
    assert "tell an administrator" in told
    assert canary not in told
    assert api.http.delete(f"handlers/{made['id']}").is_success


def test_an_administrator_has_no_part(api: Api) -> None:
    body = {"name": uuid.uuid4().hex, "role": "admin", "tags": ["x"]}
    assert problem(api.http.post("tokens", json=body), 422)["field"] == "tags"
    person = api.http.post("people", json=body | {"role": "viewer", "password": "a" * 20}).json()
    assert person["tags"] == ["x"]
    path = f"people/{person['id']}"
    assert problem(api.http.patch(path, json={"role": "admin"}), 422)["field"] == "tags"
    assert api.http.patch(path, json={"role": "admin", "tags": []}).json()["tags"] == []


def test_the_command_gives_and_takes_the_bound(api: Api, posthouse: Posthouse) -> None:
    name = uuid.uuid4().hex
    made = posthouse("tokens", "add", name, "--role", "operator", "--tag", "Mine", "--json").json
    assert made["tags"] == ["mine"]
    api.http.post("people", json={"name": name, "role": "viewer", "password": "a" * 20})
    edited = posthouse("people", "edit", name, "--tag", "a", "--tag", "b", "--json").json
    assert edited["tags"] == ["a", "b"]
    assert posthouse("people", "edit", name, "--role", "operator", "--json").json["tags"] == [
        "a",
        "b",
    ]
    assert posthouse("people", "edit", name, "--tag", "", "--json").json["tags"] == []
