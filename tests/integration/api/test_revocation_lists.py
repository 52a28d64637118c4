"""Revocation lists that an administrator gives by hand."""

from __future__ import annotations

import html
import re
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.serialization import Encoding

from tests.integration.api.conftest import TOKEN, Api, Posthouse
from tests.integration.api.test_logging_in_to_pages import log_in
from tests.servers.openssl_ca import OpensslCa


def test_a_list_is_given_by_hand_where_no_address_is_reached(api: Api, tmp_path: Path) -> None:
    ca = OpensslCa(tmp_path / "ca", "Example Airgap")
    files = {"file": ("ca.crl", ca.published())}
    answer = api.http.post("revocation-lists", files=files)
    assert answer.status_code == 422
    assert "No authority is known here" in answer.json()["detail"]
    given = {"file": ("ca.pem", ca.cert.read_bytes())}
    (anchor,) = api.http.post("trust-anchors", files=given).json()
    answer = api.http.post("revocation-lists", files=files)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["address"], made["error"]) == ("", "")
    assert made["issuer_name"] == "CN=Example Airgap"
    twin = OpensslCa(tmp_path / "twin", "Example Airgap")
    refused = api.http.post("revocation-lists", files={"file": ("x", twin.published())})
    assert refused.status_code == 422
    assert "not signed by the authority" in refused.json()["detail"]
    assert api.http.post("revocation-lists", files={"file": ("x", b"no")}).status_code == 422
    assert made in api.http.get("revocation-lists").json()
    assert api.http.delete(f"revocation-lists/{made['id']}").status_code == 204
    assert api.http.delete(f"revocation-lists/{made['id']}").status_code == 404
    assert api.http.delete(f"trust-anchors/{anchor['id']}").status_code == 204


def test_lists_at_the_command_line(posthouse: Posthouse, api: Api, tmp_path: Path) -> None:
    ca = OpensslCa(tmp_path / "ca", "Example Shell")
    assert posthouse("trust-anchors", "add", str(ca.cert)).code == 0
    crl = tmp_path / "ca.crl"
    crl.write_bytes(ca.published())
    added = posthouse("trust-anchors", "add-list", str(crl))
    assert added.code == 0, added.err
    assert "CN=Example Shell" in added.out
    listed = posthouse("trust-anchors", "lists", "--json").json["items"]
    assert [one["issuer_name"] for one in listed if not one["address"]] == ["CN=Example Shell"]
    for one in listed:
        assert api.http.delete(f"revocation-lists/{one['id']}").status_code == 204
    assert posthouse("trust-anchors", "delete", "CN=Example Shell", "--yes").code == 0


def test_the_page_takes_a_list_and_says_what_was_not_learned(api: Api, tmp_path: Path) -> None:
    ca = OpensslCa(tmp_path / "ca", "Example Page")
    given = {"file": ("ca.pem", ca.cert.read_bytes())}
    (anchor,) = api.http.post("trust-anchors", files=given).json()
    der = ca.issue("quiet@example.org").certificate.public_bytes(Encoding.DER)
    api.execute(
        "INSERT INTO revocation (fingerprint, certificate, issuer, issuer_key, not_after, failures,"
        " error, checked_at, status) VALUES (sha256(%(der)s), %(der)s, 'i', 'k',"
        " now() + interval '1 day', 1, 'crl.example.org hangs.', now(), 'unknown')",
        der=der,
    )
    with httpx.Client(base_url=api.url, timeout=60, follow_redirects=True) as person:
        log_in(person, token=TOKEN)
        page = html.unescape(person.get("/settings").text)
        assert "CN=quiet@example.org" in page
        assert "crl.example.org hangs." in page
        token = re.search(r'name="csrf" value="([^"]+)"', page)
        assert token

        def give(data: bytes) -> str:
            answer = person.post(
                "/settings/revocation-lists",
                data={"csrf": token[1]},
                files={"list_file": ("ca.crl", data)},
            )
            return html.unescape(answer.text)

        assert "no certificate revocation list" in give(b"nonsense")
        page = give(ca.published())
        assert "The list counts from now on." in page
        assert "given by hand" in page
    for one in api.http.get("revocation-lists").json():
        assert api.http.delete(f"revocation-lists/{one['id']}").status_code == 204
    assert api.http.delete(f"trust-anchors/{anchor['id']}").status_code == 204
