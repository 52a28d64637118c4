"""The first page says how Posthouse itself is, and which mailboxes nobody comes for."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import Site


@pytest.mark.promise("T3")
def test_the_overview_shows_each_service_with_its_heartbeat(site: Site, page: Page) -> None:
    site.stack.wait(lambda: site.stack.count("service") >= 5, "all have said how they are")
    page.goto(site.url)
    section = page.locator("section", has=page.get_by_role("heading", name="Posthouse itself"))
    for name in ("scheduler", "fetcher", "decryptor", "forwarder", "admin"):
        row = section.get_by_role("row").filter(has_text=name).first
        expect(row).to_contain_text("working")
        if name != "forwarder":  # it has no store
            expect(row).to_contain_text("free")
    site.stack.query(
        "INSERT INTO service (instance, name, version, failing) VALUES ('elsewhere/1', 'fetcher',"
        " '0', '{\"broker\": \"Redis at redis:6379 refuses the password.\"}') RETURNING 1"
    )
    page.goto(site.url)
    row = section.get_by_role("row").filter(has_text="elsewhere/1")
    expect(row).to_contain_text("Redis at redis:6379 refuses the password.")
    # What is wrong with Posthouse itself stands before all that follows from it.
    expect(page.locator("main h2").first).to_have_text("Posthouse itself")
    site.stack.query("DELETE FROM service WHERE instance = 'elsewhere/1' RETURNING 1")


@pytest.mark.promise("T3", "M19")
def test_a_mailbox_that_nobody_comes_for_is_overdue_on_every_page(site: Site, page: Page) -> None:
    user = site.new_mailbox()
    number = site.add_connection(user, handler=f"takes-{user}")
    site.enable(number)
    site.stack.wait(
        lambda: (
            site.stack.query("SELECT health FROM connection_state WHERE connection_id = %s", number)
            == [("working",)]
        ),
        "it works",
    )
    site.stack.query(
        "UPDATE connection_state SET last_success_at = now() - interval '2 hours',"
        " awaited_since = now() - interval '3 hours' WHERE connection_id = %s RETURNING 1",
        number,
    )
    page.goto(f"{site.url}/connections?health=overdue")
    expect(page.get_by_role("row").filter(has_text=user)).to_contain_text("Overdue")
    page.goto(f"{site.url}/connections/{number}")
    expect(page.get_by_text("Overdue").first).to_be_visible()
    page.goto(site.url)
    row = page.get_by_role("row").filter(has_text=user).first
    expect(row).to_contain_text("No fetcher has polled it.")
    site.stack.fetch_now(number)
    page.goto(f"{site.url}/connections?health=overdue")
    site.stack.wait(
        lambda: (
            site.stack.query(
                "SELECT last_success_at > now() - interval '1 hour' FROM connection_state"
                " WHERE connection_id = %s",
                number,
            )
            == [(True,)]
        ),
        "it came",
    )
    page.reload()
    expect(page.get_by_role("row").filter(has_text=user)).to_have_count(0)
