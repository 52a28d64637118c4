"""Pages with what people type: one long word, right-to-left, emoji, hundreds of characters."""

from __future__ import annotations

import uuid

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.site import Site, mail

pytestmark = pytest.mark.promise("M20", "T3")

_WORD = "Rechnungseingangsbenachrichtigungspostfach"
#: Elements whose text is wider than they are, or that lie outside of the page. The rows of a
#: compact list are a line each: what is too long ends in an ellipsis, and is whole on pointing
#: at it and on the page behind it. The tables of a document scroll by themselves.
CUT = """() => [...document.querySelectorAll("main h1, main h2, main p, main dd, main th, main td,"
  + "main li, main .state, main .health, main .tile")].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width > 0 && !e.closest(".sr, .chart, pre, thead, .document table") && (
      box.right > innerWidth + 1 || box.left < -1
      || (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline"
        && !(e.closest("table.compact") && e.title
          && getComputedStyle(e).textOverflow === "ellipsis")));
  }).map(e => e.outerHTML.slice(0, 200))"""


def hostile(mark: str) -> list[str]:
    return [
        f"{mark}{_WORD * 5}"[:200],
        f"\u05d3\u05d5\u05d0\u05e8 {mark} \u202e txt.exe",
        f"\U0001f4ec\U0001f468\u200d\U0001f469\u200d\U0001f467 {mark}",
    ]


def failing(site: Site, mark: str) -> list[int]:
    numbers = []
    for name in hostile(mark):
        number = site.add_connection(site.new_mailbox(), name=name, handler=f"h-{uuid.uuid4().hex}")
        site.stack.query(
            "UPDATE connection_state SET health = 'failing', failures = 3, error = %s::jsonb"
            " WHERE connection_id = %s RETURNING 1",
            '{"code": "tls-failed", "message": "' + _WORD * 4 + ' is refused.", "hint": "",'
            ' "at": "2026-11-29T01:00:00+00:00"}',
            number,
        )
        site.stack.query("UPDATE connection SET enabled = true WHERE id = %s RETURNING 1", number)
        numbers.append(number)
    return numbers


def inside(page: Page, found: Locator) -> bool:
    box = found.bounding_box()
    width = page.viewport_size["width"] if page.viewport_size else 0
    return box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width


def test_one_long_word_pushes_nothing_off_the_overview(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    numbers = failing(site, mark)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(site.url)
    table = page.get_by_role("table", name="Connections that need somebody")
    for number in numbers:
        row = table.get_by_role("row").filter(has=page.locator(f"a[href='/connections/{number}']"))
        expect(row).to_have_count(1)
        for cell in row.locator("th, td").all():
            assert inside(page, cell)
    for number in numbers:
        site.api("DELETE", f"/connections/{number}")


@pytest.mark.parametrize("width", [390, 1440])
def test_no_text_is_cut(site: Site, page: Page, width: int) -> None:
    mark = uuid.uuid4().hex[:8]
    numbers = failing(site, mark)
    word = f"{mark}{_WORD * 4}"
    site.fetch(mail(word, "alice"), handler=f"{'x' * 50}-{mark}")
    ((number,),) = site.stack.query("SELECT id FROM message WHERE subject = %s", word)
    ((handler,),) = site.stack.query("SELECT id FROM handler WHERE name LIKE %s", f"%{mark}")
    page.set_viewport_size({"width": width, "height": 844})
    for path in (
        "/",
        f"/connections?q={mark}",
        f"/connections/{numbers[0]}",
        f"/mails?q={mark}",
        f"/mails/{number}",
        "/handlers",
        f"/handlers/{handler}",
        f"/handlers/{handler}/dead-letters",
        "/quarantine",
        "/settings",
    ):
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate(CUT) == [], path
    for one in numbers:
        site.api("DELETE", f"/connections/{one}")


def test_text_of_the_security_card_stands_beside_other_text(site: Site, page: Page) -> None:
    mark = uuid.uuid4().hex[:8]
    site.fetch(mail(mark, "alice"))
    ((number,),) = site.stack.query(
        "UPDATE message SET security = %s::jsonb WHERE subject = %s RETURNING id",
        '{"encrypted": true, "status": "decrypted", "signature": "ambiguous",'
        ' "signer": "a@b.example",'
        ' "integrity": "none", "key_algorithm": "rsa", "content_algorithm": "aes256-cbc"}',
        mark,
    )
    page.goto(f"{site.url}/mails/{number}")
    card = page.locator("section").filter(has=page.get_by_role("heading", name="Security"))
    expect(card).to_contain_text("Right, but readers differ on what the mail says")
    wide = "es => es.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"
    assert card.locator(".facts > div").evaluate_all(wide) == []


def test_copy_covers_no_code(site: Site, page: Page) -> None:
    name = f"copied-{uuid.uuid4().hex[:8]}"
    site.add_handler(site.add_connection(site.new_mailbox()), name)
    page.goto(f"{site.url}/handlers")
    page.get_by_role("link", name=name).click()
    for block in page.locator(".copyable").all():
        text, button = block.locator("pre").bounding_box(), block.locator("button").bounding_box()
        assert text is not None and button is not None
        assert text["x"] + text["width"] <= button["x"] or text["y"] + text["height"] <= button["y"]
