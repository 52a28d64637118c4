"""One change to many connections, and copies: over the API and the command."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.integration.api.conftest import Api, Posthouse
from tests.integration.api.test_connections import problem


def bulk(api: Api, ids: list[int], action: str, **fields: Any) -> list[dict[str, Any]]:
    answer = api.http.post("connections/bulk", json={"ids": ids, "action": action, **fields})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_each_has_an_outcome_and_what_fails_stops_no_other(api: Api) -> None:
    one, two = api.create(tags=["old"]), api.create()
    outcomes = bulk(
        api, [one["id"], 999_999, two["id"]], "change", add_tags=["New"], remove_tags=["old"]
    )
    assert [o["status"] for o in outcomes] == ["done", "done", "failed"], "in order of the ids"
    again = bulk(api, [one["id"]], "change", add_tags=["new"], interval_minutes=1)
    assert again[0]["status"] == "unchanged"
    assert api.http.get(f"connections/{one['id']}").json()["tags"] == ["new"]
    assert bulk(api, [one["id"]], "disable")[0]["status"] == "unchanged"
    assert bulk(api, [one["id"]], "fetch")[0] | {"hint": ""} == {
        "id": one["id"],
        "name": one["name"],
        "status": "failed",
        "text": "The connection is disabled.",
        "hint": "",
        "new": None,
    }
    enabled = bulk(api, [one["id"]], "enable", start_from="now")
    assert enabled[0]["status"] == "done"
    assert bulk(api, [one["id"]], "disable")[0]["status"] == "done"
    entries = api.http.get("audit", params={"subject": f"connection/{two['id']}"}).json()["items"]
    assert entries[0]["after"] == {"tags": ["new"]}, "each change is one of that connection"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ids": [], "action": "test"}, "ids"),
        ({"ids": list(range(1, 102)), "action": "test"}, "ids"),
        ({"ids": [1], "action": "explode"}, "action"),
        ({"ids": [1], "action": "change"}, "action"),
        ({"ids": [1], "action": "change", "interval_minutes": 61}, "interval_minutes"),
        ({"ids": [1], "action": "change", "add_tags": ["a,b"]}, "add_tags"),
        ({"ids": [1], "action": "test", "interval_minutes": 5}, "interval_minutes"),
        ({"ids": [1], "action": "enable", "start_from": "soon"}, "start_from"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(
    api: Api, body: dict[str, Any], field: str
) -> None:
    assert problem(api.http.post("connections/bulk", json=body), 422)["field"] == field


def test_the_command_changes_all_that_match(api: Api, posthouse: Posthouse) -> None:
    mark = uuid.uuid4().hex[:8]
    made = [api.create(name=f"{mark} {number}", tags=[mark])["id"] for number in range(3)]
    certificate = uuid.uuid4().hex[:8]
    unsaid = posthouse("connections", "bulk", "change", "--tag", mark, "--interval", "9")
    assert (unsaid.code, "Give --yes" in unsaid.err) == (1, True)
    none = posthouse("connections", "bulk", "disable", "--yes")
    assert none.code == 2, "not all connections because nothing was said"
    unknown = posthouse(
        "connections", "bulk", "change", f"{mark} 1", "--add-certificate", certificate, "--yes"
    )
    assert unknown.code == 1, "there is no such certificate"
    done = posthouse(
        *("connections", "bulk", "change", "--tag", mark, "--interval", "9"),
        *("--add-tag", "x", "--yes", "--json"),
    )
    assert done.code == 0, done.err
    assert [one["id"] for one in done.json["items"]] == made
    found = api.http.get("connections", params={"tag": [mark, "x"]}).json()["items"]
    assert {one["interval_minutes"] for one in found} == {9}
    failed = posthouse("connections", "bulk", "fetch", f"{mark} 1", "--yes")
    assert failed.code == 1
    assert "The connection is disabled." in failed.out


def test_a_copy_has_the_password_of_its_server_alone(api: Api, posthouse: Posthouse) -> None:
    source = api.create(tags=["x"], interval_minutes=7)
    path = f"connections/{source['id']}/duplicate"
    assert problem(api.http.post(path, json={}), 422)["field"] == "name"
    problem(api.http.post(path, json={"name": source["name"]}), 409)
    moved = {"name": uuid.uuid4().hex, "host": "elsewhere.invalid"}
    assert problem(api.http.post(path, json=moved), 422)["field"] == "password"
    name = uuid.uuid4().hex
    copied = posthouse("connections", "duplicate", source["name"], name, "--set", "folder=Sub")
    assert copied.code == 0, copied.err
    made = api.http.get("connections", params={"q": name}).json()["items"][0]
    different = {"id", "name", "folder", "created_at", "updated_at"}
    wanted = {n: v for n, v in made.items() if n not in different}
    there = api.http.get("connections", params={"q": source["name"]}).json()["items"][0]
    assert wanted == {n: v for n, v in there.items() if n not in different}
    assert (made["folder"], made["has_password"], made["enabled"]) == ("Sub", True, False)
    sealed = api.execute("SELECT password FROM connection WHERE id = %(i)s", i=made["id"])
    before = api.execute("SELECT password FROM connection WHERE id = %(i)s", i=source["id"])
    assert sealed != before, "sealed for its own row"
