"""Every page in light, dark and on a phone: axe-core finds no fault, nothing sticks out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.site import Site, mail
from tests.servers.chromium import PHONE

PATHS = (
    "/",
    "/connections",
    "/connections/new",
    "/connections/{connection}",
    "/connections/{connection}/edit",
    "/connections/{connection}/runs",
    "/mails",
    "/mails/{mail}",
    "/quarantine",
    "/handlers",
    "/handlers/new",
    "/handlers/{handler}",
    "/handlers/{handler}/forward",
    "/handlers/{handler}/dead-letters",
    "/handlers/{handler}/rules",
    "/certificates",
    "/certificates/new",
    "/credentials",
    "/credentials/new",
    "/people",
    "/people/new",
    "/tokens",
    "/audit",
    "/account",
    "/settings",
    "/documents",
    "/documents/runbook",
    "/documents/settings",
    "/nothing-here",
)
#: The rules of axe that look at colours.
COLOURS = ("color-contrast", "link-in-text-block")


@pytest.fixture(scope="module")
def places(site: Site) -> dict[str, str]:
    """Things to look at, so that no page is empty."""
    user = site.new_mailbox()
    # Two of a thread, which its page shows.
    thread = b"References: <a-thread@example.org>\r\nSubject:"
    both = (mail("A mail to look at", user), mail("Another of its thread", user))
    site.dovecot.deliver(user, [one.replace(b"Subject:", thread, 1) for one in both])
    connection = site.add_connection(user)
    handler = site.add_handler(connection)
    site.enable(connection)
    site.wait_taken(connection, 2)
    site.stack.wait(lambda: site.stack.count("outbox") == 0, "what they are is known")
    row, _ = site.stack.query("SELECT id FROM message WHERE connection_id = %s", connection)
    return {"handler": str(handler), "connection": str(connection), "mail": str(row[0])}


def test_axe_finds_no_fault(site: Site, places: dict[str, str]) -> None:
    """Each page in light, in dark, of which the colours are other ones, and as a phone shows it."""
    faults = []
    with site.visitor() as page:
        screen = page.viewport_size
        assert screen is not None
        for path in PATHS:
            page.goto(site.url + path.format(**places))
            faults += [("light", path, *fault) for fault in faults_of(page)]
            page.emulate_media(color_scheme="dark")
            faults += [("dark", path, *fault) for fault in faults_of(page, COLOURS)]
            page.emulate_media(color_scheme="light")
            page.set_viewport_size(PHONE)
            faults += [("phone", path, *fault) for fault in faults_of(page)]
            wide = page.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )
            assert not wide, f"{path} sticks out of a phone's screen"
            page.set_viewport_size(screen)
    assert faults == []


def faults_of(page: Page, rules: Sequence[str] = ()) -> list[tuple[str, str, list[str]]]:
    """What axe finds, by these of its rules or by all: which rule, how bad, where."""
    chosen = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    found = Axe().run(page, options={"resultTypes": ["violations"], **chosen})
    return [
        (fault["id"], fault["impact"], [node["html"][:200] for node in fault["nodes"][:3]])
        for fault in found.response["violations"]
    ]


def test_the_login_has_no_fault(site: Site) -> None:
    with site.visitor(token=None) as page:
        page.goto(f"{site.url}/login")
        assert Axe().run(page).response["violations"] == []


def test_the_keyboard_reaches_the_content_and_the_menu(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/connections")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    with site.visitor(phone=True) as phone:
        expect(phone.get_by_role("link", name="Handlers", exact=True)).to_be_hidden()
        phone.get_by_role("link", name="Menu", exact=True).press("Enter")
        phone.get_by_role("link", name="Handlers", exact=True).press("Enter")
        expect(phone.get_by_role("heading", level=1)).to_have_text("Handlers")
