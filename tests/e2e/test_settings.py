"""Settings: webhooks that alerts go to, and the authorities that signatures are trusted from."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from pysequoia import Tsk

from tests.e2e.site import Site
from tests.servers.certificates import Authority
from tests.servers.webhooks import Receiver


@pytest.mark.promise("H5")
def test_a_webhook_is_added_told_of_a_failure_and_of_its_end(
    site: Site, page: Page, receiver: Receiver
) -> None:
    mark = uuid.uuid4().hex[:8]
    hook = f"On call {mark}"
    page.goto(f"{site.url}/settings")
    adding = page.locator("details").filter(has_text="Add a webhook")
    name = page.locator("#name")
    if not name.is_visible():
        adding.locator("summary").click()
    name.fill(hook)
    page.get_by_label("Address").fill("ftp://example.org/hook")
    page.get_by_role("button", name="Add webhook").click()
    field = page.get_by_label("Address")
    expect(field).to_have_accessible_description(re.compile("begins with https://"))
    expect(name).to_have_value(hook)
    field.fill(receiver.url)
    page.get_by_label("Signing secret").fill("whsec_" + "c2VjcmV0LXRoYXQtdGhlLXJlY2VpdmVy")
    page.get_by_role("button", name="Add webhook").click()
    expect(page.get_by_role("status").first).to_contain_text(f"{hook} is told of every alert")
    row = page.get_by_role("table", name="Webhooks").get_by_role("row", name=hook)
    expect(row).to_contain_text("signed")
    expect(row).to_contain_text("Enabled")
    assert "secret-path" not in page.content(), "the address is a secret"

    row.get_by_role("button", name=f"Send a test to {hook}").click()
    expect(page.get_by_role("status").first).to_contain_text(f"A test is on its way to {hook}")
    site.stack.wait(
        lambda: any(".webhook-test." in one.json["type"] for one in receiver.received), "the test"
    )

    # A mailbox whose password is wrong, and then right again.
    user = site.new_mailbox()
    connection = site.add_connection(user, handler=f"takes-{user}")
    site.api("PATCH", f"/connections/{connection}", {"password": "wrong-password"})
    site.enable(connection)

    def heard(kind: str) -> bool:
        return any(
            f".{kind}." in one.json["type"] and user in one.body.decode()
            for one in receiver.received
        )

    site.stack.wait(lambda: heard("connection-failing"), "the alert")
    site.api("PATCH", f"/connections/{connection}", {"password": "secret"})
    site.stack.wait(lambda: heard("connection-recovered"), "the end of it")
    assert all("webhook-signature" in one.headers for one in receiver.received)
    # The log is written once the receiver has answered.
    subject = f"connection/{connection}"
    site.stack.wait(
        lambda: all(
            told["deliveries"]
            for told in site.api("GET", "/webhooks/alerts")
            if told["subject"] == subject
        ),
        "the log of both",
    )
    page.reload()
    told = page.get_by_role("table", name="Alerts, newest first").get_by_role("row", name=user)
    expect(told).to_have_count(2)
    expect(told.first).to_contain_text(hook)

    # It is muted for a time, and told of fewer kinds from then on.
    row.get_by_role("link", name=f"Change {hook}").click()
    page.get_by_label("For", exact=True).select_option("4")
    page.get_by_role("button", name="Mute").click()
    expect(row).to_contain_text("Muted")
    row.get_by_role("link", name=f"Change {hook}").click()
    page.get_by_role("button", name="Tell it again").click()
    expect(row).to_contain_text("Enabled")
    row.get_by_role("link", name=f"Change {hook}").click()
    kinds = page.get_by_role("group", name="Told of")
    for box in kinds.get_by_role("checkbox").all():
        box.uncheck()
    page.get_by_role("button", name="Save").click()
    expect(kinds).to_have_accessible_description(re.compile("Tick at least one"))
    kinds.get_by_label("A handler falls behind").check()
    page.get_by_label("New address").fill("https://elsewhere.example/")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("New signing secret")).to_have_accessible_description(
        re.compile("needs its secret again")
    )
    expect(kinds.get_by_label("A handler falls behind")).to_be_checked()
    expect(kinds.get_by_label("A connection fails")).not_to_be_checked()
    # What was typed stays; without another address no secret is asked for.
    page.get_by_label("New address").fill("")
    page.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("1 kind")

    row.get_by_role("button", name="Disable").click()
    expect(row).to_contain_text("Disabled")
    page.once("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").first).to_contain_text(f"{hook} is deleted")
    expect(row).to_have_count(0)


@pytest.mark.promise("C3")
def test_an_authority_is_trusted_and_no_longer(site: Site, page: Page, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex[:8]
    authority = Authority(tmp_path, f"Example Root {mark}")
    page.goto(f"{site.url}/settings")
    file = page.get_by_label("Certificate to trust from")
    file.set_input_files({"name": "a.pem", "mimeType": "text/plain", "buffer": b"no certificate"})
    page.get_by_role("button", name="Trust it").click()
    expect(file).to_have_attribute("aria-invalid", "true")
    file.set_input_files(authority.certificate)
    page.locator("#anchor_name").fill(f"Partners {mark}")
    page.get_by_role("button", name="Trust it").click()
    expect(page.get_by_role("status").first).to_contain_text("1 trust anchor counts")
    row = page.get_by_role("table", name="Trust anchors").get_by_role("row", name=mark)
    expect(row).to_contain_text(f"Partners {mark}")
    expect(row).to_contain_text(f"Example Root {mark}")
    page.once("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("status").first).to_contain_text("no longer trusted")
    expect(row).to_have_count(0)


@pytest.mark.promise("F3")
def test_a_sender_is_known_and_no_longer(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    key = str(Tsk.generate(f"Alice <alice-{mark}@example.org>").extract_certificate())
    page.goto(f"{site.url}/settings")
    file = page.get_by_label("Public key or certificate of the sender")
    file.set_input_files({"name": "a.asc", "mimeType": "text/plain", "buffer": b"no key"})
    page.get_by_role("button", name="Know this sender").click()
    expect(file).to_have_attribute("aria-invalid", "true")
    file.set_input_files({"name": "a.asc", "mimeType": "text/plain", "buffer": key.encode()})
    page.locator("#sender_name").fill(f"Alice {mark}")
    page.get_by_role("button", name="Know this sender").click()
    expect(page.get_by_role("status").first).to_contain_text("1 sender is known")
    row = page.get_by_role("table", name="Known senders").get_by_role("row", name=mark)
    expect(row).to_contain_text("OpenPGP")
    expect(row).to_contain_text(f"alice-{mark}@example.org")
    page.once("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("status").first).to_contain_text("no longer count")
    expect(row).to_have_count(0)
