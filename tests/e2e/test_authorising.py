"""The authorisation-code flow in a browser: our pages, the provider's, and back."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import TOKEN, Site
from tests.servers.certificates import Authority
from tests.servers.graph import GraphServer
from tests.servers.oidc import OidcServer

ALICE = "alice@example.org"


@pytest.fixture(scope="module")
def provider(site: Site, authority: Authority) -> Iterator[OidcServer]:
    """An authorisation server that knows the site's redirect address."""
    with OidcServer(authority, redirects=(f"{site.url}/api/v1/oauth/callback",)) as server:
        yield server


@pytest.fixture
def connection(site: Site, provider: OidcServer, graph_server: GraphServer) -> int:
    """A Graph connection for Alice that nobody has authorised."""
    graph_server.trust(provider.public_key)
    graph_server.mailbox(ALICE)
    credential = site.api(
        "POST",
        "/credentials",
        {
            "name": f"credential {uuid.uuid4().hex[:8]}",
            "provider": "microsoft",
            "client_id": provider.client_id,
            "client_secret": provider.client_secret,
            "settings": {
                "authority": provider.issuer,
                "ca_certificate": provider.ca,
                "graph_host": f"localhost:{graph_server.port}",
            },
        },
    )
    made = site.api(
        "POST",
        "/connections",
        {
            "name": f"graph {uuid.uuid4().hex[:8]}",
            "mode": "microsoft-graph",
            "username": ALICE,
            "credential_id": credential["id"],
        },
    )
    return int(made["id"])


@contextmanager
def browser(site: Site) -> Iterator[Page]:
    """Logged in to the pages; takes the certificate of the tests' authorisation server."""
    context = site.chromium._browser.new_context(ignore_https_errors=True, locale="en-GB")
    context.set_default_timeout(20_000)
    page = context.new_page()
    try:
        site.log_in(page, TOKEN)
        yield page
    finally:
        context.close()


def to_the_login(site: Site, page: Page, connection: int) -> None:
    """From the connection's page to the provider's login."""
    page.goto(f"{site.url}/connections/{connection}")
    page.get_by_role("button", name="Authorise").first.click()
    page.get_by_role("link", name="Go to the login").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def answer(page: Page, *, user: str = "", consent: str = "Allow") -> None:
    """At the provider: whom the page suggests, unless `user` is typed over it."""
    if user:
        page.locator("input[name=login]").fill(user)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name=consent).click()


@pytest.mark.promise("A2")
def test_the_right_account_authorises_and_the_mailbox_opens(
    site: Site, connection: int, graph_server: GraphServer
) -> None:
    graph_server.mailbox(ALICE).deliver([b"Subject: waiting\r\n\r\nHello\r\n"])
    with browser(site) as page:
        to_the_login(site, page, connection)
        assert page.locator("input[name=login]").input_value() == ALICE
        answer(page)
        page.wait_for_url(f"{site.url}/connections/{connection}**")
        expect(page.get_by_text(f"is authorised as {ALICE}").first).to_be_visible()
        expect(page.get_by_text("Authorised as", exact=True)).to_be_visible()
    report = site.api("POST", f"/connections/{connection}/test")
    assert report["ok"] is True, report


@pytest.mark.promise("A2")
def test_another_account_is_refused(site: Site, connection: int) -> None:
    with browser(site) as page:
        to_the_login(site, page, connection)
        answer(page, user="eve@example.org")
        page.wait_for_url(f"{site.url}/connections**")
        expect(page.get_by_text("eve@example.org logged in").first).to_be_visible()


@pytest.mark.promise("A2")
def test_a_denied_consent_is_shown(site: Site, connection: int) -> None:
    with browser(site) as page:
        to_the_login(site, page, connection)
        answer(page, consent="Deny")
        page.wait_for_url(f"{site.url}/connections**")
        expect(page.get_by_text("consent was refused").first).to_be_visible()


@pytest.mark.promise("A2")
def test_a_replayed_answer_is_refused(site: Site, connection: int) -> None:
    with browser(site) as page:
        to_the_login(site, page, connection)
        callbacks: list[str] = []
        page.on(
            "request",
            lambda request: (
                callbacks.append(request.url) if "/oauth/callback" in request.url else None
            ),
        )
        answer(page)
        page.wait_for_url(f"{site.url}/connections/{connection}**")
        page.goto(callbacks[0])
        expect(page.get_by_text("finished already").first).to_be_visible()
