"""Fetching large mails: the token opens the API, and nobody else gets to see it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from posthouse import (
    AccessRefused,
    InvalidEvent,
    MailEvent,
    NoSuchPart,
    PosthouseError,
    RawMismatch,
    Reject,
    Retry,
    SourceLost,
    TimedOut,
    Unverified,
)
from posthouse.event_data import Raw
from posthouse.raw import RawUnavailable
from posthouse.testing import make_event

MAIL = b"Subject: large\r\n\r\n" + b"x" * 100_000


class Site:
    """An HTTP server that answers `paths` and remembers the Authorization headers."""

    def __init__(self) -> None:
        self.tokens: list[str | None] = []
        self.redirect_to = ""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.tokens.append(self.headers.get("Authorization"))
                if self.path == "/redirect":
                    self.send_response(302)
                    self.send_header("Location", site.redirect_to)
                    self.end_headers()
                    return
                if "/parts/" in self.path:
                    said = b'{"code": "no-such-part"}' if self.path.endswith("/9") else b"[no JSON"
                    self.send_response(404)
                    self.send_header("Content-Length", str(len(said)))
                    self.end_headers()
                    self.wfile.write(said)
                    return
                if self.path != "/raw":
                    self.send_error(int(self.path[1:]))
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(MAIL)))
                self.end_headers()
                self.wfile.write(MAIL)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def api() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def store() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def by_reference(url: str) -> MailEvent:
    return replace(
        make_event(), raw=Raw(url=url), size=len(MAIL), sha256=hashlib.sha256(MAIL).hexdigest()
    )


def test_it_is_fetched_with_the_token(api: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_reference(f"{api.url}/raw").raw_bytes(token="t1", posthouse_url=api.url) == MAIL
    monkeypatch.setenv("POSTHOUSE_HANDLER_TOKEN", "t2")
    monkeypatch.setenv("POSTHOUSE_URL", f"{api.url}/")
    with by_reference(f"{api.url}/raw").open_raw() as stream:
        assert stream.read(7) == MAIL[:7]
    assert api.tokens == ["Bearer t1", "Bearer t2"]


def test_the_token_goes_nowhere_but_to_its_own_origin(api: Site, store: Site) -> None:
    elsewhere = store.url.removeprefix("http://")
    for url in (
        f"{store.url}/raw",  # another port is another origin
        f"{store.url.replace('127.0.0.1', 'localhost')}/raw",
        f"{api.url}@{elsewhere}/raw",
        f"{api.url}\\@{elsewhere}/raw",
        f"{api.url.replace('http:', 'https:')}/raw",
        f"//{elsewhere}/raw",
    ):
        with pytest.raises(RawUnavailable, match="POSTHOUSE_URL"):
            by_reference(url).raw_bytes(token="secret", posthouse_url=api.url)
    assert api.tokens == store.tokens == []


def test_without_a_known_origin_nothing_is_sent(api: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTHOUSE_URL", raising=False)
    with pytest.raises(RawUnavailable, match="set POSTHOUSE_URL"):
        by_reference(f"{api.url}/raw").raw_bytes(token="secret")
    assert api.tokens == []


def test_redirects_are_refused(api: Site, store: Site) -> None:
    for target in (store, api):
        api.redirect_to = f"{target.url}/raw"
        with pytest.raises(RawUnavailable, match="redirects are not followed"):
            by_reference(f"{api.url}/redirect").raw_bytes(token="secret", posthouse_url=api.url)
    assert api.tokens == ["Bearer secret", "Bearer secret"]
    assert store.tokens == []


@pytest.mark.parametrize(("status", "said"), [(401, "TOKEN"), (403, "handler"), (404, "retention")])
def test_refusals_say_what_to_do(api: Site, status: int, said: str) -> None:
    with pytest.raises(RawUnavailable, match=said) as raised:
        by_reference(f"{api.url}/{status}").raw_bytes(posthouse_url=api.url)
    assert raised.value.status == status


def test_a_part_that_the_mail_has_not_is_told_from_one_not_to_be_had_now(api: Site) -> None:
    event = by_reference(f"{api.url}/raw")
    with pytest.raises(NoSuchPart, match="no part 9"):
        event.open_part("9", posthouse_url=api.url)
    with pytest.raises(RawUnavailable, match="404") as raised:
        event.open_part("2", posthouse_url=api.url)
    assert (raised.value.status, raised.value.code) == (404, "")


@pytest.mark.parametrize(
    ("error", "sort"),
    [
        (RawUnavailable, OSError),
        (RawMismatch, ValueError),
        (InvalidEvent, ValueError),
        (Unverified, ValueError),
        (NoSuchPart, LookupError),
        (SourceLost, Exception),
        (AccessRefused, Exception),
    ],
)
def test_every_error_is_of_one_family_and_of_its_sort(
    error: type[Exception], sort: type[Exception]
) -> None:
    assert issubclass(error, PosthouseError)
    assert issubclass(error, sort)
    assert not any(issubclass(one, PosthouseError) for one in (Retry, Reject, TimedOut))


def test_other_bytes_than_the_event_was_made_for_are_noticed(api: Site) -> None:
    with pytest.raises(RawMismatch):
        event = replace(by_reference(f"{api.url}/raw"), sha256="0" * 64)
        event.raw_bytes(posthouse_url=api.url)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "/raw"])
def test_only_http_is_followed(url: str) -> None:
    with pytest.raises(RawUnavailable):
        by_reference(url).raw_bytes(posthouse_url="http://127.0.0.1")


def test_a_server_that_is_away_is_an_os_error() -> None:
    with pytest.raises(OSError, match="cannot be reached"):
        url = "http://127.0.0.1:9"
        by_reference(f"{url}/raw").raw_bytes(timeout_s=2, posthouse_url=url)
