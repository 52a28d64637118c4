"""Mails that could not be processed: seen with the reason, dropped, or released."""

from __future__ import annotations

import uuid

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import Site, mail
from tests.rig.queue_events import open_queue


@pytest.mark.promise("H4")
def test_a_mail_over_the_limit_waits_in_quarantine_and_is_dropped(site: Site, page: Page) -> None:
    user = site.new_mailbox()
    number = site.add_connection(user)
    entry = uuid.uuid4()
    site.stack.query(
        "INSERT INTO quarantine (id, connection_id, native_key, code, reason, size)"
        " VALUES (%s, %s, '7', 'too-large', 'It is larger than 150 MB.', 200000000) RETURNING 1",
        entry,
        number,
    )
    page.goto(f"{site.url}/quarantine?connection={number}")
    row = page.get_by_role("row", name="Mail 7")
    expect(row).to_contain_text("It is larger than 150 MB.")
    expect(row).to_contain_text("left on the mail server")
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Drop").click()
    expect(page.get_by_role("status").first).to_contain_text("1 mail is dropped")
    page.goto(f"{site.url}/quarantine?connection={number}")
    expect(page.get_by_text("The quarantine is empty")).to_be_visible()


@pytest.mark.promise("H4")
def test_a_mail_that_is_released_reaches_its_handler(site: Site, page: Page) -> None:
    handler = f"retry-{uuid.uuid4().hex[:8]}"
    mark = uuid.uuid4().hex[:10]
    user = site.fetch(mail(f"Odd one {mark}", "alice"), handler=handler)
    # As the decryptor leaves a mail that it cannot process: kept with its bytes, given to nobody.
    ((entry, connection),) = site.stack.query(
        "WITH mine AS (SELECT m.* FROM message m JOIN connection c ON c.id = m.connection_id"
        " WHERE c.name = %s), ungiven AS (DELETE FROM delivery USING mine"
        " WHERE delivery.message_id = mine.id), unpublished AS (UPDATE message"
        " SET published_at = NULL FROM mine WHERE message.id = mine.id)"
        " INSERT INTO quarantine (id, connection_id, folder, native_key, uid_validity, code,"
        " reason, size, raw_key, raw_offset) SELECT id, connection_id, folder, native_key,"
        " uid_validity, 'crashed', 'It was begun three times and never ended.', size, raw_key,"
        " raw_offset FROM mine RETURNING id, connection_id",
        user,
    )
    queue = open_queue(site.stack.output_url, handler)
    before = len(queue.events())
    page.goto(f"{site.url}/mails/{entry}")
    expect(page.get_by_text("Put into quarantine: It was begun three times")).to_be_visible()
    page.get_by_role("link", name="Try it again in the quarantine").click()
    row = page.get_by_role("row", name=f"Odd one {mark}")
    with page.expect_download() as download:
        row.get_by_role("link", name="Download").click()
    assert f"Subject: Odd one {mark}".encode() in download.value.path().read_bytes()
    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Release").click()
    expect(page.get_by_role("status").first).to_contain_text("1 mail is released")
    site.stack.wait(lambda: len(queue.events()) == before + 1, "the event")
    assert queue.events()[-1]["id"] == str(entry)
    site.wait_taken(connection, 1)
    page.goto(f"{site.url}/mails/{entry}")
    expect(page.get_by_text(f"Published to {handler}")).to_be_visible()
    page.goto(f"{site.url}/quarantine?connection={connection}")
    expect(page.get_by_text("The quarantine is empty")).to_be_visible()


@pytest.mark.promise("H3", "H4")
def test_a_search_finds_a_mail_that_was_left_on_its_server(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:10]
    number = site.add_connection(site.new_mailbox())
    site.stack.query(
        "INSERT INTO quarantine (id, connection_id, code, reason, size, subject, sender,"
        " message_id, sent_at) VALUES (gen_random_uuid(), %s, 'too-large',"
        " 'It is too large.' || repeat(' And more is said of it.', 30) || ' The end.',"
        " 90000000, %s, 'plans@example.org', %s, '2026-11-02T10:00:00Z') RETURNING 1",
        number,
        f"Plans {mark}",
        f"<{mark}@example.org>",
    )
    for wanted in (mark, f"<{mark}@example.org>"):
        page.goto(f"{site.url}/mails?q={wanted}")
        left = page.get_by_role("table", name="Mails that were not downloaded")
        expect(left.get_by_role("row", name=f"Plans {mark}")).to_contain_text("It is too large.")
    left.get_by_role("link", name=f"Plans {mark}").click()
    row = page.get_by_role("row", name=f"Plans {mark}")
    expect(row).to_contain_text("plans@example.org")
    expect(row).to_contain_text("2026")
    # A list shows the first lines of a long reason; the page that its name leads to, all.
    page.goto(f"{site.url}/quarantine?connection={number}")
    reason = page.locator(".clamped").filter(has_text="It is too large.")
    assert reason.evaluate("e => e.scrollHeight > e.clientHeight + 1")
    page.get_by_role("link", name=f"Plans {mark}").click()
    expect(page.get_by_text("Show the whole quarantine")).to_be_visible()
    expect(page.get_by_role("checkbox", name=f"Tick Plans {mark}")).to_be_checked()
    expect(page.get_by_text("The end.")).to_be_in_viewport()
    expect(page.locator(".clamped")).to_have_count(0)
    site.stack.query("DELETE FROM quarantine WHERE connection_id = %s RETURNING 1", number)
