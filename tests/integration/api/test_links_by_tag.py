"""Who has rights by tag follows every link that a page shows, and none is refused."""

from __future__ import annotations

import html
import re
import uuid
from urllib.parse import urldefrag, urljoin

from tests.integration.api.conftest import Api
from tests.integration.api.test_rights_by_tag import add, browsers

_ID = re.compile(r"(?<=/)(?:\d+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?=/|$)")
#: Where a link leads, what a page loads by itself, and what its scripts ask.
_LINK = re.compile(r'(?:href|src|data-source|data-live)="([^"]+)"')


def test_no_link_is_refused(api: Api) -> None:
    tag = uuid.uuid4().hex[:8]
    add(api, f"mine-{tag}", [tag, f"also-{tag}"])
    refused: list[tuple[str, str, int]] = []
    with browsers(api, [tag]) as (browser, _):
        waiting, kinds = [("", "/connections")], set[str]()
        while waiting:
            found_on, address = waiting.pop()
            kind = _ID.sub("0", address.partition("?")[0])
            if kind in kinds or kind.startswith(("/static/", "/api/")):
                continue
            kinds.add(kind)
            answer = browser.get(address, follow_redirects=True)
            if answer.status_code in (401, 403) or answer.status_code >= 500:
                refused.append((found_on, address, answer.status_code))
            for link in _LINK.findall(answer.text):
                target = urldefrag(urljoin(address, html.unescape(link))).url
                if target.startswith("/"):
                    waiting.append((address, target))
    assert refused == []
    reached = {"/connections/0", "/connections/0/edit", "/connections/new", "/mails/0"}
    assert kinds >= reached | {"/quarantine", "/account", "/jump"}
