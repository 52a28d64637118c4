"""Somebody new adds a mailbox and finds its first mail, using only what the pages say."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import Site, fill_server


@pytest.mark.promise("M1", "M14", "M15", "M16", "M13", "H3")
def test_from_an_empty_house_to_the_path_of_the_first_mail(site: Site, page: Page) -> None:
    user = site.new_mailbox(3, subject="Opening hours")
    page.get_by_role("link", name="Handlers", exact=True).click()
    page.get_by_role("link", name="Add a handler").first.click()
    page.get_by_label("Name").fill("tickets")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("tickets")
    expect(page.get_by_text("posthouse:handler:tickets").first).to_be_visible()

    page.get_by_role("link", name="Connections", exact=True).click()
    page.get_by_role("link", name="Add a mailbox").first.click()
    page.get_by_label("Name", exact=True).fill("Support inbox")
    fill_server(page, site, user)
    page.get_by_role("button", name="Test").click()
    result = page.get_by_label("Test result")
    expect(result.get_by_role("heading", name="It works")).to_be_visible()
    expect(result).to_contain_text("holds 3 mails, 3 of them unread")
    assert site.house.query("SELECT count(*) FROM connection WHERE name = 'Support inbox'") == [
        (0,)
    ]

    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("saved, and disabled")
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_text("3 mails are new")).to_be_visible()
    expect(page.get_by_text("The number is exact.")).to_be_visible()
    page.get_by_role("button", name="Enable", exact=True).click()
    expect(page.get_by_text("Tick this to enable it.")).to_be_visible()
    page.get_by_label("I have seen how many mails this is").check()
    page.get_by_role("button", name="Enable", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("Support inbox is enabled.")

    # The page keeps itself current.
    expect(page.locator(".health")).to_have_text("Working", timeout=30_000)
    expect(page.get_by_role("row", name=re.compile("fine"))).to_be_visible(timeout=30_000)

    page.get_by_role("link", name="Mails", exact=True).click()
    page.get_by_role("link", name="Opening hours 1").click()
    path = page.get_by_role("list").filter(has_text="Downloaded by Support inbox")
    expect(path).to_contain_text("Published to tickets")
    expect(page.get_by_text("Hello.")).to_be_visible()
