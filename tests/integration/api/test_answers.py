"""What every answer says of itself, where it leads, and where a request ends."""

from __future__ import annotations

import json
import re
import socket
import uuid
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx

from services.admin.auth import cookies
from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_rights_by_tag import add, browsers
from tests.rig.logins import browser_session
from tests.servers.postgres import PostgresServer

#: What no answer leaves to a browser, or to a proxy, to make of it what it likes.
SAID = {
    "cache-control",
    "content-security-policy",
    "referrer-policy",
    "x-content-type-options",
}


def test_every_kind_of_answer_says_how_it_is_treated(api: Api) -> None:
    tag = uuid.uuid4().hex[:8]
    own = add(api, f"mine-{tag}", [tag])
    large = b"x" * (3 << 20)
    with browsers(api, [tag]) as (browser, csrf), httpx.Client(base_url=api.url) as nobody:
        answers = {
            "page": browser.get("/connections"),
            "led on": browser.get("/"),
            "after a form": browser.post(
                f"/connections/{own.connection}/disable", data={"csrf": csrf}
            ),
            "refused": browser.get("/people"),
            "no page": browser.get("/nothing"),
            "no method": browser.put("/connections"),
            "forged": browser.post("/connections/new", data={"csrf": "x"}),
            "no bytes": browser.get(f"/mails/{own.message}/raw"),
            "frame": browser.get(f"/mails/{own.message}/content"),
            "script of the reference": browser.get("/reference/assets/swagger-ui.css"),
            "to the login": nobody.get("/connections"),
            "login": nobody.get("/login"),
            "picture": nobody.get("/favicon.ico"),
            "no file": nobody.get("/static/nothing.css"),
            "another host": nobody.get("/login", headers={"host": "other.example"}),
            "too large": nobody.post("/login", content=large),
            "API, no token": nobody.get("/api/v1/overview"),
            "API": api.http.get("connections"),
            "API, nothing there": api.http.get("connections/999999999"),
            "API, too large": api.http.post("connections", content=large),
        }
    missing = {
        f"{what} ({answer.status_code})": sorted(SAID - answer.headers.keys())
        for what, answer in answers.items()
        if not answer.headers.keys() >= SAID
    }
    assert missing == {}
    kept = {w for w, a in answers.items() if "no-store" not in a.headers["cache-control"]}
    assert kept == {"script of the reference"}
    assert {answers[one].status_code for one in ("too large", "API, too large")} == {413}


def test_a_body_with_two_lengths_is_refused_and_nothing_behind_it_is_read(api: Api) -> None:
    """A proxy that goes by the other length takes the rest for the request of somebody else."""
    address = urlsplit(api.url)
    smuggled = b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    request = (
        f"POST /api/v1/connections/bulk HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {5 + len(smuggled)}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ).encode()
    with socket.create_connection((address.hostname, address.port), timeout=30) as peer:
        peer.sendall(request + smuggled)
        answered = b""
        while piece := peer.recv(65536):
            answered += piece
    assert re.findall(rb"HTTP/1.1 (\d+)", answered) == [b"400"], "one answer, then the end"
    assert b"two-lengths" in answered


def test_no_address_that_a_caller_wrote_leads_to_another_site(api: Api) -> None:
    mine = api.create(tags=["mine"])["id"]  # disabled: to fetch from it is a conflict
    with browsers(api, ["mine"]) as (browser, csrf):
        for behind in ("//other.example/x", "/\\other.example", "/\t/other.example", "//"):
            headers = {"referer": api.url + behind}
            for script in ({}, {"x-form": "yes"}):
                answer = browser.post(
                    f"/connections/{mine}/fetch", data={"csrf": csrf}, headers=headers | script
                )
                to = answer.headers.get("location") or answer.headers["x-location"]
                assert to == "/" or to[:2] == "/%", (behind, to)
        back = {"referer": f"{api.url}/connections?q=x"}
        answer = browser.post(f"/connections/{mine}/fetch", data={"csrf": csrf}, headers=back)
        assert answer.headers["location"] == "/connections?q=x"
        # An absolute address is one of http where a proxy speaks https, and a link holds a token.
        assert browser.get("/connections/?q=x").headers["location"] == "/connections?q=x"
        assert browser.get("/nothing//").headers["location"] == "/nothing"
        assert browser.get(f"{api.url}//other.example/").headers["location"] == "/"


def test_over_https_no_other_host_leaves_a_notice(
    postgres: PostgresServer, schema_template: str, tmp_path: Path
) -> None:
    """A cookie that a neighbouring host can set would put its words on a page of ours."""
    url = postgres.create_database(schema_template)
    with Api(url, tmp_path, public_url="https://mail.example.org") as api:
        cookie, _ = browser_session(api.database, api.admin.app_state.vault, TOKEN, None)
        own = f"{cookies.name_of(cookies.SESSION, https=True)}={cookie}"

        def get(path: str, more: str = "") -> httpx.Response:
            headers = {"Host": "mail.example.org", "Cookie": own + more}
            return httpx.get(api.url + path, headers=headers)

        told = get(f"/quarantine/{uuid.uuid4()}").headers["set-cookie"]
        name, _, rest = told.partition("=")
        assert name == f"__Host-{cookies.NOTICE}"
        assert {"Secure", "HttpOnly", "Path=/"} <= {part.strip() for part in rest.split(";")}
        assert "not in quarantine any more" in get("/account", f"; {told.split(';')[0]}").text
        words = quote(json.dumps({"text": "canary", "tone": "bad"}))
        assert "canary" not in get("/account", f"; {cookies.NOTICE}={words}").text
    postgres.drop_database(url)
