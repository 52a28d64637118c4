"""A CSV file of connections, chosen, checked, mended and added in the pages."""

from __future__ import annotations

import uuid

from playwright.sync_api import Page, expect

from tests.e2e.site import Site

HEAD = "name,mode,host,username,password,tags\n"


def test_a_file_is_mended_and_added(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    page.goto(f"{site.url}/connections")
    page.get_by_role("link", name="Import", exact=True).click()
    line = f"one {mark},imap,h.invalid,u@x,canary-password,{mark}\n"
    wrong = HEAD + line + f"=two {mark},imap,h.invalid,u@x,p,\n"
    page.get_by_label("CSV file").set_input_files(
        {"name": "list.csv", "mimeType": "text/csv", "buffer": wrong.encode()}
    )
    page.get_by_role("button", name="Check it").click()
    expect(page.get_by_role("alert")).to_contain_text("1 fault: nothing is added")
    expect(page.locator("tbody tr")).to_contain_text("begins like a formula")
    assert site.api("GET", f"/connections?q={mark}")["total"] == 0
    page.get_by_label("Or its lines").fill(HEAD + line)
    page.get_by_role("button", name="Check it").click()
    expect(page.get_by_role("status")).to_contain_text("1 connection would be added")
    assert "canary-password" not in page.content(), "secrets do not come back in the page"
    page.get_by_role("button", name="Add 1 connection").click()
    expect(page.get_by_role("status").first).to_contain_text("1 connection added, all disabled")
    found = site.api("GET", f"/connections?tag={mark}")["items"]
    assert [(one["name"], one["enabled"]) for one in found] == [(f"one {mark}", False)]
