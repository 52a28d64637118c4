"""The list of many connections: filters, counts, compact rows, and what stays in sight."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import Site

HOSTILE = (
    "x" * 190,
    "word " * 35,
    "\u05e9\u05dc\u05d5\u05dd \u202e right to left",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 family \U0001f4ec",
)


def add(site: Site, name: str, **fields: Any) -> int:
    body = {
        "name": name,
        "mode": "imap",
        "host": "mail.invalid",
        "username": "ann@example.org",
        "password": "secret",
    }
    return int(site.api("POST", "/connections", body | fields)["id"])


def test_chips_count_states_and_filters_narrow_the_list(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    ids = [add(site, f"{mark} {n}", tags=["filtered", mark]) for n in range(3)]
    add(site, f"{mark} other", mode="pop3")
    site.add_handler(ids[0], f"takes-{mark}")
    site.api("POST", f"/connections/{ids[0]}/enable", {"acknowledged": True})
    page.goto(f"{site.url}/connections")
    page.get_by_label("Search name, description, server, username or tag").fill(mark)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(4)
    chips = page.get_by_role("list", name="States")
    expect(chips.get_by_role("link", name=re.compile("^All 4$"))).to_be_visible()
    chips.get_by_role("link", name=re.compile("Disabled 3")).click()
    expect(rows).to_have_count(3)
    page.get_by_label("Tag", exact=True).select_option(mark)
    expect(rows).to_have_count(2)
    expect(chips.get_by_role("link", name=re.compile("Disabled 2"))).to_be_visible()
    chips.get_by_role("link", name=re.compile("^All 3$")).click()
    expect(rows).to_have_count(3)
    page.get_by_label("Handler", exact=True).select_option(label=f"takes-{mark}")
    expect(rows).to_have_count(1)
    page.goto(f"{site.url}/connections?q={mark}&mode=pop3")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(f"{mark} other")


@pytest.mark.parametrize("width", [1440, 800, 390])
def test_rows_are_a_line_and_head_and_bar_stay_in_sight(site: Site, page: Page, width: int) -> None:
    mark = uuid.uuid4().hex[:8]
    for number in range(40):
        name = f"{number:02} {mark} {HOSTILE[number % 4]}"[:200]
        add(site, name.strip(), tags=[mark, "y" * 50], description=HOSTILE[0])
    # Nobody takes some of them, which is the longest of states.
    site.stack.query(
        "UPDATE connection SET enabled = true WHERE %s = ANY (tags) AND mod(id, 3) = 0 RETURNING 1",
        mark,
    )
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site.url}/connections?tag={mark}")
    rows = page.locator("tbody tr")
    expect(rows.get_by_text("No enabled handler").first).to_be_visible()
    expect(rows).to_have_count(40)
    heights = rows.evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert max(heights) <= (70 if width < 640 else 30), heights
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    bar = page.get_by_role("region", name="Ticked connections")
    expect(bar).to_be_hidden()
    box = rows.nth(2).get_by_role("checkbox")
    box.scroll_into_view_if_needed()
    box.check()
    expect(bar).to_be_in_viewport()
    expect(bar).to_contain_text("1 ticked")
    rows.nth(35).get_by_role("checkbox").click(modifiers=["Shift"])
    expect(bar).to_contain_text("34 ticked")
    expect(bar).to_be_in_viewport()
    if width > 640:
        expect(page.get_by_role("columnheader", name=re.compile("^Name"))).to_be_in_viewport()


def test_tags_are_typed_into_the_form_and_lead_to_others(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    number, other = add(site, f"tagged {mark}"), add(site, f"also {mark}", tags=[mark])
    page.goto(f"{site.url}/connections/{number}/edit")
    page.get_by_label("Tags").fill(f"EMEA, {mark}")
    page.get_by_role("button", name="Save changes").click()
    page.get_by_role("link", name=mark, exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator(f'tbody a[href="/connections/{other}"]')).to_be_visible()
