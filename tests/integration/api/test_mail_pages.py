"""The page of a mail: its path is there, whatever the mail holds."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_logging_in_to_pages import log_in
from tests.integration.api.test_messages import add_mail

PATH = "Downloaded"


@pytest.fixture
def pages(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=60) as client:
        assert log_in(client, token=TOKEN).status_code == 303
        yield client


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200
    return html.unescape(answer.text)


@pytest.mark.promise("F1", "T1")
@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 9000,
        b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
            for n in range(1000)
        ),
        b"Content-Type: message/rfc822\r\n\r\n" * 1800,
        b"Content-Type: text/plain; charset*0*=''%ff; charset=\"\\\r\n\r\nx",
        b"Content-Disposition: attachment" + b"; filename*%d*=x" * 3000 + b"\r\n\r\nx",
        b"Content-Type: text/html\r\n\r\n" + b"<div>" * 10_000,
        b"To: " + b"(" * 54_000 + b"\r\n\r\nx",
        b"\0" * 3000,
    ],
    ids=range(8),
)
def test_the_path_is_shown_whatever_a_mail_holds(raw: bytes, api: Api, pages: httpx.Client) -> None:
    mail = add_mail(api, api.create()["id"], raw=raw)
    assert PATH in text_of(pages.get(f"/mails/{mail}"))
    assert pages.get(f"/mails/{mail}/content").status_code == 200


def test_a_mail_whose_bytes_are_gone_still_shows_its_path(api: Api, pages: httpx.Client) -> None:
    mail = add_mail(api, api.create()["id"], columns={"raw_key": "raw/nowhere"})
    shown = text_of(pages.get(f"/mails/{mail}"))
    assert PATH in shown and "What it says" in shown


@pytest.mark.promise("F1")
def test_page_and_api_show_names_and_what_others_read_differently(
    api: Api, pages: httpx.Client
) -> None:
    columns: dict[str, Any] = {
        "sender": "anna@example.org",
        "sender_name": "Anna <boss@corp.example>",
        "recipients": ["b@example.org", "c@example.org"],
        "recipient_names": ["Bob", ""],
        "findings": json.dumps([{"kind": "duplicate-from", "where": 7, "detail": "from"}]),
    }
    mail = add_mail(api, api.create()["id"], columns=columns)
    shown = " ".join(text_of(pages.get(f"/mails/{mail}")).split())
    assert "Anna <boss@corp.example> <anna@example.org>" in shown
    assert "Bob <b@example.org>, c@example.org" in shown
    assert "duplicate from" in shown
    said = api.http.get(f"messages/{mail}").json()
    assert (said["sender"], said["sender_name"]) == (columns["sender"], columns["sender_name"])
    assert said["recipient_names"] == ["Bob", ""]
    assert said["findings"] == [{"kind": "duplicate-from", "detail": "from"}]
    found = api.http.get("messages", params={"q": "anna <BOSS@corp"}).json()["items"]
    assert [one["id"] for one in found] == [str(mail)]


def test_what_was_read_inside_an_encryption_is_for_who_may_read_mails(
    api: Api, pages: httpx.Client
) -> None:
    security = {"encrypted": True, "status": "decrypted", "headers": {"subject": "Secret plan"}}
    mail = add_mail(
        api, api.create()["id"], columns={"security": json.dumps(security), "subject": "..."}
    )
    assert "Secret plan" in text_of(pages.get(f"/mails/{mail}"))
    assert "Secret plan" not in api.http.get(f"messages/{mail}").text
