"""Every page that a role can reach by links: none is refused, and no button on it is."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from typing import cast
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
from playwright.sync_api import Page, expect
from pysequoia import Tsk

from posthouse import MailEvent, Reject
from services.admin.auth.route_permissions import Needs, declared
from services.admin.pages.app import build
from services.admin.pages.request_context import PagesState
from shared.people import Principal, Role
from tests.e2e.site import Site, mail
from tests.e2e.test_handlers import program
from tests.e2e.test_people import add_person, log_in
from tests.integration.api.test_certificates import p12
from tests.servers.openssl_ca import OpensslCa

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"(?<=/)\d+(?=/|$)")
#: Pages of one kind (`/mails/{id}`) that are looked at: a list has hundreds.
EXAMPLES = 3
#: Before somebody is logged in, and what scripts ask while somebody types.
_NOT_BY_LINK = (
    "/login",
    "/authorise",  # by a link that somebody sent
    "/favicon.ico",
    "/connections/pick",
    "/reference/assets",
    "/certificates/pick",
)
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
#: Where links lead, [address, whether it is no page], and what a page loads by itself.
_LINKS = """() => [
    ...[...document.querySelectorAll('a[href]')].map(one => [one.href, one.download]),
    ...[...document.querySelectorAll('iframe')].map(one => [one.src, 'part']),
    ...[...document.querySelectorAll('[data-live]')].map(one => [one.dataset.live, 'part'])]"""


@pytest.fixture(scope="module")
def filled(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Something of each kind, so that every page has its links and buttons. Yields the pages that
    alerts lead to, and the connection that has a page which others have not."""
    user = site.new_mailbox()
    certificate = site.upload("certificates", p12(f"{user}@example.com"), password="open sesame")
    site.dovecot.deliver(user, [mail("A mail to look at", "alice"), with_a_part(user)])
    connection, handler = site.add_connection(user), f"takes-{user}"
    site.api("PATCH", f"/connections/{connection}", {"certificate_ids": [certificate["id"]]})
    taking = site.add_handler(connection, handler)
    rules = {"accept": [{"sender": "@example.org"}], "reject": [], "expression": "size > 0"}
    site.api("PATCH", f"/handlers/{taking}", {"rules": rules})
    site.enable(connection)
    site.wait_taken(connection, 2)

    def dead() -> int:
        queue = site.api("GET", f"/handlers/{taking}")["queue"]
        return int(queue["dead_letters"]) if queue else 0

    with program(site, handler, _reject):
        site.stack.wait(lambda: dead() == 2, "rejected")
    site.stack.query(
        "INSERT INTO fetch_run (id, connection_id, duration_ms) SELECT"
        " (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - n), 12, '0') || '7000'"
        " || substr(md5(n::text), 1, 16))::uuid, %s, 1 FROM generate_series(1, 60) AS n"
        " RETURNING 1",
        connection,
    )
    waiting = site.add_connection(site.new_mailbox())
    forwarding = site.add_handler(waiting)
    forward = {"address": "http://127.0.0.1:9/", "headers": {"Authorization": "a-secret"}}
    site.api("PATCH", f"/handlers/{forwarding}", {"forward": forward})
    quarantined = uuid.uuid4()
    site.stack.query(
        "INSERT INTO quarantine (id, connection_id, native_key, code, reason, size, raw_key,"
        " raw_offset) SELECT %s, connection_id, native_key, 'crashed', 'It never ended.', size,"
        " raw_key, raw_offset FROM message WHERE connection_id = %s LIMIT 1 RETURNING 1",
        quarantined,
        connection,
    )
    credential = site.api(
        "POST",
        "/credentials",
        {
            "name": f"for-{user}",
            "provider": "microsoft",
            "grant": "authorization-code",
            "client_id": "an-application",
            "client_secret": "a-secret",
            "tenant": "contoso.onmicrosoft.com",
        },
    )
    authorised = site.api(
        "POST",
        "/connections",
        {
            "name": f"to authorise {user}",
            "mode": "microsoft-imap",
            "username": f"{user}@contoso.example",
            "credential_id": credential["id"],
        },
    )
    site.api("POST", "/tokens", {"name": f"for-{user}", "role": "viewer"})
    hook = {"name": f"for-{user}", "url": "http://127.0.0.1:9/", "enabled": False}
    made = [f"/webhooks/{site.api('POST', '/webhooks', hook)['id']}"]
    ca = OpensslCa(tmp_path_factory.mktemp("ca") / "own", f"Authority of {user}")
    (anchor,) = site.upload("trust-anchors", ca.cert.read_bytes())
    listed = site.upload("revocation-lists", ca.published())
    sender = Tsk.generate(f"Alice <{user}@example.org>").extract_certificate()
    (key,) = site.upload("sender-keys", str(sender).encode())
    made += [f"/revocation-lists/{listed['id']}", f"/trust-anchors/{anchor['id']}"]
    made += [f"/sender-keys/{key['id']}", f"/handlers/{forwarding}"]
    yield [
        f"{site.url}/quarantine/{quarantined}",
        f"{site.url}/connections/{connection}",
        f"{site.url}/connections/{authorised['id']}",
    ]
    for path in made:  # other tests look at the same settings
        site.api("DELETE", path)
    site.stack.execute(f"DELETE FROM quarantine WHERE id = '{quarantined}'")


def with_a_part(user: str) -> bytes:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "bob@example.org", user, "With a part"
    made.set_content("Hello.")
    made.add_alternative("<p>Hello.</p>", subtype="html")
    made.add_attachment(b"1,2", maintype="text", subtype="csv", filename="numbers.csv")
    return made.as_bytes(policy=SMTP)


def _reject(event: MailEvent) -> None:
    raise Reject("There is no such ticket.")


def routes(method: str) -> list[tuple[re.Pattern[str], Needs]]:
    """The pages as the service declares them, as patterns of the kinds of their addresses."""
    found = declared(build(cast(PagesState, None)))
    return [
        (re.compile(re.sub(r"{[^}]+}", "[^/]+", route.path)), route.needs)
        for route in found
        if method in route.methods and not route.path.startswith(_NOT_BY_LINK)
    ]


@pytest.mark.promise("T1")
@pytest.mark.parametrize("role", list(Role))
def test_no_role_finds_a_page_or_a_button_that_is_refused(
    site: Site, page: Page, filled: list[str], role: Role
) -> None:
    name = add_person(site, page, role.value)
    with site.visitor(token=None) as visitor:
        log_in(site, visitor, name)
        expect(visitor.get_by_role("heading", level=1)).to_have_text("Overview")
        reached, refused = crawl(site, visitor, filled)
    # Another test asks who is the last administrator, and that one cannot be removed otherwise.
    site.stack.execute(f"DELETE FROM person WHERE name = '{name}'")
    assert refused == []
    assert reached >= REACHED[role] | REACHED[Role.VIEWER]
    missed = {
        pattern.pattern
        for pattern, needs in routes("GET")
        if (needs.permission is None or Principal(name="", role=role).may(needs.permission))
        and not any(map(pattern.fullmatch, reached))
    }
    assert missed == set(), "no link of this role leads to these pages"


def crawl(site: Site, page: Page, first: list[str]) -> tuple[set[str], list[tuple[str, str, int]]]:
    """Follows links from the overview; returns the kinds of pages that were seen, and (where it
    was found, what it is, status) of each link or button that failed."""
    known = {f"{site.url}/", *first}
    waiting = [("", url) for url in sorted(known)]
    pages: Counter[str] = Counter()
    buttons: set[str] = set()
    posts = [pattern for pattern, _ in routes("POST")]
    refused: list[tuple[str, str, int]] = []
    while waiting:
        found_on, url = waiting.pop(0)
        kind = kind_of(url)
        if pages[kind] >= EXAMPLES:
            continue
        pages[kind] += 1
        answer = page.goto(url)
        assert answer is not None
        # Who opens a form's answer by its address is led back; no link of ours leads to one.
        astray = page.get_by_text("That page is the answer to a form").count()
        if answer.status != 200 or astray:
            refused.append((found_on, url, answer.status))
            continue
        for method, target in page.evaluate(_BUTTONS):
            pressed = kind_of(target)
            if method == "post" and pressed != "/logout" and pressed not in buttons:
                buttons.add(pressed)
                status = press(site, page, target)
                if status in (403, 405) or status >= 500 or not leads_to(pressed, posts):
                    refused.append((url, f"button to {pressed}", status))
        for link, download in page.evaluate(_LINKS):
            target = urldefrag(urljoin(url, link)).url
            if target in known or not target.startswith(f"{site.url}/"):
                continue
            known.add(target)
            if download or "/raw" in target or "/parts/" in target:
                pages[kind_of(target)] += 1
                status = page.request.get(target).status
                if status != 200:
                    refused.append((url, target, status))
            else:
                waiting.append((url, target))
    return set(pages), refused


def leads_to(pressed: str, posts: list[re.Pattern[str]]) -> bool:
    return any(pattern.fullmatch(pressed) for pattern in posts)


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
