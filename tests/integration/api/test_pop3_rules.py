"""What a POP3 server's rules make impossible is refused before anything is fetched, and said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_connections import problem
from tests.integration.api.test_logging_in_to_pages import browser, is_in, log_in
from tests.rig.mails import mail
from tests.servers.mail_server import PASSWORD
from tests.servers.mailutils import Mailutils
from tests.servers.pop3_rules import RuledPop3, gmail_rules

MAILS = [mail(number, 900, seed=4) for number in range(4)]


def fields(server: RuledPop3, **more: Any) -> dict[str, Any]:
    return {
        "mode": "pop3",
        "host": server.host,
        "port": server.pop3_port,
        "security": "none",
        "username": "alice",
        "password": "secret",
        **more,
    }


@pytest.fixture
def gmail_pop3() -> Iterator[RuledPop3]:
    with gmail_rules(login_delay=300) as server:
        server.deliver("alice", MAILS)
        yield server


@pytest.fixture
def without_top() -> Iterator[RuledPop3]:
    with RuledPop3(top=False) as server:
        server.deliver("alice", MAILS)
        yield server


def codes(found: dict[str, Any]) -> set[str]:
    return {warning["code"] for warning in found["warnings"]}


@pytest.mark.rooted
@pytest.mark.promise("M14", "M27")
def test_a_test_warns_at_a_real_mailutils_that_lets_go_of_what_was_fetched(
    api: Api, mailutils: Mailutils, mail_user: str
) -> None:
    """It announces `EXPIRE0`, without the space of RFC 2449."""
    mailutils.deliver(mail_user, MAILS)
    asked = {
        "mode": "pop3",
        "host": mailutils.host,
        "port": mailutils.pop3_port,
        "security": "none",
        "username": mail_user,
        "password": PASSWORD,
    }
    report = api.http.post("connections/test", json=asked).json()
    assert report["ok"], report
    assert report["capabilities"]["expires_days"] == 0
    (warning,) = [one for one in report["warnings"] if one["code"] == "server-deletes"]
    assert warning["serious"]
    assert "EXPIRE 0" in warning["text"]
    assert "pop3-keeps" not in {one["code"] for one in report["warnings"]}, "they do not stay"
    assert len(mailutils.flags(mail_user)) == len(MAILS)


@pytest.mark.promise("M14")
def test_a_test_says_by_which_rules_the_server_keeps_mails(api: Api, gmail_pop3: RuledPop3) -> None:
    report = api.http.post("connections/test", json=fields(gmail_pop3)).json()
    assert report["ok"], report
    capabilities = report["capabilities"]
    assert (capabilities["window"], capabilities["expires_days"]) == (True, 0)
    assert (capabilities["login_delay"], capabilities["dates"]) == (300, True)
    assert {"pop3-window", "login-delay"} <= codes(report)
    assert gmail_pop3.listed("alice") == MAILS


@pytest.mark.promise("M14", "M7")
@pytest.mark.parametrize(
    ("rules", "code", "serious"),
    [({"expire": 0}, "server-deletes", True), ({"counts": lambda there: 0}, "miscounts", False)],
)
def test_a_server_that_deletes_what_was_fetched_or_miscounts_is_warned_of(
    rules: dict[str, Any], code: str, serious: bool, api: Api
) -> None:
    with RuledPop3(**rules) as server:
        server.deliver("alice", MAILS)
        made = api.create(**fields(server))
        report = api.http.post(f"connections/{made['id']}/test").json()
        counted = api.http.post(f"connections/{made['id']}/estimate").json()
    for found in (report, counted):
        (warning,) = (w for w in found["warnings"] if w["code"] == code)
        assert warning["serious"] == serious
    assert counted["total"] == len(MAILS)


@pytest.mark.promise("M17")
@pytest.mark.parametrize("start", ["now", "2026-06-01"])
@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_start_that_strands_mails_at_gmail_is_refused_with_what_to_choose(
    api: Api, start: str, acknowledged: bool
) -> None:
    with gmail_rules() as server:
        server.deliver("alice", MAILS)
        made = api.create(**fields(server))
        body = {"start_from": start, "acknowledged": acknowledged}
        answer = api.http.post(f"connections/{made['id']}/enable", json=body)
        found = problem(answer, 422)
        assert found["field"] == "start_from"
        assert "POP for mail that arrives from now on" in found["hint"]
        assert not api.http.get(f"connections/{made['id']}").json()["enabled"]
        counted = api.http.post(f"connections/{made['id']}/estimate", json={"start_from": start})
        assert problem(counted, 422)["field"] == "start_from"
        everything = {"start_from": "everything", "acknowledged": True}
        api.http.post(f"connections/{made['id']}/enable", json=everything).raise_for_status()


@pytest.mark.promise("M17")
@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_date_on_a_server_without_dates_is_refused_with_what_to_choose(
    api: Api, without_top: RuledPop3, acknowledged: bool
) -> None:
    made = api.create(**fields(without_top, after_download="delete"))
    body = {"start_from": "2026-06-01", "acknowledged": acknowledged}
    found = problem(api.http.post(f"connections/{made['id']}/enable", json=body), 422)
    assert found["field"] == "start_from"
    assert "Start from everything" in found["hint"]
    created = fields(without_top, name="at once", enabled=True, **body)
    assert problem(api.http.post("connections", json=created), 422)["field"] == "start_from"
    now = {"start_from": "now"}
    api.http.post(f"connections/{made['id']}/enable", json=now).raise_for_status()


@pytest.mark.promise("M16")
def test_an_estimate_says_how_many_mails_could_not_be_dated(api: Api) -> None:
    refused = [MAILS[1]]
    with RuledPop3(refuse_top=lambda mail: b"try again" if mail.raw in refused else None) as server:
        undated = b"Subject: no date\r\n\r\ntext\r\n"
        server.deliver("alice", [*MAILS, undated])
        made = api.create(**fields(server))
        path = f"connections/{made['id']}/estimate"
        counted = api.http.post(path, json={"start_from": "2026-05-01"}).json()
        assert (counted["new"], counted["confidence"]) == (3, "partial")
        assert "2 more could not be dated" in counted["reason"]


@pytest.mark.promise("M17")
def test_the_page_says_it_beside_the_choice(api: Api, without_top: RuledPop3) -> None:
    made = api.create(**fields(without_top))
    with browser(api) as client:
        assert is_in(log_in(client, token=TOKEN))
        csrf = re.search(r'name="csrf" value="([^"]+)"', client.get("/account").text)
        assert csrf
        form = {
            "csrf": csrf[1],
            "start_from": "since",
            "since": "2026-06-01",
            "acknowledged": "yes",
        }
        page = client.post(f"/connections/{made['id']}/enable", data=form)
    assert page.status_code == 422
    assert "does not tell when its mails arrived" in page.text
    assert "Start from everything" in page.text
