"""An administrator of the tenant is sent a link, consents, and comes back to the pages."""

from __future__ import annotations

import uuid
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import Site


@pytest.mark.promise("A1")
def test_the_link_is_on_the_credentials_page_and_its_answers_are_shown(
    site: Site, page: Page
) -> None:
    made = site.api(
        "POST",
        "/credentials",
        {
            "name": f"credential {uuid.uuid4().hex[:8]}",
            "provider": "microsoft",
            "grant": "client-credentials",
            "client_id": "0f0f",
            "client_secret": "secret",
            "tenant": "contoso.example",
        },
    )
    page.goto(f"{site.url}/credentials/{made['id']}")
    card = page.locator(".card").filter(has_text="Consent of an administrator")
    link = card.locator("pre").inner_text().strip()
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    assert link == made["admin_consent_url"]
    back = f"{site.url}{urlsplit(query['redirect_uri']).path}?"
    page.goto(back + urlencode({"state": query["state"], "admin_consent": "True", "tenant": "t-1"}))
    expect(page.get_by_text("An administrator consented in the tenant t-1")).to_be_visible()
    page.goto(back + urlencode({"state": query["state"], "error": "<b>denied</b>"}))
    expect(page.get_by_text("The consent was not given: <b>denied</b>")).to_be_visible()


@pytest.mark.promise("A1")
def test_an_administrator_who_is_not_known_here_lands_on_a_page_that_says_so(site: Site) -> None:
    back = f"{site.url}/api/v1/oauth/callback?"
    with site.visitor(token=None) as page:
        page.goto(back + urlencode({"state": "admin-consent-1", "admin_consent": "True"}))
        expect(page.get_by_role("heading", level=1)).to_have_text("The consent came back")
        refused = {"state": "admin-consent-1", "error": "access_denied", "error_description": "Pay"}
        page.goto(back + urlencode(refused))
        expect(page.get_by_role("heading", level=1)).to_have_text("The consent was not given")
        expect(page.get_by_text("Pay")).to_have_count(0)
