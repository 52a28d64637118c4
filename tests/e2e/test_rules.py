"""The rules of a handler in the pages: made, tried, saved, found on a mail that was left out."""

from __future__ import annotations

import uuid

import pytest
from playwright.sync_api import Dialog, Page, expect

from tests.e2e.site import Site, mail


def watched(site: Site, handler: str, *subjects: str) -> tuple[int, str]:
    """(a handler's id, the user of a mailbox that it alone takes), with these mails handed over."""
    user = site.new_mailbox()
    site.dovecot.deliver(user, [mail(subject, user) for subject in subjects])
    connection = site.add_connection(user)
    number = site.add_handler(connection, handler)
    site.enable(connection)
    site.wait_taken(connection, len(subjects))
    return number, user


@pytest.mark.promise("R1", "R2", "R3")
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "plain"])
def test_a_rule_is_made_tried_and_saved_and_its_reason_found_on_a_mail(
    site: Site, scripts: bool
) -> None:
    mark = uuid.uuid4().hex[:8]
    number, user = watched(site, f"tickets-{mark}", f"Invoice {mark}", f"Lunch {mark}")
    with site.visitor(scripts=scripts) as page:
        page.goto(f"{site.url}/handlers/{number}")
        page.get_by_role("link", name="Make rules").click()
        # A slip is told with the number of the rule, and nothing that was typed is gone.
        page.get_by_label("Fact 1 of rule 1", exact=True).first.select_option("kind")
        page.get_by_label("Values of fact 1 of rule 1").first.fill("letter")
        page.get_by_role("button", name="Try it on past mails").click()
        expect(page.get_by_role("alert")).to_contain_text("Rule 1, kind: 'letter' is not known")
        # Where more is wrong all of it is told, and each leads to its place.
        page.get_by_label("An expression that has to be true").fill("knd == 'person'")
        page.get_by_role("button", name="Try it on past mails").click()
        told = page.get_by_role("alert")
        expect(told).to_contain_text("2 things have to be changed")
        expect(told.get_by_role("link", name="undeclared reference to 'knd'")).to_be_visible()
        told.get_by_role("link", name="'letter' is not known").click()
        expect(page.get_by_label("Values of fact 1 of rule 1").first).to_be_focused()
        page.get_by_label("An expression that has to be true").fill("")
        page.get_by_label("Values of fact 1 of rule 1").first.fill("person\nlist")
        page.get_by_role("button", name="Add a rule that leaves mails out").click()
        left_out = page.locator("section.rules").nth(1)
        left_out.get_by_role("combobox").first.select_option("subject")
        left_out.get_by_role("textbox").first.fill("lunch")
        page.get_by_role("button", name="Try it on past mails").click()
        heading = "Of 2 mails of the last 30 days this would take 1"
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        tried = page.locator("[data-tried]")
        expect(tried).to_contain_text("Takes mails of the kind person or list.")
        expect(tried.get_by_role("row", name=f"Invoice {mark}")).to_be_visible()
        tried.get_by_text("It would not take").first.click()
        row = tried.get_by_role("row", name=f"Lunch {mark}")
        expect(row).to_contain_text("rule 2, subject lunch")
        page.get_by_role("button", name="Save the rules").click()
        expect(page.get_by_role("status").first).to_contain_text("The rules are saved")
        expect(page.get_by_text("Never takes mails with “lunch” in the subject.")).to_be_visible()
        # New mails: one is taken, one is not, and its path says why.
        site.dovecot.deliver(user, [mail(f"Lunch again {mark}", user)])
        (row_of,) = site.stack.query("SELECT id FROM connection WHERE name = %s", user)
        site.api("POST", f"/connections/{row_of[0]}/fetch")
        # Handlers of other tests may take every connection: what this one did is looked at.
        of_this = "JOIN message m ON m.id = t.message_id WHERE t.handler_id = %s AND m.subject = %s"

        def rows(table: str) -> int:
            query = f"SELECT count(*) FROM {table} t {of_this}"
            return int(site.stack.query(query, number, f"Lunch again {mark}")[0][0])

        site.stack.wait(lambda: rows("filtered") == 1, "decided")
        page.reload()
        page.get_by_role("link", name="Mails that were not for it").click()
        expect(page.get_by_role("row", name=f"Lunch again {mark}")).to_be_visible()
        page.get_by_role("link", name=f"Lunch again {mark}").click()
        expect(page.get_by_role("list").filter(has_text="Downloaded by")).to_contain_text(
            f"Not for tickets-{mark}: rule 2, subject lunch"
        )
        # On purpose it goes all the same.
        page.get_by_label("Deliver again to").select_option(label=f"tickets-{mark}")
        page.get_by_role("button", name="Deliver again").click()
        expect(page.get_by_role("status").first).to_contain_text("on its way again")
        site.stack.wait(lambda: rows("delivery") == 1, "given")
        page.reload()
        expect(page.get_by_text(f"Published to tickets-{mark}")).to_be_visible()


@pytest.mark.promise("R1")
def test_the_order_of_a_group_is_changed_in_the_page(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    for place, name in enumerate(("first", "second", "third"), 1):
        body = {"name": f"{name}-{mark}", "connections": [], "group": mark, "position": place}
        number = site.api("POST", "/handlers", body)["id"]
    page.goto(f"{site.url}/handlers/{number}")
    listed = page.locator("ol.sentences").filter(has_text=f"third-{mark}").get_by_role("listitem")
    expect(listed).to_have_count(3)
    expect(listed.first.get_by_role("button")).to_have_text("Down")
    expect(listed.last.get_by_role("button")).to_have_text("Up")
    page.get_by_role("button", name=f"Move third-{mark} up").click()
    expect(page.get_by_role("status").first).to_contain_text(f"third-{mark} was moved")
    expect(listed.nth(1)).to_contain_text(f"third-{mark}")
    # By the mouse: the third to the first place, then the first one to the last.
    listed.nth(2).drag_to(listed.nth(0))
    expect(listed.nth(0)).to_contain_text(f"second-{mark}")
    listed.nth(0).drag_to(listed.nth(2))
    expect(listed.nth(2)).to_contain_text(f"second-{mark}")
    expect(listed.nth(0)).to_contain_text(f"first-{mark}")
    expect(listed.nth(1)).to_contain_text(f"third-{mark}")
    places = {
        one["name"]: one["position"]
        for one in site.api("GET", "/handlers")["items"]
        if one["group"] == mark
    }
    assert places == {f"first-{mark}": 1, f"third-{mark}": 2, f"second-{mark}": 3}


@pytest.mark.promise("R2")
def test_past_mails_are_delivered_by_a_button(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    number, _ = watched(site, f"past-{mark}", f"Old {mark}")
    (row,) = site.stack.query(
        "SELECT id, connection_id FROM message WHERE subject = %s", f"Old {mark}"
    )
    late = site.add_handler(row[1], f"late-{mark}")
    assert number != late
    page.goto(f"{site.url}/handlers/{late}")
    page.get_by_text("Deliver past mails that it would take").click()
    page.get_by_label("Downloaded since (UTC)").fill("2020-01-01")
    page.get_by_role("button", name="Count them").click()
    told = page.get_by_text("Of 1 mail since 2020-01-01 the saved rules take 1 mail")
    expect(told).to_be_visible()
    asked: list[str] = []

    def accepted(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept()

    page.once("dialog", accepted)
    page.get_by_role("button", name="Deliver what it would have taken").click()
    expect(page.get_by_role("status").first).to_contain_text("1 mail is looked at once more")
    assert asked == [f"Deliver 1 mail to late-{mark}?"]
    had = "SELECT count(*) FROM delivery WHERE message_id = %s AND handler_id = %s"
    site.stack.wait(lambda: site.stack.query(had, row[0], late)[0][0] == 1, "it is delivered")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "plain"])
def test_a_rule_that_is_begun_or_taken_away_leaves_the_cursor_at_its_place(
    site: Site, scripts: bool
) -> None:
    mark = uuid.uuid4().hex[:8]
    rules = {"accept": [{"kind": "person"}]}
    made = {"name": f"cursor-{mark}", "connections": [], "rules": rules}
    number = site.api("POST", "/handlers", made)["id"]
    with site.visitor(scripts=scripts) as page:
        for path in (f"/handlers/{number}/rules", "/handlers/new"):
            page.goto(site.url + path)
            if path == "/handlers/new":
                page.get_by_text("Rules: which mails it takes").click()
            left_out = page.locator("section.rules").nth(1)
            left_out.get_by_role("combobox").first.select_option("subject")
            more = page.get_by_role("button", name="Add a rule that leaves mails out")
            more.click()
            expect(left_out.get_by_role("group")).to_have_count(2)
            expect(left_out.get_by_role("group").last.get_by_role("combobox").first).to_be_focused()
            left_out.get_by_role("button", name="away").click()
            expect(left_out.get_by_role("group")).to_have_count(1)
            expect(more).to_be_focused()


def test_what_a_form_of_rules_gives_back_stands_there_once(site: Site, page: Page) -> None:
    """Its lines close up where one was left empty."""
    page.goto(f"{site.url}/handlers/new")
    page.get_by_label("Name").fill("No Name")
    page.get_by_text("Rules: which mails it takes").click()
    taken = page.locator("section.rules").first
    taken.get_by_role("combobox").nth(1).select_option("sender")
    taken.get_by_role("textbox").nth(1).fill("ann@example.org")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert").first).to_be_visible()
    expect(taken.get_by_role("textbox").nth(0)).to_have_value("ann@example.org")
    expect(taken.get_by_role("textbox").nth(1)).to_have_value("")


def test_long_words_of_a_rule_widen_no_page(site: Site, page: Page) -> None:
    group = "g-" + uuid.uuid4().hex[:8] + "w" * 54
    made = {"name": f"wide-{uuid.uuid4().hex[:8]}", "connections": [], "group": group}
    number = site.api("POST", "/handlers", made)["id"]
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"{site.url}/handlers/{number}/rules")
    page.get_by_role("combobox", name="Fact 1 of rule 1").first.select_option("size")
    page.get_by_label("Values of fact 1 of rule 1").first.fill("w" * 300)
    page.get_by_role("button", name="Save the rules").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(f"{site.url}/handlers")
    expect(page.get_by_text(group)).to_be_visible()
    assert page.evaluate(
        "(box => box.scrollWidth <= box.clientWidth)(document.querySelector('.scroll'))"
    )
