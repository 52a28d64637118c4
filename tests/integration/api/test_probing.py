"""Test, estimate, enable and folders against a real Dovecot; nothing there may change by it."""

from __future__ import annotations

import socket
from datetime import datetime
from typing import Any

import pytest

from tests.integration.api.conftest import Api
from tests.integration.api.test_connections import problem
from tests.servers.dovecot import Dovecot
from tests.servers.gmail import GmailFront


def mails(count: int) -> list[bytes]:
    return [f"Subject: mail {n}\r\n\r\nbody {n}\r\n".encode() for n in range(count)]


def failed_step(report: dict[str, Any]) -> tuple[str, str]:
    assert report["ok"] is False
    failed = [step for step in report["steps"] if step["status"] == "failed"]
    assert len(failed) == 1
    assert failed[0]["text"]
    return failed[0]["name"], failed[0]["code"]


@pytest.mark.promise("M14")
def test_a_test_says_what_it_found_and_changes_nothing(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    dovecot.deliver(on_dovecot["username"], mails(3))
    dovecot.deliver(on_dovecot["username"], mails(2), flags="\\Seen")
    before = dovecot.flags(on_dovecot["username"])
    rows = api.execute("SELECT count(*) FROM connection")
    report = api.http.post("connections/test", json=on_dovecot).json()
    assert report["ok"], report
    assert (report["total"], report["unread"]) == (5, 3)
    assert [step["status"] for step in report["steps"]] == ["ok"] * len(report["steps"])
    assert report["capabilities"]["read_flag"] is True
    assert dovecot.flags(on_dovecot["username"]) == before
    assert api.execute("SELECT count(*) FROM connection") == rows


@pytest.mark.promise("M14")
@pytest.mark.parametrize(
    ("change", "step", "code"),
    [
        ({"host": "no-such-host.invalid"}, "dns", "unknown-host"),
        ({"port": 1}, "tcp", "connection-refused"),
        ({"password": "wrong"}, "login", "login-refused"),
        ({"folder": "Nowhere"}, "folder", "folder-missing"),
        ({"security": "tls"}, "tls", "tls-failed"),
    ],
)
def test_a_test_names_the_step_that_failed(
    api: Api, on_dovecot: dict[str, Any], change: dict[str, Any], step: str, code: str
) -> None:
    report = api.http.post("connections/test", json=on_dovecot | change).json()
    assert failed_step(report) == (step, code)
    assert "wrong" not in "".join(report["log"])


@pytest.mark.promise("M3")
def test_an_untrusted_certificate_fails_the_test_until_its_authority_is_given(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any], authority: Any
) -> None:
    tls = on_dovecot | {"port": dovecot.imaps_port, "security": "tls"}
    report = api.http.post("connections/test", json=tls).json()
    assert failed_step(report) == ("tls", "certificate-untrusted")
    pem = authority.certificate.read_text()
    report = api.http.post("connections/test", json=tls | {"ca_certificate": pem}).json()
    assert report["ok"], report


@pytest.mark.promise("M14")
def test_a_saved_connection_is_tested_with_its_password_and_with_changes(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    dovecot.deliver(on_dovecot["username"], mails(1), folder="Archive")
    made = api.create(**on_dovecot)
    path = f"connections/{made['id']}/test"
    assert api.http.post(path).json()["total"] == 0
    assert api.http.post(path, json={"folder": "Archive"}).json()["total"] == 1
    report = api.http.post(path, json={"folder": "Archiv"}).json()
    assert report["near"] == ["Archive"]
    assert api.http.get(f"connections/{made['id']}").json()["folder"] == ""


@pytest.mark.promise("M5")
def test_folders_are_listed_as_people_name_them(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    dovecot.deliver(on_dovecot["username"], mails(1), folder="Main/Entw&APw-rfe")
    made = api.create(**on_dovecot)
    names = {f["name"] for f in api.http.get(f"connections/{made['id']}/folders").json()}
    assert "Main/Entwürfe" in names
    pop3 = api.create(mode="pop3")
    answer = api.http.get(f"connections/{pop3['id']}/folders")
    assert problem(answer, 422)["field"] == "folder"


@pytest.mark.promise("M15")
@pytest.mark.promise("M16")
def test_enabling_asks_for_the_number_of_new_mails_first(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    dovecot.deliver(on_dovecot["username"], mails(4))
    dovecot.deliver(on_dovecot["username"], mails(1), flags="\\Seen")
    made = api.create(**on_dovecot)
    path = f"connections/{made['id']}"
    assert api.http.post(f"{path}/estimate").json() == {
        "new": 4,
        "known": 0,
        "reset": 0,
        "left": 0,
        "total": 5,
        "unread": 4,
        "confidence": "exact",
        "reason": "",
        "warnings": [],
    }
    refused = problem(api.http.post(f"{path}/enable"), 409)
    assert refused["code"] == "acknowledgement-needed"
    assert refused["estimate"]["new"] == 4
    assert api.http.get(path).json()["enabled"] is False
    enabled = api.http.post(f"{path}/enable", json={"acknowledged": True})
    assert enabled.status_code == 200, enabled.text
    assert enabled.json()["enabled"] is True
    assert enabled.json()["notice"]
    assert enabled.json()["next_run_at"] or enabled.json()["health"] == "unused"


@pytest.mark.promise("M16")
def test_an_estimate_after_the_folder_was_recreated_says_what_a_run_will_do(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    dovecot.deliver(on_dovecot["username"], mails(4))
    made = api.create(**on_dovecot)
    api.execute(f"UPDATE connection_state SET uid_validity = 1 WHERE connection_id = {made['id']}")
    estimate = api.http.post(f"connections/{made['id']}/estimate").json()
    assert (estimate["new"], estimate["confidence"]) == (4, "partial")
    assert "recognises" in estimate["reason"]


@pytest.mark.promise("M10", "M16")
def test_a_mail_over_the_limit_is_not_counted_as_set_unread_again(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    user = on_dovecot["username"]
    dovecot.deliver(user, mails(3))
    made = api.create(**on_dovecot)
    with dovecot.client(user) as other:
        validity = other.folder_status("INBOX", ["UIDVALIDITY"])[b"UIDVALIDITY"]
    place = f"{made['id']}, '', {validity}"
    api.execute(
        "INSERT INTO known_uid (connection_id, folder, uid_validity, uids)"
        f" VALUES ({place}, '{{[1,3)}}')"
    )
    api.execute(
        "INSERT INTO quarantine (id, connection_id, folder, uid_validity, native_key, code, reason)"
        f" VALUES (gen_random_uuid(), {place}, '1', 'too-large', 'It is too large.')"
    )
    estimate = api.http.post(f"connections/{made['id']}/estimate").json()
    assert (estimate["new"], estimate["known"], estimate["reset"]) == (1, 2, 1)
    assert estimate["left"] == 1


@pytest.mark.promise("M15")
def test_an_empty_mailbox_is_enabled_at_once(api: Api, on_dovecot: dict[str, Any]) -> None:
    made = api.create(**on_dovecot)
    answer = api.http.post(f"connections/{made['id']}/enable")
    assert answer.status_code == 200, answer.text
    assert answer.json()["estimate"]["new"] == 0
    assert answer.json()["enabled"] is True


@pytest.mark.promise("M13")
def test_created_enabled_needs_the_acknowledgement_too(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    dovecot.deliver(on_dovecot["username"], mails(2))
    body = on_dovecot | {"name": "enabled at once", "enabled": True}
    assert problem(api.http.post("connections", json=body), 409)["estimate"]["new"] == 2
    assert api.http.get("connections", params={"q": "enabled at once"}).json()["total"] == 0
    made = api.http.post("connections", json=body | {"acknowledged": True})
    assert made.status_code == 201
    assert made.json()["enabled"] is True


@pytest.mark.promise("M15")
@pytest.mark.parametrize(
    "change", [{"folder": "Other"}, {"selection": "all"}, {"after_download": "delete"}]
)
def test_a_change_of_what_is_read_asks_again(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any], change: dict[str, Any]
) -> None:
    made = api.create(**on_dovecot)
    path = f"connections/{made['id']}"
    assert api.http.post(f"{path}/enable").status_code == 200
    dovecot.deliver(on_dovecot["username"], mails(1))
    dovecot.deliver(on_dovecot["username"], mails(3), folder="Other")
    assert api.http.patch(path, json={"interval_minutes": 5}).status_code == 200
    refused = problem(api.http.patch(path, json=change), 409)
    assert refused["estimate"]["new"] == (3 if "folder" in change else 1)
    done = api.http.patch(path, json=change | {"acknowledged": True})
    assert done.status_code == 200
    assert done.json() | change == done.json()


@pytest.mark.promise("M17")
def test_start_from_is_kept_for_the_fetcher_and_counted(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    dovecot.deliver(on_dovecot["username"], mails(3))
    made = api.create(**on_dovecot)
    path = f"connections/{made['id']}"
    now = api.http.post(f"{path}/enable", json={"start_from": "now"})
    assert now.status_code == 200, now.text
    kept = "SELECT skip_existing, start_since FROM connection_state WHERE connection_id = %(id)s"
    ((skips, since),) = api.execute(kept, id=made["id"])
    assert skips
    assert since.isoformat() == datetime.fromisoformat(now.json()["start_since"]).isoformat()
    assert api.http.post(f"{path}/disable").status_code == 200
    later = api.http.post(f"{path}/enable", json={"start_from": "2999-01-01"})
    assert later.status_code == 200, later.text
    assert later.json()["start_since"].startswith("2999-01-01")
    assert api.execute(kept, id=made["id"])[0][0] is False
    early = api.http.post(f"{path}/estimate", json={"start_from": "2001-01-01"})
    assert early.json()["new"] == 3
    bad = api.http.post(f"{path}/enable", json={"start_from": "tomorrow"})
    assert problem(bad, 422)["field"] == "start_from"


@pytest.mark.promise("M16")
def test_an_estimate_of_a_known_mailbox_counts_what_was_had(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    dovecot.deliver(on_dovecot["username"], mails(5))
    made = api.create(**on_dovecot)
    with dovecot.client(on_dovecot["username"]) as session:
        validity = session.select_folder("INBOX", readonly=True)[b"UIDVALIDITY"]
        uids = session.search()
    api.execute(
        "INSERT INTO known_uid VALUES (%(id)s, '', %(validity)s, "
        "int8multirange(int8range(%(first)s, %(last)s, '[]')))",
        id=made["id"],
        validity=validity,
        first=uids[0],
        last=uids[2],
    )
    counted = api.http.post(f"connections/{made['id']}/estimate").json()
    assert (counted["new"], counted["known"], counted["reset"]) == (2, 3, 3)
    assert counted["confidence"] == "exact"


@pytest.mark.promise("M16")
def test_an_estimate_is_exact_on_pop3_too(
    api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    dovecot.deliver(on_dovecot["username"], mails(6))
    made = api.create(**on_dovecot | {"mode": "pop3", "port": dovecot.pop3_port})
    counted = api.http.post(f"connections/{made['id']}/estimate").json()
    assert (counted["new"], counted["total"], counted["unread"]) == (6, 6, None)
    assert counted["confidence"] == "exact"


@pytest.mark.promise("M19")
def test_a_silent_mail_server_holds_up_nobody_else(api: Api, on_dovecot: dict[str, Any]) -> None:
    api.admin.app_state.mail_server_work.timeout_s = 1.0
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent_port = silent.getsockname()[1]
            body = on_dovecot | {"port": silent_port, "timeout_ms": 20_000}
            report = api.http.post("connections/test", json=body).json()
            name, code = failed_step(report)
            assert code == "mail-server-slow"
            assert name
            made = api.create(**body)
            refused = api.http.post(f"connections/{made['id']}/estimate")
            assert problem(refused, 503)["code"] == "mail-server-slow"
            assert api.http.get(f"connections/{made['id']}").status_code == 200
    finally:
        api.admin.app_state.mail_server_work.timeout_s = 20.0


@pytest.mark.promise("M16")
def test_an_estimate_says_that_mails_of_other_labels_are_in_it(
    api: Api, gmail: GmailFront, gmail_dovecot: Dovecot, on_dovecot: dict[str, Any]
) -> None:
    """Gmail: which of them came through another label shows when they are fetched."""
    at_gmail = on_dovecot | {"port": gmail.port}
    inbox = api.create(**at_gmail)
    support = api.create(**at_gmail, folder="Support")
    gmail_dovecot.deliver(on_dovecot["username"], mails(2), "Support")
    path = f"connections/{support['id']}/estimate"
    counted = api.http.post(path).json()
    assert (counted["new"], counted["confidence"], counted["reason"]) == (2, "exact", "")
    api.execute(
        "INSERT INTO known_content (connection_id, folder, uid_validity, uid, digest, gmail_id) "
        "VALUES (%(id)s, '', 1, 1, 'x', 5)",
        id=inbox["id"],
    )
    counted = api.http.post(path).json()
    assert (counted["new"], counted["confidence"]) == (2, "partial")
    assert "another label" in counted["reason"]
