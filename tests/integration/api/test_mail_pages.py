"""The page of a mail: its path is there, whatever the mail holds."""

from __future__ import annotations

import html
import json
import re
import uuid
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import TOKEN, Api, Posthouse
from tests.integration.api.test_access import add_token
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


#: Controls of a terminal (C0, C1), and of the order in which text is shown (Bidi_Control).
CONTROLS = "\x1b\x9b\x85\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.promise("T1")
def test_no_control_of_a_stranger_reaches_a_page_or_a_terminal(
    api: Api, pages: httpx.Client, posthouse: Posthouse
) -> None:
    mark = uuid.uuid4().hex[:8]
    odd = f"invoice{CONTROLS}fdp.exe {mark}"
    raw = f"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{odd}\r\n".encode()
    words = {"subject": odd, "sender_name": odd, "sender": f"a{CONTROLS}@example.org"}
    mail = add_mail(api, api.create()["id"], raw=raw, columns=words)
    seen = [pages.get(f"/mails/{mail}"), pages.get("/mails", params={"q": mark})]
    for answer in seen:
        text = text_of(answer)
        assert f"invoicefdp.exe {mark}" in text
        assert not set(CONTROLS) & set(text)
    for given in ((), ("--json",)):
        for words_of in (("list", "-q", mark), ("show", str(mail))):
            ran = posthouse("messages", *words_of, *given)
            assert ran.code == 0, ran.err
            assert not set(CONTROLS) & set(ran.out)
            if given:
                assert json.dumps(odd)[1:-1] in json.dumps(ran.json)


@pytest.mark.promise("T1")
def test_no_control_of_a_stranger_is_in_the_html_of_a_mail(api: Api, pages: httpx.Client) -> None:
    """As themselves, and as what HTML calls them."""
    named = "".join(f"&#{ord(one)};&#x{ord(one):X};" for one in CONTROLS) + "&lrm;&rlm;"
    html = f"<p>invoice{CONTROLS}{named}fdp.exe</p><bdo dir=rtl>abc</bdo><b dir=rtl>d</b>"
    raw = f"Subject: x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}".encode()
    mail = add_mail(api, api.create()["id"], raw=raw)
    shown = pages.get(f"/mails/{mail}/content").text
    # HTML reads &#x80; to &#x9F; as windows-1252 (section 13.2.5.80): these are "…" and "›".
    assert "<p>invoicefdp.exe</p>" in re.sub("[…›]", "", shown)
    assert not set(CONTROLS) & set(shown)
    assert "dir=" not in shown and "<bdo" not in shown


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


@pytest.mark.promise("F4", "H3")
def test_the_page_of_a_mail_shows_its_thread_and_its_parts(api: Api, pages: httpx.Client) -> None:
    made = EmailMessage()
    made.set_content("Hello")
    made.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="plan.pdf")
    root = add_mail(
        api,
        api.create()["id"],
        raw=made.as_bytes(),
        columns={"facts": '{"n": 1}', "message_id": "<of a page@x>", "subject": "The plan"},
    )
    answer = add_mail(
        api,
        api.create()["id"],
        columns={
            "facts": '{"k": "auto-reply"}',
            "kind": "auto-reply",
            "thread": "<of a page@x>",
            "subject": "Re: The plan",
        },
    )
    shown = " ".join(text_of(pages.get(f"/mails/{root}")).split())
    assert 'The plan <span class="quiet">(this mail)</span>' in shown
    assert f'<a href="/mails/{answer}">Re: The plan</a>' in shown
    assert f'<a href="/mails/{root}/parts/2" download>plan.pdf</a>' in shown
    assert pages.get(f"/mails/{root}/parts/2").content == b"%PDF"
    (link,) = re.findall(r'href="(/mails\?thread=[^"]+)"', shown)
    listed = text_of(pages.get(link))
    assert f"/mails/{root}" in listed and f"/mails/{answer}" in listed
    assert "1 attachment" in listed and "Automatic reply" in listed
    listed = text_of(pages.get(f"{link}&kind=auto-reply&attachment=no"))
    assert f"/mails/{root}" not in listed and f"/mails/{answer}" in listed
    alone = add_mail(api, api.create()["id"], columns={"facts": "{}", "message_id": "<alone@x>"})
    assert "<h2>Thread</h2>" not in text_of(pages.get(f"/mails/{alone}"))


def test_what_was_read_inside_an_encryption_is_for_who_may_read_mails(
    api: Api, pages: httpx.Client
) -> None:
    security = {"encrypted": True, "status": "decrypted", "headers": {"subject": "Secret plan"}}
    mail = add_mail(
        api, api.create()["id"], columns={"security": json.dumps(security), "subject": "..."}
    )
    assert "Secret plan" in text_of(pages.get(f"/mails/{mail}"))
    told = api.http.get(f"messages/{mail}").json()
    assert (told["subject"], told["headers"]["subject"]) == ("...", "Secret plan")
    with api.as_token(add_token(api, "viewer")) as viewer:
        told = viewer.get(f"messages/{mail}")
        assert told.json()["headers"] is None
        assert "Secret plan" not in told.text


@pytest.mark.promise("T1")
def test_mails_that_stay_encrypted_are_told_without_a_search(
    api: Api, pages: httpx.Client, posthouse: Posthouse
) -> None:
    """On the overview, on their connection's page and by the command, until they are opened."""
    made, other = api.create(), api.create()
    before = api.http.get("overview").json()["undecrypted"]
    shut = [str(add_mail(api, made["id"], columns={"undecrypted": True})) for _ in range(2)]
    assert api.http.get("overview").json()["undecrypted"] == before + 2
    assert "of the last day stayed encrypted" in text_of(pages.get("/"))
    assert f"stayed encrypted, last day  {before + 2}" in posthouse("overview").out
    page = text_of(pages.get(f"/connections/{made['id']}"))
    assert "2 mails of the last day stayed encrypted" in page
    listed = text_of(pages.get(f"/mails?state=undecrypted&connection={made['id']}"))
    assert all(f"/mails/{one}" in listed for one in shut)
    assert "stayed encrypted" not in text_of(pages.get(f"/connections/{other['id']}"))
    for one in shut:
        api.execute("UPDATE message SET undecrypted = false WHERE id = %(id)s", id=uuid.UUID(one))
    assert "stayed encrypted" not in text_of(pages.get(f"/connections/{made['id']}"))


@pytest.mark.promise("R3")
def test_mails_that_no_handler_wants_are_told_on_the_overview(
    api: Api, pages: httpx.Client, posthouse: Posthouse
) -> None:
    """As many as the list has that it leads to: not one that is on its way again."""
    made = api.create()
    before = api.http.get("overview").json()["unwanted"]
    left = [str(add_mail(api, made["id"], columns={"unwanted": True})) for _ in range(2)]
    assert api.http.get("overview").json()["unwanted"] == before + 2
    page = text_of(pages.get("/"))
    assert "of the last day that no handler wants" in page
    assert 'href="/mails?state=unwanted"' in page
    assert f"wanted by no handler, last day  {before + 2}" in posthouse("overview").out
    again = (
        "INSERT INTO outbox (message_id, connection_id, next_attempt_at)"
        " VALUES (%(id)s, %(connection)s, now())"
    )
    api.execute(again, id=uuid.UUID(left[0]), connection=made["id"])
    assert api.http.get("overview").json()["unwanted"] == before + 1
    listed = text_of(pages.get(f"/mails?state=unwanted&connection={made['id']}"))
    assert [f"/mails/{one}" in listed for one in left] == [False, True]


@pytest.mark.promise("F4")
def test_the_page_of_a_mail_shows_the_files_of_a_mail_in_it(api: Api, pages: httpx.Client) -> None:
    inner = EmailMessage()
    inner.set_content("inner")
    inner.add_attachment(b"PK", maintype="application", subtype="zip", filename="in.zip")
    made = EmailMessage()
    made.set_content("Hello")
    made.add_attachment(inner, filename="fwd.eml")
    found = add_mail(api, api.create()["id"], raw=made.as_bytes())
    shown = " ".join(text_of(pages.get(f"/mails/{found}")).split())
    line = f'<a href="/mails/{found}/parts/2.2" download>in.zip</a> <span class="quiet">'
    assert f"{line}application/zip, 2 B, part 2.2 within 2</span>" in shown
    assert pages.get(f"/mails/{found}/parts/2.2").content == b"PK"


def test_the_page_of_a_mail_says_what_of_a_part_cannot_be_read(
    api: Api, pages: httpx.Client
) -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n"
        b"Content-Type: application/ms-tnef; name=winmail.dat\r\n\r\nnone\r\n--b--\r\n"
    )
    found = add_mail(api, api.create()["id"], raw=raw)
    shown = text_of(pages.get(f"/mails/{found}"))
    assert 'unreadable tnef <span class="quiet">(part 2)</span>' in shown
