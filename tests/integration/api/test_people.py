"""People, tokens, audit log and webhooks, through the API and the command line."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import Api, Posthouse
from tests.servers.certificates import Authority

PASSWORD = "a few words in a row"


def refused(answer: httpx.Response, status: int, field: str = "") -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    assert told.get("field", "") == field
    return told


def test_a_person_is_let_in_changed_and_shut_out(api: Api) -> None:
    name = f"alice-{uuid.uuid4().hex[:6]}"
    refused(api.http.post("people", json={"name": name}), 422, "password")
    refused(api.http.post("people", json={"name": name, "password": "short"}), 422, "password")
    refused(
        api.http.post("people", json={"name": name, "password": PASSWORD, "role": "king"}),
        422,
        "role",
    )
    made = api.http.post("people", json={"name": name, "password": PASSWORD}).json()
    assert (made["role"], made["enabled"], made["has_password"]) == ("viewer", True, True)
    assert PASSWORD not in json.dumps(made)
    refused(api.http.post("people", json={"name": name, "password": PASSWORD}), 422, "name")
    changed = api.http.patch(f"people/{made['id']}", json={"role": "operator", "enabled": False})
    assert (changed.json()["role"], changed.json()["enabled"]) == ("operator", False)
    assert [p["name"] for p in api.http.get("people", params={"q": name}).json()["items"]] == [name]
    assert api.http.delete(f"people/{made['id']}").status_code == 204
    refused(api.http.get(f"people/{made['id']}"), 404)


def test_a_password_is_kept_as_an_argon2id_hash(api: Api) -> None:
    name = f"hashed-{uuid.uuid4().hex[:6]}"
    api.http.post("people", json={"name": name, "password": PASSWORD})
    ((kept,),) = api.execute("SELECT password_hash FROM person WHERE name = %(n)s", n=name)
    assert kept.startswith("$argon2id$")
    assert PASSWORD not in kept


def test_the_last_administrator_stays(api: Api) -> None:
    body = {"name": f"root-{uuid.uuid4().hex[:6]}", "password": PASSWORD, "role": "admin"}
    made = api.http.post("people", json=body).json()
    refused(api.http.patch(f"people/{made['id']}", json={"role": "viewer"}), 409)
    api.execute("DELETE FROM person WHERE id = %(id)s", id=made["id"])


def test_a_token_has_its_role_and_ends(api: Api) -> None:
    body = {"name": f"deploy-{uuid.uuid4().hex[:6]}", "role": "viewer", "days": 7}
    refused(api.http.post("tokens", json=body | {"days": 0}), 422, "days")
    made = api.http.post("tokens", json=body).json()
    assert made["expires_at"] is not None
    with api.as_token(made["token"]) as viewer:
        assert viewer.get("connections").status_code == 200
        # Administration is not for viewers.
        for path in ("people", "tokens", "audit", "webhooks", "webhooks/alerts"):
            refused(viewer.get(path), 403)
        assert made["token"] not in api.http.get("tokens").text
        assert api.http.delete(f"tokens/{made['id']}").status_code == 204
        refused(viewer.get("connections"), 401)


def test_the_audit_log_tells_who_changed_what_without_secrets(api: Api) -> None:
    connection = api.create()
    api.http.patch(
        f"connections/{connection['id']}", json={"interval_minutes": 7, "password": "top-secret"}
    )
    found = api.http.get("audit", params={"subject": f"connection/{connection['id']}"})
    change, create = found.json()["items"]
    assert (change["action"], create["action"]) == ("change", "create")
    assert change["before"]["interval_minutes"] == 1
    assert change["after"]["interval_minutes"] == 7
    assert "top-secret" not in found.text
    page = api.http.get("audit", params={"limit": 1}).json()
    older = api.http.get("audit", params={"limit": 1, "before": page["next"]}).json()
    assert older["items"][0]["id"] < page["items"][0]["id"]


@pytest.mark.promise("H5")
def test_webhooks_are_kept_with_their_address_and_secret_unseen(api: Api) -> None:
    name = f"On call {uuid.uuid4().hex[:6]}"
    body = {"name": name, "url": "https://hooks.example/secret-path", "template": "slack"}
    refused(api.http.post("webhooks", json=body | {"url": "ftp://example.org"}), 422, "url")
    made = api.http.post("webhooks", json=body)
    assert made.status_code == 201
    assert "secret-path" not in made.text + api.http.get("webhooks").text
    path = f"webhooks/{made.json()['id']}"
    assert made.json()["kinds"] == []
    assert api.http.patch(path, json={"enabled": False}).json()["enabled"] is False
    refused(api.http.patch(path, json={"kinds": ["connection-fails"]}), 422, "kinds")
    muted = {"kinds": ["mail-quarantined"], "muted_until": "2999-01-01", "secret": "a secret"}
    changed = api.http.patch(path, json=muted).json()
    assert (changed["kinds"], changed["enabled"]) == (["mail-quarantined"], False)
    assert changed["muted_until"].startswith("2999-01-01")
    moved = {"url": "https://elsewhere.example/"}
    refused(api.http.patch(path, json=moved), 422, "secret")
    assert api.http.patch(path, json=moved | {"secret": "another"}).status_code == 200
    assert api.http.patch(path, json={"secret": ""}).json()["has_secret"] is False
    assert api.http.patch(path, json={"muted_until": None}).json()["muted_until"] is None
    assert api.http.get("webhooks/alerts").json() == []
    assert api.http.delete(path).status_code == 204
    refused(api.http.get(path), 404)


def test_people_tokens_and_audit_from_the_shell(
    posthouse: Posthouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEW_PASSWORD", PASSWORD)
    name = f"bob-{uuid.uuid4().hex[:6]}"
    added = posthouse("people", "add", name, "--role", "viewer", "--password", "env:NEW_PASSWORD")
    assert added.code == 0, added.err
    assert PASSWORD not in added.out
    edited = posthouse("people", "edit", name, "--role", "operator", "--json").json
    assert edited["role"] == "operator"
    assert name in posthouse("people", "list").out
    assert posthouse("people", "add", f"{name}-2").code == 2, "nobody is there to type a password"
    made = posthouse("tokens", "add", f"ci-{name}", "--days", "30")
    assert made.code == 0
    assert made.out.strip() not in posthouse("tokens", "list", "--json").out
    audit = posthouse("audit", "--subject", f"person/{edited['id']}")
    assert "role viewer → operator" in audit.out
    assert PASSWORD not in audit.out
    for group, which in (("tokens", f"ci-{name}"), ("people", name)):
        assert posthouse(group, "delete", which).code == 1, "it asks first"
        assert posthouse(group, "delete", which, "--yes").code == 0
        assert posthouse(group, "delete", which, "--yes").code == 1


@pytest.mark.promise("H5")
def test_webhooks_from_the_shell(
    posthouse: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", "https://hooks.example/secret-path")
    name = f"Chat {uuid.uuid4().hex[:6]}"
    added = posthouse("webhooks", "add", name, "--url", "env:HOOK", "--template", "slack")
    assert added.code == 0, added.err
    assert posthouse("webhooks", "disable", name).code == 0
    (hook,) = [
        h for h in posthouse("webhooks", "list", "--json").json["items"] if h["name"] == name
    ]
    assert (hook["enabled"], hook["template"]) == (False, "slack")
    assert posthouse("webhooks", "enable", name).code == 0
    assert posthouse("webhooks", "mute", name, "--hours", "2").code == 0
    chosen = ("--kind", "connection-failing", "--kind", "mail-quarantined")
    edited = posthouse("webhooks", "edit", name, *chosen, "--name", f"{name} 2", "--json").json
    assert edited["kinds"] == ["connection-failing", "mail-quarantined"]
    # Its name in release 0.1.0.
    edited = posthouse("webhooks", "edit", edited["name"], "--form", "teams", "--json").json
    assert edited["template"] == "teams"
    assert edited["muted_until"]
    name = edited["name"]
    assert "muted until" in posthouse("webhooks", "list").out
    assert posthouse("webhooks", "unmute", name).code == 0
    assert posthouse("webhooks", "edit", name, "--kind", "all", "--json").json["kinds"] == []
    assert posthouse("webhooks", "edit", name, "--kind", "nonsense").code == 2
    assert posthouse("webhooks", "edit", name).code == 2, "nothing to change"
    assert "No alert yet" in posthouse("webhooks", "alerts").out
    assert posthouse("webhooks", "delete", name, "--yes").code == 0


@pytest.mark.promise("C3")
def test_trust_anchors_come_and_go_from_the_shell(posthouse: Posthouse, tmp_path: Path) -> None:
    authority = Authority(tmp_path, f"Example Root {uuid.uuid4().hex[:6]}")
    added = posthouse("trust-anchors", "add", str(authority.certificate), "--name", "Partners")
    assert "Partners is trusted" in added.out, added.err
    assert "Example Root" in posthouse("trust-anchors", "list").out
    assert posthouse("trust-anchors", "delete", "PARTNERS", "--yes").code == 0
    assert posthouse("trust-anchors", "delete", "Partners", "--yes").code == 1


def test_the_overview_names_what_is_ill_in_the_shell(posthouse: Posthouse, api: Api) -> None:
    ill = api.create(name=f"ill {uuid.uuid4().hex[:6]}")
    api.execute("UPDATE connection SET enabled = true WHERE id = %(id)s", id=ill["id"])
    api.execute(
        "UPDATE connection_state SET health = 'failing',"
        " error = jsonb_build_object('message', 'The mail server refused the login.')"
        " WHERE connection_id = %(id)s",
        id=ill["id"],
    )
    shown = posthouse("overview").out
    assert f"{ill['name']}: failing. The mail server refused the login." in shown
    assert posthouse("overview", "--json").json["quarantined"] == 0


def test_the_overview_in_the_shell_says_how_posthouse_itself_is(
    posthouse: Posthouse, api: Api
) -> None:
    api.execute(
        "INSERT INTO service (instance, name, version, failing, free, total, seen_at) VALUES"
        " ('one/1', 'fetcher', '9.8.7', '{}', 5000000000, 20000000000, now() - interval '4 s'),"
        " ('two/2', 'scheduler', '9.8.6', '{\"broker\": \"NOAUTH\"}', NULL, NULL, now())"
    )
    try:
        lines = posthouse("overview").out.splitlines()
        fetcher = r"^fetcher +working +9\.8\.7 +\d+ s ago +store: 5\.0 GB of 20\.0 GB free *$"
        assert [line for line in lines if re.match(fetcher, line)]
        assert any(line.startswith("scheduler  ") and "broker: NOAUTH" in line for line in lines)
        assert any(line.startswith("decryptor") and "never seen" in line for line in lines)
        assert any(line.startswith("Postgres") and "working" in line for line in lines)
    finally:
        api.execute("DELETE FROM service WHERE instance IN ('one/1', 'two/2')")
