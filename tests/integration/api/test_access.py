"""Who gets in, and what never comes out."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.admin.auth.token_guesses import WRONG_TOKENS
from services.admin.auth.tokens import digest_of
from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_connections import problem
from tests.servers.postgres import PostgresServer


def add_token(api: Api, role: str) -> str:
    token = f"posthouse_{uuid.uuid4().hex}"
    api.execute(
        "INSERT INTO api_token (name, digest, role) VALUES (%(n)s, %(d)s, %(r)s)",
        n=f"{role} {uuid.uuid4().hex[:6]}",
        d=digest_of(token),
        r=role,
    )
    return token


PATHS = ("connections", "handlers", "messages", "certificates", "overview", "openapi.json")


@pytest.mark.parametrize("path", PATHS)
def test_without_a_token_or_with_a_wrong_one_nothing_is_told(api: Api, path: str) -> None:
    none = httpx.get(f"{api.url}/api/v1/{path}")
    wrong = httpx.get(f"{api.url}/api/v1/{path}", headers={"Authorization": "Bearer wrong"})
    for answer in (none, wrong):
        assert problem(answer, 401)["hint"]
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_read_only_token_looks_and_changes_nothing(api: Api) -> None:
    made = api.create()
    with api.as_token(add_token(api, "viewer")) as viewer:
        assert viewer.get(f"connections/{made['id']}").status_code == 200
        for answer in (
            viewer.post("connections", json={}),
            viewer.patch(f"connections/{made['id']}", json={"description": "x"}),
            viewer.delete(f"connections/{made['id']}"),
            viewer.post(f"connections/{made['id']}/test"),
            viewer.get(f"messages/{uuid.uuid4()}/raw"),
            viewer.get("trust-anchors"),
        ):
            problem(answer, 403)


def test_an_operator_edits_connections_but_no_credentials(api: Api) -> None:
    with api.as_token(add_token(api, "operator")) as operator:
        body = {"name": "by operator", "mode": "imap", "host": "h", "username": "u"}
        assert operator.post("connections", json=body | {"password": "p"}).status_code == 201
        problem(operator.post("credentials", json={}), 403)


def test_who_guesses_tokens_is_slowed_down_and_others_are_not(api: Api) -> None:
    assert api.http.get("handlers").status_code == 200
    answers = [
        httpx.get(f"{api.url}/api/v1/handlers", headers={"Authorization": f"Bearer {n}"})
        for n in range(WRONG_TOKENS + 2)
    ]
    limited = answers[-1]
    assert problem(limited, 429)["code"] == "too-many-attempts"
    assert int(limited.headers["retry-after"]) > 0
    assert api.http.get("handlers").status_code == 200, "a token that was good before still is"


def test_bodies_are_bounded(api: Api) -> None:
    answer = api.http.post("connections", content=b"x" * (3 << 20))
    assert problem(answer, 413)["code"] == "too-large"

    def endless() -> Any:
        for _ in range(48):
            yield b"y" * 65_536

    assert api.http.post("connections", content=endless()).status_code == 413


def test_hosts_can_be_forbidden(
    postgres: PostgresServer,
    schema_template: str,
    tmp_path: Path,
    on_dovecot: dict[str, Any],
) -> None:
    url = postgres.create_database(schema_template)
    with Api(url, tmp_path, denied_hosts=("127.0.0.0/8", "::1")) as guarded:
        for host in ("127.0.0.1", "localhost"):
            report = guarded.http.post("connections/test", json=on_dovecot | {"host": host}).json()
            failed = [step for step in report["steps"] if step["status"] == "failed"]
            assert [step["code"] for step in failed] == ["host-forbidden"]
    postgres.drop_database(url)


def test_secrets_are_in_no_answer_and_no_log(
    api: Api, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    canaries = {name: f"canary-{name}-{uuid.uuid4().hex}" for name in ("password", "client")}
    made = api.create(password=canaries["password"])
    credential = api.http.post(
        "credentials",
        json={
            "name": f"secret {uuid.uuid4().hex[:6]}",
            "provider": "google",
            "client_id": "c",
            "client_secret": canaries["client"],
        },
    ).json()
    path = f"connections/{made['id']}"
    answers = [
        api.http.get("connections"),
        api.http.get(path),
        api.http.patch(path, json={"password": canaries["password"], "interval_minutes": 99}),
        api.http.post("connections", json={"password": canaries["password"], "mode": "imap"}),
        api.http.post(f"{path}/test"),
        api.http.post(f"{path}/enable"),
        api.http.get(f"credentials/{credential['id']}"),
        api.http.get("credentials"),
        api.http.get("overview"),
    ]
    text = "".join(answer.text for answer in answers) + "".join(capfd.readouterr()) + caplog.text
    stored = api.execute(
        "SELECT encode(password, 'escape') FROM connection WHERE id = %(id)s", id=made["id"]
    )[0][0]
    for canary in (*canaries.values(), TOKEN):
        assert canary not in text
        assert canary not in stored


def test_health_needs_no_token_and_tells_no_secret(api: Api) -> None:
    health = f"http://127.0.0.1:{api.health_port}"
    for path in ("/healthz", "/readyz", "/metrics"):
        answer = httpx.get(health + path)
        assert answer.status_code == 200
        assert TOKEN not in answer.text
        # Not where people and handlers come in: an ingress makes that public.
        assert httpx.get(api.url + path, follow_redirects=False).status_code != 200
    assert "posthouse_http_requests_total" in httpx.get(health + "/metrics").text


def test_the_service_under_test_has_the_rights_of_admin_and_no_more(api: Api) -> None:
    """As it is installed: what its role lacks is found by the test of the page that needs it."""
    with api.database.transaction() as session:
        (role, owns) = session.execute(
            "SELECT current_user, EXISTS (SELECT FROM pg_tables WHERE tableowner = current_user)"
        ).fetchone() or ("", True)
    assert role.endswith("_admin")
    assert not owns
