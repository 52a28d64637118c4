"""Work at a mail server that takes its time: the page says how far it is, and who stops it ends the
session there."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import TOKEN, Site, fill_server

_PATIENT = 20


class Front:
    """In front of an IMAP server: keeps its answers back once a command with `held` was sent."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.held = b""
        self.holds = threading.Event()
        self.goes_on = threading.Event()
        #: A client has gone while answers were kept from it.
        self.left = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, command: bytes) -> None:
        for event in (self.holds, self.goes_on, self.left):
            event.clear()
        self.held = command

    def let_go(self) -> None:
        self.held = b""
        self.goes_on.set()

    def close(self) -> None:
        self.let_go()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for pump in (self._asked, self._answered):
                    threading.Thread(target=pump, args=(client, server), daemon=True).start()

    def _asked(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(65_536):
                if self.held and self.held in chunk:
                    self.holds.set()
                server.sendall(chunk)
        if self.holds.is_set() and not self.goes_on.is_set():
            self.left.set()
        server.close()

    def _answered(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := server.recv(65_536):
                if self.holds.is_set() and self.held:
                    self.goes_on.wait(120)
                client.sendall(chunk)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def front(site: Site) -> Iterator[Front]:
    front = Front(site.dovecot.imap_port)
    yield front
    front.close()


def add(site: Site, front: Front) -> int:
    number = site.add_connection(site.new_mailbox(3))
    site.api("PATCH", f"/connections/{number}", {"port": front.port, "password": "secret"})
    site.add_handler(number)
    return number


@pytest.mark.promise("M16")
def test_enabling_says_how_far_the_count_is_and_can_be_stopped(
    site: Site, page: Page, front: Front
) -> None:
    number = add(site, front)
    front.hold(b"SEARCH")
    page.goto(f"{site.url}/connections/{number}")
    page.get_by_role("button", name="Enable").click()
    progress = page.get_by_role("region", name="Progress")
    expect(progress).to_contain_text("The folder holds 3 mails, 3 of them unread. Counting")
    expect(progress).to_contain_text("1 s")
    progress.get_by_role("button", name="Cancel").click()
    expect(progress).to_contain_text("Stopped. Nothing was changed.")
    assert front.left.wait(_PATIENT), "the session at the mail server went on"
    front.let_go()
    assert site.api("GET", f"/connections/{number}")["enabled"] is False
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("heading", name="3 mails are new")).to_be_visible()
    page.get_by_label("Only mails that arrive from now on").check()
    page.get_by_role("button", name="Enable", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("is enabled")
    page.reload()
    expect(page.get_by_text("is enabled")).to_have_count(0)


@pytest.mark.promise("M19")
@pytest.mark.parametrize(
    ("button", "held"), [("Test", b"EXAMINE"), ("Pick from the mail server", b"LIST")]
)
def test_testing_and_picking_can_be_stopped(
    site: Site, page: Page, front: Front, button: str, held: bytes
) -> None:
    user = site.new_mailbox(1)
    front.hold(held)
    page.goto(f"{site.url}/connections/new")
    fill_server(page, site, user)
    page.get_by_label("Port").fill(str(front.port))
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.get_by_text("Logged in.")).to_be_visible()
    assert front.holds.wait(_PATIENT)
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_text("Stopped. Nothing was changed.")).to_be_visible()
    assert front.left.wait(_PATIENT), "the session at the mail server went on"
    front.let_go()
    page.get_by_role("button", name=button, exact=True).click()
    done = page.get_by_role("heading", name="It works").or_(
        page.get_by_role("button", name="INBOX", exact=True)
    )
    expect(done).to_be_visible()


@pytest.mark.promise("M19")
def test_a_program_that_leaves_ends_its_count(site: Site, front: Front) -> None:
    number = add(site, front)
    front.hold(b"SEARCH")
    port = int(site.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as program:
        program.sendall(
            f"POST /api/v1/connections/{number}/estimate HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        assert front.holds.wait(_PATIENT)
    assert front.left.wait(_PATIENT), "the session at the mail server went on"


@pytest.mark.promise("M19")
def test_what_nobody_waits_for_any_longer_ends(site: Site, front: Front) -> None:
    number = add(site, front)
    front.hold(b"SEARCH")
    counted = site.api("POST", f"/connections/{number}/estimate")
    assert (counted["confidence"], counted["new"]) == ("partial", 3)
    assert front.left.wait(5), "the session at the mail server went on"
