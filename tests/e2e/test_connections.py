"""The list and the page of a connection: health, search, enabling, fetching, deleting."""

from __future__ import annotations

import re
import uuid

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import Site, fill_server, mail


@pytest.mark.promise("M20")
def test_the_list_is_searched_while_typing_sorted_and_paged(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    for number in range(3):
        site.api(
            "POST",
            "/connections",
            {
                "name": f"List {number} {mark}",
                "description": "Ärger und Lob" if number == 1 else "",
                "mode": "imap",
                "host": f"imap{number}.{mark}.example",
                "username": f"person-{number}@{mark}.example",
                "password": "secret",
            },
        )
    page.goto(f"{site.url}/connections")
    search = page.get_by_label("Search name, description, server, username or tag")
    for typed, found in (
        (f"LIST 2 {mark[:5].upper()}", 1),
        (f"MAP1.{mark}", 1),
        (f"son-0@{mark}", 1),
        (mark, 3),
    ):
        search.fill(typed)
        expect(page.locator("tbody tr")).to_have_count(found)
        expect(page.get_by_role("status")).to_contain_text("connection")
    search.fill("äRGER")
    expect(page.get_by_role("link", name=f"List 1 {mark}")).to_be_visible()
    search.fill(mark)
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_role("link", name=re.compile("^Name")).click()
    expect(page.locator("tbody tr").first).to_contain_text("List 2")
    expect(page).to_have_url(re.compile("sort=-name"))


@pytest.mark.promise("M19", "M13")
def test_health_is_a_word_and_a_failing_one_shows_its_protocol(site: Site, page: Page) -> None:
    user = site.new_mailbox()
    name = f"health {user}"
    number = site.add_connection(user, name=name, handler=f"takes-{user}")
    page.goto(f"{site.url}/connections?q={user}")
    expect(page.locator("tbody .health")).to_have_text("Disabled")
    site.api("PATCH", f"/connections/{number}", {"password": "wrong-password"})
    site.api("POST", f"/connections/{number}/enable", {"acknowledged": True})
    page.goto(f"{site.url}/connections/{number}")
    expect(page.locator(".health")).to_have_text("Failing", timeout=30_000)
    expect(page.get_by_text("The mail server refused the login").first).to_be_visible()
    page.get_by_text("What was said").first.click()
    log = page.locator("pre.log").first
    expect(log).to_contain_text("LOGIN")
    expect(log).not_to_contain_text("wrong-password")
    # It stands on the first page, too, and is gone from there once it works.
    page.goto(site.url)
    row = page.get_by_role("row", name=name)
    expect(row).to_contain_text("Failing")
    site.api("PATCH", f"/connections/{number}", {"password": "secret"})
    expect(row).to_have_count(0, timeout=30_000)


@pytest.mark.promise("M18")
def test_a_connection_that_nobody_takes_is_yellow(site: Site, page: Page) -> None:
    user = site.new_mailbox(1)
    number = site.add_connection(user)
    handlers = [one for one in site.api("GET", "/handlers")["items"] if one["enabled"]]
    for one in handlers:
        site.api("PATCH", f"/handlers/{one['id']}", {"enabled": False})
    try:
        page.goto(f"{site.url}/connections/{number}")
        page.get_by_role("button", name="Enable").click()
        page.get_by_label("I have seen how many mails this is").check()
        page.get_by_role("button", name="Enable", exact=True).click()
        expect(page.get_by_role("status").first).to_contain_text("nothing is downloaded before")
        expect(page.locator(".health")).to_have_text("No enabled handler")
        page.get_by_role("button", name="Fetch now").click()
        expect(page.get_by_role("status").first).to_contain_text("No enabled handler takes")
        # What waited for a handler begins with it, not an interval later.
        site.add_handler(number)
        site.wait_taken(number, 1)
        expect(page.locator(".health")).to_have_text("Working")
    finally:
        # Else the mail of a test that failed would come in the midst of others.
        site.api("POST", f"/connections/{number}/disable")
        for one in handlers:
            site.api("PATCH", f"/handlers/{one['id']}", {"enabled": True})


@pytest.mark.promise("M17", "M16", "M10")
def test_only_later_mails_and_the_count_of_those_set_unread_again(site: Site, page: Page) -> None:
    user = site.new_mailbox(2)
    number = site.add_connection(user, handler=f"takes-{user}")
    page.goto(f"{site.url}/connections/{number}")
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("heading", name="2 mails are new")).to_be_visible()
    since = page.get_by_label("Since", exact=True)
    expect(since).to_be_hidden()
    page.get_by_label("Only mails that arrived since a date").check()
    since.fill("2099-01-01")
    page.get_by_role("button", name="Count again").click()
    expect(page.get_by_role("heading", name="0 mails are new")).to_be_visible()
    page.get_by_label("Only mails that arrive from now on").check()
    page.get_by_role("button", name="Enable", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("left alone")
    expect(page.locator(".health")).to_have_text("Working", timeout=30_000)
    with site.dovecot.client(user) as other:
        other.select_folder("INBOX")
        assert len(other.search("UNSEEN")) == 2

    site.dovecot.deliver(user, [mail("Later", user)])
    page.get_by_role("button", name="Fetch now").click()
    expect(page.get_by_role("row", name=re.compile("fine"))).to_be_visible(timeout=30_000)
    # The mail that was handed over is set unread again by hand: counted, not taken.
    site.wait_taken(number, 1)
    with site.dovecot.client(user) as other:
        other.select_folder("INBOX")
        other.remove_flags(other.search("SEEN"), [b"\\Seen"])
    page.get_by_role("button", name="Disable").click()
    expect(page.locator(".health")).to_have_text("Disabled")
    site.dovecot.deliver(user, [mail("Newest", user)])
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("heading", name="1 mail is new")).to_be_visible()
    expect(page.get_by_text("They are not delivered again by themselves.")).to_be_visible()


@pytest.mark.promise("M15")
def test_another_folder_is_counted_and_acknowledged_again(site: Site, page: Page) -> None:
    user = site.new_mailbox()
    site.dovecot.deliver(user, [mail("Old", user)] * 2, folder="Archive")
    number = site.add_connection(user, handler=f"takes-{user}")
    page.goto(f"{site.url}/connections/{number}")
    page.get_by_role("button", name="Enable").click()
    # Nothing is new: enabled at once.
    expect(page.get_by_role("status").first).to_contain_text("is enabled")
    page.get_by_role("link", name="Change", exact=True).click()
    page.get_by_label("Folder").fill("Archive")
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_role("alert")).to_contain_text("2 mails would be downloaded")
    page.get_by_label("I have seen how many mails this is").check()
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_role("definition").filter(has_text="Archive")).to_be_visible()


def test_deleting_asks_first_and_leaves_the_mailbox_alone(site: Site, page: Page) -> None:
    user = site.new_mailbox(1)
    number = site.add_connection(user, name=f"gone {user}")
    page.goto(f"{site.url}/connections/{number}")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"gone {user}")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").first).to_contain_text("is deleted")
    with site.dovecot.client(user) as other:
        assert other.folder_status("INBOX", ["MESSAGES"])[b"MESSAGES"] == 1


def test_without_scripts_a_connection_is_tested_and_saved(site: Site) -> None:
    with site.visitor(scripts=False) as page:
        user = site.new_mailbox(1)
        page.goto(f"{site.url}/connections/new")
        page.get_by_label("Name", exact=True).fill(f"plain {user}")
        fill_server(page, site, user)
        page.get_by_role("button", name="Test").click()
        expect(page.get_by_role("heading", name="It works")).to_be_visible()
        page.get_by_label("Password", exact=True).fill("secret")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"plain {user}")
