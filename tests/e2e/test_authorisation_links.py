"""A mailbox's owner, who has no account here, authorises it by a link that was sent to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.site import Site
from tests.e2e.test_authorising import ALICE, answer, browser, connection, provider
from tests.servers.graph import GraphServer

__all__ = ["connection", "provider"]
WIDTHS = pytest.mark.parametrize("width", [390, 1440])


def sent(site: Site, connection: int) -> str:
    """The link as the administrator's page shows it."""
    with browser(site) as page:
        page.goto(f"{site.url}/connections/{connection}")
        page.get_by_role("link", name="Let the owner authorise").click()
        page.get_by_role("button", name="Make a link").click()
        link = page.locator("pre").inner_text().strip()
        expect(page.get_by_role("row").filter(has_text="open")).to_have_count(1)
        return link


@contextmanager
def stranger(site: Site, width: int) -> Iterator[Page]:
    """A browser that never was here."""
    context = site.chromium._browser.new_context(
        ignore_https_errors=True, locale="en-GB", viewport={"width": width, "height": 900}
    )
    context.set_default_timeout(20_000)
    try:
        yield context.new_page()
    finally:
        context.close()


def looks_well(page: Page) -> None:
    """axe-core finds nothing, and nothing is wider than the screen."""
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.promise("A2")
@WIDTHS
def test_the_owner_logs_in_once_by_the_link(
    site: Site, connection: int, graph_server: GraphServer, width: int
) -> None:
    link = sent(site, connection)
    with stranger(site, width) as page:
        page.goto(link)
        title = page.get_by_role("heading", level=1)
        expect(title).to_have_text("Let Posthouse read your mailbox?")
        expect(page.get_by_role("navigation")).to_have_count(0)
        expect(page.get_by_text(ALICE).first).to_be_visible()
        looks_well(page)
        page.get_by_role("button", name="Log in at").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        assert page.locator("input[name=login]").input_value() == ALICE
        answer(page)
        expect(page.get_by_role("heading", level=1)).to_have_text("The mailbox is authorised")
        looks_well(page)
        page.goto(link)
        expect(page.get_by_role("button", name="Log in at")).to_have_count(0)
    assert site.api("POST", f"/connections/{connection}/test")["ok"] is True


@pytest.mark.promise("A2")
def test_another_account_is_told_so_and_may_try_again(site: Site, connection: int) -> None:
    link = sent(site, connection)
    with stranger(site, 390) as page:
        page.goto(link)
        page.get_by_role("button", name="Log in at").click()
        answer(page, user="eve@example.org")
        expect(page.get_by_text("eve@example.org logged in").first).to_be_visible()
        looks_well(page)
        page.context.clear_cookies(domain="localhost")  # as who logs out at the provider
        page.get_by_role("button", name="Log in at").click()
        answer(page)
        expect(page.get_by_role("heading", level=1)).to_have_text("The mailbox is authorised")


@WIDTHS
def test_the_page_of_the_links_at_both_widths(site: Site, connection: int, width: int) -> None:
    link = sent(site, connection)
    with browser(site) as page:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{site.url}/connections/{connection}/links")
        looks_well(page)
        page.get_by_role("button", name="Revoke link").click()
        expect(page.get_by_text("The link opens nothing any more.")).to_be_visible()
    with stranger(site, width) as page:
        page.goto(link)
        expect(page.get_by_role("heading", level=1)).to_have_text("This link was revoked")
        looks_well(page)
        page.goto(link + "x")
        expect(page.get_by_text("This link is not known here.")).to_be_visible()
