"""Handlers: which mails they take, how far behind they are, and what their programs rejected."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from standardwebhooks import Webhook

from posthouse import Consumer, MailEvent, Reject
from tests.e2e.site import Site, mail
from tests.servers.webhooks import Receiver


@contextmanager
def program(site: Site, handler: str, work: Callable[[MailEvent], None]) -> Iterator[None]:
    """A program that consumes the handler's queue."""
    consumer = Consumer(site.stack.output_url, handler, verify=False)
    thread = threading.Thread(target=consumer.run, args=(work,))
    thread.start()
    try:
        yield
    finally:
        consumer.stop()
        thread.join()


@contextmanager
def seen_before(site: Site, handler: str) -> Iterator[None]:
    """The handler's queue was looked at five minutes ago, and nobody looks meanwhile."""
    while True:
        changed = site.stack.query(
            "UPDATE handler_queue SET checked_at = now() - interval '5 minutes' FROM handler"
            " WHERE handler_id = id AND name = %s RETURNING checked_at",
            handler,
        )
        with site.stack.database.transaction() as session:
            now = session.execute(
                "SELECT checked_at FROM handler_queue JOIN handler ON handler_id = id"
                " WHERE name = %s FOR UPDATE OF handler_queue",
                (handler,),
            ).fetchall()
            if now == changed:  # else the scheduler looked in between
                yield
                return


@pytest.mark.promise("H1")
def test_a_handler_shows_its_backlog_and_what_it_rejected(site: Site, page: Page) -> None:
    handler = f"slow-{uuid.uuid4().hex[:8]}"
    site.fetch(mail("One", "alice"), mail("Two", "alice"), handler=handler)
    page.goto(f"{site.url}/handlers")
    row = page.get_by_role("row", name=handler)
    expect(row).to_contain_text(re.compile("Enabled|Nobody reads its queue"))  # seen since or not
    page.get_by_role("link", name=handler).click()
    tile = page.locator(".tile").filter(has_text="not acknowledged yet")
    expect(tile.locator(".value")).to_have_text("2", timeout=30_000)
    expect(page.get_by_text(f"posthouse tail {handler}")).to_be_visible()
    page.get_by_role("link", name="rejected by the program").click()
    expect(page.get_by_text("Nothing was rejected")).to_be_visible()
    page.go_back()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("2 mails wait for this handler")
    page.get_by_role("button", name="Delete all the same").click()
    expect(page.get_by_role("status").first).to_contain_text("is deleted")


@pytest.mark.promise("H1")
def test_what_a_program_rejected_is_seen_and_delivered_again(site: Site, page: Page) -> None:
    handler = f"rejects-{uuid.uuid4().hex[:8]}"
    mark = uuid.uuid4().hex[:10]
    mails = [mail(f"{word} {mark}", "alice") for word in ("Fine", "Odd", "Strange")]
    site.fetch(*mails, handler=handler)

    def reject(event: MailEvent) -> None:
        if not event.headers.subject.startswith("Fine"):
            raise Reject("There is no such ticket.")

    page.goto(f"{site.url}/handlers")
    page.get_by_role("link", name=handler).click()
    dead = page.locator(".tile").filter(has_text="rejected by the program")
    with program(site, handler, reject):
        # The page keeps itself current.
        expect(dead.locator(".value")).to_have_text("2", timeout=30_000)
    # A program that rejects works: nothing is red for it.
    expect(page.locator(".tile.bad, .state.bad")).to_have_count(0)
    # From the mail to its dead letter, and back.
    page.goto(f"{site.url}/mails?state=dead-letter&q={mark}")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("link", name=f"Odd {mark}").click()
    expect(page.locator(".timeline")).to_contain_text("There is no such ticket.")
    expect(page.locator(".state").first).to_have_text("Dead letter")
    page.get_by_role("link", name="Go to the dead letter").click()
    expect(page.locator("tr.marked")).to_contain_text(f"Odd {mark}")
    page.get_by_role("link", name=f"Odd {mark}").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Odd {mark}")
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(2)
    row = page.get_by_role("row", name=f"Odd {mark}")
    expect(row).to_contain_text("There is no such ticket.")
    page.get_by_role("button", name="Deliver the ticked ones again").click()
    expect(page.get_by_role("status").first).to_contain_text("Tick the mails first.")
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Deliver the ticked ones again").click()
    expect(page.get_by_role("status").first).to_contain_text("1 mail is in the queue again")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Deliver all again").click()
    expect(page.get_by_text("Nothing was rejected")).to_be_visible()
    seen: list[str] = []
    with program(site, handler, lambda event: seen.append(event.headers.subject)):
        site.stack.wait(lambda: len(seen) == 2, "what was delivered again")
    assert seen == [f"Odd {mark}", f"Strange {mark}"]


@pytest.mark.promise("H1", "D2")
def test_a_handler_that_is_stuck_shows_on_what_and_what_waits(site: Site, page: Page) -> None:
    handler, mark = f"stuck-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex[:10]
    site.fetch(mail(f"First {mark}", "alice"), handler=handler)
    site.stack.wait(lambda: _queue(site, handler)["nobody_reads"], "its queue was looked at")
    page.goto(f"{site.url}/handlers")
    row = page.get_by_role("row").filter(has_text=handler)
    expect(row).to_contain_text("Nobody reads its queue")
    with seen_before(site, handler):
        page.reload()
        expect(row).to_contain_text("as of 5 minutes ago")
    page.get_by_role("link", name=handler).click()
    expect(page.get_by_text("1 mail waits in its queue and no program reads it")).to_be_visible()
    work = page.locator("section").filter(has=page.get_by_role("heading", name="At work"))
    expect(work).to_contain_text("nobody reads the queue", timeout=30_000)
    waiting = page.get_by_role("table", name="Waiting longest")
    expect(waiting.get_by_role("link", name=f"First {mark}")).to_be_visible()
    go_on = threading.Event()

    def hang(_: MailEvent) -> None:
        go_on.wait(120)

    with program(site, handler, hang):
        held = page.get_by_role("table", name="In hand").get_by_role("row", name=f"First {mark}")
        expect(held).to_be_visible(timeout=30_000)
        expect(held.locator("time")).to_be_visible()
        expect(work).to_contain_text("1 mail in hand")
        expect(work).to_contain_text("none was seen")
        go_on.set()
        expect(work).to_have_count(0, timeout=30_000)
    found = _queue(site, handler)
    assert found["last_acknowledged_at"] is not None
    assert not found["nobody_reads"], "nothing waits"


def _queue(site: Site, handler: str) -> dict[str, Any]:
    (found,) = site.api("GET", "/handlers?q=" + handler)["items"]
    return dict(found["queue"] or {})


def _forward(site: Site, handler: str) -> dict[str, Any]:
    (found,) = site.api("GET", "/handlers?q=" + handler)["items"]
    return dict(found["forward"])


@pytest.mark.promise("H1", "D2")
def test_dead_letters_are_discarded_one_by_reason_and_all(site: Site, page: Page) -> None:
    handler, mark = f"discards-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex[:10]
    subjects = ("Spam", "Spam too", "Old", "Late", "Last")
    site.fetch(*(mail(f"{word} {mark}", "alice") for word in subjects), handler=handler)

    def reject(event: MailEvent) -> None:
        raise Reject("It is spam." if event.headers.subject.startswith("Spam") else "Too late.")

    page.goto(f"{site.url}/handlers")
    page.get_by_role("link", name=handler).click()
    dead = page.locator(".tile").filter(has_text="rejected by the program")
    with program(site, handler, reject):
        expect(dead.locator(".value")).to_have_text("5", timeout=30_000)
    dead.click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Discard those with the reason It is spam.").click()
    expect(page.get_by_role("status").first).to_contain_text("2 dead letters are discarded")
    page.get_by_role("row", name=f"Late {mark}").get_by_role("checkbox").check()
    page.get_by_role("button", name="Discard the ticked ones").click()
    expect(page.get_by_role("status").first).to_contain_text("1 dead letter is discarded")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Discard all").click()
    expect(page.get_by_text("Nothing was rejected")).to_be_visible()
    # What was discarded stays a mail that was rejected, with the reason.
    rejected = page.locator("tbody tr")

    def all_are_listed() -> bool:
        page.goto(f"{site.url}/mails?state=rejected&q={mark}")
        return rejected.count() == 5

    site.stack.wait(all_are_listed, "the ledger has heard of it")
    page.get_by_role("link", name=f"Spam {mark}", exact=True).click()
    expect(page.locator(".timeline")).to_contain_text("It is spam.")
    expect(page.locator(".timeline")).to_contain_text("Discarded from the dead letters")


@pytest.mark.promise("H1")
def test_connections_are_chosen_by_typing_a_part_of_them(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    for name in ("Orders", "Invoices"):
        site.add_connection(f"{name.lower()}-{mark}", name=f"{name} {mark}")
    handler = f"chosen-{mark}"
    page.goto(f"{site.url}/handlers/new")
    page.get_by_label("Name").fill(handler)
    search = page.get_by_role("combobox", name="Connections")
    expect(search).to_be_hidden()
    page.get_by_label("Only these").check()
    search.fill(f"NVOICES {mark}")
    expect(page.get_by_role("option", name=f"Invoices {mark}")).to_be_visible()
    search.press("ArrowDown")
    search.press("Enter")
    # By its username, too.
    search.fill(f"orders-{mark}")
    page.get_by_role("option", name=f"Orders {mark}").click()
    chosen = page.get_by_role("list", name="Chosen connections")
    expect(chosen.get_by_role("listitem")).to_have_count(2)
    chosen.get_by_role("button", name=f"Remove Orders {mark}").click()
    search.fill(f"nothing-{mark}")
    expect(page.get_by_role("option", name="No connection matches")).to_be_visible()
    search.press("Escape")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(handler)
    taken = page.get_by_role("table", name="Connections of this handler")
    expect(taken.get_by_role("link")).to_have_text([f"Invoices {mark}"])
    page.get_by_role("link", name="Change", exact=True).click()
    expect(chosen.get_by_role("listitem")).to_have_count(1)
    expect(chosen).to_contain_text(f"Invoices {mark}")


@pytest.mark.promise("D1")
def test_mails_are_posted_to_an_endpoint_and_the_page_tells_how_that_went(
    site: Site, page: Page, receiver: Receiver
) -> None:
    handler = f"posts-{uuid.uuid4().hex[:8]}"
    site.fetch(mail("PostedForm", "alice"), handler=handler)
    page.goto(f"{site.url}/handlers")
    page.get_by_role("link", name=handler).click()
    page.get_by_role("link", name="Forward its mails").click()
    page.get_by_label("Address").fill(receiver.url)
    receiver.decide = lambda _request: (503, {}, b"closed for today")
    page.get_by_role("button", name="Send a test event").click()
    expect(page.get_by_role("status")).to_contain_text("closed for today")
    refusing, receiver.decide = receiver.decide, None
    page.get_by_role("button", name="Send a test event").click()
    expect(page.get_by_role("status")).to_contain_text("took the test event")
    assert receiver.received[-1].json["data"]["headers"]["subject"] == "Test of Posthouse"
    receiver.decide = refusing
    page.get_by_role("button", name="Forward its mails").click()
    shown = page.get_by_role("status").first
    expect(shown).to_contain_text("shown only this once")
    secret = next(word for word in shown.inner_text().split() if word.startswith("whsec_"))
    site.stack.wait(lambda: _forward(site, handler)["fails"], "an attempt that failed")
    page.goto(f"{site.url}/handlers")
    row = page.get_by_role("row").filter(has_text=handler)
    expect(row.locator(".state.bad")).to_have_text("Its endpoint takes nothing")
    page.get_by_role("link", name=handler).click()
    card = page.locator("section", has=page.get_by_role("heading", name="Forwarding"))
    expect(card).to_contain_text("Not taken")
    expect(card).to_contain_text("The endpoint answered 503.")
    page.get_by_role("link", name="Change, test, or look at the log").click()
    receiver.decide = None
    site.stack.wait(
        lambda: any(
            one.json["data"]["headers"]["subject"] == "PostedForm" for one in receiver.received
        ),
        "the mail at the endpoint",
    )
    one = receiver.received[-1]
    Webhook(secret).verify(one.body, one.headers)
    site.stack.wait(lambda: not _forward(site, handler)["fails"], "the endpoint's yes in the log")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    log = page.locator("section", has=page.get_by_role("heading", name="Delivery log"))
    expect(log).to_contain_text("delivered")
    page.get_by_role("link", name=handler).click()
    expect(card.locator(".state.good")).to_have_text("Taken")
    expect(page.get_by_text("Forwarding is paused")).to_be_visible()
    page.get_by_role("link", name="Change, test, or look at the log").click()
    assert receiver.url not in page.content()
    page.get_by_role("button", name="Resume").click()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Stop forwarding").click()
    expect(page.get_by_text("None: a program consumes its queue")).to_be_visible()
