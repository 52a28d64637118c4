"""`posthouse apply` and `export`: made once, pruned when asked, given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from pysequoia import Cert, Tsk

from tests.deploy.manifests import ROOT
from tests.integration.api.conftest import Api, Posthouse
from tests.integration.api.test_certificates import certificate, p12
from tests.integration.api.test_probing import mails
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import PASSWORD

DOCUMENT = """
version: 1
credentials:
  - name: Workspace
    provider: google
    client_id: abc
    client_secret: env:WORKSPACE_SECRET
certificates:
  - name: Invoices 2026
    file: file:keys/invoices.p12
    password: file:keys/password
connections:
  - name: Invoices
    mode: imap
    host: mail.example.org
    username: invoices@example.org
    password: env:INVOICES_PASSWORD
    folder: Main/Entwürfe
    interval_minutes: 5
    tags: [Sales, EMEA]
    certificates: [invoices 2026]
  - name: Sales
    mode: google-imap
    username: sales@example.org
    credential: workspace
handlers:
  - name: crm
    connections: [Sales, Invoices]
  - name: everything
"""


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "invoices.p12").write_bytes(p12("invoices@example.org"))
    (keys / "password").write_text("open sesame\n")
    monkeypatch.setenv("WORKSPACE_SECRET", "canary-secret")
    monkeypatch.setenv("INVOICES_PASSWORD", "canary-password")
    path = tmp_path / "posthouse.yaml"
    path.write_text(DOCUMENT, encoding="utf-8")
    return path


@pytest.mark.promise("H6")
def test_apply_makes_what_the_file_says_once_and_export_gives_it_back(
    posthouse: Posthouse,
    api: Api,
    document: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api.execute("TRUNCATE connection, handler, certificate, credential, outbox CASCADE")
    with monkeypatch.context() as without:
        without.delenv("INVOICES_PASSWORD")
        lacking = posthouse("apply", "-f", str(document), "--dry-run")
        assert lacking.code == 1, "a dry run says which secret is not there"
        assert "The environment has no INVOICES_PASSWORD" in lacking.out
    planned = posthouse("apply", "-f", str(document), "--dry-run")
    assert planned.code == 0, planned.err
    assert "+ connection Invoices" in planned.out
    assert "canary" not in planned.out
    assert api.http.get("connections").json()["total"] == 0, "a dry run changes nothing"
    assert posthouse("apply", "-f", str(document), "--dry-run", "--exit-code").code == 3

    applied = posthouse("apply", "-f", str(document), "--json")
    assert applied.code == 0, applied.out
    assert [(c["kind"], c["name"], c["verb"]) for c in applied.json["changes"]] == [
        ("credentials", "Workspace", "create"),
        ("certificates", "Invoices 2026", "create"),
        ("connections", "Invoices", "create"),
        ("connections", "Sales", "create"),
        ("handlers", "crm", "create"),
        ("handlers", "everything", "create"),
    ]
    invoices = api.http.get("connections", params={"q": "invoices"}).json()["items"][0]
    assert invoices["folder"] == "Main/Entwürfe"
    assert invoices["tags"] == ["emea", "sales"]
    assert invoices["has_password"] is True
    assert invoices["enabled"] is False

    assert posthouse("apply", "-f", str(document), "--json").json["changes"] == []
    assert posthouse("apply", "-f", str(document), "--dry-run", "--exit-code").code == 0
    with monkeypatch.context() as without:
        without.delenv("INVOICES_PASSWORD")
        assert posthouse("apply", "-f", str(document), "--dry-run").code == 0, "it is not needed"
    document.write_text(DOCUMENT.replace("minutes: 5", "minutes: 7").replace("Sales, Inv", "Inv"))
    changed = posthouse("apply", "-f", str(document), "--json").json["changes"]
    assert [(c["name"], c["verb"], c["fields"]) for c in changed] == [
        ("Invoices", "change", {"interval_minutes": [5, 7]}),
        ("crm", "change", {"connections": [["Invoices", "Sales"], ["Invoices"]]}),
    ]

    written = tmp_path / "exported.yaml"
    assert posthouse("export", "-o", str(written)).code == 0
    text = written.read_text(encoding="utf-8")
    assert "canary" not in text
    assert yaml.safe_load(text)["connections"][0]["certificates"] == ["Invoices 2026"]
    again = posthouse("apply", "-f", str(written), "--prune", "--json")
    assert again.code == 0, again.out + again.err
    assert again.json["changes"] == []


@pytest.mark.promise("H6")
@pytest.mark.promise("F3")
def test_apply_knows_trust_anchors_and_senders_and_export_gives_them_back(
    posthouse: Posthouse, api: Api, tmp_path: Path
) -> None:
    _, authority = certificate("ca@example.org", authority=True)
    secret = Tsk.generate("Alice <alice@example.org>")
    openpgp = secret.extract_certificate()
    (tmp_path / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    wanted = {
        "trust_anchors": [{"name": "Partners", "certificate": "file:ca.pem"}],
        "senders": [{"name": "Alice", "certificate": str(openpgp)}],
    }
    path = tmp_path / "trusted.yaml"
    path.write_text(yaml.safe_dump(wanted))
    applied = posthouse("apply", "-f", str(path), "--json")
    assert applied.code == 0, applied.out + applied.err
    assert [(c["kind"], c["name"], c["verb"]) for c in applied.json["changes"]] == [
        ("trust_anchors", "Partners", "create"),
        ("senders", "Alice", "create"),
    ]
    assert posthouse("apply", "-f", str(path), "--json").json["changes"] == []
    wanted["senders"][0]["name"] = "Alice of sales"
    path.write_text(yaml.safe_dump(wanted))
    changed = posthouse("apply", "-f", str(path), "--json").json["changes"]
    assert [(c["name"], c["verb"]) for c in changed] == [("Alice of sales", "change")]
    assert [one["name"] for one in api.http.get("sender-keys").json()] == ["Alice of sales"]
    # A newer copy of her key is taken; the older one takes nothing of it back, by another name.
    revoked = Cert.from_bytes(bytes(openpgp) + bytes(openpgp.revoke(certifier=secret.certifier())))
    for key, name, verbs in (
        (revoked, "Alice of sales", ["change"]),
        (openpgp, "Alice", ["change"]),
        (revoked, "Alice", []),
    ):
        wanted["senders"][0] |= {"name": name, "certificate": str(key)}
        path.write_text(yaml.safe_dump(wanted))
        changed = posthouse("apply", "-f", str(path), "--json").json["changes"]
        assert [one["verb"] for one in changed] == verbs
        [known] = api.http.get("sender-keys").json()
        assert known["name"] == name
        assert Cert.from_bytes(known["certificate"].encode()).is_revoked

    written = tmp_path / "exported.yaml"
    assert posthouse("export", "-o", str(written)).code == 0
    again = posthouse("apply", "-f", str(written), "--prune", "--json")
    assert again.json["changes"] == []
    path.write_text("version: 1\nsenders: [{name: A, certificate: nothing}]\n")
    assert posthouse("apply", "-f", str(path)).code == 2
    kept = yaml.safe_load(written.read_text())
    del kept["trust_anchors"], kept["senders"]
    written.write_text(yaml.safe_dump(kept))
    pruned = posthouse("apply", "-f", str(written), "--prune", "--json").json["changes"]
    assert [(c["kind"], c["verb"]) for c in pruned] == [
        ("trust_anchors", "delete"),
        ("senders", "delete"),
    ]
    assert api.http.get("sender-keys").json() == []


@pytest.mark.promise("F3")
def test_apply_knows_people_and_webhooks_and_export_gives_them_back(
    posthouse: Posthouse, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.execute(
        "TRUNCATE person, webhook, connection, handler, certificate, credential, outbox CASCADE"
    )
    monkeypatch.setenv("ALICE_PASSWORD", "canary-of-alice-5")
    monkeypatch.setenv("HOOK", "https://hooks.example.org/canary-hook")
    alice = {
        "name": "Alice",
        "role": "operator",
        "tags": ["Sales"],
        "password": "env:ALICE_PASSWORD",
    }
    wanted: dict[str, Any] = {
        "people": [
            {"name": "Root", "role": "admin", "password": "env:ALICE_PASSWORD"},
            alice,
            {"name": "Bob", "password": "env:ALICE_PASSWORD", "enabled": False},
        ],
        "webhooks": [{"name": "On call", "url": "env:HOOK", "kinds": ["connection-failing"]}],
    }
    path = tmp_path / "people.yaml"
    path.write_text(yaml.safe_dump(wanted))
    applied = posthouse("apply", "-f", str(path))
    assert applied.code == 0, applied.out + applied.err
    assert "+ person Alice" in applied.out
    assert "canary" not in applied.out
    assert posthouse("apply", "-f", str(path), "--prune", "--json").json["changes"] == []
    there = {one["name"]: one for one in api.http.get("people").json()["items"]}
    assert there["Alice"]["role"] == "operator"
    assert there["Alice"]["has_password"] is True
    assert there["Bob"]["enabled"] is False

    written = tmp_path / "exported.yaml"
    assert posthouse("export", "-o", str(written)).code == 0
    assert "canary" not in written.read_text()
    assert posthouse("apply", "-f", str(written), "--prune", "--json").json["changes"] == []

    # Groups of the login provider decide, and apply does not take back what they give.
    give = "UPDATE person SET role = 'viewer', oidc_groups = '{all}' WHERE name = 'Alice'"
    api.execute(give)
    assert posthouse("apply", "-f", str(path), "--json").json["changes"] == []

    # A file that speaks of no people deletes none; one that does never deletes the last admin.
    path.write_text("version: 1\n")
    assert posthouse("apply", "-f", str(path), "--prune", "--dry-run", "--json").json is not None
    assert len(api.http.get("people").json()["items"]) == 3
    path.write_text(yaml.safe_dump({"people": [alice], "webhooks": []}))
    pruned = posthouse("apply", "-f", str(path), "--prune")
    assert pruned.code == 1
    assert "This is the last administrator" in pruned.out
    assert {one["name"] for one in api.http.get("people").json()["items"]} == {"Alice", "Root"}
    assert api.http.get("webhooks").json()["items"] == []


@pytest.mark.promise("H6")
def test_apply_prunes_only_when_asked_and_never_what_is_in_use(
    posthouse: Posthouse, api: Api, document: Path
) -> None:
    api.execute("TRUNCATE connection, handler, certificate, credential, outbox CASCADE")
    assert posthouse("apply", "-f", str(document)).code == 0
    document.write_text("version: 1\n")
    assert posthouse("apply", "-f", str(document), "--json").json["changes"] == []
    pruned = posthouse("apply", "-f", str(document), "--prune", "--json")
    assert pruned.code == 0, pruned.out
    assert {change["verb"] for change in pruned.json["changes"]} == {"delete"}
    assert api.http.get("connections").json()["total"] == 0
    assert api.http.get("certificates").json()["total"] == 0


@pytest.mark.promise("M13")
@pytest.mark.promise("H6")
def test_apply_enables_only_what_is_acknowledged(
    posthouse: Posthouse, api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any], tmp_path: Path
) -> None:
    dovecot.deliver(on_dovecot["username"], mails(2))
    (tmp_path / "password").write_text(PASSWORD)
    entry = on_dovecot | {"name": "Applied", "enabled": True, "password": "file:password"}
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump({"connections": [entry]}))
    refused = posthouse("apply", "-f", str(path), "--json")
    assert refused.code == 1
    assert refused.json["changes"][0]["error"]["code"] == "acknowledgement-needed"
    path.write_text(yaml.safe_dump({"connections": [entry | {"acknowledged": True}]}))
    assert posthouse("apply", "-f", str(path)).code == 0
    applied = api.http.get("connections", params={"q": "Applied"}).json()["items"][0]
    assert applied["enabled"] is True


@pytest.mark.promise("H6")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("connections: [{name: A, mode: imap}]", ["connections 'A'", "username"]),
        (
            "connections: [{name: A, mode: imap, host: h, username: u, interval_minutes: 99}]",
            ["connections 'A'", "1 to 60"],
        ),
        ("connections: [{name: A, mode: pop3, host: h, username: u, folder: x}]", ["folder"]),
        ("handlers: [{name: h, connections: [Nobody]}]", ["Nobody"]),
        ("handlers: [{name: h}, {name: H}]", ["twice"]),
        (
            "connections: [{name: A, mode: imap, username: u, password: plain}]",
            ["connections 'A', password", "env:NAME"],
        ),
        (
            "certificates: [{name: Old, file: 'file:wrong.yaml'}]",
            ["certificates 'Old', file: ", "neither a PKCS #12 file nor PEM", "Export the"],
        ),
        (
            "certificates: [{name: Old, file: 'file:keys/not-there.p12'}]",
            ["certificates 'Old', file: "],
        ),
        ("- a list", ["mapping"]),
        ("a: [", ["YAML"]),
    ],
)
def test_a_file_that_is_wrong_is_refused_before_anything_is_done(
    posthouse: Posthouse, tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    ran = posthouse("apply", "-f", str(path))
    assert ran.code == 2, ran.out
    for word in words:
        assert word in ran.err


def test_names_that_are_not_there_are_said_at_once_each_at_its_place(
    posthouse: Posthouse, api: Api, tmp_path: Path
) -> None:
    api.create(name="Billing")
    (tmp_path / "a.yaml").write_text(
        "connections:\n"
        "  - {name: one, mode: imap, host: mail.example.org, username: a, password: env:HOME,\n"
        "     certificates: [nobody]}\n"
    )
    (tmp_path / "b.yaml").write_text(
        "handlers:\n  - name: t\n    connections: [one, Biling]\n"
        "    rules: {accept: [{connection: BILLING}], expression: 'connection == \"billing\"'}\n"
    )
    ran = posthouse("apply", "-f", str(tmp_path))
    assert ran.code == 2, ran.out
    certificate, connection, compared = ran.err.removeprefix("Error: ").strip().splitlines()
    assert certificate.startswith(f"{tmp_path}/a.yaml, line 3, column 21: connections 'one' names")
    assert connection == (
        f"{tmp_path}/b.yaml, line 3, column 24: handlers 't' names 'Biling', which is not among"
        " the connections (did you mean 'Billing'?)."
    )
    # A rule takes a name in any case, an expression compares it as it stands.
    assert "handlers 't', rules names 'billing'" in compared
    assert compared.endswith("(did you mean 'Billing'?).")


def test_what_the_cronjob_runs_tells_a_drift_and_brings_it_back(
    posthouse: Posthouse, api: Api, tmp_path: Path
) -> None:
    """The arguments of deploy/k8s/components/apply, on what somebody changed by hand."""
    manifest = (ROOT / "deploy/k8s/components/apply/cronjob.yaml").read_text()
    pod = yaml.safe_load(manifest)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    document = tmp_path / "posthouse.yaml"
    document.write_text(
        "version: 1\nhandlers:\n  - name: drifting\n    description: As the file says\n"
    )
    arguments = [
        word.replace("/etc/posthouse", str(tmp_path)) for word in pod["containers"][0]["args"]
    ]
    look = [*arguments, "--dry-run", "--exit-code"]
    assert posthouse(*arguments).code == 0
    assert posthouse(*look).code == 0
    changed = posthouse("handlers", "edit", "drifting", "--description", "By hand")
    assert changed.code == 0, changed.err
    drift = posthouse(*look)
    assert drift.code == 3
    assert "drifting" in drift.out
    assert "By hand" in drift.out
    assert posthouse(*arguments).code == 0
    assert posthouse(*look).code == 0
    assert posthouse("handlers", "show", "drifting", "--json").json["description"] == (
        "As the file says"
    )
