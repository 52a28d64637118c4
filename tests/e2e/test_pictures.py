"""Every page of a large Posthouse with names that break pages, in two sizes, light and dark.

axe-core finds no fault, nothing sticks out, and there are pictures to look at.

`make pictures` keeps them in `.pictures/`; the long one has 1,000 connections.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, ViewportSize

from tests.e2e.hostile_site import WORD, filled
from tests.e2e.site import Site
from tests.e2e.test_hostile_names import CUT
from tests.servers.chromium import Chromium

pytestmark = [pytest.mark.promise("M20", "T3"), pytest.mark.timeout(1800)]
#: Where pictures go; none are made without it.
PICTURES: Final = os.environ.get("PICTURES", "")
WIDTHS: Final[dict[str, ViewportSize]] = {
    "wide": {"width": 1440, "height": 900},
    "phone": {"width": 390, "height": 844},
}
SCHEMES: Final = ("light", "dark")
PATHS: Final = {
    "overview": "/",
    "connections": "/connections",
    "connections-last": "/connections?page=9999&sort=-health",
    "connections-none": "/connections?q=no-such-thing",
    "connection": "/connections/{connection}",
    "connection-failing": "/connections/{other}",
    "connection-edit": "/connections/{connection}/edit",
    "connection-duplicate": "/connections/{connection}/duplicate",
    "connection-runs": "/connections/{connection}/runs",
    "connection-new": "/connections/new",
    "connection-new-graph": "/connections/new?mode=microsoft-graph",
    "connection-links": "/connections/{connection}/links",
    "import": "/connections/import",
    "mails": "/mails",
    "mail": "/mails/{mail}",
    "quarantine": "/quarantine",
    "quarantined": "/quarantine/{kept}",
    "handlers": "/handlers",
    "handler": "/handlers/{handler}",
    "handler-new": "/handlers/new",
    "handler-edit": "/handlers/{handler}/edit",
    "handler-forward": "/handlers/{forwarding}/forward",
    "handler-forwarding": "/handlers/{forwarding}",
    "handler-dead-letters": "/handlers/{handler}/dead-letters",
    "handler-rules": "/handlers/{handler}/rules",
    "certificates": "/certificates",
    "certificate": "/certificates/{certificate}",
    "certificate-new": "/certificates/new",
    "credentials": "/credentials",
    "credential": "/credentials/{credential}",
    "credential-new": "/credentials/new",
    "people": "/people",
    "person": "/people/{person}",
    "person-new": "/people/new",
    "tokens": "/tokens",
    "audit": "/audit",
    "settings": "/settings",
    "webhook": "/settings/webhooks/{hook}",
    "account": "/account",
    "documents": "/documents",
    "document-runbook": "/documents/runbook",
    "document-google": "/documents/google",
    "document-settings": "/documents/settings",
    "reference": "/reference",
    "jump": "/jump?q=" + WORD[:10],
    "missing": "/nothing-here",
}


def _bulk(action: str) -> Callable[[Page, Site, Path], None]:
    def act(page: Page, site: Site, folder: Path) -> None:
        _ticked(page, site, folder)
        page.get_by_role("button", name=f"{action}…").click()
        page.get_by_role("heading", level=1, name=action).wait_for()

    return act


def _ticked(page: Page, site: Site, folder: Path) -> None:
    page.goto(f"{site.url}/connections")
    # A phone shows no heading: there, one is ticked, and then all that match.
    on_phone = page.evaluate("innerWidth < 640")
    first = page.locator("tbody").get_by_role("checkbox").first
    (first if on_phone else page.get_by_label("Tick all on this page")).check()
    page.get_by_role("region", name="Ticked connections").wait_for()


def _imported(page: Page, site: Site, folder: Path, name: str = "import.csv") -> None:
    page.goto(f"{site.url}/connections/import")
    page.get_by_label("CSV file").set_input_files(folder / name)
    page.get_by_role("button", name="Check it").click()
    page.get_by_role("table").first.wait_for()


def _fresh(page: Page, site: Site, folder: Path) -> None:
    _imported(page, site, folder, "fresh.csv")


def _errors(page: Page, site: Site, folder: Path) -> None:
    page.goto(f"{site.url}/connections/new")
    page.get_by_label("Tags").fill(",".join(WORD + str(n) for n in range(30)))
    page.evaluate("document.querySelector('form[data-form]').noValidate = true")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("alert").first.wait_for()


def _tested(page: Page, site: Site, folder: Path) -> None:
    page.goto(f"{site.url}/connections/new")
    page.get_by_label("Mail server", exact=True).fill(f"{WORD}.invalid")
    page.get_by_label("Username").fill(WORD)
    page.get_by_label("Password", exact=True).fill("secret")
    page.get_by_role("button", name="Test").click()
    page.get_by_role("heading", name="It does not work yet").wait_for()


def _keys(page: Page, site: Site, folder: Path) -> None:
    page.goto(f"{site.url}/connections")
    page.get_by_role("heading", level=1).click()
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()


def _box(page: Page, site: Site, folder: Path) -> None:
    page.goto(f"{site.url}/connections")
    page.get_by_role("heading", level=1).click()
    page.keyboard.press("/")
    box = page.get_by_role("dialog")
    box.get_by_role("combobox").fill(WORD[:6])
    box.get_by_role("option").first.wait_for()


def _tried(page: Page, site: Site, folder: Path) -> None:
    number = site.stack.query("SELECT id FROM handler WHERE name LIKE '0-w%%' LIMIT 1")[0][0]
    page.goto(f"{site.url}/handlers/{number}/rules")
    page.get_by_role("button", name="Try it on past mails").click()
    page.get_by_role("heading", level=1).wait_for()


def _menu(page: Page, site: Site, folder: Path) -> None:
    page.goto(f"{site.url}/mails#menu")


#: Pages that only a form leads to.
ACTS: Final[dict[str, Callable[[Page, Site, Path], None]]] = {
    "bulk-ticked": _ticked,
    "bulk-change": _bulk("Change"),
    "bulk-enable": _bulk("Enable"),
    "bulk-test": _bulk("Test"),
    "import-faults": _imported,
    "import-fresh": _fresh,
    "connection-errors": _errors,
    "connection-tested": _tested,
    "rules-tried": _tried,
    "shortcuts": _keys,
    "jump-box": _box,
    "menu": _menu,
}


def look(site: Site, places: dict[str, str], width: str) -> list[object]:
    """Visits every page in one width, in a browser of its own, each once: in both colour schemes
    as it stands there then. Returns what is wrong: (page, what, where)."""
    wrong: list[object] = []
    with Chromium() as chromium:
        own = replace(site, chromium=chromium, _cookies=[])
        with own.visitor(phone=width == "phone") as page:
            page.set_viewport_size(WIDTHS[width])
            page.set_default_timeout(30_000)
            for name in [*PATHS, *ACTS]:
                try:
                    _go(page, own, places, name)
                except PlaywrightError as error:
                    wrong.append((f"{name}, {width}", "is not there", str(error)[:500]))
                else:
                    wrong += [(f"{name}, {width}", *one) for one in _faults(page, name, width)]
    return wrong


def _go(page: Page, site: Site, places: dict[str, str], name: str) -> None:
    if name in PATHS:
        page.goto(site.url + PATHS[name].format(**places))
    else:
        ACTS[name](page, site, Path(places["folder"]))
    if name == "reference":
        page.get_by_role("heading", name="connections").first.wait_for()


def _faults(page: Page, name: str, width: str) -> Iterator[tuple[object, ...]]:
    """What is wrong with the page as it stands there; its pictures are kept."""
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        if PICTURES:
            kept = Path(PICTURES) / f"{name}.{width}-{scheme}.png"
            kept.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=kept, full_page=name not in ("jump-box", "shortcuts", "menu"))
        if name == "reference":  # Swagger UI's own pages have faults of theirs
            continue
        # In the dark nothing but the colours is another.
        rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
        for fault in Axe().run(page, options=rules).response["violations"]:
            yield (scheme, fault["id"], [node["html"][:200] for node in fault["nodes"][:3]])
    if name != "reference":
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            yield ("sticks out", page.evaluate(_WIDE))
        yield from (("is cut", one) for one in page.evaluate(CUT)[:3])


_WIDE: Final = """() => [...document.querySelectorAll("main *")].filter(e =>
  e.getBoundingClientRect().right > innerWidth + 1)
  .slice(0, 3).map(e => e.outerHTML.slice(0, 150))"""


@pytest.fixture(scope="module")
def places(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("hostile")
    _write_fresh(folder)
    with filled(site, folder, connections=1000, others=30) as found:
        yield found | {"folder": str(folder)}


def _write_fresh(folder: Path) -> None:
    lines = [
        f'"new {n} {WORD}","imap","{WORD}{n}@example.com","mail.example.com","secret"'
        for n in range(9)
    ]
    (folder / "fresh.csv").write_text(
        "\n".join(['"name","mode","username","host","password"', *lines])
    )


@pytest.mark.long
def test_a_thousand_connections_with_hostile_names_break_no_page(
    site: Site, places: dict[str, str]
) -> None:
    with ThreadPoolExecutor(len(WIDTHS)) as threads:
        looks = [threads.submit(look, site, places, width) for width in WIDTHS]
    assert [fault for one in looks for fault in one.result()] == []


@pytest.mark.long
def test_pages_of_a_thousand_connections_come_at_once(site: Site, places: dict[str, str]) -> None:
    """Processor time is the machine's: what is held is that a page is no scan of everything."""
    with site.visitor() as page:
        taken = {}
        for name in ("overview", "connections", "mails", "handlers", "quarantine", "audit"):
            times = []
            for _ in range(5):
                began = time.perf_counter()
                assert page.request.get(site.url + PATHS[name]).status == 200
                times.append(time.perf_counter() - began)
            taken[name] = statistics.median(times)
    print({name: f"{seconds * 1000:.0f} ms" for name, seconds in taken.items()})
