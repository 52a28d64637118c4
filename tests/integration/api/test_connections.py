"""Connections through the API: fields and rules, search, health, deletion."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api.conftest import Api


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["detail"]
    assert found["code"]
    return found


@pytest.mark.promise("M13")
def test_a_new_connection_starts_disabled(api: Api) -> None:
    made = api.create(name="Starts disabled")
    assert made["enabled"] is False
    assert made["health"] == "disabled"
    assert made["port"] == 993
    assert made["next_run_at"] is None


@pytest.mark.promise("M1")
def test_names_are_unique_whatever_their_case(api: Api) -> None:
    api.create(name="Größe und Übermaß")
    again = {"name": "GRÖSSE UND übermass", "mode": "imap", "host": "h", "username": "u"}
    answer = api.http.post("connections", json=again | {"password": "x"})
    assert problem(answer, 409)["field"] == "name"


@pytest.mark.promise("M1")
def test_a_name_is_required(api: Api) -> None:
    answer = api.http.post("connections", json={"mode": "imap", "host": "h", "username": "u"})
    assert problem(answer, 422)["field"] == "name"


@pytest.mark.promise("M2")
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"mode": "pop3", "folder": "Sub"}, "folder"),
        ({"mode": "pop3", "shared_mailbox": "team@x.org"}, "shared_mailbox"),
        ({"mode": "pop3", "push": True}, "push"),
        ({"mode": "imap", "credential_id": 1}, "credential_id"),
        ({"mode": "google-imap", "host": "h", "credential_id": 1, "password": None}, "host"),
        ({"mode": "microsoft-graph", "password": "x", "host": None}, "password"),
        ({"mode": "carrier-pigeon"}, "mode"),
        ({"colour": "red"}, "colour"),
        ({"health": "working"}, "health"),
    ],
)
def test_fields_that_a_mode_has_no_use_for_are_refused(
    api: Api, fields: dict[str, Any], field: str
) -> None:
    body = {"name": "n", "mode": "imap", "host": "h", "username": "u", "password": "p"} | fields
    refused = problem(api.http.post("connections", json=body), 422)
    assert field in [one["field"] for one in refused.get("errors", [refused])]


@pytest.mark.promise("M2", "H6")
def test_push_is_switched_on_and_off(api: Api) -> None:
    made = api.create(name="Told at once", push=True)
    assert made["push"] is True
    changed = api.http.patch(f"connections/{made['id']}", json={"push": False})
    assert changed.json()["push"] is False
    assert api.create(name="Asked now and then")["push"] is False


@pytest.mark.promise("M4")
@pytest.mark.parametrize("minutes", [0, 61, 1.5, "5", True, None, -1])
def test_the_interval_is_whole_minutes_from_1_to_60(api: Api, minutes: Any) -> None:
    body = {"name": "n", "mode": "imap", "host": "h", "username": "u", "password": "p"}
    answer = api.http.post("connections", json=body | {"interval_minutes": minutes})
    assert problem(answer, 422)["field"] == "interval_minutes"


@pytest.mark.promise("M8")
@pytest.mark.parametrize("milliseconds", [0, 60_001, 0.5])
def test_the_timeout_is_1_to_60000_milliseconds(api: Api, milliseconds: Any) -> None:
    body = {"name": "n", "mode": "imap", "host": "h", "username": "u", "password": "p"}
    answer = api.http.post("connections", json=body | {"timeout_ms": milliseconds})
    assert problem(answer, 422)["field"] == "timeout_ms"


@pytest.mark.promise("M3")
@pytest.mark.parametrize(
    ("mode", "security", "port"),
    [("imap", "tls", 993), ("imap", "starttls", 143), ("pop3", "tls", 995), ("pop3", "none", 110)],
)
def test_ports_follow_mode_and_security(api: Api, mode: str, security: str, port: int) -> None:
    assert api.create(mode=mode, security=security)["port"] == port


@pytest.mark.promise("M3")
def test_unverified_certificates_and_plain_text_are_warned_of_seriously(api: Api) -> None:
    serious = {
        warning["code"]
        for fields in ({"verify_certificate": False}, {"security": "none"})
        for warning in api.create(**fields)["warnings"]
        if warning["serious"]
    }
    assert serious == {"not-verified", "plain-text"}


def test_pop3_with_mark_read_and_two_connections_on_one_mailbox_are_warned_of(api: Api) -> None:
    first = api.create(mode="pop3", username="twin", host="mail.twin")
    second = api.create(mode="pop3", username="Twin", host="Mail.Twin")
    assert {"pop3-keeps", "unused"} <= {w["code"] for w in first["warnings"]}
    twins = [w["text"] for w in second["warnings"] if w["code"] == "same-mailbox"]
    assert len(twins) == 1
    assert first["name"] in twins[0]


@pytest.mark.promise("M20")
def test_the_list_finds_parts_of_name_description_host_and_username_in_any_case(api: Api) -> None:
    mine = {
        api.create(name="Zürich Bücher")["id"],
        api.create(description="Everything for ZÜRICH's branch")["id"],
        api.create(host="imap.zürich.example")["id"],
        api.create(username="post@zürich.example")["id"],
    }
    api.create(name="Zurich")
    found = api.http.get("connections", params={"q": "züRICH"}).json()
    assert {item["id"] for item in found["items"]} == mine
    assert found["total"] == 4
    assert api.http.get("connections", params={"q": "100%_z"}).json()["total"] == 0


@pytest.mark.promise("M20")
def test_the_list_is_sorted_and_paged(api: Api) -> None:
    for name in ("pg-b", "pg-C", "pg-a", "pg-d", "pg-e"):
        api.create(name=name)
    pages = [
        [
            item["name"]
            for item in api.http.get(
                "connections", params={"q": "pg-", "sort": "-name", "per_page": 2, "page": page}
            ).json()["items"]
        ]
        for page in (1, 2, 3, 4)
    ]
    assert pages == [["pg-e", "pg-d"], ["pg-C", "pg-b"], ["pg-a"], []]
    assert problem(api.http.get("connections", params={"sort": "password"}), 422)["field"] == "sort"


def test_sorted_by_state_what_needs_somebody_comes_first(api: Api) -> None:
    ids = [api.create(name=f"sick-{number}")["id"] for number in range(3)]
    states = dict(zip(ids, ("working", "needs-authorisation", "failing"), strict=True))
    for number, health in states.items():
        api.execute("UPDATE connection SET enabled = true WHERE id = %(id)s RETURNING 1", id=number)
        api.execute(
            "UPDATE connection_state SET health = %(health)s WHERE connection_id = %(id)s"
            " RETURNING 1",
            id=number,
            health=health,
        )
    asked = {"q": "sick-", "sort": "health"}
    found = api.http.get("connections", params=asked).json()["items"]
    assert [states[one["id"]] for one in found[:2]] == ["failing", "needs-authorisation"]
    for number in ids:  # other tests count states
        assert api.http.delete(f"connections/{number}").status_code == 204


@pytest.mark.promise("M18")
def test_a_connection_without_an_enabled_handler_is_unused(api: Api) -> None:
    made = api.create(enabled=True, acknowledged=True)
    assert made["health"] == "unused"
    assert "unused" in {warning["code"] for warning in made["warnings"]}
    handler = api.http.post("handlers", json={"name": "gate", "connections": [made["id"]]}).json()
    seen = api.http.get(f"connections/{made['id']}").json()
    assert seen["health"] == "pending"
    assert [h["name"] for h in seen["handlers"]] == ["gate"]
    api.http.patch(f"handlers/{handler['id']}", json={"enabled": False})
    assert api.http.get(f"connections/{made['id']}").json()["health"] == "unused"
    counts = api.http.get("connections", params={"health": "unused"}).json()
    assert made["id"] in {item["id"] for item in counts["items"]}
    # One that failed is told as failing in every place, used by a handler or not.
    api.execute(
        "UPDATE connection_state SET health = 'failing' WHERE connection_id = %(id)s RETURNING 1",
        id=made["id"],
    )
    overview = api.http.get("overview").json()
    assert made["id"] in {one["id"] for one in overview["unhealthy"]}
    assert overview["connections"]["failing"] == len(overview["unhealthy"])
    assert api.http.get(f"connections/{made['id']}").json()["health"] == "failing"
    assert api.http.delete(f"handlers/{handler['id']}").status_code == 204


@pytest.mark.promise("M19")
def test_health_shows_the_last_failure_with_its_protocol_log(api: Api) -> None:
    made = api.create(enabled=True, acknowledged=True)
    api.http.post("handlers", json={"name": "healthy"})
    api.execute(
        "UPDATE connection_state SET health = 'failing', failures = 3, error = %(error)s "
        "WHERE connection_id = %(id)s",
        id=made["id"],
        error='{"code": "login-refused", "step": "login", "message": "No.", "hint": "", '
        '"log": ["> LOGIN ann ***"], "at": "2026-01-01T00:00:00Z"}',
    )
    seen = api.http.get(f"connections/{made['id']}").json()
    assert (seen["health"], seen["failures"]) == ("failing", 3)
    assert seen["error"]["log"] == ["> LOGIN ann ***"]
    api.http.delete(
        f"handlers/{api.http.get('handlers', params={'q': 'healthy'}).json()['items'][0]['id']}"
    )


def test_an_edit_ends_the_back_off(api: Api) -> None:
    made = api.create(enabled=True, acknowledged=True)
    api.execute(
        "UPDATE connection_state SET health = 'failing', failures = 9, "
        "due_at = now() + interval '30 minutes' WHERE connection_id = %(id)s",
        id=made["id"],
    )
    answer = api.http.patch(f"connections/{made['id']}", json={"password": "right this time"})
    assert answer.status_code == 200, answer.text
    state = api.execute(
        "SELECT failures, due_at <= now() FROM connection_state WHERE connection_id = %(id)s",
        id=made["id"],
    )
    assert state == [(0, True)]


def test_a_stored_password_is_not_sent_to_another_server(api: Api) -> None:
    made = api.create()
    path = f"connections/{made['id']}"
    for change in ({"host": "evil.example"}, {"security": "none"}, {"verify_certificate": False}):
        assert problem(api.http.patch(path, json=change), 422)["field"] == "password"
        assert problem(api.http.post(f"{path}/test", json=change), 422)["field"] == "password"
    moved = api.http.patch(path, json={"host": "new.example", "password": "known"})
    assert moved.status_code == 200


def test_a_connection_with_mails_on_their_way_is_not_deleted(api: Api) -> None:
    made = api.create()
    api.execute(
        "INSERT INTO outbox (message_id, connection_id, next_attempt_at) "
        "VALUES (gen_random_uuid(), %(id)s, now())",
        id=made["id"],
    )
    assert problem(api.http.delete(f"connections/{made['id']}"), 409)["code"] == "mails-waiting"
    api.execute("DELETE FROM outbox WHERE connection_id = %(id)s", id=made["id"])
    assert api.http.delete(f"connections/{made['id']}").status_code == 204
    problem(api.http.get(f"connections/{made['id']}"), 404)


def test_every_change_is_in_the_audit_log_with_secrets_masked(api: Api) -> None:
    made = api.create(password="audit-canary")
    api.http.patch(
        f"connections/{made['id']}", json={"interval_minutes": 7, "password": "audit-canary-2"}
    )
    rows = api.execute(
        "SELECT actor, action, before::text, after::text FROM audit WHERE subject = %(s)s "
        "ORDER BY id",
        s=f"connection/{made['id']}",
    )
    assert [(row[0], row[1]) for row in rows] == [
        ("bootstrap token", "create"),
        ("bootstrap token", "change"),
    ]
    assert '"interval_minutes": 7' in rows[1][3]
    assert '"password"' in rows[1][3]
    assert "audit-canary" not in "".join(str(row) for row in rows)


@pytest.mark.promise("M6")
def test_certificates_are_attached_and_shown_as_name_and_alias(api: Api) -> None:
    problem_ = problem(
        api.http.post(
            "connections",
            json={
                "name": "with certificate",
                "mode": "imap",
                "host": "h",
                "username": "u",
                "password": "p",
                "certificate_ids": [999_999],
            },
        ),
        422,
    )
    assert problem_["field"] == "certificate_ids"
