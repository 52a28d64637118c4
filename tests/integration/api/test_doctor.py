"""The doctor through the API, the command and the pages, over a real Dovecot."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import TOKEN, Api, Posthouse
from tests.integration.api.test_logging_in_to_pages import log_in
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import PASSWORD

pytestmark = pytest.mark.promise("M25")


@pytest.fixture
def connection(api: Api, dovecot: Dovecot, on_dovecot: dict[str, Any]) -> dict[str, Any]:
    dovecot.deliver(on_dovecot["username"], [b"Subject: Gehalt\r\n\r\nstreng geheim\r\n"])
    return api.create(**on_dovecot)


def test_the_api_says_what_was_understood_and_changes_nothing(
    api: Api, dovecot: Dovecot, connection: dict[str, Any]
) -> None:
    before = dovecot.flags(connection["username"])
    report = api.http.post(f"connections/{connection['id']}/doctor").json()
    assert report["healthy"], report
    assert report["recording"] is None
    forms = {row["form"]: row for row in report["rows"]}
    assert forms["UID FETCH set (UID BODY.PEEK[])"]["verdict"] == "understood"
    assert forms["IDLE"]["milliseconds"] is not None
    assert any(
        row["verdict"] == "not-asked" and "UID STORE" in row["form"] for row in report["rows"]
    )
    assert dovecot.flags(connection["username"]) == before
    assert api.execute(
        "SELECT count(*) FROM audit WHERE action = 'examine' AND subject = %(s)s",
        s=f"connection/{connection['id']}",
    ) == [(1,)]
    assert api.execute(
        "SELECT count(*) FROM message WHERE connection_id = %(i)s", i=connection["id"]
    ) == [(0,)]


def test_the_command_shows_a_recording_before_it_writes_it(
    posthouse: Posthouse, connection: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "recording.json"
    shown = posthouse("doctor", connection["name"], "--record", str(file))
    assert shown.code == 1  # nobody is there to read it, and nobody said --yes
    assert not file.exists()
    ran = posthouse("doctor", connection["name"], "--record", str(file), "--yes")
    assert ran.code == 0, ran.err
    assert "understood: Download a mail" in ran.out
    written = file.read_text(encoding="utf-8")
    assert written.strip() in ran.err
    for secret in (connection["username"], PASSWORD, "Gehalt", "geheim", "127.0.0.1"):
        assert f'"{secret}"' not in written
        assert secret == PASSWORD or secret not in written
    assert json.loads(written)["format"] == "posthouse-recording/1"
    assert posthouse("doctor", connection["name"], "--json").json["healthy"] is True


def test_an_ill_server_ends_the_command_with_1(
    posthouse: Posthouse, api: Api, on_dovecot: dict[str, Any]
) -> None:
    made = api.create(**(on_dovecot | {"password": "wrong"}))
    ran = posthouse("doctor", made["name"])
    assert ran.code == 1
    assert "refused: Log in" in ran.out


def test_the_page_has_a_button_and_shows_the_report(api: Api, connection: dict[str, Any]) -> None:
    field = re.compile(r'name="csrf" value="([^"]+)"')
    with httpx.Client(base_url=api.url, timeout=120) as client:
        assert log_in(client, token=TOKEN).status_code == 303
        page = client.get(f"/connections/{connection['id']}")
        assert f"/connections/{connection['id']}/doctor" in page.text
        token = field.search(page.text)
        assert token
        answer = client.post(f"/connections/{connection['id']}/doctor", data={"csrf": token[1]})
    text = html.unescape(answer.text)
    assert answer.status_code == 200, text
    assert "The server understands everything that was asked" in text
    assert "Download a mail" in text
    assert "posthouse-recording/1" in text
    assert "streng geheim" not in text
