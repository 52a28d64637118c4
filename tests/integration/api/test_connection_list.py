"""The list of connections: tags, filters and counts, over the API and the command."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.integration.api.conftest import Api, Posthouse


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["Sales", " EMEA ", "sales"], ["emea", "sales"]),
        (["A\u0308rger"], ["\u00e4rger"]),
        (["two  words"], ["two words"]),
        ([], []),
    ],
)
def test_a_tag_is_written_one_way(api: Api, given: list[str], kept: list[str]) -> None:
    made = api.create(tags=given)
    assert made["tags"] == kept
    changed = api.http.patch(f"connections/{made['id']}", json={"tags": ["x"]}).json()
    assert changed["tags"] == ["x"]


@pytest.mark.parametrize(
    "given", ["sales", [1], ["a,b"], [""], ["x" * 51], ["a\u0007b"], [str(n) for n in range(21)]]
)
def test_what_is_no_tag_is_refused_by_its_field(api: Api, given: object) -> None:
    body = {"name": uuid.uuid4().hex, "mode": "imap", "host": "h", "username": "u", "tags": given}
    answer = api.http.post("connections", json=body | {"password": "p"})
    assert (answer.status_code, answer.json()["field"]) == (422, "tags")


def test_filters_hold_together_and_counts_follow_them(api: Api, posthouse: Posthouse) -> None:
    mark = uuid.uuid4().hex[:8]
    one = api.create(name=f"one {mark}", tags=[mark, "x"])
    two = api.create(name=f"two {mark}", tags=[mark], mode="pop3")
    other = api.create(name=f"other {mark}")
    handler = api.http.post("handlers", json={"name": mark, "connections": [two["id"]]}).json()
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"q": mark}, [one["id"], other["id"], two["id"]]),
        ({"tag": mark}, [one["id"], two["id"]]),
        ({"tag": mark.upper()}, [one["id"], two["id"]]),
        ({"tag": [mark, "x"]}, [one["id"]]),
        ({"q": mark, "mode": "pop3"}, [two["id"]]),
        ({"q": mark, "handler": handler["id"]}, [two["id"]]),
        ({"tag": mark, "health": "working"}, []),
    ]
    for params, wanted in cases:
        found = api.http.get("connections", params=params).json()
        assert [item["id"] for item in found["items"]] == wanted, params
        assert found["total"] == len(wanted)
    assert found["counts"] == {"disabled": 2}, "counts are of what the other filters leave"
    assert api.http.get("connections/tags").json()[mark] == 2
    listed = posthouse("connections", "list", "--tag", mark, "--handler", mark, "--json").json
    assert [item["id"] for item in listed["items"]] == [two["id"]]
    assert mark in posthouse("connections", "list", "--tag", mark).out


def test_a_tag_is_found_by_searching_and_given_by_a_command(api: Api, posthouse: Posthouse) -> None:
    mark = uuid.uuid4().hex[:8]
    made = api.create()
    edited = posthouse("connections", "edit", str(made["id"]), "--set", f"tags={mark},b", "--json")
    assert edited.json["tags"] == sorted([mark, "b"])
    found = api.http.get("connections", params={"q": mark}).json()["items"]
    assert [item["id"] for item in found] == [made["id"]]
