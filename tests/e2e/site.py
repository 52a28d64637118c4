"""A whole Posthouse with its pages, as somebody's browser meets it."""

from __future__ import annotations

import contextlib
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from playwright.sync_api import Page, expect

from tests.rig.stack import Stack
from tests.servers.chromium import Chromium
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import PASSWORD

TOKEN = "test-token-of-20-characters"


@dataclass
class Site:
    """The services, the mail server beside them, and browsers that look at the pages."""

    stack: Stack
    url: str
    dovecot: Dovecot
    chromium: Chromium
    #: Of the first login with the bootstrap token: the others begin where it ended.
    _cookies: list[Any] = field(default_factory=list)

    def wait(self) -> None:
        """Until the pages answer."""
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/login", timeout=5).close()
                return
            assert time.monotonic() < deadline, self.stack.tails()
            time.sleep(0.1)

    @contextlib.contextmanager
    def visitor(
        self,
        *,
        token: str | None = TOKEN,
        dark: bool = False,
        phone: bool = False,
        scripts: bool = True,
        zone: str = "UTC",
    ) -> Iterator[Page]:
        """A browser's page, logged in with the bootstrap token unless `token` is None.

        Fails where the browser complained: a script's error, something that the content security
        policy stopped, an answer that is an error of ours (5xx).
        """
        cookies = self._cookies if token == TOKEN else []
        context = self.chromium.context(dark=dark, phone=phone, scripts=scripts, zone=zone)
        context.add_cookies(cookies)
        complaints: list[str] = []
        page = context.new_page()
        watch(page, complaints)
        try:
            if token is not None and not cookies:
                self.log_in(page, token)
                self._cookies = context.cookies()
            page.goto(self.url)
            yield page
        finally:
            context.close()
        assert complaints == [], complaints  # in threads and in this module nobody else says so

    def log_in(self, page: Page, token: str = TOKEN) -> None:
        page.goto(f"{self.url}/login")
        field = page.get_by_label("Bootstrap token", exact=True)
        if not field.is_visible():
            page.get_by_text("Log in with the bootstrap token").click()
        field.fill(token)
        page.get_by_role("button", name="Log in with the token").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")

    def new_mailbox(self, mails: int = 0, *, subject: str = "Question") -> str:
        """A user of the mail server with this many mails; returns the name."""
        user = f"user-{uuid.uuid4().hex[:10]}"
        self.dovecot.deliver(user, [mail(f"{subject} {n}", user) for n in range(1, mails + 1)])
        return user

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Asks the API as a program does: for what a test needs and is not about."""
        for _ in range(3):
            answer = httpx.request(
                method,
                f"{self.url}/api/v1{path}",
                json=body,
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=60,
            )
            if "database-contended" not in answer.text:  # which asks to repeat
                break
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def upload(self, path: str, file: bytes, **fields: str) -> Any:
        """Sends a file to the API."""
        answer = httpx.post(
            f"{self.url}/api/v1/{path}",
            files={"file": ("file", file)},
            data=fields,
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=60,
        )
        assert answer.is_success, answer.text
        return answer.json()

    def add_connection(self, user: str, *, name: str = "", handler: str = "") -> int:
        """A connection to that mailbox, disabled; `handler` names a new one that takes it alone.

        It looks by itself once an hour: what a test does not ask for does not happen meanwhile.
        """
        made = self.api(
            "POST",
            "/connections",
            {
                "name": name or user,
                "mode": "imap",
                "host": "127.0.0.1",
                "port": self.dovecot.imap_port,
                "security": "none",
                "username": user,
                "password": PASSWORD,
                "interval_minutes": 60,
            },
        )
        number = int(made["id"])
        if handler:
            self.add_handler(number, handler)
        return number

    def add_handler(self, connection: int, name: str = "") -> int:
        """A handler of this connection alone: no other test's late mails reach it."""
        made = self.api(
            "POST",
            "/handlers",
            {"name": name or f"handler-{uuid.uuid4().hex[:8]}", "connections": [connection]},
        )
        return int(made["id"])

    def enable(self, connection: int) -> None:
        """Takes all mails that are there."""
        self.api("POST", f"/connections/{connection}/enable", {"acknowledged": True})

    def fetch(self, *mails: bytes, handler: str = "") -> str:
        """Mails through the whole pipeline, to a handler that gets no others; returns the name of
        their connection."""
        user = self.new_mailbox()
        self.dovecot.deliver(user, mails)
        connection = self.add_connection(user, handler=handler or f"takes-{user}")
        self.enable(connection)
        self.wait_taken(connection, len(mails))
        return user

    def wait_taken(self, connection: int, mails: int) -> None:
        """Until this many mails of the connection are published, and none is left to do."""

        def taken() -> bool:
            (row,) = self.stack.query(
                "SELECT (SELECT count(*) FROM message WHERE connection_id = %s"
                " AND published_at IS NOT NULL AND settled_at IS NOT NULL),"
                " (SELECT count(*) FROM outbox WHERE connection_id = %s),"
                " (SELECT count(*) FROM settlement WHERE connection_id = %s)",
                connection,
                connection,
                connection,
            )
            return row == (mails, 0, 0)

        self.stack.wait(taken, f"{mails} mails of connection {connection}")


def mail(subject: str, user: str, body: str = "Hello.") -> bytes:
    """A small mail as a sender writes it."""
    return (
        f"From: Bob Smith <bob@example.org>\r\nTo: {user}@example.com\r\nSubject: {subject}\r\n"
        f"Message-ID: <{uuid.uuid4().hex}@example.org>\r\n"
        "Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n"
    ).encode()


def watch(page: Page, complaints: list[str]) -> None:
    """Collects what the browser complains of."""

    def note(kind: str, text: str) -> None:
        # A refused form is answered 4xx on purpose; Chromium logs those as failed resources.
        if kind == "error" and "status of 4" not in text:
            complaints.append(text)

    page.on("console", lambda message: note(message.type, message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))


def fill_server(page: Page, site: Site, user: str, *, password: str = PASSWORD) -> None:
    """Fills the fields of the form that say where the mailbox is."""
    page.get_by_label("Mail server", exact=True).fill("127.0.0.1")
    page.get_by_label("Encryption").select_option("none")
    page.get_by_label("Port").fill(str(site.dovecot.imap_port))
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password", exact=True).fill(password)
