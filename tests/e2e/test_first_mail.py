"""Somebody new adds a mailbox and finds its first mail, using only what the pages say."""

from __future__ import annotations

import re
import uuid

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import Site, fill_server


@pytest.mark.promise("M1", "M14", "M15", "M16", "M13", "H3")
def test_from_an_empty_installation_to_the_path_of_the_first_mail(
    site: Site, page: Page, request: pytest.FixtureRequest
) -> None:
    user = site.new_mailbox(3, subject="Opening hours")
    mark = uuid.uuid4().hex[:6]
    name, handler = f"Support inbox {mark}", f"tickets-{mark}"
    page.get_by_role("link", name="Handlers", exact=True).click()
    page.get_by_role("link", name="Add a handler").first.click()
    page.get_by_label("Name").fill(handler)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(handler)
    (made,) = site.api("GET", f"/handlers?q={handler}")["items"]
    # It takes every connection, those of other tests too.
    request.addfinalizer(lambda: site.api("PATCH", f"/handlers/{made['id']}", {"enabled": False}))
    expect(page.get_by_text(f"posthouse:handler:{handler}").first).to_be_visible()

    page.get_by_role("link", name="Connections", exact=True).click()
    page.get_by_role("link", name="Add a connection").first.click()
    page.get_by_label("Name", exact=True).fill(name)
    fill_server(page, site, user)
    page.get_by_role("button", name="Test").click()
    result = page.get_by_label("Test result")
    expect(result.get_by_role("heading", name="It works")).to_be_visible()
    expect(result).to_contain_text("holds 3 mails, 3 of them unread")
    # A test saves nothing.
    assert site.api("GET", f"/connections?q={mark}")["total"] == 0

    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("saved, and disabled")
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_text("3 mails are new")).to_be_visible()
    expect(page.get_by_text("The number is exact.")).to_be_visible()
    page.get_by_role("button", name="Enable", exact=True).click()
    expect(page.get_by_text("Tick this to enable it.")).to_be_visible()
    page.get_by_label("I have seen how many mails this is").check()
    page.get_by_role("button", name="Enable", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text(f"{name} is enabled.")

    # The page keeps itself current.
    expect(page.locator(".health")).to_have_text("Working", timeout=30_000)
    expect(page.get_by_role("row", name=re.compile("fine"))).to_be_visible(timeout=30_000)

    page.get_by_role("link", name="Mails", exact=True).click()
    row = page.get_by_role("row", name=name).filter(has_text="Opening hours 1")
    row.get_by_role("link", name="Opening hours 1").click()
    path = page.get_by_role("list").filter(has_text=f"Downloaded by {name}")
    expect(path).to_contain_text(f"Published to {handler}")
    expect(page.get_by_text("Hello.")).to_be_visible()
