"""Where is my mail? Search, path, what it says, delivering again, quarantine."""

from __future__ import annotations

import re
import uuid

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import Site, mail
from tests.rig.queue_events import open_queue

EVIL = b"""From: Mallory <mallory@example.org>\r
To: alice@example.com\r
Subject: <script>alert(1)</script> %b\r
Message-ID: <%b@example.org>\r
MIME-Version: 1.0\r
Content-Type: text/html; charset=utf-8\r
\r
<h1>Hello</h1><script>document.title='owned'</script>\r
<img src="http://127.0.0.1:%b/pixel.png"><a href="javascript:alert(2)" onclick="alert(3)">link</a>\r
<style>@import url(http://127.0.0.1:%b/style.css)</style><form action="/logout"><button>x</button>\r
<iframe src="/people"></iframe><table><tr><td>cell</td></tr></table>\r
"""


@pytest.mark.promise("H3")
def test_a_mail_is_found_by_each_of_its_marks(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:10]
    body = mail(f"Rechnung {mark}", f"to-{mark}").replace(b"bob@", f"bob-{mark}@".encode())
    user = site.fetch(body, mail("Another", "somebody"))
    message_id = re.search(rb"Message-ID: (<[^>]+>)", body)
    assert message_id is not None
    for typed in (
        message_id[1].decode(),
        message_id[1].decode().strip("<>"),
        f"echnung {mark}",
        f"BOB-{mark}",
        f"to-{mark}@example",
    ):
        page.goto(f"{site.url}/mails")
        page.get_by_label("Message-id, words, or addresses").fill(typed)
        page.get_by_role("button", name="Search").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.get_by_role("link", name=f"Rechnung {mark}")).to_be_visible()
    page.goto(f"{site.url}/mails")
    page.get_by_label("Connection", exact=True).fill(user.upper())
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_label("To (UTC)").fill("2020-01-01")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No mail matches")).to_be_visible()


@pytest.mark.promise("H3", "H2")
def test_one_mail_is_delivered_again_under_the_same_id(site: Site, page: Page) -> None:
    handler = f"again-{uuid.uuid4().hex[:8]}"
    mark = uuid.uuid4().hex[:10]
    site.fetch(mail(f"Once more {mark}", "alice", "Grüße."), handler=handler)
    queue = open_queue(site.stack.output_url, handler)
    page.goto(f"{site.url}/mails?q={mark}")
    page.get_by_role("link", name=f"Once more {mark}").click()
    timeline = page.get_by_role("list").filter(has_text="Arrived in the mailbox")
    expect(timeline).to_contain_text(f"Published to {handler}")
    expect(page.get_by_text("Grüße.")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download", exact=True).click()
    saved = download.value.path().read_bytes()
    assert f"Subject: Once more {mark}\r\n".encode() in saved
    page.get_by_label("Deliver again to").select_option(handler)
    page.get_by_role("button", name="Deliver again").click()
    expect(page.get_by_role("status").first).to_contain_text("on its way again")
    site.stack.wait(lambda: len(queue.events()) >= 2, "the repeat")
    assert len({event["id"] for event in queue.events()}) == 1


@pytest.mark.promise("H3")
def test_all_that_a_search_finds_are_delivered_again(site: Site, page: Page) -> None:
    handler = f"all-{uuid.uuid4().hex[:8]}"
    mark = uuid.uuid4().hex[:10]
    site.fetch(*[mail(f"Batch {mark} {n}", "alice") for n in range(3)], handler=handler)
    queue = open_queue(site.stack.output_url, handler)
    page.goto(f"{site.url}/mails")
    expect(page.get_by_role("button", name="Deliver again")).to_have_count(0)
    page.goto(f"{site.url}/mails?q={mark}")
    page.get_by_label("To", exact=True).select_option(handler)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Deliver again").click()
    expect(page.get_by_role("status").first).to_contain_text("3 mails are on the way again")
    site.stack.wait(lambda: len(queue.events()) >= 6, "the repeats")


@pytest.mark.promise("H3")
def test_html_is_shown_without_anything_active_and_loads_nothing(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:10].encode()
    site.fetch(EVIL % (mark, mark, b"9", b"9"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{site.url}/mails?q={mark.decode()}")
    page.get_by_role("link", name="<script>alert(1)</script>").click()
    frame = page.frame_locator("iframe.preview")
    expect(frame.get_by_role("heading", name="Hello")).to_be_visible()
    expect(frame.get_by_text("cell")).to_be_visible()
    inner = frame.locator("html")
    for tag in ("script", "img", "form", "iframe", "style", "a[href]", "[onclick]"):
        expect(inner.locator(tag)).to_have_count(0)
    assert page.locator("iframe.preview").get_attribute("sandbox") == ""
    assert all(url.startswith(site.url) for url in asked)
    # Opened by itself, it is still in a sandbox of its own.
    address = page.locator("iframe.preview").get_attribute("src")
    answer = page.request.get(f"{site.url}{address}")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")


@pytest.mark.parametrize("path", ["/mails", "/mails?state=undecrypted&kind=auto-reply"])
@pytest.mark.parametrize("width", [1440, 1024])
def test_no_choice_of_a_filter_is_cut(site: Site, page: Page, path: str, width: int) -> None:
    """Each list is as wide as it would be alone, with all that it offers; but that of handlers,
    whose names may be long."""
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site.url}{path}")
    cut = page.locator("form[role=search] select").evaluate_all(
        """all => all.map(one => {
            const alone = one.cloneNode(true);
            Object.assign(alone.style, {position: 'absolute', width: 'max-content'});
            document.body.append(alone);
            const [has, wants] = [one.offsetWidth, alone.offsetWidth];
            alone.remove();
            return [one.name, has, wants];
        }).filter(([name, has, wants]) => name !== 'not_for' && has < wants)"""
    )
    assert cut == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if "state" in path:
        expect(page.get_by_label("State")).to_have_value("undecrypted")
