"""The `posthouse` commands over the API, as people and scripts use them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest
from pysequoia import Tsk

from cli.messages_commands import State
from shared.storage.messages import MessageState
from tests.integration.api.conftest import Api, Posthouse
from tests.integration.api.test_certificates import p12
from tests.integration.api.test_messages import add_mail, quarantine
from tests.integration.api.test_probing import mails
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import PASSWORD
from tests.servers.scripted import ScriptedServer


def test_a_mailbox_is_added_tested_and_enabled(
    posthouse: Posthouse, dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    dovecot.deliver(on_dovecot["username"], mails(3))
    user, port = on_dovecot["username"], str(dovecot.imap_port)
    added = posthouse(
        *("connections", "add", "From the shell", "--mode", "imap", "--host", "127.0.0.1"),
        *("--username", user, "--set", f"port={port}", "--set", "security=none"),
        *("--password-stdin", "--json"),
        stdin=PASSWORD + "\n",
    )
    assert added.code == 0, added.err
    assert added.json["enabled"] is False
    tested = posthouse("connections", "test", "from the SHELL")
    assert tested.code == 0
    assert "3 mails, 3 unread" in tested.out
    assert posthouse("connections", "estimate", "From the shell", "--json").json["new"] == 3
    refused = posthouse("connections", "enable", "From the shell")
    assert refused.code == 1
    assert "3 mails" in refused.err and "--acknowledge" in refused.err
    enabled = posthouse("connections", "enable", "From the shell", "--acknowledge")
    assert enabled.code == 0
    assert "is enabled" in enabled.out
    listed = posthouse("connections", "list", "shell")
    assert "From the shell" in listed.out
    assert posthouse("connections", "disable", "From the shell", "--json").json["enabled"] is False
    assert posthouse("connections", "delete", "From the shell").code == 1, "nobody confirmed"
    assert posthouse("connections", "delete", "From the shell", "--yes").code == 0
    gone = posthouse("connections", "show", "From the shell")
    assert gone.code == 1
    assert "no connection named" in gone.err


def test_what_is_wrong_is_told_with_an_exit_code(posthouse: Posthouse, api: Api) -> None:
    made = api.create(host="no-such-host.invalid")
    failed = posthouse("connections", "test", made["name"])
    assert failed.code == 1
    assert "no host named" in failed.out
    misused = posthouse("connections", "edit", made["name"], "--set", "interval_minutes=99")
    assert misused.code == 2
    assert "1 to 60" in misused.err
    assert posthouse("connections", "edit", made["name"]).code == 2
    assert posthouse("connections", "edit", made["name"], "--set", "port=many").code == 2
    edited = posthouse("connections", "edit", made["name"], "--set", "interval_minutes=9", "--json")
    assert edited.json["interval_minutes"] == 9


def test_nobody_at_the_address_is_told(
    posthouse: Posthouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTHOUSE_URL", "http://127.0.0.1:1")
    ran = posthouse("handlers", "list")
    assert ran.code == 1
    assert "does not answer" in ran.err
    monkeypatch.delenv("POSTHOUSE_TOKEN")
    assert posthouse("handlers", "list").code == 2


def test_an_api_that_hangs_is_told_and_not_waited_for(
    posthouse: Posthouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection and the request, as a process that stands still does."""
    monkeypatch.setattr("cli.client._READ_S", 0.5)
    monkeypatch.setattr("cli.client._CHANGE_S", 0.6)
    with ScriptedServer(lambda talk: talk.say_nothing()) as hanging:
        where = f"http://127.0.0.1:{hanging.port}"
        monkeypatch.setenv("POSTHOUSE_URL", where)
        ran = posthouse("overview")
        added = posthouse("handlers", "add", "late")
    assert (ran.code, added.code) == (1, 1)
    assert f"{where} took the request and did not answer within 0.5 s" in ran.err
    assert "/readyz" in ran.err
    assert "Whether it was done is not known" not in ran.err
    assert "within 0.6 s. Whether it was done is not known" in " ".join(added.err.split())


def test_certificates_are_uploaded_and_replaced(posthouse: Posthouse, tmp_path: Path) -> None:
    first, second = tmp_path / "a.p12", tmp_path / "b.p12"
    first.write_bytes(p12("shell@example.org"))
    second.write_bytes(p12("shell@example.org", friendly=b"Newer"))
    refused = posthouse("certificates", "upload", str(first))
    assert refused.code == 2
    assert "password" in refused.err
    added = posthouse(
        *("certificates", "upload", str(first), "--name", "Shell", "--password-stdin", "--json"),
        stdin="open sesame\n",
    )
    assert added.code == 0, added.err
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    replaced = posthouse(
        *("certificates", "replace", "shell", str(second), "--password", f"file:{secret}", "--json")
    )
    assert replaced.json["id"] == added.json["id"]
    assert replaced.json["fingerprint"] != added.json["fingerprint"]
    assert "Shell (Friendly)" in posthouse("certificates", "list").out
    assert posthouse("certificates", "delete", "Shell", "--yes").code == 0


def test_a_handler_shows_its_token_once(posthouse: Posthouse, api: Api) -> None:
    made = api.create()
    added = posthouse("handlers", "add", "shell", "-c", made["name"], "--json")
    assert added.json["connections"] == [made["id"]]
    assert added.json["token"]
    assert added.json["token"] not in posthouse("handlers", "show", "shell").out
    everything = posthouse("handlers", "edit", "shell", "--all", "--disabled", "--json").json
    assert (everything["connections"], everything["enabled"]) == ("all", False)
    assert posthouse("handlers", "token", "shell", "--yes", "--json").json["token"]
    assert "shell" in posthouse("handlers", "list").out
    assert posthouse("handlers", "delete", "shell", "--yes").code == 0


@pytest.mark.promise("H3")
@pytest.mark.promise("H4")
def test_mails_are_found_downloaded_and_delivered_again(
    posthouse: Posthouse, api: Api, tmp_path: Path
) -> None:
    made = api.create()
    mail = add_mail(api, made["id"], raw=b"Subject: raw\r\n\r\n\x00\xff", sender="[red]x@y.z")
    listed = posthouse("messages", "list", "-c", made["name"])
    assert str(mail) in listed.out
    assert "[red]x@y.z" in listed.out
    api.execute("UPDATE message SET facts = '{\"n\": 1}', kind = 'list' WHERE id = %(id)s", id=mail)
    chosen = ("messages", "list", "-c", made["name"], "--kind", "list", "--with-attachment")
    assert str(mail) in posthouse(*chosen).out
    assert str(mail) not in posthouse(*chosen, "--thread", "<other@x>").out
    assert str(mail) not in posthouse(*chosen[:-1], "--without-attachment").out
    assert "Downloaded by" in posthouse("messages", "show", str(mail)).out
    target = tmp_path / "mail.eml"
    assert posthouse("messages", "raw", str(mail), "-o", str(target)).code == 0
    assert target.read_bytes() == b"Subject: raw\r\n\r\n\x00\xff"
    assert posthouse("messages", "deliver-again", str(mail), "--json").json == {"count": 1}
    again = posthouse("messages", "deliver-again", "-c", made["name"], "--yes", "--json")
    assert again.json == {"count": 1}
    api.execute("DELETE FROM outbox")
    quarantine(api, mail, made["id"])
    assert "Too large." in posthouse("quarantine", "list").out
    assert posthouse("quarantine", "release", "--all", "--yes", "--json").json == {"count": 1}
    assert posthouse("quarantine", "list", "--json").json["total"] == 0
    assert posthouse("quarantine", "drop").code == 2


@pytest.mark.promise("H3", "H4")
def test_a_search_finds_a_mail_that_was_left_on_its_server(api: Api, posthouse: Posthouse) -> None:
    made = api.create()
    api.execute(
        "INSERT INTO quarantine (id, connection_id, code, reason, size, subject, sender) VALUES"
        " (gen_random_uuid(), %(id)s, 'too-large', 'Larger than allowed.', 90000000,"
        " 'Plans of the bridge', 'plans@example.org') RETURNING 1",
        id=made["id"],
    )
    found = posthouse("messages", "list", "-q", "plans of the bridge").out
    assert "Larger than allowed." in found and "No mail matches" not in found
    assert "Larger than allowed." in posthouse("messages", "list", "plans", "of", "the bridge").out
    assert "No mail matches" in posthouse("messages", "list", "plans of a tunnel").out
    both = posthouse("messages", "list", "bridge", "-q", "tunnel")
    assert both.code == 2 and "Give the words once" in both.err
    api.execute("DELETE FROM quarantine WHERE connection_id = %(id)s RETURNING 1", id=made["id"])


def test_the_help_names_every_state() -> None:
    (option,) = get_args(State)[1:]
    assert set(option.help.split()) == set(MessageState)


@pytest.mark.promise("F3")
def test_senders_are_known_and_no_longer(posthouse: Posthouse, tmp_path: Path) -> None:
    key = tmp_path / "bob.asc"
    key.write_text(str(Tsk.generate("Bob <bob@example.org>").extract_certificate()))
    assert "bob@example.org is known" in posthouse("senders", "add", str(key)).out
    assert "openpgp" in posthouse("senders", "list").out
    assert posthouse("senders", "delete", "bob@example.org").code == 1, "nobody confirmed"
    assert posthouse("senders", "delete", "bob@example.org", "--yes").code == 0
    assert posthouse("senders", "list", "--json").json["items"] == []


def test_commands_work_in_the_admin_services_own_environment(
    posthouse: Posthouse, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `docker compose exec admin posthouse handlers add …` finds it: neither URL nor token."""
    url, token = urlsplit(os.environ["POSTHOUSE_URL"]), os.environ["POSTHOUSE_TOKEN"]
    monkeypatch.delenv("POSTHOUSE_URL")
    monkeypatch.delenv("POSTHOUSE_TOKEN")
    path = tmp_path / "admin-token"
    path.write_text(f"{token}\n")
    monkeypatch.setenv("POSTHOUSE_PORT", str(url.port))
    monkeypatch.setenv("POSTHOUSE_ADMIN_TOKEN_FILE", str(path))
    added = posthouse("handlers", "add", "from-inside", "--json")
    assert added.code == 0, added.err
    assert added.json["signing_key"]
    monkeypatch.setenv("POSTHOUSE_ADMIN_TOKEN_FILE", str(tmp_path / "none"))
    lacking = posthouse("handlers", "list")
    assert lacking.code == 2
    assert "POSTHOUSE_ADMIN_TOKEN_FILE" in lacking.err
