"""What pages say to somebody who sees them for the first time."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pysequoia import Profile, Tsk

from tests.integration.api.conftest import TOKEN, Api
from tests.integration.api.test_logging_in_to_pages import log_in


@pytest.fixture
def pages(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=60) as client:
        assert log_in(client, token=TOKEN).status_code == 303
        yield client


def posted(pages: httpx.Client, path: str, form: str, **fields: Any) -> str:
    """The page that answers, of a form on the page `form`."""
    csrf = re.search(r'name="csrf" value="([^"]+)"', pages.get(form).text)
    assert csrf is not None
    return html.unescape(pages.post(path, data=fields | {"csrf": csrf[1]}).text)


def test_what_is_wrong_with_a_credential_is_said_in_the_order_of_its_form(
    pages: httpx.Client,
) -> None:
    given = {"name": "c", "provider": "microsoft", "grant": "client-credentials"}
    page = posted(pages, "/credentials/new", "/credentials/new", **given)
    summary = page[page.index("3 things have to be changed") :]
    words = ("The client id is missing", "The client secret is missing", "given by one tenant")
    assert sorted(words, key=summary.index) == list(words)
    given |= {"client_id": "i", "client_secret": "s", "tenant": "not a tenant"}
    page = posted(pages, "/credentials/new", "/credentials/new", **given)
    assert "'not a tenant' is no tenant." in page


def test_the_address_that_a_provider_would_take_has_the_port_of_these_pages(
    api: Api, pages: httpx.Client
) -> None:
    port = httpx.URL(api.admin.app_state.settings.public_url).port
    assert f"(http://localhost:{port} on your own machine)" in pages.get("/credentials/new").text


def test_a_rule_has_room_for_a_second_fact_and_an_error_stands_beside_its_fact(
    api: Api, pages: httpx.Client
) -> None:
    made = api.http.post("handlers", json={"name": "first-rules"}).json()
    path = f"/handlers/{made['id']}/rules"
    empty = pages.get(path).text
    assert 'name="accept-0-1-fact"' in empty
    assert "Rule 1</legend>" not in empty  # nothing is numbered that is no rule yet
    fact = {"reject-0-0-fact": "size", "reject-0-0-values": "big", "do": "try"}
    page = posted(pages, path, path, **fact)
    assert 'id="reject[0].size-error"' in page
    assert re.search(r'name="reject-0-0-values"[^>]*aria-invalid="true"', page)
    page = posted(pages, path, path, expression='kind = "list"', do="try")
    assert "'= '. Comparison is ==" in page


def test_a_handler_is_added_with_its_rules(api: Api, pages: httpx.Client) -> None:
    """It would take mails meanwhile, were they made after it."""
    new = "/handlers/new"
    first = {"name": "with-rules", "group": "desk", "accept-0-0-fact": "kind"}
    first |= {"accept-0-0-values": "person", "reject-0-0-fact": "size", "reject-0-0-values": "big"}
    more = posted(pages, new, new, **first, do="more-accept")
    assert 'name="accept-1-0-fact"' in more
    assert 'value="with-rules"' in more
    assert api.http.get("handlers", params={"q": "with-rules"}).json()["items"] == []
    wrong = posted(pages, new, new, **first)
    assert 'id="reject[0].size-error"' in wrong
    assert 'value="with-rules"' in wrong
    right = first | {"reject-0-0-values": "> 1 MB", "expression": "!encrypted", "enabled": ""}
    made = posted(pages, new, new, **right)
    assert "This is the token of with-rules" in made
    assert "Takes mails of the kind person." in made
    (found,) = api.http.get("handlers", params={"q": "with-rules"}).json()["items"]
    assert (found["enabled"], found["group"]) == (False, "desk")
    assert found["rules"] == {
        "accept": [{"kind": "person"}],
        "reject": [{"size": "> 1 MB"}],
        "expression": "!encrypted",
    }
    # What Enter in a field does is not a button of the rules.
    form = pages.get(new).text.partition('data-form="handler"')[2]
    assert form.index("<button hidden>") < form.index('name="do"')


def test_a_rule_is_taken_away_by_its_own_button(api: Api, pages: httpx.Client) -> None:
    """Also behind a rule whose facts somebody has emptied."""
    made = api.http.post("handlers", json={"name": "emptied"}).json()
    facts = {f"accept-{n}-0-fact": "sender" for n in (1, 2, 3)}
    senders = {f"accept-{n}-0-values": f"{n}@example.org" for n in (1, 2, 3)}
    emptied = {"accept-0-0-fact": "", "accept-0-0-values": ""}
    for path in (f"/handlers/{made['id']}/rules", "/handlers/new"):
        page = posted(pages, path, path, **emptied, **facts, **senders, do="drop-accept-2")
        assert re.findall(r">([0-9])@example\.org</textarea>", page) == ["1", "3"]


def test_rules_that_somebody_else_saved_meanwhile_are_not_replaced_unseen(
    api: Api, pages: httpx.Client
) -> None:
    made = api.http.post("handlers", json={"name": "by-two"}).json()
    path, one = f"/handlers/{made['id']}/rules", f"handlers/{made['id']}"
    version = r'name="version" value="([^"]+)"'
    (opened,) = re.findall(version, pages.get(path).text)
    theirs = {"accept": [{"kind": "list"}]}
    assert api.http.patch(one, json={"rules": theirs}).is_success
    ours = {"accept-0-0-fact": "kind", "accept-0-0-values": "person"}
    tried = posted(pages, path, path, **ours, version=opened, do="try")
    assert re.findall(version, tried) == [opened]
    refused = posted(pages, path, path, **ours, version=opened, do="save")
    assert "person</textarea>" in refused
    assert api.http.get(one).json()["rules"]["accept"] == theirs["accept"]
    (seen,) = re.findall(version, refused)
    posted(pages, path, path, **ours, version=seen, do="save")
    assert api.http.get(one).json()["rules"]["accept"] == [{"kind": "person"}]


def test_the_page_of_an_openpgp_key_claims_no_other_digest(api: Api, pages: httpx.Client) -> None:
    for version, digest in ((4, "SHA-1"), (6, "SHA-256")):
        profile = Profile.RFC4880 if version == 4 else Profile.RFC9580
        key = Tsk.generate(f"Key {version} <key{version}@example.org>", profile=profile)
        file = {"file": ("key.asc", str(key).encode())}
        made = api.http.post("certificates", files=file, data={"name": f"Key {version}"})
        assert made.status_code == 201, made.text
        page = pages.get(f"/certificates/{made.json()['id']}").text
        assert f"Fingerprint ({digest})" in page
        assert f"OpenPGP v{version}" in page
        assert "OpenPGP, OpenPGP" not in page
        assert "Serial number" not in page


def test_who_looks_for_rejected_mails_is_led_to_the_dead_letters(pages: httpx.Client) -> None:
    page = pages.get("/mails?state=rejected&q=nobody-has-this").text
    assert "state=dead-letter" in page[page.index("No mail matches") :]
