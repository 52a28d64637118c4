"""Pages that keep themselves current say when they are not, and take nothing from a reader."""

from __future__ import annotations

import contextlib

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.site import Site

_SELECT = """() => {
  const range = document.createRange();
  range.selectNodeContents(document.querySelector("[data-live] h2, [data-live] th"));
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  return getSelection().toString();
}"""


def is_live(response: object) -> bool:
    return str(getattr(response, "url", "")).endswith("/overview/live")


def away(route: Route) -> None:
    route.abort()


def broken(route: Route) -> None:
    route.fulfill(status=503, body="An error.")


@pytest.mark.promise("T3")
def test_an_open_page_says_since_when_it_is_not_current(site: Site) -> None:
    # The browser complains of what does not answer, so it is none of those that must not.
    with contextlib.closing(site.chromium.context()) as context:
        page = context.new_page()
        site.log_in(page)
        _is_told(site, page)


def _is_told(site: Site, page: Page) -> None:
    site.stack.wait(lambda: site.stack.count("service") >= 4, "all have said how they are")
    page.goto(site.url)
    with page.expect_response(is_live):
        pass
    notice = page.get_by_role("alert").filter(has_text="Posthouse does not answer")
    expect(notice).to_have_count(0)
    # As when nothing answers at all (admin is away), and as when what answers is an error.
    for refuse in (away, broken):
        page.route("**/overview/live", refuse)
        expect(notice).to_contain_text("this page shows how things were at")
        expect(page.get_by_role("heading", name="Posthouse itself")).to_be_visible()
        page.unroute("**/overview/live")
        expect(notice).to_have_count(0, timeout=60_000)


@pytest.mark.promise("T3")
def test_a_selected_text_stays_selected_while_the_page_goes_on(site: Site, page: Page) -> None:
    page.goto(site.url)
    selected = page.evaluate(_SELECT)
    assert selected
    for _ in range(2):
        site.stack.execute("UPDATE service SET free = free + 4000000000")
        with page.expect_response(is_live):
            pass
    assert page.evaluate("getSelection().toString()") == selected
