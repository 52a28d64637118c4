"""The owner of a mailbox, who has no account here, authorises it by a link that was sent."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from services.admin.auth.login_attempts import OF_A_LINK
from shared.people import Role
from tests.integration.api.conftest import Api, Posthouse
from tests.integration.api.test_access import add_token
from tests.integration.api.test_connections import problem
from tests.servers.certificates import Authority
from tests.servers.oidc import OidcServer

ALICE = "alice@example.org"
CALLBACK = "/api/v1/oauth/callback"


@pytest.fixture(scope="module")
def provider(api: Api, authority: Authority) -> Iterator[OidcServer]:
    """An authorisation server that sends browsers back to this service."""
    with OidcServer(authority, redirects=(f"{api.url}{CALLBACK}",)) as server:
        yield server


@pytest.fixture
def connection(api: Api, provider: OidcServer) -> dict[str, Any]:
    """One for Alice that nobody has authorised."""
    credential = {
        "name": f"credential {uuid.uuid4().hex[:8]}",
        "provider": "microsoft",
        "client_id": provider.client_id,
        "client_secret": provider.client_secret,
        "settings": {"authority": provider.issuer, "ca_certificate": provider.ca},
    }
    made = api.http.post("credentials", json=credential).json()
    return api.create(
        mode="microsoft-imap",
        username=ALICE,
        credential_id=made["id"],
        host=None,
        password=None,
    )


class Owner:
    """A browser that has nothing but the link."""

    def __init__(self, api: Api, url: str) -> None:
        self.path = urlsplit(url).path
        self.http = httpx.Client(base_url=api.url, timeout=60, follow_redirects=True)

    def look(self) -> httpx.Response:
        return self.http.get(self.path)

    def begin(self) -> str:
        """Presses the button; returns the address of the provider's login."""
        page = self.look()
        csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert csrf, page.text
        answer = self.http.post(self.path, data={"csrf": csrf[1]})
        assert answer.headers["referrer-policy"] == "no-referrer"
        address = re.search(r'content="0; url=([^"]+)"', answer.text)
        assert address, answer.text
        return unescape(address[1])

    def come_back(self, query: Mapping[str, str]) -> httpx.Response:
        return self.http.get(f"{CALLBACK}?{urlencode(query)}")


def made(api: Api, connection: dict[str, Any], **body: Any) -> dict[str, Any]:
    answer = api.http.post(f"connections/{connection['id']}/authorisation-links", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def states(api: Api, connection: dict[str, Any]) -> list[str]:
    found = api.http.get(f"connections/{connection['id']}/authorisation-links").json()
    return [one["state"] for one in found]


def authorisation(api: Api, connection: dict[str, Any]) -> dict[str, Any] | None:
    found: dict[str, Any] | None = api.http.get(f"connections/{connection['id']}").json()[
        "authorisation"
    ]
    return found


@pytest.mark.promise("A2")
def test_the_owner_authorises_once_and_without_an_account(
    api: Api, connection: dict[str, Any], provider: OidcServer
) -> None:
    link = made(api, connection)
    owner = Owner(api, link["url"])
    page = owner.look()
    for words in (ALICE, "127.0.0.1", link["created_by"], "IMAP.AccessAsUser.All", "marks them"):
        assert words in page.text, words
    assert page.headers["referrer-policy"] == "no-referrer"
    done = owner.come_back(provider.log_in(owner.begin()))
    assert done.url.path == owner.path
    assert "The mailbox is authorised" in done.text
    status = authorisation(api, connection)
    assert status is not None
    assert (status["account"], status["valid"]) == (ALICE, True)
    assert status["authorised_by"] == f"the owner, by a link of {link['created_by']}"
    assert states(api, connection) == ["used"]
    assert "Log in at" not in owner.look().text
    entries = api.http.get("audit", params={"subject": f"connection/{connection['id']}"}).json()
    told = {(one["action"], one["actor"]) for one in entries["items"]}
    assert ("authorise", f"authorisation link {link['id']}") in told
    assert ("make authorisation link", link["created_by"]) in told


@pytest.mark.promise("A2")
def test_another_account_and_a_refusal_do_not_use_the_link_up(
    api: Api, connection: dict[str, Any], provider: OidcServer
) -> None:
    owner = Owner(api, made(api, connection)["url"])
    refused = owner.come_back(provider.log_in(owner.begin(), "eve@example.org"))
    assert "eve@example.org logged in" in refused.text
    assert authorisation(api, connection) is None
    state = dict(re.findall(r"[?&](state)=([^&]+)", owner.begin()))
    denied = owner.come_back({**state, "error": "access_denied"})
    assert "You did not allow it" in denied.text
    assert states(api, connection) == ["open"]
    assert "Log in at" in denied.text
    assert "is authorised" in owner.come_back(provider.log_in(owner.begin())).text
    entries = api.http.get("audit", params={"subject": f"connection/{connection['id']}"}).json()
    reasons = [e["after"]["reason"] for e in entries["items"] if "refused" in e["action"]]
    assert sorted(reasons) == ["consent-denied", "wrong-account"]


@pytest.mark.promise("T1")
def test_looking_at_a_link_uses_nothing_up(api: Api, connection: dict[str, Any]) -> None:
    """Programs that scan mails open every link, some of them more than once."""
    owner = Owner(api, made(api, connection)["url"])
    for _ in range(3):
        assert owner.look().status_code == 200
        owner.http.head(owner.path)
    assert states(api, connection) == ["open"]
    assert not api.execute(
        "SELECT 1 FROM oauth_flow WHERE connection_id = %(c)s", c=connection["id"]
    )


@pytest.mark.promise("T1")
def test_a_login_ends_in_the_browser_that_began_it(
    api: Api, connection: dict[str, Any], provider: OidcServer
) -> None:
    """Else whoever has the link begins a login and lets somebody else finish it."""
    link = made(api, connection)
    query = provider.log_in(Owner(api, link["url"]).begin())
    without, other = Owner(api, link["url"]), Owner(api, link["url"])
    assert "another browser" in without.come_back(query).text
    other.begin()
    assert "Try again" in other.come_back(query).text
    assert authorisation(api, connection) is None
    assert states(api, connection) == ["open"]


@pytest.mark.promise("T1")
def test_a_form_of_another_site_begins_nothing(api: Api, connection: dict[str, Any]) -> None:
    owner = Owner(api, made(api, connection)["url"])
    owner.look()
    assert owner.http.post(owner.path, data={"csrf": "guessed"}).status_code == 400


@pytest.mark.promise("T1")
def test_a_link_that_is_over_says_so_and_opens_nothing(
    api: Api, connection: dict[str, Any], provider: OidcServer
) -> None:
    expired, revoked = made(api, connection), made(api, connection, days=30)
    begun = Owner(api, expired["url"])
    late = provider.log_in(begun.begin())
    api.execute(
        "UPDATE authorisation_link SET expires_at = now() - interval '1 s' WHERE id = %(id)s",
        id=expired["id"],
    )
    path = f"connections/{connection['id']}/authorisation-links/{revoked['id']}"
    assert api.http.delete(path).json()["state"] == "revoked"
    assert problem(api.http.delete(path.replace(str(revoked["id"]), "999999")), 404)
    assert "This link is too old" in begun.come_back(late).text
    assert "was revoked" in Owner(api, revoked["url"]).look().text
    assert states(api, connection) == ["revoked", "expired"]
    assert authorisation(api, connection) is None


@pytest.mark.promise("T1")
def test_a_link_for_another_account_is_closed_when_the_connection_changes(
    api: Api, connection: dict[str, Any]
) -> None:
    owner = Owner(api, made(api, connection)["url"])
    path = f"connections/{connection['id']}"
    assert api.http.patch(path, json={"username": "bob@example.org"}).status_code == 200
    assert states(api, connection) == ["revoked"]
    assert "was revoked" in owner.look().text


@pytest.mark.promise("T1")
def test_a_link_opens_its_own_page_and_no_other(api: Api, connection: dict[str, Any]) -> None:
    link = made(api, connection)
    owner = Owner(api, link["url"])
    owner.look()
    token = owner.path.rpartition("/")[2]
    for path in ("/", "/connections", f"/connections/{connection['id']}/links", "/audit"):
        assert owner.http.get(path).url.path == "/login", path
    assert owner.http.get("/authorise/" + "x" * 43).status_code == 404
    assert owner.http.get(f"{owner.path}/connections").status_code == 404
    with api.as_token(token) as client:
        assert client.get("connections").status_code == 401
    assert owner.http.get(CALLBACK, params={"state": "link-\0"}).status_code == 401


@pytest.mark.promise("T1")
def test_only_a_digest_of_a_link_is_kept(api: Api, connection: dict[str, Any]) -> None:
    link = made(api, connection)
    token = link["url"].rpartition("/")[2]
    rows = api.execute("SELECT l::text, a::text FROM authorisation_link l, audit a")
    assert rows and not any(token in text for row in rows for text in row)
    listed = api.http.get(f"connections/{connection['id']}/authorisation-links")
    assert token not in listed.text


def test_links_are_for_logins_of_persons_and_for_those_who_may_operate(
    api: Api, connection: dict[str, Any]
) -> None:
    by_password = f"connections/{api.create()['id']}/authorisation-links"
    assert "Nobody logs in" in problem(api.http.post(by_password, json={}), 422)["detail"]
    path = f"connections/{connection['id']}/authorisation-links"
    assert problem(api.http.post(path, json={"days": 31}), 422)["field"] == "days"
    with api.as_token(add_token(api, Role.VIEWER)) as viewer:
        assert viewer.post(path, json={}).status_code == 403
        assert viewer.get(path).status_code == 403


def test_the_command_makes_lists_and_takes_back(
    api: Api, connection: dict[str, Any], posthouse: Posthouse
) -> None:
    name = connection["name"]
    added = posthouse("connections", "links", "add", name, "--days", "1")
    assert added.code == 0, added.err
    assert Owner(api, added.out.strip().splitlines()[-1]).look().status_code == 200
    (link,) = posthouse("connections", "links", "list", name, "--json").json["items"]
    assert link["state"] == "open"
    assert "open" in posthouse("connections", "links", "list", name).out
    assert posthouse("connections", "links", "revoke", name, str(link["id"])).code == 0
    assert states(api, connection) == ["revoked"]


@pytest.mark.promise("T1")
def test_guessed_links_and_logins_without_end_are_held_up(
    api: Api, connection: dict[str, Any]
) -> None:
    owner = Owner(api, made(api, connection)["url"])
    for _ in range(OF_A_LINK):
        owner.begin()
    csrf = re.search(r'name="csrf" value="([^"]+)"', owner.look().text)
    assert csrf
    held = owner.http.post(owner.path, data={"csrf": csrf[1]})
    assert (held.status_code, "Too many logins" in held.text) == (429, True)
    codes = [owner.http.get(f"/authorise/{uuid.uuid4().hex}").status_code for _ in range(32)]
    assert (codes[0], codes[-1]) == (404, 429)
    assert owner.look().status_code == 200, "a link that is known goes on"
