"""The audit log answers who did something, also where nothing was changed by it."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from services.admin.auth.token_guesses import WRONG_TOKENS
from shared.messages import RawRef
from tests.integration.api.conftest import Api
from tests.integration.api.test_access import add_token
from tests.integration.api.test_messages import add_mail, quarantine


def entries(api: Api, subject: str) -> list[tuple[str, str]]:
    items = api.http.get("audit", params={"subject": subject}).json()["items"]
    return [(entry["actor"], entry["action"]) for entry in items]


def token_of(api: Api, role: str) -> tuple[httpx.Client, str]:
    token = add_token(api, role)
    ((name,),) = api.execute("SELECT name FROM api_token ORDER BY id DESC LIMIT 1")
    return api.as_token(token), f"token {name}"


@pytest.mark.promise("T1")
def test_who_read_a_mail_is_written_down_once_in_a_while(api: Api) -> None:
    made = api.create()
    mail = add_mail(api, made["id"])
    reader, name = token_of(api, "operator")
    with reader:
        for _ in range(5):
            assert reader.get(f"messages/{mail}/raw").status_code == 200
        assert reader.get(f"messages/{mail}").status_code == 200
    assert entries(api, f"message/{mail}") == [(name, "read mail")]


def test_looking_at_the_path_is_no_reading_and_a_handler_reads_what_it_was_given(api: Api) -> None:
    made = api.create()
    handler = api.http.post("handlers", json={"name": f"h-{uuid.uuid4().hex[:6]}"}).json()
    mail = add_mail(api, made["id"], handler_id=handler["id"])
    viewer, _ = token_of(api, "viewer")
    with viewer, api.as_token(handler["token"]) as program:
        assert viewer.get(f"messages/{mail}").status_code == 200
        assert program.get(f"messages/{mail}/raw").status_code == 200
    assert entries(api, f"message/{mail}") == []


def test_who_read_a_quarantined_mail(api: Api) -> None:
    made = api.create()
    mail = add_mail(api, made["id"])
    ((key,),) = api.execute("SELECT raw_key FROM message WHERE id = %(id)s", id=mail)
    entry = uuid.uuid4()
    quarantine(api, entry, made["id"], RawRef(key, 0, 9))
    reader, name = token_of(api, "operator")
    with reader:
        assert reader.get(f"quarantine/{entry}/raw").status_code == 200
    assert entries(api, f"quarantine/{entry}") == [(name, "read mail")]


def test_who_made_this_machine_connect_somewhere(api: Api, on_dovecot: dict[str, Any]) -> None:
    tester, name = token_of(api, "operator")
    with tester:
        for _ in range(2):
            tester.post("connections/test", json=on_dovecot)
    assert entries(api, f"host/{on_dovecot['host']}:{on_dovecot['port']}") == [(name, "test")]


def test_refused_tokens_are_written_down_and_do_not_fill_the_log(api: Api) -> None:
    assert api.http.get("overview").status_code == 200
    api.execute("DELETE FROM audit WHERE action = 'token refused'")
    for _ in range(WRONG_TOKENS + 5):
        httpx.get(
            f"{api.url}/api/v1/overview", headers={"Authorization": f"Bearer {uuid.uuid4().hex}"}
        )
    assert entries(api, "network/127.0.0.1").count(("nobody", "token refused")) == 1
