"""People: logging in, roles, tokens, forged forms, and the audit log."""

from __future__ import annotations

import uuid

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import TOKEN, Site

PASSWORD = "a few words in a row"


def add_person(site: Site, page: Page, role: str) -> str:
    name = f"{role}-{uuid.uuid4().hex[:8]}"
    page.goto(f"{site.url}/people/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label(role.title(), exact=True).check()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("row", name=name)).to_contain_text(role)
    return name


def log_in(site: Site, page: Page, name: str, password: str = PASSWORD) -> None:
    page.goto(f"{site.url}/login")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in", exact=True).click()


def test_a_viewer_sees_states_and_neither_mails_nor_administration(site: Site, page: Page) -> None:
    name = add_person(site, page, "viewer")
    with site.visitor(token=None) as visitor:
        log_in(site, visitor, name, "a wrong guess at it")
        expect(visitor.get_by_role("alert")).to_contain_text("Name or password is wrong.")
        log_in(site, visitor, name)
        expect(visitor.get_by_role("heading", level=1)).to_have_text("Overview")
        expect(visitor.get_by_role("link", name="People")).to_have_count(0)
        for path in ("/people", "/audit", f"/mails/{uuid.uuid4()}/raw"):
            visitor.goto(site.url + path)
            expect(visitor.get_by_role("heading", level=1)).to_have_text("Not allowed")
        visitor.goto(f"{site.url}/connections")
        expect(visitor.get_by_role("button", name="Enable")).to_have_count(0)
        # What a page does not offer is not possible past it either.
        token = visitor.locator("input[name=csrf]").first.get_attribute("value")
        for path in ("/connections/new", "/handlers/new", "/quarantine/act", "/people/new"):
            answer = visitor.request.post(site.url + path, form={"csrf": token or ""})
            assert answer.status == 403, path
        visitor.get_by_role("button", name="Log out").click()
        visitor.goto(f"{site.url}/connections")
        expect(visitor.get_by_role("heading", level=1)).to_have_text("Posthouse")


def test_a_form_without_its_token_changes_nothing(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/handlers")
    name = f"forged-{uuid.uuid4().hex[:8]}"
    forms: list[dict[str, str | float | bool]] = [{"name": name}, {"name": name, "csrf": "guessed"}]
    for form in forms:
        answer = page.request.post(f"{site.url}/handlers/new", form=form)
        assert answer.status == 400
        assert "opened under another login" in answer.text()
    cookie = {"Cookie": "; ".join(f"{c['name']}={c['value']}" for c in page.context.cookies())}
    by_api = httpx.post(f"{site.url}/api/v1/handlers", json={"name": name}, headers=cookie)
    assert by_api.status_code == 403
    assert name not in [one["name"] for one in site.api("GET", "/handlers")["items"]]


def test_the_cookie_and_the_policy_keep_scripts_and_others_out(site: Site, page: Page) -> None:
    (cookie,) = [c for c in page.context.cookies() if c["name"] == "posthouse_session"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    for path in ("/", "/login", "/connections", "/connections/new", "/mails", "/nothing-here"):
        answer = page.request.get(site.url + path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "<script>" not in answer.text()
        assert " style=" not in answer.text()


def test_guessing_passwords_ends_after_ten_and_is_told(site: Site, page: Page) -> None:
    name = add_person(site, page, "operator")
    with site.visitor(token=None) as visitor:
        for _ in range(10):
            log_in(site, visitor, name, "another wrong guess")
            expect(visitor.get_by_role("alert")).to_contain_text("wrong")
        log_in(site, visitor, name)
        expect(visitor.get_by_role("alert")).to_contain_text("Too many failed logins.")


def test_a_token_is_shown_once_has_its_role_and_is_revoked(site: Site, page: Page) -> None:
    name = f"deploy-{uuid.uuid4().hex[:8]}"
    page.goto(f"{site.url}/tokens")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Role").select_option("viewer")
    page.get_by_role("button", name="Make token").click()
    token = page.locator(".copyable pre").inner_text()
    page.goto(f"{site.url}/tokens")
    expect(page.get_by_text(token)).to_have_count(0)
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{site.url}/api/v1/connections", headers=headers).status_code == 200
    refused = httpx.post(f"{site.url}/api/v1/handlers", json={"name": "x"}, headers=headers)
    assert refused.status_code == 403
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("row", name=name).get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("status").first).to_contain_text("no longer opens anything")
    assert httpx.get(f"{site.url}/api/v1/connections", headers=headers).status_code == 401


def test_the_audit_log_says_who_changed_what_and_keeps_secrets(site: Site, page: Page) -> None:
    name = add_person(site, page, "operator")
    connection = site.add_connection(site.new_mailbox())
    with site.visitor(token=None) as visitor:
        log_in(site, visitor, name)
        expect(visitor.get_by_role("heading", level=1)).to_have_text("Overview")
        visitor.goto(f"{site.url}/connections/{connection}/edit")
        visitor.get_by_label("Look for new mails every").fill("7")
        visitor.get_by_label("Tags").fill("emea, it's")
        visitor.get_by_role("textbox", name="Password").fill("another-secret-word")
        visitor.get_by_role("button", name="Save changes").click()
        expect(visitor.get_by_role("status").first).to_contain_text("saved")
    page.goto(f"{site.url}/audit?q={name}")
    row = page.get_by_role("row", name=f"connection/{connection}")
    expect(row).to_contain_text("interval_minutes 60 → 7")
    expect(row).to_contain_text("tags none → emea, it's")
    expect(row).to_contain_text("••••••")
    expect(page.locator("body")).not_to_contain_text("another-secret-word")


def test_the_last_administrator_stays(site: Site, page: Page) -> None:
    name = add_person(site, page, "admin")
    page.get_by_role("link", name=name).click()
    page.get_by_label("Viewer", exact=True).check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").first).to_contain_text("This is the last administrator.")


@pytest.mark.parametrize("follow", ["//evil.example/", "https://evil.example/", "/\\evil.example"])
def test_a_login_leads_to_our_pages_only(site: Site, follow: str) -> None:
    with site.visitor(token=None) as visitor:
        visitor.goto(f"{site.url}/login?next={follow}")
        visitor.get_by_text("Log in with the bootstrap token").first.click()
        field = visitor.get_by_label("Bootstrap token", exact=True)
        if not field.is_visible():
            visitor.get_by_text("Log in with the bootstrap token").first.click()
        field.fill(TOKEN)
        visitor.get_by_role("button", name="Log in with the token").click()
        expect(visitor).to_have_url(f"{site.url}/")
