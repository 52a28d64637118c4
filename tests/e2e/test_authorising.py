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
    page.get_by_role("button", name="Authorise", exact=True).first.click()  # not "again"
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
        page.wait_for_url(f"{site.url}/connections/{connection}**")
        expect(page.get_by_text("eve@example.org logged in").first).to_be_visible()


@pytest.mark.promise("A2")
def test_a_denied_consent_is_shown(site: Site, connection: int) -> None:
    with browser(site) as page:
        to_the_login(site, page, connection)
        answer(page, consent="Deny")
        page.wait_for_url(f"{site.url}/connections/{connection}**")
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


@pytest.mark.promise("A3")
def test_application_access_is_tested_as_soon_as_it_is_chosen(
    site: Site, page: Page, provider: OidcServer, graph_server: GraphServer
) -> None:
    graph_server.trust(provider.public_key)
    graph_server.mailbox(ALICE).deliver([b"Subject: waiting\r\n\r\nHello\r\n"])
    good, bad = (
        site.api(
            "POST",
            "/credentials",
            {
                "name": f"{name} {uuid.uuid4().hex[:8]}",
                "provider": "microsoft",
                "grant": "client-credentials",
                "client_id": provider.client_id,
                "client_secret": secret,
                "settings": {
                    "authority": provider.issuer,
                    "ca_certificate": provider.ca,
                    "graph_host": f"localhost:{graph_server.port}",
                },
            },
        )
        for name, secret in (("good", provider.client_secret), ("bad", "not the secret"))
    )
    page.goto(f"{site.url}/connections/new")
    page.get_by_label("Kind of mailbox").select_option("microsoft-graph")
    chosen = page.get_by_label("OAuth2 credential (Microsoft)")
    result = page.get_by_label("Test result")
    chosen.select_option(str(bad["id"]))
    expect(result).to_be_empty()  # whose mailbox is not known yet
    page.get_by_label("Username").fill(ALICE)
    page.get_by_label("Username").blur()
    expect(result).to_contain_text("does not accept the client secret")
    chosen.select_option(str(good["id"]))
    expect(result).to_contain_text("1 mail")
    page.get_by_label("Username").fill("nobody@example.org")
    page.get_by_label("Username").blur()
    # A token was had, and the server reached: it is the mailbox that is not there.
    expect(result.locator("li.failed")).to_contain_text("Open the mailbox")
    expect(result.locator("li.done")).to_have_count(4)
    page.get_by_label("Username").fill(ALICE)
    page.get_by_label("Username").blur()
    expect(result).to_contain_text("1 mail")
    page.get_by_label("Name", exact=True).fill(f"application {uuid.uuid4().hex[:8]}")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(
        page.get_by_text("Application access was tested: the mailbox opens").first
    ).to_be_visible()


@pytest.mark.promise("M2")
def test_pop3_is_authorised_like_the_others(
    site: Site, page: Page, provider: OidcServer, connection: int
) -> None:
    held = site.api("GET", f"/connections/{connection}")["credential_id"]
    page.goto(f"{site.url}/connections/new")
    page.get_by_label("Name", exact=True).fill(f"by POP3 {uuid.uuid4().hex[:8]}")
    kind = page.get_by_label("Kind of mailbox")
    choice = page.get_by_label("OAuth2 credential in place of a password")
    kind.select_option("imap")
    expect(choice).to_be_hidden()
    kind.select_option("pop3")
    expect(choice).to_be_visible()
    page.get_by_label("Mail server", exact=True).fill("outlook.office365.com")
    page.get_by_label("Username").fill(ALICE)
    choice.select_option(str(held))
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("button", name="Authorise").first).to_be_visible()
