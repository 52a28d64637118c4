"""Forms lose nothing that was typed, and say all that is wrong at once."""

from __future__ import annotations

import re
import uuid

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import TOKEN, Site, fill_server

MANY = re.compile("things have to be changed before this can be saved")


def name_of(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex[:8]}"


def test_all_that_is_wrong_is_said_in_the_order_of_the_fields(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/connections/new")
    page.locator("form[data-form]").evaluate("form => form.noValidate = true")
    page.get_by_label("Name", exact=True).fill(name_of("wrong"))
    page.get_by_label("Port").fill("70000")
    page.get_by_label("Look for new mails every").fill("61")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Connection timeout").fill("0")
    page.get_by_label("Private certificate authority").fill("no certificate")
    page.get_by_role("button", name="Save", exact=True).click()
    listed = page.get_by_role("alert").get_by_role("link")
    expect(listed).to_have_count(7)
    expect(page.get_by_role("alert")).to_be_focused()
    wanted = [one.get_attribute("href") or "" for one in listed.all()]
    placed = page.locator("form[data-form] [aria-invalid=true]")
    assert [f"#{one.get_attribute('id')}" for one in placed.all()] == wanted
    for one in placed.all():
        expect(one).to_have_accessible_description(re.compile("."))
    listed.last.click()
    expect(page.get_by_label("Private certificate authority")).to_be_focused()


def test_a_password_that_was_typed_stays(site: Site, page: Page) -> None:
    user, name = site.new_mailbox(), name_of("kept")
    page.goto(f"{site.url}/connections/new")
    page.locator("form[data-form]").evaluate("form => form.noValidate = true")
    page.get_by_label("Name", exact=True).fill(name)
    fill_server(page, site, user)
    page.get_by_label("Look for new mails every").fill("61")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_label("Look for new mails every")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Look for new mails every").fill("60")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page.get_by_role("status").first).to_contain_text("is saved, and disabled")
    made = next(c for c in site.api("GET", f"/connections?q={name}")["items"])
    assert site.api("POST", f"/connections/{made['id']}/test")["ok"]


def test_a_session_that_ended_loses_nothing(site: Site) -> None:
    user, name = site.new_mailbox(), name_of("ended")
    with site.visitor() as page:
        page.goto(f"{site.url}/connections/new")
        page.get_by_label("Name", exact=True).fill(name)
        fill_server(page, site, user)
        # Their sessions end: an administrator ended them, or the night was long.
        page.context.clear_cookies()
        page.get_by_role("button", name="Test", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("Your session has ended")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("alert")).to_have_count(1)
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Log in again in another tab").click()
        site.log_in(opened.value)
        opened.value.close()
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        made = next(c for c in site.api("GET", f"/connections?q={name}")["items"])
        assert site.api("POST", f"/connections/{made['id']}/test")["ok"]


@pytest.mark.parametrize(
    ("path", "wrong", "said"),
    [
        ("/handlers/new", {"Name": "Not A Name", "Group": "Nor This"}, 2),
        ("/credentials/new", {"Name": "", "Client id": ""}, 3),
        ("/people/new", {"Name": "", "Email address": "nowhere", "Password": "short"}, 3),
    ],
    ids=["handler", "credential", "person"],
)
def test_every_form_says_all_at_once(
    site: Site, page: Page, path: str, wrong: dict[str, str], said: int
) -> None:
    page.goto(site.url + path)
    page.locator("form[data-form]").evaluate("form => form.noValidate = true")
    for summary in page.locator("form[data-form] summary").all():
        summary.click()
    for label, text in wrong.items():
        page.get_by_label(re.compile(f"^{label}( optional)?$")).fill(text)
    page.locator(
        "form[data-form] .actions button.primary, form[data-form] button.primary"
    ).first.click()
    expect(page.get_by_role("alert")).to_contain_text(MANY)
    expect(page.get_by_role("alert").get_by_role("listitem")).to_have_count(said)
    for label, text in wrong.items():
        expect(page.get_by_label(re.compile(f"^{label}( optional)?$"))).to_have_value(text)


def test_the_api_names_every_field(site: Site) -> None:
    answer = httpx.post(
        f"{site.url}/api/v1/connections",
        json={"name": "", "mode": "imap", "port": 0.5, "interval_minutes": 99},
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    assert answer.status_code == 422
    fields = [one["field"] for one in answer.json()["errors"]]
    assert fields == ["name", "host", "port", "username", "interval_minutes", "password"]


def test_two_people_who_edit_one_connection_see_each_other(site: Site, page: Page) -> None:
    connection = site.add_connection(site.new_mailbox(), name=name_of("both"))
    page.goto(f"{site.url}/connections/{connection}/edit")
    page.get_by_label("Description").fill("mine")
    site.api("PATCH", f"/connections/{connection}", {"interval_minutes": 7})
    page.get_by_role("button", name="Save changes").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("interval_minutes from 60 to 7")
    expect(alert).to_contain_text("after you had opened it")
    assert site.api("GET", f"/connections/{connection}")["description"] == ""
    # What was typed is still there, and is saved by who has read the notice.
    expect(page.get_by_label("Description")).to_have_value("mine")
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_role("status").first).to_contain_text("saved")
    assert site.api("GET", f"/connections/{connection}")["description"] == "mine"


@pytest.mark.parametrize("kind", ["connections", "handlers", "webhooks", "credentials", "people"])
def test_a_change_of_another_version_is_refused(site: Site, kind: str) -> None:
    """With `If-Match`, as RFC 9110 has it; a change that names none is made."""
    name = name_of("tagged")
    bodies = {
        "handlers": {"name": name, "connections": []},
        "webhooks": {"name": name, "url": "https://hooks.example.org/x"},
        "credentials": {
            "name": name,
            "provider": "google",
            "client_id": "some",
            "client_secret": "some",
        },
        "people": {"name": name, "email": f"{name}@example.org", "password": "a long password"},
    }
    if kind == "connections":
        number = site.add_connection(site.new_mailbox(), name=name)
    else:
        number = site.api("POST", f"/{kind}", bodies[kind])["id"]
    field = {"people": "email", "handlers": "description"}.get(kind, "name")
    path = f"{site.url}/api/v1/{kind}/{number}"
    with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as asked:
        first = asked.get(path).headers["etag"]
        mine = asked.patch(path, json={field: f"a@{name}"}, headers={"If-Match": first})
        assert mine.status_code == 200, mine.text
        assert mine.headers["etag"] == asked.get(path).headers["etag"] != first
        refused = asked.patch(path, json={field: f"b@{name}"}, headers={"If-Match": first})
        assert (refused.status_code, refused.json()["code"]) == (412, "changed-meanwhile")
        assert asked.get(path).json()[field] == f"a@{name}"
        assert asked.patch(path, json={field: f"b@{name}"}).status_code == 200
        assert asked.delete(path).status_code == 204
