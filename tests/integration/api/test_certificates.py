"""Certificates, trust anchors and OAuth2 credentials through the API."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pysequoia import Cert, Tsk

from shared.vault import private_key_path
from tests.integration.api.conftest import Api
from tests.integration.api.test_connections import problem


def certificate(
    email: str, *, authority: bool = False
) -> tuple[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = (
        ec.generate_private_key(ec.SECP256R1())
        if authority
        else rsa.generate_private_key(65537, 2048)
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, email)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=20))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(email)]), critical=False)
    )
    return key, builder.sign(key, hashes.SHA256())


def p12(email: str, password: bytes = b"open sesame", friendly: bytes = b"Friendly") -> bytes:
    key, own = certificate(email)
    return pkcs12.serialize_key_and_certificates(
        friendly, key, own, None, serialization.BestAvailableEncryption(password)
    )


def upload(api: Api, data: bytes, **form: str) -> Any:
    form = {"password": "open sesame"} | form
    return api.http.post("certificates", files={"file": ("a.p12", data)}, data=form)


@pytest.mark.promise("C1")
def test_an_upload_shows_everything_but_the_key(api: Api) -> None:
    answer = upload(api, p12("billing@example.org"))
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert found["name"] == "billing@example.org"
    assert found["alias"] == "Friendly"
    assert found["label"] == "billing@example.org (Friendly)"
    assert found["key_type"] == "RSA-2048"
    assert found["not_after"]
    assert len(found["fingerprint"]) == 64
    assert "PRIVATE" not in answer.text
    sealed = bytes(
        api.execute("SELECT private_key FROM certificate WHERE id = %(id)s", id=found["id"])[0][0]
    )
    opened = api.admin.app_state.vault.open(sealed, private_key_path(found["id"]))
    assert serialization.load_der_private_key(opened, None)


@pytest.mark.promise("C1")
def test_a_wrong_password_or_file_is_told_by_its_field(api: Api) -> None:
    data = p12("x@example.org")
    assert problem(upload(api, data, password="wrong"), 422)["field"] == "password"
    assert problem(upload(api, b"GIF89a"), 422)["field"] == "file"
    answer = api.http.post("certificates", data={"name": "no file"})
    assert problem(answer, 422)["field"] == "file"


@pytest.mark.promise("C1")
def test_a_certificate_is_replaced_in_place(api: Api) -> None:
    first = upload(api, p12("rotating@example.org"), name="Rotating").json()
    made = api.create(certificate_ids=[first["id"]])
    answer = api.http.put(
        f"certificates/{first['id']}/file",
        files={"file": ("b.p12", p12("rotating@example.org"))},
        data={"password": "open sesame"},
    )
    second = answer.json()
    assert second["id"] == first["id"]
    assert second["name"] == "Rotating"
    assert second["fingerprint"] != first["fingerprint"]
    assert [user["id"] for user in second["used_by"]] == [made["id"]]


@pytest.mark.promise("M6")
def test_certificates_are_found_by_part_of_name_or_alias_and_attached(api: Api) -> None:
    word = uuid.uuid4().hex[:8]
    one = upload(api, p12("a@example.org"), name=f"Ärger {word}", alias="Two").json()
    two = upload(api, p12("b@example.org"), name=f"other {word}", alias="ÄRGERLICH").json()
    found = api.http.get("certificates", params={"q": "ärger"}).json()["items"]
    assert {item["id"] for item in found} == {one["id"], two["id"]}
    made = api.create(certificate_ids=[two["id"], one["id"]])
    seen = api.http.get(f"connections/{made['id']}").json()
    assert {c["label"] for c in seen["certificates"]} == {
        f"Ärger {word} (Two)",
        f"other {word} (ÄRGERLICH)",
    }
    refused = problem(api.http.delete(f"certificates/{one['id']}"), 409)
    assert [(u["kind"], u["name"]) for u in refused["used_by"]] == [("connection", made["name"])]
    assert api.http.patch(f"connections/{made['id']}", json={"certificate_ids": []}).is_success
    assert api.http.delete(f"certificates/{one['id']}").status_code == 204


def test_names_of_certificates_are_unique_and_can_be_changed(api: Api) -> None:
    one = upload(api, p12("c@example.org"), name="Unique one").json()
    assert problem(upload(api, p12("d@example.org"), name="unique ONE"), 409)["field"] == "name"
    renamed = api.http.patch(f"certificates/{one['id']}", json={"name": "New", "alias": "n"})
    assert renamed.json()["label"] == "New (n)"
    answer = api.http.patch(f"certificates/{one['id']}", json={"serial": "1"})
    assert problem(answer, 422)["field"] == "serial"


def test_trust_anchors_are_authorities(api: Api) -> None:
    _, authority = certificate("ca@example.org", authority=True)
    _, leaf = certificate("leaf@example.org")
    files = {"file": ("ca.pem", authority.public_bytes(serialization.Encoding.PEM))}
    added = api.http.post("trust-anchors", files=files, data={"name": "Own CA"})
    assert added.status_code == 201, added.text
    assert [anchor["name"] for anchor in added.json()] == ["Own CA"]
    problem(api.http.post("trust-anchors", files=files), 409)
    wrong = {"file": ("leaf.pem", leaf.public_bytes(serialization.Encoding.PEM))}
    assert problem(api.http.post("trust-anchors", files=wrong), 422)["field"] == "file"
    for anchor in api.http.get("trust-anchors").json():
        assert api.http.delete(f"trust-anchors/{anchor['id']}").status_code == 204


def test_an_authority_that_cannot_count_is_refused_with_the_reason(api: Api) -> None:
    key, _ = certificate("weak@example.org", authority=True)
    weak_key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Weak")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=20))
    )
    authority = x509.BasicConstraints(ca=True, path_length=None)
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    made = {
        "1024 bits": builder.public_key(weak_key.public_key())
        .add_extension(authority, critical=True)
        .sign(weak_key, hashes.SHA256()),
        "basic constraints": builder.public_key(key.public_key()).sign(key, hashes.SHA256()),
        "not meant for mail": builder.public_key(key.public_key())
        .add_extension(authority, critical=True)
        .add_extension(server, critical=False)
        .sign(key, hashes.SHA256()),
    }
    for reason, one in made.items():
        files = {"file": ("ca.pem", one.public_bytes(serialization.Encoding.PEM))}
        refused = problem(api.http.post("trust-anchors", files=files), 422)
        assert refused["field"] == "file"
        assert reason in refused["detail"], refused


@pytest.mark.promise("F3")
def test_senders_keys_are_given_and_taken_back(api: Api) -> None:
    openpgp = Tsk.generate("Alice <Alice@example.org>").extract_certificate()
    _, own = certificate("bob@example.org")
    pem = own.public_bytes(serialization.Encoding.PEM)
    for data, kind, email in (
        (str(openpgp).encode(), "openpgp", "alice@example.org"),
        (pem, "smime", "bob@example.org"),
    ):
        added = api.http.post("sender-keys", files={"file": ("key", data)})
        assert added.status_code == 201, added.text
        [sender] = added.json()
        assert (sender["kind"], sender["name"], sender["emails"]) == (kind, email, [email])
        problem(api.http.post("sender-keys", files={"file": ("key", data)}), 409)
        again = {"file": ("key", sender["certificate"].encode())}
        problem(api.http.post("sender-keys", files=again), 409)
        assert sender in api.http.get("sender-keys").json()
        assert api.http.delete(f"sender-keys/{sender['id']}").status_code == 204
        problem(api.http.delete(f"sender-keys/{sender['id']}"), 404)
    assert api.http.get("sender-keys").json() == []


@pytest.mark.promise("F3")
def test_a_newer_copy_of_a_senders_key_is_taken_and_an_older_one_takes_nothing_back(
    api: Api,
) -> None:
    """Its owner extended it, or revoked it: it is given again."""
    secret = Tsk.generate("Alice <alice@example.org>")
    key = secret.extract_certificate()
    certifier = secret.certifier()
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=900)
    extended = key.set_expiration(expiration=end, certifier=certifier)
    revoked = Cert.from_bytes(bytes(key) + bytes(key.revoke(certifier=certifier)))
    given = {"name": "Alice of sales"}
    [first] = api.http.post("sender-keys", files={"file": ("key", bytes(key))}, data=given).json()
    assert first["not_after"] is None
    [second] = api.http.post("sender-keys", files={"file": ("key", bytes(extended))}).json()
    assert (second["name"], second["not_after"][:10]) == ("Alice of sales", f"{end:%Y-%m-%d}")
    [third] = api.http.post("sender-keys", files={"file": ("key", bytes(revoked))}).json()
    assert Cert.from_bytes(third["certificate"].encode()).is_revoked
    assert [one["revoked"] for one in (first, second, third)] == [False, False, True]
    for older in (key, extended, revoked):
        refused = problem(api.http.post("sender-keys", files={"file": ("key", bytes(older))}), 409)
        assert "known already, as 'Alice of sales'" in refused["detail"]
    assert api.http.get("sender-keys").json() == [third]
    assert api.http.delete(f"sender-keys/{third['id']}").status_code == 204


@pytest.mark.promise("F3")
def test_what_makes_no_signature_count_is_no_senders_key(api: Api) -> None:
    secret = Tsk.generate("Alice <alice@example.org>")
    nobody = Tsk.generate("Nobody").extract_certificate()
    for data, reason in (
        (str(secret).encode(), "secret key"),
        (str(nobody).encode(), "no mail address"),
        (b"GIF89a", "no readable certificate"),
        (
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n",
            "damaged",
        ),
    ):
        refused = problem(api.http.post("sender-keys", files={"file": ("key", data)}), 422)
        assert refused["field"] == "file"
        assert reason in refused["detail"], refused


@pytest.mark.promise("A1")
def test_a_credential_is_reused_and_not_deleted_while_in_use(api: Api) -> None:
    body = {
        "name": "Workspace",
        "provider": "google",
        "client_id": "id",
        "client_secret": "s3cret-canary",
    }
    made = api.http.post("credentials", json=body)
    assert made.status_code == 201, made.text
    credential = made.json()
    assert credential["has_client_secret"] is True
    assert credential["redirect_uri"] == f"{api.url}/api/v1/oauth/callback"
    connection = api.create(
        mode="google-imap", credential_id=credential["id"], host=None, password=None
    )
    assert connection["health"] == "disabled"
    refused = problem(api.http.delete(f"credentials/{credential['id']}"), 409)
    assert [user["id"] for user in refused["used_by"]] == [connection["id"]]
    change = {"provider": "microsoft", "client_id": "x"}
    problem(api.http.patch(f"credentials/{credential['id']}", json=change), 409)
    kept = api.http.patch(f"credentials/{credential['id']}", json={"name": "Renamed"}).json()
    assert (kept["name"], kept["has_client_secret"]) == ("Renamed", True)


@pytest.mark.promise("A1", "M15")
def test_mailboxes_that_failed_are_tried_with_the_new_secret_at_once(api: Api) -> None:
    """The secret of an application ends, and all of its mailboxes with it: each would wait for up
    to half an hour after it was renewed."""
    body = {"name": "App", "provider": "google", "client_id": "id", "client_secret": "old"}
    number = api.http.post("credentials", json=body).json()["id"]
    made = [
        api.create(name=name, mode="google-imap", credential_id=number, host=None, password=None)[
            "id"
        ]
        for name in ("failed", "worked", "disabled")
    ]
    api.execute(
        "UPDATE connection_state SET health = 'failing', failures = 6, lane = 'fetch-slow',"
        " awaited_since = now() - interval '1 day', due_at = now() + interval '30 minutes'"
    )
    failed, worked, disabled = made
    api.execute(
        "UPDATE connection_state SET health = 'working' WHERE connection_id = %(id)s", id=worked
    )
    api.execute(
        "UPDATE connection_state SET due_at = NULL WHERE connection_id = %(id)s", id=disabled
    )
    answer = api.http.patch(f"credentials/{number}", json={"client_secret": "new"})
    assert answer.status_code == 200, answer.text
    assert api.execute(
        "SELECT connection_id, health, failures, due_at < now() + interval '1 minute'"
        " FROM connection_state WHERE connection_id = ANY(%(made)s) ORDER BY connection_id",
        made=made,
    ) == [
        (failed, "pending", 0, True),
        (worked, "working", 0, False),
        (disabled, "failing", 6, None),
    ]


@pytest.mark.promise("A1")
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"client_secret": None}, "client_secret"),
        ({"client_id": ""}, "client_id"),
        ({"provider": "yahoo"}, "provider"),
        ({"provider": "microsoft", "cloud": "mars"}, "cloud"),
        ({"secret": "x"}, "secret"),
        ({"provider": "microsoft", "grant": "client-credentials"}, "tenant"),
    ],
)
def test_what_a_credential_lacks_is_told_by_its_field(
    api: Api, change: dict[str, Any], field: str
) -> None:
    body = {"name": "c", "provider": "google", "client_id": "id", "client_secret": "s"} | change
    assert problem(api.http.post("credentials", json=body), 422)["field"] == field


@pytest.mark.promise("M19")
def test_a_connection_that_nobody_authorised_needs_authorisation(api: Api) -> None:
    body = {"name": "Needs", "provider": "google", "client_id": "id", "client_secret": "s"}
    credential = api.http.post("credentials", json=body).json()
    made = api.create(
        mode="google-imap",
        credential_id=credential["id"],
        host=None,
        password=None,
        enabled=True,
        acknowledged=True,
    )
    assert made["health"] == "needs-authorisation"
    found = api.http.get("connections", params={"health": "needs-authorisation"}).json()
    assert made["id"] in {item["id"] for item in found["items"]}
