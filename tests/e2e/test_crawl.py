"""Every page that a role can reach by links: none is refused, and no button on it is."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
from playwright.sync_api import Page, expect

from shared.people import Role
from tests.e2e.site import Site, mail
from tests.e2e.test_people import add_person, log_in

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"(?<=/)\d+(?=/|$)")
#: Pages of one kind (`/mails/{id}`) that are looked at: a list has hundreds.
EXAMPLES = 3
#: What each role must have come to, so that a crawl that finds nothing does not pass.
REACHED = {
    Role.VIEWER: {"/", "/connections", "/connections/0", "/mails/0", "/handlers/0", "/quarantine"},
    Role.OPERATOR: {"/connections/new", "/connections/0/edit", "/handlers/0/rules"},
    Role.ADMIN: {"/people/new", "/tokens", "/audit", "/settings", "/credentials/0"},
}
#: Where each button of a page leads, as the browser resolves it: [method, address].
_BUTTONS = """() => [...document.querySelectorAll('button, input[type=submit]')]
    .filter(one => one.form && one.type === 'submit')
    .map(one => [one.formMethod || one.form.method, one.hasAttribute('formaction')
        ? one.formAction : new URL(one.form.getAttribute('action') || '', location).href])"""
_LINKS = "() => [...document.querySelectorAll('a[href]')].map(one => [one.href, one.download])"


@pytest.fixture(scope="module")
def filled(site: Site) -> None:
    """Something of each kind, so that every page has its links and buttons."""
    user = site.fetch(mail("A mail to look at", "alice"))
    waiting = site.add_connection(site.new_mailbox())
    site.house.query(
        "INSERT INTO quarantine (id, connection_id, native_key, code, reason, size)"
        " VALUES (%s, %s, '7', 'too-large', 'It is larger than 150 MB.', 200000000) RETURNING 1",
        uuid.uuid4(),
        waiting,
    )
    site.api(
        "POST",
        "/credentials",
        {
            "name": f"for-{user}",
            "provider": "microsoft",
            "grant": "client-credentials",
            "client_id": "an-application",
            "client_secret": "a-secret",
            "tenant": "contoso.onmicrosoft.com",
        },
    )
    site.api("POST", "/tokens", {"name": f"for-{user}", "role": "viewer"})


@pytest.mark.promise("T1")
@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("role", list(Role))
def test_no_role_finds_a_page_or_a_button_that_is_refused(
    site: Site, page: Page, role: Role
) -> None:
    name = add_person(site, page, role.value)
    with site.visitor(token=None) as visitor:
        log_in(site, visitor, name)
        expect(visitor.get_by_role("heading", level=1)).to_have_text("Overview")
        reached, refused = crawl(site, visitor)
    # Another test asks who is the last administrator, and that one cannot be removed otherwise.
    site.house.execute(f"DELETE FROM person WHERE name = '{name}'")
    assert refused == []
    assert reached >= REACHED[role] | REACHED[Role.VIEWER]


def crawl(site: Site, page: Page) -> tuple[set[str], list[tuple[str, str, int]]]:
    """Follows links from the overview; returns the kinds of pages that were seen, and (where it
    was found, what it is, status) of each link or button that failed."""
    waiting, known = [("", f"{site.url}/")], {f"{site.url}/"}
    pages: Counter[str] = Counter()
    buttons: set[str] = set()
    refused: list[tuple[str, str, int]] = []
    while waiting:
        found_on, url = waiting.pop(0)
        kind = kind_of(url)
        if pages[kind] >= EXAMPLES:
            continue
        pages[kind] += 1
        answer = page.goto(url)
        assert answer is not None
        if answer.status != 200:
            refused.append((found_on, url, answer.status))
            continue
        for method, target in page.evaluate(_BUTTONS):
            pressed = kind_of(target)
            if method == "post" and pressed != "/logout" and pressed not in buttons:
                buttons.add(pressed)
                status = press(site, page, target)
                if status in (403, 405) or status >= 500:
                    refused.append((url, f"button to {pressed}", status))
        for link, download in page.evaluate(_LINKS):
            target = urldefrag(urljoin(url, link)).url
            if target in known or not target.startswith(f"{site.url}/"):
                continue
            known.add(target)
            if download or "/raw" in target:
                status = page.request.get(target).status
                if status != 200:
                    refused.append((url, target, status))
            else:
                waiting.append((url, target))
    return set(pages), refused


def press(site: Site, page: Page, target: str) -> int:
    """Posts an empty form to the same route for a thing that does not exist, which changes
    nothing: what is not permitted is refused before that is noticed."""
    path = _UUID.sub(str(uuid.uuid4()), urlsplit(target).path)
    path = _NUMBER.sub("999999999", path) if not _UUID.search(path) else path
    token = page.locator("input[name=csrf]").first.get_attribute("value") or ""
    answer = page.request.post(site.url + path, form={"csrf": token}, max_redirects=0)
    return answer.status


def kind_of(url: str) -> str:
    """An address with its ids and what it searches for taken out."""
    return _NUMBER.sub("0", _UUID.sub("0", urlsplit(url).path))
