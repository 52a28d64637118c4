"""What a mail says of itself: in the API, on its page, in the command, for who may read mails."""

from __future__ import annotations

import json
import re
import uuid

import httpx
import pytest

from services.admin.auth.cookies import SESSION
from tests.integration.api.conftest import TOKEN, Api, Posthouse
from tests.integration.api.test_access import add_token
from tests.integration.api.test_connections import problem
from tests.integration.api.test_logging_in_to_pages import log_in
from tests.integration.api.test_messages import add_mail
from tests.rig.logins import browser_session

pytestmark = [pytest.mark.promise("F4"), pytest.mark.promise("H3")]

BOUNCE = (
    b"X-Spam-Status: No, score=1.5\r\n"
    b"Return-Path: <>\r\nDelivered-To: Desk <support+4711@example.com>\r\n"
    b"Authentication-Results: mx.example.com; spf=pass smtp.mailfrom=a.example; dmarc=fail\r\n"
    b"Authentication-Results: mx.stranger.example; dkim=pass\r\n"
    b"From: Mail Delivery System <MAILER-DAEMON@mx.example.com>\r\n"
    b"Reply-To: Help <help@example.com>\r\nSubject: Undelivered\r\n\r\n"
    b"Sorry.\r\n\r\n<bob@gone.example>:\r\nNo such <b>person</b> here. (#5.1.1)\r\n\r\n"
    b"--- Below is the copy.\r\n\r\nReturn-Path: <us@example.com>\r\n"
    b"Message-ID: <1@example.com>\r\n"
)
KNOWN = {"facts": '{"k": "bounce"}', "kind": "bounce"}
NOBODY = {"name": "", "address": ""}


def add(api: Api) -> uuid.UUID:
    connection = api.create(trusted_servers="mx.example.com")
    return add_mail(api, connection["id"], raw=BOUNCE, columns=KNOWN)


def test_the_api_has_them_as_the_event_does(api: Api) -> None:
    found = api.http.get(f"messages/{add(api)}/facts").json()
    assert found == {
        "kind": "bounce",
        "evidence": [{"field": "return-path", "value": "<>"}],
        "auto_reply_suppressed": False,
        "bounce": {
            "action": "failed",
            "status": "5.1.1",
            "recipient": "bob@gone.example",
            "diagnostic": "No such <b>person</b> here. (#5.1.1)",
            "original_message_id": "<1@example.com>",
            "diagnostic_is_from_text": True,
        },
        "authentication": [
            {"method": "spf", "result": "pass", "domain": "a.example"},
            {"method": "dmarc", "result": "fail", "domain": ""},
        ],
        "spam": {"verdict": "ham", "score": 1.5},
        "reply_to": [{"name": "Help", "address": "help@example.com"}],
        "sender": None,
        "return_path": NOBODY,
        "delivered_to": [{"name": "Desk", "address": "support+4711@example.com", "tag": "4711"}],
        "list_id": "",
        "in_reply_to": [],
        "references": [],
        "findings": [],
    }


def test_the_findings_are_those_of_header_layers_and_structure(
    api: Api, posthouse: Posthouse
) -> None:
    inner = {"kind": "several-authors", "where": 3, "detail": "from"}
    columns = {
        "findings": json.dumps([{"kind": "duplicate-from", "where": 7, "detail": "from"}]),
        "security": json.dumps({"headers": {"subject": "Inside"}, "findings": [inner]}),
    }
    raw = (
        b"Subject: Outside\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"Hidden?\r\n--b\r\n\r\nText\r\n--b--\r\n"
    )
    mail = add_mail(api, api.create()["id"], raw=raw, columns=columns)
    found = api.http.get(f"messages/{mail}/facts").json()["findings"]
    kinds = [one["kind"] for one in found]
    assert kinds == ["duplicate-from", "several-authors", "text-outside-parts"]
    assert set(found[1]) == {"kind", "detail"}
    shown = " ".join(posthouse("messages", "show", str(mail)).out.split())
    assert f"ambiguous {', '.join(kinds)}" in shown
    with httpx.Client(base_url=api.url, timeout=60) as pages:
        assert log_in(pages, token=TOKEN).status_code == 303
        page = pages.get(f"/mails/{mail}").text
    assert all(kind.replace("-", " ") in page for kind in kinds)


def test_of_a_connection_that_is_gone_nobody_s_results_are_believed(api: Api) -> None:
    mail = add(api)
    api.execute("DELETE FROM connection")
    found = api.http.get(f"messages/{mail}/facts").json()
    assert (found["kind"], found["authentication"], found["spam"]) == ("bounce", [], None)
    nothing = problem(api.http.get(f"messages/{uuid.uuid4()}/facts"), 404)
    assert "There is no mail" in nothing["detail"]


def test_the_page_shows_them(api: Api) -> None:
    mail = add(api)
    with httpx.Client(base_url=api.url, timeout=60) as pages:
        assert log_in(pages, token=TOKEN).status_code == 303
        page = pages.get(f"/mails/{mail}").text
    facts = page.partition("<h2>Facts</h2>")[2].partition("</section>")[0]
    said = " ".join(re.sub("<[^>]+>", " ", facts).split())
    for text in (
        "return-path: &lt;&gt;",
        "Bounce Failed 5.1.1 bob@gone.example",
        "No such &lt;b&gt;person&lt;/b&gt; here. (#5.1.1) (as its text says)",
        "Authentication SPF pass a.example DMARC fail",
        "Spam Not spam score 1.5",
        "Delivered to Desk &lt;support+4711@example.com&gt; tag 4711",
        "Return path null",
        "Reply to Help &lt;help@example.com&gt;",
    ):
        assert text in said, said
    assert "stranger" not in said
    assert f'href="/mails?q={"1%40example.com"}"' in facts


def test_the_command_shows_them(api: Api, posthouse: Posthouse) -> None:
    mail = add(api)
    shown = " ".join(posthouse("messages", "show", str(mail)).out.split())
    for text in (
        "evidence return-path: <>",
        "bounce failed 5.1.1 bob@gone.example",
        "diagnostic No such <b>person</b> here. (#5.1.1) (as its text says)",
        "came back <1@example.com>",
        "authentication spf=pass a.example, dmarc=fail",
        "spam ham, score 1.5",
        "delivered to Desk <support+4711@example.com> (tag 4711)",
        "return path null: nobody waits for an answer",
    ):
        assert text in shown, shown
    assert posthouse("messages", "show", str(mail), "--json").json["facts"]["kind"] == "bounce"


def test_who_may_not_read_mails_sees_none_of_them(
    api: Api, posthouse: Posthouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail, token = add(api), add_token(api, "viewer")
    monkeypatch.setenv("POSTHOUSE_TOKEN", token)
    shown = posthouse("messages", "show", str(mail))
    assert (shown.code, "bob@gone.example" in shown.out) == (0, False)
    assert "facts" not in shown.out
    assert posthouse("messages", "show", str(mail), "--json").json["facts"] is None
    ((person,),) = api.execute(
        "INSERT INTO person (name, role) VALUES (%(n)s, 'viewer') RETURNING id",
        n=f"viewer-{uuid.uuid4().hex[:6]}",
    )
    cookie, _ = browser_session(api.database, api.admin.app_state.vault, TOKEN, person)
    with httpx.Client(base_url=api.url, cookies={SESSION: cookie}, timeout=60) as pages:
        page = pages.get(f"/mails/{mail}").text
    assert "Your role does not show what mails say." in page
    assert "bob@gone.example" not in page


def test_what_keeps_them_from_being_read_is_told(api: Api, posthouse: Posthouse) -> None:
    mail = add(api)
    api.execute("UPDATE message SET raw_key = 'gone' WHERE id = %(id)s", id=mail)
    shown = posthouse("messages", "show", str(mail))
    assert shown.code == 0
    assert re.search("^facts +[A-Z]", shown.out, re.MULTILINE), shown.out


def test_a_thread_is_shown_by_the_dates_of_its_mails(api: Api) -> None:
    """Not as they were downloaded; a date that cannot be counts for nothing, and equal ones leave
    it to the arrival."""
    dates = ("2026-01-03", "2026-01-01", "9999-01-01", "2026-01-02", *["2026-01-04"] * 4)
    arrivals = (*[None] * 4, "2026-01-07", "2026-01-05", "2026-01-06", "2026-01-07")
    box = api.create()["id"]
    thread = f"<{uuid.uuid4().hex}@example.org>"
    for place, (date, arrival) in enumerate(zip(dates, arrivals, strict=True)):
        columns = {"thread": thread, "facts": "{}", "sent_at": date, "subject": f"Mail {place}"}
        columns |= {"arrived_at": arrival} if arrival else {}
        mail = add_mail(api, box, columns=columns)
    with httpx.Client(base_url=api.url, timeout=60) as pages:
        assert log_in(pages, token=TOKEN).status_code == 303
        page = pages.get(f"/mails/{mail}").text
        found = pages.get("/mails", params={"thread": thread}).text
        anything = pages.get("/mails").text
    shown = page.partition('aria-label="Mails of this thread')[2].partition("</ol>")[0]
    assert re.findall(r"Mail \d", shown) == [f"Mail {n}" for n in (2, 7, 4, 6, 5, 0, 3, 1)]
    assert re.search('name="thread" value=""', anything)
    assert len(re.findall(r">Mail \d<|<bdi>Mail \d", found)) == len(dates)
