"""The documents of this version, as pages: what an alert at night links to."""

from __future__ import annotations

import re

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
