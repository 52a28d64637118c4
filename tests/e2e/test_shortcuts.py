"""Keys that lead somewhere, and the box that jumps to a connection, a handler, a mail or a page."""

from __future__ import annotations

import re
import uuid

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.e2e.site import Site, mail
from tests.e2e.test_people import PASSWORD, log_in


def box(page: Page) -> Locator:
    return page.get_by_role("dialog", name=re.compile("^Jump to"))


def press(page: Page, *keys: str) -> None:
    """Once the page's scripts listen."""
    page.wait_for_load_state()
    for key in keys:
        page.keyboard.press(key)


def typed(page: Page, text: str) -> Locator:
    """The page that is chosen once `text` was typed into the box."""
    box(page).get_by_role("combobox").fill(text)
    return box(page).get_by_role("option", selected=True)


def test_the_box_leads_to_what_is_typed_by_the_keyboard_alone(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    number = site.add_connection(site.new_mailbox(), name=f"billing {mark}", handler=f"h-{mark}")
    site.add_connection(site.new_mailbox(), name=f"before billing {mark}")
    press(page, "/")
    expect(box(page).get_by_role("combobox")).to_be_focused()
    expect(typed(page, f"billing {mark}")).to_contain_text(f"billing {mark} Connection")
    assert Axe().run(page).response["violations"] == []
    press(page, "Enter")
    expect(page).to_have_url(f"{site.url}/connections/{number}")
    press(page, "Control+k")
    expect(typed(page, mark)).to_contain_text("Connection")
    for _ in range(2):
        press(page, "ArrowDown")
    expect(box(page).get_by_role("option", selected=True)).to_have_text(f"h-{mark} Handler")
    press(page, "Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"h-{mark}")
    press(page, "/")
    press(page, "Escape")
    expect(box(page)).to_be_hidden()


def test_the_box_finds_a_mail_by_its_id_and_pages_by_a_word(site: Site, page: Page) -> None:
    subject = f"found {uuid.uuid4().hex}"
    site.fetch(mail(subject, "alice"))
    ((number,),) = site.stack.query("SELECT id FROM message WHERE subject = %s", subject)
    press(page, "/")
    expect(typed(page, str(number))).to_contain_text(subject)
    press(page, "Enter")
    expect(page).to_have_url(f"{site.url}/mails/{number}")
    press(page, "/")
    # What is typed and sent at once leads to what it finds, and not to what was found before it.
    box(page).get_by_role("combobox").fill("audit")
    press(page, "Enter")
    expect(page).to_have_url(f"{site.url}/audit")
    press(page, "/")
    expect(typed(page, "no such <b>thing</b>")).to_contain_text("Mails with “no such <b>thing</b>”")


def test_no_key_is_taken_from_a_field_and_keys_can_be_switched_off(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/connections/new")
    name = page.get_by_label("Name", exact=True)
    name.press_sequentially("a/b?gc")
    name.press("Control+k")
    expect(name).to_have_value("a/b?gc")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("heading", level=1).click()
    press(page, "?")
    keys = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(keys).to_contain_text("Jump to a connection")
    assert Axe().run(page).response["violations"] == []
    keys.get_by_role("checkbox").uncheck()
    press(page, "Escape")
    page.goto(f"{site.url}/mails")
    press(page, "/")
    press(page, "g")
    press(page, "c")
    press(page, "Control+k")
    expect(box(page)).to_be_visible()
    expect(page).to_have_url(f"{site.url}/mails")
    press(page, "Escape")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    keys.get_by_role("checkbox").check()
    keys.get_by_role("button", name="Close").click()
    press(page, "g")
    press(page, "c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Connections")


def test_without_scripts_jumping_is_a_page(site: Site) -> None:
    with site.visitor(scripts=False) as page:
        page.get_by_role("link", name="Jump to").click()
        page.get_by_label("Name, or the id of a mail").fill("quar")
        page.get_by_role("button", name="Find").click()
        page.get_by_role("list", name="Results").get_by_role("link", name="Quarantine").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Quarantine")


@pytest.mark.promise("T3")
def test_the_box_shows_what_may_be_opened_alone(site: Site) -> None:
    mark = uuid.uuid4().hex[:8]
    tag = f"part-{mark}"
    seen, hidden = (site.add_connection(site.new_mailbox(), name=f"{mark} {n}") for n in range(2))
    site.api("PATCH", f"/connections/{seen}", {"tags": [tag]})
    site.add_handler(hidden, f"{mark}-handler")
    subject = f"hidden {mark}"
    site.fetch(mail(subject, "alice"))
    ((number,),) = site.stack.query("SELECT id FROM message WHERE subject = %s", subject)
    person = {"name": f"p{mark}", "role": "operator", "tags": [tag], "password": PASSWORD}
    site.api("POST", "/people", person)
    with site.visitor(token=None) as page:
        log_in(site, page, f"p{mark}")
        expect(page.get_by_role("heading", level=1)).to_have_text("Connections")
        for text in (mark, "setting", "add", str(number)):
            page.goto(f"{site.url}/jump?q={text}")
            found = page.get_by_role("list", name="Results").get_by_role("link")
            for link in found.all():
                address = str(link.get_attribute("href"))
                assert address != f"/connections/{hidden}"
                assert page.request.get(site.url + address).status == 200, address
        page.goto(f"{site.url}/jump?q={mark}")
        expect(page.get_by_role("link", name=f"{mark} 0")).to_be_visible()


def test_the_box_knows_every_page_of_the_menu(site: Site, page: Page) -> None:
    menu = page.locator("#menu li a").evaluate_all("all => all.map(one => one.pathname)")
    page.goto(f"{site.url}/jump")
    links = page.get_by_role("list", name="Results").get_by_role("link")
    known = links.evaluate_all("all => all.map(one => one.pathname)")
    assert len(menu) > 10
    assert {*menu} <= {*known}
