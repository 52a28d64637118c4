"""Many connections by one call and by one file: each is checked, and fails, as if it were alone."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from shared.people import Role
from shared.storage import connections
from tests.integration.api.conftest import Api, Posthouse
from tests.integration.api.test_access import add_token
from tests.integration.api.test_changing_while_fetched import wait_for_a_waiting
from tests.integration.api.test_connections import problem
from tests.servers.scripted import ScriptedServer


def one(**fields: Any) -> dict[str, Any]:
    body = {"name": f"box {uuid.uuid4().hex[:8]}", "mode": "imap", "host": "mail.invalid"}
    return {**body, "username": "ann", "password": "secret"} | fields


def test_what_is_wrong_with_one_keeps_no_other_from_being_added(api: Api) -> None:
    taken = one()
    items = [one(), one(interval_minutes=61), taken, taken, one(certificate_ids=[999_999]), one()]
    found = api.http.post("connections/many", json={"items": items}).json()["items"]
    assert [made["id"] is not None for made in found] == [True, False, True, False, False, True]
    codes = [made["error"] and made["error"]["code"] for made in found]
    assert codes == [None, "invalid", None, "name-taken", "invalid", None]
    assert [found[1]["error"]["field"], found[3]["error"]["field"]] == ["interval_minutes", "name"]
    for item, made in zip(items, found, strict=True):
        alone = api.http.post("connections", json=item)
        if made["error"] is not None:
            assert alone.json() == made["error"], "as if it were added alone"
    there = api.http.get(f"connections/{found[5]['id']}").json()
    assert (there["enabled"], there["has_password"]) == (False, True)
    (entry,) = api.http.get("audit", params={"subject": f"connection/{there['id']}"}).json()[
        "items"
    ]
    assert (entry["action"], entry["after"]["name"]) == ("create", items[5]["name"])


def test_new_mails_are_counted_before_one_of_many_is_enabled(
    api: Api, on_dovecot: dict[str, Any]
) -> None:
    """And where somebody acknowledged that they are downloaded, no server is asked."""
    with ScriptedServer(lambda talk: talk.say_nothing()) as silent:
        unasked = one(
            enabled=True, acknowledged=True, host="127.0.0.1", port=silent.port, security="none"
        )
        counted, plain = one(**on_dovecot, enabled=True), one()
        items = [unasked, counted, plain]
        found = api.http.post("connections/many", json={"items": items}).json()["items"]
        assert [made["error"] for made in found] == [None, None, None]
        assert silent.connections == 0
    states = [api.http.get(f"connections/{made['id']}").json()["enabled"] for made in found]
    assert states == [True, True, False]


def test_many_are_for_those_who_may_add_one_and_within_their_part(api: Api) -> None:
    with api.as_token(add_token(api, Role.VIEWER)) as viewer:
        assert viewer.post("connections/many", json={"items": [one()]}).status_code == 403
    token = {"name": uuid.uuid4().hex, "role": "operator", "tags": ["mine"]}
    with api.as_token(api.http.post("tokens", json=token).json()["token"]) as part:
        items = [one(), one(tags=["mine"])]
        found = part.post("connections/many", json={"items": items}).json()["items"]
        assert [made["id"] is not None for made in found] == [False, True]
        assert found[0]["error"]["field"] == "tags"


def saved(http: httpx.Client, *items: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.post("connections/many", json={"items": items}).json()[
        "items"
    ]
    return found


def test_each_of_many_is_changed_as_if_it_were_changed_alone(api: Api) -> None:
    first, second, third, fourth = (
        made["id"] for made in saved(api.http, one(), one(), one(), one())
    )
    opened = api.http.get(f"connections/{third}")
    api.http.patch(f"connections/{third}", json={"description": "by somebody else"})
    taken = api.http.get(f"connections/{second}").json()["name"]
    items: list[dict[str, Any]] = [
        {"id": fourth, "interval_minutes": 7, "password": "another"},
        {"id": first, "interval_minutes": 61},
        {"id": first, "name": taken},
        {"id": third, "interval_minutes": 7, "version": opened.headers["etag"].strip('"')},
        {"id": first, "host": "elsewhere.invalid"},
        {"id": 2**60, "interval_minutes": 7},
        {"id": second, "certificate_ids": [999_999]},
        one(),
        {"id": first, "interval_minutes": 9},
    ]
    found = saved(api.http, *items)
    codes = [made["error"] and made["error"]["code"] for made in found]
    assert codes == [
        None, "invalid", "name-taken", "changed-meanwhile", "invalid", "not-found", "invalid", None,
        None,
    ]  # fmt: skip
    assert found[3]["error"]["status"] == 412
    assert "by somebody else" in found[3]["error"]["detail"]
    assert found[4]["error"]["field"] == "password", "it goes to no other server"
    for item, made in zip(items, found, strict=True):
        if made["error"] is None or "id" not in item:
            continue
        version = {"if-match": item["version"]} if "version" in item else {}
        body = {name: value for name, value in item.items() if name not in ("id", "version")}
        alone = api.http.patch(f"connections/{item['id']}", json=body, headers=version)
        assert alone.json() == made["error"]
    assert api.http.get(f"connections/{fourth}").json()["interval_minutes"] == 7
    entry = api.http.get("audit", params={"subject": f"connection/{fourth}"}).json()["items"][0]
    assert (entry["action"], entry["after"]["interval_minutes"]) == ("change", 7)
    assert "another" not in str(entry)


def test_new_mails_are_counted_before_one_of_many_reads_other_mails(
    api: Api, on_dovecot: dict[str, Any]
) -> None:
    """And where somebody acknowledged that they are downloaded, no server is asked."""
    with ScriptedServer(lambda talk: talk.say_nothing()) as silent:
        where = {"host": "127.0.0.1", "port": silent.port, "security": "none"}
        asked, unasked, plain = (
            made["id"] for made in saved(api.http, one(**on_dovecot), one(**where), one(**where))
        )
        items = [
            {"id": unasked, "enabled": True, "acknowledged": True},
            {"id": plain, "interval_minutes": 5},
            {"id": asked, "enabled": True},
        ]
        assert [made["error"] for made in saved(api.http, *items)] == [None, None, None]
        assert silent.connections == 0
        found = saved(api.http, {"id": unasked, "selection": "all", "timeout_ms": 300})
        assert found[0]["error"], "it would read other mails than before"
        assert silent.connections == 1
    assert api.http.get(f"connections/{asked}").json()["enabled"] is True


def test_many_are_changed_within_the_part_of_who_changes_them(api: Api) -> None:
    mine, other = (made["id"] for made in saved(api.http, one(tags=["mine"]), one()))
    token = {"name": uuid.uuid4().hex, "role": "operator", "tags": ["mine"]}
    with api.as_token(api.http.post("tokens", json=token).json()["token"]) as part:
        items = [
            {"id": mine, "interval_minutes": 3},
            {"id": other, "interval_minutes": 3},
            {"id": mine, "tags": []},
        ]
        found = saved(part, *items)
        alone = part.patch(f"connections/{mine}", json={"tags": []}).json()
        assert part.patch(f"connections/{other}", json={"interval_minutes": 3}).status_code == 404
    assert [found[0]["error"], found[2]["error"]] == [None, alone]
    assert found[1]["error"] == {
        **api.http.get(f"connections/{2**60}").json(),
        "detail": f"There is no connection {other}.",
    }, "as one that is not there"
    assert api.http.get(f"connections/{other}").json()["interval_minutes"] == 1


@pytest.mark.promise("T1")
def test_one_that_waits_for_a_run_locks_no_other(api: Api) -> None:
    """Fetchers that end several runs lock all leases before the first state."""
    first, second = (made["id"] for made in saved(api.http, one(), one(host="other.invalid")))
    with api.database.transaction() as session:
        key = connections.get(session, second).lease_key()
        session.execute("INSERT INTO lease VALUES (%s, 'a', now() + interval '1 hour', 1)", [key])
    with (
        psycopg.connect(api.owner_url) as fetcher,
        psycopg.connect(api.owner_url, autocommit=True) as watch,
        ThreadPoolExecutor(1) as beside,
    ):
        fetcher.execute("SELECT FROM lease WHERE mailbox = %s FOR SHARE", [key])
        items = [{"id": first, "interval_minutes": 7}, {"id": second, "folder": "Archive"}]
        changing = beside.submit(saved, api.http, *items)
        wait_for_a_waiting(watch)
        assert api.http.get(f"connections/{first}").json()["interval_minutes"] == 7
        fetcher.execute(
            "SELECT FROM connection_state WHERE connection_id = %s FOR UPDATE NOWAIT", [first]
        )
        fetcher.commit()
        assert [made["error"] for made in changing.result()] == [None, None]
    assert api.http.get(f"connections/{second}").json()["folder"] == "Archive"


@pytest.mark.parametrize("body", [{}, {"items": []}, {"items": [1]}, {"items": [{}] * 101}])
def test_a_body_that_is_none_is_refused(api: Api, body: dict[str, Any]) -> None:
    assert problem(api.http.post("connections/many", json=body), 422)["field"] == "items"


@pytest.mark.promise("H6")
def test_a_file_of_many_is_applied_and_what_fails_is_told(
    api: Api, posthouse: Posthouse, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("secret")
    mark = uuid.uuid4().hex[:8]
    file = tmp_path / "posthouse.yaml"
    entries = [one(name=f"{mark} {n:03}", password="file:password") for n in range(120)]
    entries[60]["password"] = "env:NOBODY_HAS_SET_THIS"
    handler = {"name": mark, "connections": [entries[119]["name"]]}
    file.write_text(yaml.safe_dump({"connections": entries, "handlers": [handler]}))
    ran = posthouse("apply", "-f", str(file))
    assert ran.code == 1, ran.err
    assert "120 of 121 changes made" in ran.out
    assert f"{mark} 060: The environment has no NOBODY_HAS_SET_THIS" in ran.out
    assert api.http.get("connections", params={"q": mark}).json()["total"] == 119
    entries[60]["password"] = "file:password"
    file.write_text(yaml.safe_dump({"connections": entries, "handlers": [handler]}))
    assert "1 of 1 change made" in posthouse("apply", "-f", str(file)).out
    for entry in entries:
        entry["interval_minutes"] = 9
    entries[70] |= {"host": "elsewhere.invalid", "password": "env:NOBODY_HAS_SET_THIS"}
    file.write_text(yaml.safe_dump({"connections": entries, "handlers": [handler]}))
    ran = posthouse("apply", "-f", str(file))
    assert "119 of 120 changes made" in ran.out
    assert f"{mark} 070: The environment has no NOBODY_HAS_SET_THIS" in ran.out
    found = api.http.get("connections", params={"q": mark, "per_page": 500}).json()["items"]
    assert [one["interval_minutes"] for one in found].count(9) == 119
    entries[70]["password"] = "file:password"
    file.write_text(yaml.safe_dump({"connections": entries, "handlers": [handler]}))
    assert "1 of 1 change made" in posthouse("apply", "-f", str(file)).out
    assert "Everything is as the file says." in posthouse("apply", "-f", str(file)).out
