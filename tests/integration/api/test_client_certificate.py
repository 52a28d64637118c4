"""A client certificate to log in with: given by API, command, file and page, and sealed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import TOKEN, Api, Posthouse
from tests.integration.api.test_connections import problem
from tests.integration.api.test_logging_in_to_pages import log_in
from tests.integration.test_client_certificates import asking_for_certificates, identity_of
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot

pytestmark = pytest.mark.promise("M3")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Dovecot]:
    with Dovecot(
        tls=authority.issue("localhost"),
        mechanisms=("plain", "external"),
        extra=asking_for_certificates(authority),
    ) as dovecot:
        yield dovecot


@pytest.fixture
def pem(authority: Authority) -> str:
    return identity_of(authority.issue("erika", client=True))


@pytest.fixture
def fields(server: Dovecot, authority: Authority, pem: str) -> dict[str, Any]:
    return {
        "mode": "imap",
        "host": "localhost",
        "port": server.imaps_port,
        "username": "erika",
        "ca_certificate": authority.pem,
        "password": None,
        "client_certificate": pem,
    }


def test_the_api_takes_it_tests_with_it_and_never_shows_it(
    api: Api, fields: dict[str, Any], pem: str
) -> None:
    assert api.http.post("connections/test", json=fields).json()["ok"] is True
    made = api.create(**fields)
    assert made["has_client_certificate"] is True
    assert made["has_password"] is False
    shown = api.http.get(f"connections/{made['id']}").text
    assert "PRIVATE KEY" not in shown
    assert api.http.post(f"connections/{made['id']}/test").json()["ok"] is True
    ((sealed,),) = api.execute(
        "SELECT client_certificate FROM connection WHERE id = %(i)s", i=made["id"]
    )
    assert b"KEY" not in bytes(sealed)
    kept = api.http.patch(f"connections/{made['id']}", json={"description": "x"}).json()
    assert kept["has_client_certificate"] is True
    answer = api.http.patch(f"connections/{made['id']}", json={"client_certificate": ""})
    assert problem(answer, 422)["field"] == "password"  # nothing would be left to log in with
    changed = api.http.patch(
        f"connections/{made['id']}", json={"client_certificate": "", "password": "secret"}
    ).json()
    assert (changed["has_client_certificate"], changed["has_password"]) == (False, True)
    audit = api.execute(
        "SELECT after::text FROM audit WHERE subject = %(s)s", s=f"connection/{made['id']}"
    )
    assert "PRIVATE KEY" not in str(audit)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"client_certificate": "no certificate"}, "client_certificate"),
        ({"security": "none", "port": 143}, "security"),
        ({"mode": "google-imap", "host": None, "port": None, "ca_certificate": None}, None),
    ],
)
def test_what_cannot_be_is_refused(
    api: Api, fields: dict[str, Any], change: dict[str, Any], field: str | None
) -> None:
    answer = api.http.post("connections", json={"name": "refused"} | fields | change)
    assert answer.status_code == 422
    assert field is None or problem(answer, 422)["field"] == field


def test_a_key_of_another_certificate_is_refused(
    api: Api, fields: dict[str, Any], authority: Authority
) -> None:
    one, other = authority.issue("erika", client=True), authority.issue("erika", client=True)
    mixed = one.certificate.read_text() + other.key.read_text()
    report = api.http.post("connections/test", json=fields | {"client_certificate": mixed}).json()
    assert report["ok"] is False
    failed = next(step for step in report["steps"] if step["status"] == "failed")
    assert failed["code"] == "client-certificate-unreadable"


def test_the_command_and_a_file_give_it_and_export_names_it(
    posthouse: Posthouse,
    fields: dict[str, Any],
    pem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    authority: Authority,
) -> None:
    file = tmp_path / "erika.pem"
    file.write_text(pem)
    added = posthouse(
        *("connections", "add", "by command", "--mode", "imap", "--username", "erika"),
        *("--host", "localhost", "--set", f"port={fields['port']}"),
        *("--set", f"ca_certificate=file:{authority.certificate}"),
        *("--set", f"client_certificate=file:{file}", "--json"),
    )
    assert added.json["has_client_certificate"] is True, added.err
    tested = posthouse("connections", "test", "by command")
    assert tested.code == 0, tested.out
    document = tmp_path / "stack.yaml"
    document.write_text(
        "connections:\n- name: by file\n  mode: imap\n  host: localhost\n"
        f"  port: {fields['port']}\n  username: erika\n"
        f"  ca_certificate: file:{authority.certificate}\n  client_certificate: file:erika.pem\n"
    )
    applied = posthouse("apply", "--file", str(document))
    assert applied.code == 0, applied.err
    assert posthouse("connections", "test", "by file").code == 0
    again = posthouse("apply", "--file", str(document))
    assert "client_certificate" not in again.out
    exported = posthouse("export").out
    assert "client_certificate: env:BY_FILE_CLIENT_CERTIFICATE" in exported
    assert "PRIVATE KEY" not in exported
    monkeypatch.setenv("BY_FILE_CLIENT_CERTIFICATE", pem)


def test_the_page_takes_it_keeps_it_and_takes_it_away(
    api: Api, fields: dict[str, Any], pem: str
) -> None:
    made = api.create(**fields)
    token = re.compile(r'name="csrf" value="([^"]+)"')
    with httpx.Client(base_url=api.url, timeout=60) as client:
        assert log_in(client, token=TOKEN).status_code == 303
        address = f"/connections/{made['id']}/edit"
        page = client.get(address).text
        assert "Client certificate" in page
        assert "PRIVATE KEY" not in page
        found = token.search(page)
        assert found
        form = {
            "csrf": found[1],
            "name": made["name"],
            "mode": "imap",
            "host": "localhost",
            "port": str(fields["port"]),
            "security": "tls",
            "username": "erika",
            "ca_certificate": fields["ca_certificate"],
            "interval_minutes": "1",
            "timeout_ms": "5000",
        }
        assert client.post(address, data=form).status_code in (200, 303)
        assert api.http.get(f"connections/{made['id']}").json()["has_client_certificate"] is True
        away = form | {"no_client_certificate": "yes", "password": "secret"}
        assert client.post(address, data=away).status_code in (200, 303)
        shown = api.http.get(f"connections/{made['id']}").json()
        assert (shown["has_client_certificate"], shown["has_password"]) == (False, True)
        assert client.post(address, data=form | {"client_certificate": pem}).status_code in (
            200,
            303,
        )
        assert api.http.get(f"connections/{made['id']}").json()["has_client_certificate"] is True
