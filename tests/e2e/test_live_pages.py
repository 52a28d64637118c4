"""Pages that keep themselves current say when they are not, and take nothing from a reader."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.e2e.site import Site

_SELECT = """() => {
  const range = document.createRange();
  range.selectNodeContents(document.querySelector("[data-live] h2, [data-live] th"));
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  return getSelection().toString();
}"""

#: What a browser says of a tab that another one covers; a headless one covers none.
_HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def is_live(response: object) -> bool:
    return str(getattr(response, "url", "")).endswith("/overview/live")


def away(route: Route) -> None:
    route.abort()


def silent(_: Route) -> None:
    """Takes the request and never answers it, as a process that stands still."""


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
    page.clock.install()  # whose minutes are over at once
    page.goto(site.url)
    with page.expect_response(is_live):
        page.clock.run_for(5_000)
    notice = page.get_by_role("alert").filter(has_text="Posthouse does not answer")
    expect(notice).to_have_count(0)
    # As when nothing answers at all (admin is away), and as when what answers is an error.
    for refuse in (away, broken):
        page.route("**/overview/live", refuse)
        site.stack.wait(partial(turned, page, notice, 1), "the notice")
        expect(notice).to_contain_text("this page shows how things were at")
        expect(page.get_by_role("heading", name="Posthouse itself")).to_be_visible()
        page.unroute("**/overview/live")
        site.stack.wait(partial(turned, page, notice, 0), "no notice any more")


@pytest.mark.promise("T3")
def test_what_takes_the_request_and_never_answers_is_away_too(site: Site) -> None:
    with contextlib.closing(site.chromium.context()) as context:
        page = context.new_page()
        site.log_in(page)
        page.clock.install()  # whose minutes are over at once
        page.goto(site.url)
        notice = page.get_by_role("alert").filter(has_text="this page shows how things were at")
        page.route("**/overview/live", silent)
        site.stack.wait(partial(turned, page, notice, 1), "the notice")
        page.unroute("**/overview/live")
        site.stack.wait(partial(turned, page, notice, 0), "no notice any more")


def turned(page: Page, notice: Locator, shown: int) -> bool:
    page.clock.run_for(5_000)
    return notice.count() == shown


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
    note = page.get_by_role("status").filter(has_text="Not refreshed while text is selected")
    expect(note).to_contain_text("this shows how things were at")
    page.evaluate("getSelection().removeAllRanges()")
    expect(note).to_have_count(0)


@pytest.mark.promise("T3")
def test_what_is_folded_out_is_left_alone_and_says_of_when_it_is(site: Site, page: Page) -> None:
    page.goto(site.url)
    page.evaluate("""document.querySelector("[data-live]").insertAdjacentHTML("beforeend",
        "<details open><summary>More</summary>What was said</details>")""")
    note = page.get_by_role("status").filter(has_text="Not refreshed while a part is folded out")
    expect(note).to_contain_text("this shows how things were at")
    page.get_by_text("More", exact=True).last.click()
    page.get_by_role("heading", level=1).click()  # and somebody goes elsewhere
    expect(page.get_by_text("What was said")).to_have_count(0)
    expect(note).to_have_count(0)


@pytest.mark.promise("T3")
def test_a_page_that_was_in_the_background_says_of_when_it_is_and_goes_on(
    site: Site, page: Page
) -> None:
    page.goto(site.url)
    page.evaluate(_HIDE, True)
    note = page.get_by_role("status").filter(has_text="the page is in the background")
    expect(note).to_contain_text("this shows how things were at")
    with page.expect_response(is_live):  # at once, and not when its turn comes
        page.evaluate(_HIDE, False)
    expect(note).to_have_count(0)
