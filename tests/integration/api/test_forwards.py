"""A handler's forward over the API and the command line: secrets in, never out."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from standardwebhooks import Webhook

from shared.alerts.handlers import ForwardPaused
from shared.forwarding.signed_links import VALID_S, signed
from shared.storage import alerts, forwards
from shared.vault import forward_path
from tests.integration.api.conftest import Api, Posthouse, Ran
from tests.integration.api.test_messages import add_mail
from tests.servers.webhooks import Receiver


def added(api: Api, **forward: Any) -> Any:
    name = f"h-{uuid.uuid4().hex[:8]}"
    answer = api.http.post("handlers", json={"name": name, "forward": forward})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_secrets_come_in_and_do_not_go_out(api: Api) -> None:
    address = "https://hooks.example.com:8443/canary-path?token=canary-query"
    made = added(
        api,
        address=address,
        headers={"Authorization": "canary-header"},
        format="binary",
        concurrency=3,
    )
    forward = made["forward"]
    assert forward["place"] == "https://hooks.example.com:8443"
    assert forward["secret"].startswith("whsec_")
    assert (forward["format"], forward["concurrency"]) == ("binary", 3)
    assert forward["header_names"] == ["Authorization"]
    path = f"handlers/{made['id']}"
    changed = api.http.patch(path, json={"forward": {"concurrency": 5}}).json()["forward"]
    assert (changed["concurrency"], changed["format"], changed["secret"]) == (5, "binary", None)
    shown = json.dumps([changed, api.http.get(path).json(), api.http.get("audit").json()])
    assert "canary" not in shown
    assert forward["secret"] not in shown
    assert api.http.patch(path, json={"forward": None}).json()["forward"] is None


@pytest.mark.parametrize(
    ("forward", "field"),
    [
        ({}, "forward.address"),
        ({"address": "ftp://example.com"}, "forward.address"),
        ({"address": "https://user:password@example.com"}, "forward.address"),
        ({"address": "https://example.com", "secret": "short"}, "forward.secret"),
        ({"address": "https://example.com", "secret": "whsec_AAAA"}, "forward.secret"),
        ({"address": "https://example.com", "headers": {"Host": "x"}}, "forward.headers"),
        ({"address": "https://example.com", "headers": {"A": "b\r\nc"}}, "forward.headers"),
        ({"address": "https://example.com", "timeout_seconds": 0}, "forward.timeout_seconds"),
        ({"address": "https://example.com", "colour": "red"}, "forward.colour"),
        (
            {"address": "http://example.com", "client_certificate": "PEM"},
            "forward.client_certificate",
        ),
        ({"kind": "smtp", "address": "https://example.com"}, "forward.kind"),
        ({"address": "nats://example.com"}, "forward.subject"),
        ({"address": "nats://a,b:4223", "subject": "mail.*"}, "forward.subject"),
        ({"address": "nats://me:pw@example.com", "subject": "a"}, "forward.address"),
        ({"address": "nats://a", "subject": "a", "topic": "b"}, "forward.topic"),
        ({"address": "nats://a", "subject": "a", "headers": {"A": "b"}}, "forward.headers"),
        (
            {"address": "nats://a", "subject": "a", "credentials": {"username": "me"}},
            "forward.credentials",
        ),
        ({"address": "kafka://a:9092,b:x", "topic": "a"}, "forward.address"),
        ({"address": "kafka://a", "topic": "a b"}, "forward.topic"),
        (
            {"address": "kafka://a", "topic": "a", "credentials": {"token": "x"}},
            "forward.credentials",
        ),
        ("https://example.com", "forward"),
    ],
    ids=range(21),
)
def test_what_cannot_be_is_refused_by_its_field(api: Api, forward: Any, field: str) -> None:
    answer = api.http.post(
        "handlers", json={"name": f"h-{uuid.uuid4().hex[:8]}", "forward": forward}
    )
    assert answer.status_code == 422
    assert answer.json()["field"] == field


def test_a_test_event_is_signed_and_changes_nothing(api: Api, receiver: Receiver) -> None:
    receiver.decide = lambda _request: (418, {}, b"a teapot")
    unsaved = api.http.post(
        "handlers/forward/test", json={"forward": {"address": receiver.url}}
    ).json()
    assert (unsaved["ok"], unsaved["status"], unsaved["answer"]) == (False, 418, "a teapot")
    receiver.decide = None
    made = added(api, address=receiver.url)
    saved = api.http.post(f"handlers/{made['id']}/forward/test").json()
    assert saved["ok"] is True
    one = receiver.received[-1]
    Webhook(made["forward"]["secret"]).verify(one.body, one.headers)
    assert json.loads(one.body)["data"]["headers"]["subject"] == "Test of Posthouse"
    assert api.http.get(f"handlers/{made['id']}/forward/attempts").json()["items"] == []


def test_pause_resume_and_renewal(api: Api) -> None:
    made = added(api, address="https://example.com/hook")
    path = f"handlers/{made['id']}/forward"
    paused = api.http.post(f"{path}/pause", json={"reason": "They move."}).json()["forward"]
    assert paused["paused_at"] and paused["pause_reason"] == "They move."
    assert api.http.post(f"{path}/pause").status_code == 409
    assert api.http.post(f"{path}/resume").json()["forward"]["paused_at"] is None
    with api.database.transaction() as session:  # as the forwarder does after 410
        forwards.pause(session, made["id"], "forwarder", "Gone.")
        name, place = made["name"], made["forward"]["place"]
        gone = ForwardPaused(handler_id=made["id"], name=name, place=place, reason="Gone.")
        alerts.raise_transition(session, gone)
    api.http.post(f"{path}/resume")
    told = [alert["kind"] for alert in api.http.get("webhooks/alerts").json()]
    assert told[:2] == ["forward-resumed", "forward-paused"]
    renewed = api.http.post(f"{path}/secret").json()["forward"]
    assert renewed["secret"] not in (None, made["forward"]["secret"])
    assert renewed["has_former_secret"] is True
    ended = api.http.delete(f"{path}/secret/former").json()["forward"]
    assert (ended["has_former_secret"], ended["secret"]) == (False, None)


def test_a_signed_address_opens_one_mail_for_a_while(api: Api) -> None:
    made = added(api, address="https://example.com/hook", links="signed")
    a_mail = add_mail(api, api.create()["id"], handler_id=made["id"])
    with api.database.transaction() as session:
        sealed = forwards.link_key(session, made["id"])
    assert sealed is not None
    key = api.admin.app_state.vault.open(sealed, forward_path("link_key", made["id"]))
    url = f"{api.url}/api/v1/messages/{a_mail}/raw"

    def status(address: str) -> int:
        return api.session.get(address).status_code

    good = signed(url, key, made["id"], str(a_mail))
    assert status(good) == 200
    assert status(url) == 401
    assert status(good[:-1] + ("0" if good[-1] != "0" else "1")) == 401
    assert status(signed(url, key, made["id"], str(uuid.uuid4()))) == 401
    assert status(signed(url, key, made["id"], str(a_mail), time.time() - VALID_S - 1)) == 401
    assert status(good.replace("/raw?", "?")) == 401
    assert status(good.replace("/raw?", "/raw?original=1&")) == 200
    api.http.patch(f"handlers/{made['id']}", json={"forward": None})
    assert status(good) == 401


def test_the_command_line_forwards_tests_pauses_and_shows_the_log(
    api: Api, posthouse: Posthouse, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"h-{uuid.uuid4().hex[:8]}"
    made = posthouse("handlers", "add", name, "--forward-to", receiver.url, "--json").json
    assert made["forward"]["secret"].startswith("whsec_")
    assert posthouse("handlers", "forward", "test", name).code == 0
    one = receiver.received[-1]
    Webhook(made["forward"]["secret"]).verify(one.body, one.headers)
    monkeypatch.setenv("BEARER", "Bearer canary-of-the-command")
    command = ("handlers", "forward", "set", name, "--header", "Authorization=env:BEARER")
    ran = posthouse(*command, "--set", "concurrency=3", "--test")
    assert ran.code == 0, ran.err
    assert "canary" not in ran.out
    assert receiver.received[-1].headers["authorization"] == "Bearer canary-of-the-command"
    receiver.decide = lambda _request: (500, {}, b"closed today")
    refused = posthouse("handlers", "forward", "set", name, "--set", "concurrency=5", "--test")
    assert refused.code != 0
    assert "closed today" in refused.err
    assert "3" in posthouse("handlers", "forward", "show", name).out
    assert posthouse("handlers", "forward", "pause", name, "--reason", "They move.").code == 0
    assert "They move." in posthouse("handlers", "show", name).out
    assert posthouse("handlers", "forward", "resume", name).code == 0
    assert "No attempt yet." in posthouse("handlers", "forward", "log", name).out
    assert "whsec_" in posthouse("handlers", "forward", "secret", name).out
    assert posthouse("handlers", "forward", "secret", name, "--end-former", "--yes").code == 0
    assert posthouse("handlers", "forward", "end", name, "--yes").code == 0
    assert posthouse("handlers", "forward", "show", name).code != 0


def test_a_file_declares_a_forward_and_export_writes_it(
    api: Api, posthouse: Posthouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"f-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("HOOK", "https://hooks.example.com/canary")
    monkeypatch.setenv("TOKEN_OF_HOOK", "Bearer canary")
    file = tmp_path / "posthouse.yaml"
    entry = {
        "name": name,
        "forward": {
            "address": "env:HOOK",
            "format": "binary",
            "headers": {"Authorization": "env:TOKEN_OF_HOOK"},
        },
    }
    file.write_text(yaml.safe_dump({"handlers": [entry]}))

    def applied() -> Ran:
        ran = posthouse("apply", "-f", str(file))
        assert ran.code == 0, ran.err
        assert "canary" not in ran.out
        return ran

    def forward() -> Any:
        items = api.http.get("handlers").json()["items"]
        return next(item["forward"] for item in items if item["name"] == name)

    applied()
    made = forward()
    assert (made["place"], made["format"]) == ("https://hooks.example.com", "binary")
    assert made["header_names"] == ["Authorization"]
    assert "forward" not in applied().out  # nothing more to do
    exported = yaml.safe_load(posthouse("export").out)
    (found,) = [one for one in exported["handlers"] if one["name"] == name]
    assert found["forward"]["format"] == "binary"
    assert found["forward"]["address"].startswith("env:")
    entry["forward"]["timeout_seconds"] = 5  # type: ignore[index]
    file.write_text(yaml.safe_dump({"handlers": [entry]}))
    applied()
    assert (forward()["timeout_seconds"], forward()["format"]) == (5, "binary")
    file.write_text(yaml.safe_dump({"handlers": [{"name": name}]}))
    applied()
    assert forward() is None


@pytest.mark.promise("I7")
def test_what_was_entered_for_one_server_is_not_sent_to_another(
    api: Api, receiver: Receiver, second_receiver: Receiver
) -> None:
    """Neither by a test of what is not saved, nor by a saved change; another path may have it."""
    headers = {"Authorization": "Bearer canary"}
    made = added(api, address=receiver.url, headers=headers)
    path = f"handlers/{made['id']}"
    api.http.post(f"{path}/forward/test", json={"forward": {"address": second_receiver.url}})
    changed = api.http.patch(path, json={"forward": {"address": second_receiver.url}}).json()
    assert changed["forward"]["header_names"] == []
    api.http.post(f"{path}/forward/test")
    assert len(second_receiver.received) == 2
    assert not any("authorization" in one.headers for one in second_receiver.received)
    again = {"address": receiver.url, "headers": headers}
    api.http.patch(path, json={"forward": again})
    api.http.patch(path, json={"forward": {"address": receiver.url + "/elsewhere"}})
    api.http.post(f"{path}/forward/test")
    assert receiver.received[-1].path.endswith("/elsewhere")
    assert receiver.received[-1].headers["authorization"] == "Bearer canary"


def test_who_has_mails_posted_where_stands_in_the_audit_log(api: Api) -> None:
    made = added(api, address="https://one.example/canary")
    path = f"handlers/{made['id']}"
    api.http.patch(path, json={"forward": {"address": "https://two.example/canary"}})
    shown = api.http.get("audit", params={"subject": f"handler/{made['id']}"}).text
    assert "https://one.example" in shown
    assert "https://two.example" in shown
    assert "canary" not in shown


@pytest.mark.parametrize("kind", ["nats", "kafka"])
def test_the_other_kinds_over_api_and_command_line(
    kind: str, api: Api, posthouse: Posthouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"h-{uuid.uuid4().hex[:8]}"
    address, place = {
        "nats": ("tls://a.example.com,b.example.com:4333", "subject=mail.crm"),
        "kafka": ("kafka+ssl://a.example.com:9093,b.example.com:9093", "topic=mail"),
    }[kind]
    made = posthouse(
        "handlers", "add", name, "--forward-to", address, "--set", place, "--json"
    ).json["forward"]
    assert (made["kind"], made["place"], made["secret"]) == (kind, address, None)
    monkeypatch.setenv("LOGIN_PASSWORD", "pass-word-of-it")
    command = ("handlers", "forward", "set", name, "--credential", "username=me")
    set_ = posthouse(*command, "--credential", "password=env:LOGIN_PASSWORD")
    assert set_.code == 0
    shown = api.http.get("handlers", params={"q": name}).text
    assert "pass-word-of-it" not in shown and "pass-word-of-it" not in set_.out
    found = api.http.get("handlers", params={"q": name}).json()["items"][0]["forward"]
    assert sorted(found["credential_names"]) == ["password", "username"]
    # Another server is not shown what was entered for this one.
    moved = posthouse("handlers", "forward", "set", name, "--to", address.replace("a.", "c."))
    assert moved.code == 0
    found = api.http.get("handlers", params={"q": name}).json()["items"][0]["forward"]
    assert found["credential_names"] == []


@pytest.mark.parametrize("kind", ["nats", "kafka"])
def test_a_file_declares_the_other_kinds(
    kind: str, api: Api, posthouse: Posthouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"f-{uuid.uuid4().hex[:8]}"
    address, option, value = {
        "nats": ("tls://a.example.com:4222", "subject", "mail.crm"),
        "kafka": ("kafka+ssl://a.example.com:9093,b.example.com:9093", "topic", "mail"),
    }[kind]
    monkeypatch.setenv("FAR_SIDE", address)
    monkeypatch.setenv("FAR_USER", "me")
    monkeypatch.setenv("FAR_PASSWORD", "canary-password")
    forward = {
        "kind": kind,
        "address": "env:FAR_SIDE",
        option: value,
        "order": "connection",
        "credentials": {"username": "env:FAR_USER", "password": "env:FAR_PASSWORD"},
    }
    file = tmp_path / "posthouse.yaml"
    file.write_text(yaml.safe_dump({"handlers": [{"name": name, "forward": forward}]}))

    def applied() -> Ran:
        ran = posthouse("apply", "-f", str(file))
        assert ran.code == 0, ran.err
        assert "canary" not in ran.out
        return ran

    applied()
    (found,) = api.http.get("handlers", params={"q": name}).json()["items"]
    made = found["forward"]
    assert (made["kind"], made["place"], made[option]) == (kind, address, value)
    assert (made["order"], sorted(made["credential_names"])) == (
        "connection",
        ["password", "username"],
    )
    assert "forward" not in applied().out  # nothing more to do
    exported = yaml.safe_load(posthouse("export").out)
    (entry,) = [one for one in exported["handlers"] if one["name"] == name]
    assert (entry["forward"]["kind"], entry["forward"][option]) == (kind, value)
    assert "canary" not in json.dumps(entry)
