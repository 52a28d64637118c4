"""The documents of this version, as pages: what an alert at night links to."""

from __future__ import annotations

import re
import uuid

import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from services.admin.pages.documents import titles
from tests.deploy.manifests import ROOT
from tests.e2e.site import Site

RULES = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"][0]["rules"]


def test_the_link_of_an_alert_opens_its_section_without_a_login(site: Site) -> None:
    with site.visitor(token=None) as page:
        for rule in RULES[::6]:
            address = rule["annotations"]["runbook_url"]
            page.goto(address.replace("https://posthouse.example.com", site.url))
            section = page.locator(":target")
            expect(section).to_have_text(rule["alert"])
            expect(section).to_be_in_viewport()


def test_from_the_menu_to_a_setting(site: Site, page: Page) -> None:
    page.goto(site.url)
    page.get_by_role("link", name="Documents").click()
    page.get_by_role("link", name="Settings", exact=True).click()
    row = page.get_by_role("row").filter(has_text="POSTHOUSE_PUBLIC_URL")
    expect(row).to_have_count(1)
    page.get_by_role("link", name="All documents").click()
    page.get_by_role("link", name=re.compile("^Operat")).click()
    # Links between documents stay within; those to files of the source tree are no links.
    for link in page.locator("article a").all():
        target = str(link.get_attribute("href"))
        assert target.startswith(("/documents/", "#", "https://")), target
    page.get_by_role("link", name="settings.md").first.click()
    expect(page).to_have_url(f"{site.url}/documents/settings")


def test_from_a_handler_to_what_its_author_reads(site: Site, page: Page) -> None:
    number = site.add_handler(site.add_connection(site.new_mailbox()), f"read-{uuid.uuid4().hex}")
    page.goto(f"{site.url}/handlers/{number}")
    page.get_by_role("link", name="the handler's guide").click()
    expect(page.get_by_role("heading", name="What a callback can do")).to_be_visible()
    for word in ("Retry(delay_s)", "Reject(reason)", "idempotency_key", "./sdk[redis]", "Node"):
        expect(page.get_by_role("article")).to_contain_text(word)
    page.get_by_role("link", name="rules", exact=True).click()
    expect(page).to_have_url(f"{site.url}/documents/rules")
    page.get_by_role("link", name="All documents").click()
    expect(page.get_by_role("link", name="The file of posthouse apply")).to_be_visible()


def test_a_phone_shows_a_table_of_settings_without_scrolling_it(site: Site) -> None:
    with site.visitor(token=None, phone=True) as page:
        page.goto(f"{site.url}/documents/settings")
        wide = page.locator(".document table").evaluate_all(
            "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).length"
        )
        assert wide == 0
        page.goto(f"{site.url}/documents/google")
        owner = page.get_by_role("row").filter(has_text="What each mailbox needs")
        shown = owner.get_by_role("cell").evaluate_all(
            "all => all.map(one => getComputedStyle(one, '::before').content)"
        )
        assert shown[-2:] == ['"Somebody logs in: "', '"Service account: "']
    with site.visitor(token=None) as page:
        page.goto(f"{site.url}/documents/settings")
        name = page.locator("td code", has_text="POSTHOUSE_STORE_URL").first
        assert name.evaluate("one => one.getClientRects().length") == 1, "no name is broken"


def test_the_answer_to_a_form_that_is_opened_again_leads_to_where_it_began(
    site: Site, page: Page
) -> None:
    number = site.add_connection(site.new_mailbox())
    page.goto(f"{site.url}/connections/{number}/enable")
    expect(page).to_have_url(f"{site.url}/connections/{number}")
    expect(page.get_by_text("That page is the answer to a form")).to_be_visible()


def test_a_document_that_is_not_there(site: Site, page: Page) -> None:
    for name in ("nothing", "..%2fpyproject", "reference"):
        page.goto(f"{site.url}/documents/{name}")
        expect(page.get_by_role("heading", name="Not found")).to_be_visible()


def test_a_phone_shows_the_numbers_of_steps(site: Site) -> None:
    """A marker lies before its line, where nothing tells that it is cut."""
    with site.visitor(token=None, phone=True) as page:
        page.goto(f"{site.url}/documents/google")
        rooms = page.locator(".document :is(ol, ul)").evaluate_all(
            "all => all.map(one => parseFloat(getComputedStyle(one).paddingLeft))"
        )
        assert rooms
        assert min(rooms) >= 20


def test_no_document_has_a_fault_of_accessibility(site: Site, page: Page) -> None:
    for name in titles():
        page.goto(f"{site.url}/documents/{name}")
        found = Axe().run(page).response["violations"]
        assert [(name, one["id"], one["nodes"][0]["html"][:200]) for one in found] == []
