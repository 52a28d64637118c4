"""Where a link leads to what it says, and a page keeps what it was opened with."""

from __future__ import annotations

import uuid

import pytest
from playwright.sync_api import expect

from tests.e2e.site import Site


@pytest.mark.promise("M20")
def test_a_page_beyond_the_last_one_is_the_last_one(site: Site) -> None:
    user = site.new_mailbox()
    site.add_connection(user)
    with site.visitor() as page:
        page.goto(f"{site.url}/connections?q={user}&page=999")
        expect(page.get_by_role("row").filter(has_text=user)).to_have_count(1)
        page.goto(f"{site.url}/connections?page=999")
        expect(page.get_by_text("No connection yet")).to_have_count(0)
        expect(page.locator("tbody tr").first).to_be_visible()


@pytest.mark.promise("C3")
def test_settings_say_that_authorities_of_the_system_may_count(site: Site) -> None:
    with site.visitor() as page:
        page.goto(f"{site.url}/settings")
        section = page.locator("section").filter(
            has=page.get_by_role("heading", name="Trust anchors")
        )
        expect(section).to_contain_text("POSTHOUSE_TRUST_SYSTEM")
        expect(section).not_to_contain_text("every signature shows as untrusted")


@pytest.mark.promise("A1")
def test_a_mailbox_is_added_with_the_credential_that_it_was_opened_from(site: Site) -> None:
    name = f"app {uuid.uuid4().hex[:8]}"
    for other in ("first", "last"):
        add_credential(site, f"{other} {name}")
    number = add_credential(site, name)
    with site.visitor() as page:
        page.goto(f"{site.url}/credentials/{number}")
        page.get_by_role("link", name="Add a connection with it").click()
        expect(page.locator("select[name=credential_id]:visible")).to_have_value(str(number))


def add_credential(site: Site, name: str) -> int:
    made = site.api(
        "POST",
        "/credentials",
        {
            "name": name,
            "provider": "microsoft",
            "grant": "client-credentials",
            "client_id": str(uuid.uuid4()),
            "client_secret": "secret",
            "tenant": str(uuid.uuid4()),
        },
    )
    return int(made["id"])


@pytest.mark.promise("T3")
def test_the_menu_of_a_phone_keeps_the_focus(site: Site) -> None:
    with site.visitor(phone=True) as page:
        page.get_by_role("link", name="Menu", exact=True).click()
        expect(page.get_by_role("link", name="Close menu")).to_be_focused()
        for _ in range(40):
            page.keyboard.press("Tab")
            assert page.evaluate(
                "document.activeElement === document.body"
                " || document.getElementById('menu').contains(document.activeElement)"
            )
        page.keyboard.press("Escape")
        expect(page.get_by_role("link", name="Menu", exact=True)).to_be_focused()
        expect(page.locator("main")).not_to_have_attribute("inert", "")
