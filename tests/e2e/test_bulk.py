"""Many connections at once, and copies of one."""

from __future__ import annotations

import re
import uuid

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import Site


@pytest.mark.promise("M15", "M20")
@pytest.mark.parametrize("scripts", [True, False])
def test_many_are_enabled_and_those_with_new_mails_ask(site: Site, scripts: bool) -> None:
    mark = uuid.uuid4().hex[:8]
    for which, mails in (("empty", 0), ("full", 3)):
        user = site.new_mailbox(mails)
        site.add_connection(user, name=f"bulk {which} {mark}", handler=f"takes-{user}")
    with site.visitor(scripts=scripts) as page:
        page.goto(f"{site.url}/connections?q={mark}")
        for box in page.locator("tbody").get_by_role("checkbox").all():
            box.check()
        page.get_by_role("button", name="Enable…").click()
        page.wait_for_load_state()
        expect(page.get_by_role("heading", level=1)).to_have_text("Enable 2 connections")
        page.get_by_role("button", name="Enable 2 connections").click()
        full = page.get_by_role("row", name=f"bulk full {mark}")
        expect(full).to_contain_text("This would download 3 mails")
        expect(page.get_by_role("row", name=f"bulk empty {mark}")).to_contain_text("is enabled")
        page.get_by_label("Only mails that arrive from now on").check()
        left = re.compile("Enable (the one that is left|1 connection)")
        page.get_by_role("button", name=left).click()
        expect(full).to_contain_text("is enabled")
        found = site.api("GET", f"/connections?q={mark}")["items"]
        assert [one["enabled"] for one in found] == [True, True]


def test_all_that_match_are_changed_page_by_page(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    body = {"mode": "imap", "host": "h.invalid", "username": "u", "password": "p", "tags": [mark]}
    for number in range(104):
        site.api("POST", "/connections", body | {"name": f"every {number:03} {mark}"})
    site.api("POST", "/connections", body | {"name": f"untouched {mark}", "tags": []})
    page.goto(f"{site.url}/connections?tag={mark}")
    page.get_by_label("Tick all on this page").check()
    bar = page.get_by_role("region", name="Ticked connections")
    expect(bar).to_contain_text("100 ticked")
    page.get_by_label("all 104 that match").check()
    expect(bar).to_contain_text("104 ticked")
    page.get_by_role("button", name="Change…").click()
    page.wait_for_load_state()
    page.get_by_label("Add tags").fill("x" * 51)
    page.get_by_role("button", name="Change 104 connections").click()
    words = page.locator("[data-bulk-words]")
    expect(words).to_contain_text("A tag has 1 to 50 characters.")
    page.get_by_label("Look for new mails every").fill("17")
    page.get_by_label("Add tags").fill(f"New {mark}, second")
    page.get_by_role("button", name=re.compile("^Change the 104")).click()
    expect(words).to_contain_text("104 of 104 tried, 104 done.")
    found = site.api("GET", f"/connections?tag=new%20{mark}&tag=second&per_page=500")["items"]
    assert (len(found), {one["interval_minutes"] for one in found}) == (104, {17})
    page.get_by_role("link", name="Back to the list").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Connections")


def test_a_long_test_is_stopped_and_goes_on_with_what_is_left(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    for number in range(20):
        site.add_connection(site.new_mailbox(), name=f"tested {number:02} {mark}")
    page.goto(f"{site.url}/connections?q={mark}")
    page.get_by_label("Tick all on this page").check()
    page.get_by_role("button", name="Test…").click()
    page.wait_for_load_state()
    # The second step is answered only after Stop is pressed: it is told when to stop, not how fast.
    asked: list[str] = []

    def pressed_meanwhile(route: object) -> None:
        asked.append("step")
        if len(asked) == 2:
            page.evaluate("document.querySelector('[data-bulk-stop]').click()")
        route.continue_()  # type: ignore[attr-defined]

    page.route("**/connections/bulk/apply", pressed_meanwhile)
    page.get_by_role("button", name="Test 20 connections").click()
    words = page.locator("[data-bulk-words]")
    expect(words).to_contain_text("Stopped. 16 of 20 tried, 16 done.")
    page.get_by_role("button", name="Test the 4 that are left").click()
    expect(words).to_contain_text("4 of 4 tried, 4 done.")
    expect(page.locator("#bulk-results tbody tr")).to_have_count(4)
    expect(page.locator("#bulk-results")).to_contain_text("The mailbox opens.")


def test_a_connection_is_duplicated_with_its_password(site: Site, page: Page) -> None:
    user = site.new_mailbox()
    number = site.add_connection(user, name=f"first {user}")
    page.goto(f"{site.url}/connections/{number}")
    page.get_by_role("link", name="Duplicate").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value(f"first {user} (copy)")
    page.get_by_label("Mail server").fill("elsewhere.invalid")
    page.get_by_role("button", name="Save", exact=True).last.click()
    expect(page.get_by_role("alert")).to_contain_text("Enter the password again")
    page.get_by_label("Mail server").fill("127.0.0.1")
    page.get_by_label("Name", exact=True).fill(f"second {user}")
    page.get_by_role("button", name="Save", exact=True).last.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"second {user}")
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("#test-result")).to_contain_text("It works")
