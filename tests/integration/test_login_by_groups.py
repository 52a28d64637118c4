"""Groups that a certified OpenID Connect provider names give roles and tags here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from services.admin.auth import passwords
from services.admin.auth.browser_logins import BrowserLogins, LoginRefused
from services.admin.auth.login_attempts import Origin
from services.admin.auth.oidc import Oidc, OidcProvider
from services.admin.auth.oidc_groups import Groups
from services.admin.auth.request_principals import RequestPrincipals
from services.admin.auth.tokens import digest_of
from services.admin.oidc_groups_setting import Granted
from shared.people import Person, Principal, Role
from shared.storage import api_tokens, audit, people
from shared.storage.pool import Database
from tests.integration.api.conftest import TOKEN, Api
from tests.rig.logins import logins_and_principals
from tests.servers.oidc import LOGIN_REDIRECT, OidcServer

ALICE = "alice@example.org"
GRANTED = {
    "admins": Granted(role=Role.ADMIN),
    "sales": Granted(role=Role.OPERATOR, tags=("sales",)),
    "emea": Granted(role=Role.OPERATOR, tags=("emea", "sales")),
    "everybody": Granted(role=Role.VIEWER),
}


@dataclass
class Door:
    """Posthouse's login, and the provider that people prove themselves at."""

    server: OidcServer
    database: Database
    logins: BrowserLogins
    principals: RequestPrincipals
    make: Callable[[Groups], Oidc]

    def add(self, email: str, role: Role = Role.VIEWER) -> int:
        with self.database.transaction() as session:
            return people.add_person(
                session, name=email, email=email, role=role, password_hash=None
            )

    def person(self, number: int) -> Person:
        with self.database.transaction() as session:
            return people.person(session, number)

    def change(self, number: int, *, enabled: bool) -> None:
        before = self.person(number)
        with self.database.transaction() as session:
            people.change_person(
                session,
                number,
                name=before.name,
                email=before.email,
                role=before.role,
                tags=before.tags,
                enabled=enabled,
                password_hash=None,
            )

    def enter(self, claims: dict[str, Any], claim: str = "groups", user: str = ALICE) -> Principal:
        self.server.settings(claims={user: claims})
        oidc = self.make(Groups(claim, GRANTED))
        address, browser = oidc.start("/")
        cookie, _ = oidc.finish(self.server.log_in(address, user), browser)
        signed_in = self.principals.by_cookie(cookie)
        assert signed_in is not None
        return signed_in.principal

    def told(self, number: int) -> list[str]:
        with self.database.transaction() as session:
            found = audit.entries(session, subject=f"person/{number}", query="", limit=50)
        return [one.action for one in found if one.actor == "single sign-on"]


@pytest.fixture
def door(database_url: str, oidc: OidcServer) -> Iterator[Door]:
    with Database(database_url) as database:
        logins, principals = logins_and_principals(database)

        def make(groups: Groups) -> Oidc:
            provider = OidcProvider(
                *(oidc.issuer, oidc.login_client_id, oidc.client_secret, LOGIN_REDIRECT, oidc.ca),
                groups=groups,
            )
            return Oidc(provider, database, logins)

        yield Door(oidc, database, logins, principals, make)
    oidc.settings(claims={})


@pytest.mark.parametrize(
    ("claim", "claims", "role", "tags"),
    [
        ("groups", {"groups": ["sales", "unknown"]}, Role.OPERATOR, ("sales",)),
        ("groups", {"groups": "sales"}, Role.OPERATOR, ("sales",)),
        ("groups", {"groups": {"sales": {"org": "1"}}}, Role.OPERATOR, ("sales",)),
        ("groups", {"groups": ["sales", "emea"]}, Role.OPERATOR, ("sales", "emea")),
        # All connections for viewers and some for operators: never all for operators.
        ("groups", {"groups": ["everybody", "sales"]}, Role.OPERATOR, ("sales",)),
        ("groups", {"groups": ["sales", "admins"]}, Role.ADMIN, ()),
        ("groups", {"groups": [1, None, {"name": "admins"}, "everybody"]}, Role.VIEWER, ()),
        ("realm_access.roles", {"realm_access": {"roles": ["emea"]}}, Role.OPERATOR, None),
        (
            "https://acme.example/groups",
            {"https://acme.example/groups": ["sales"]},
            Role.OPERATOR,
            ("sales",),
        ),
    ],
    ids=range(9),
)
def test_a_group_gives_a_role_and_tags(
    door: Door, claim: str, claims: dict[str, Any], role: Role, tags: tuple[str, ...] | None
) -> None:
    door.add("root@example.org", Role.ADMIN)
    number = door.add(ALICE)
    principal = door.enter(claims, claim)
    assert principal.role is role
    assert principal.tags == (("emea", "sales") if tags is None else tags)
    assert door.person(number).groups


@pytest.mark.promise("T1")
def test_each_login_asks_anew(door: Door) -> None:
    door.add("root@example.org", Role.ADMIN)
    number = door.add(ALICE)
    assert door.enter({"groups": ["admins"]}).role is Role.ADMIN
    assert door.enter({"groups": ["sales"]}).role is Role.OPERATOR
    demoted = door.person(number)
    assert (demoted.role, demoted.tags, demoted.groups) == (Role.OPERATOR, ("sales",), ("sales",))
    door.enter({"groups": ["sales"]})
    assert door.told(number) == ["change", "change"]


@pytest.mark.promise("T1")
def test_who_is_in_no_group_any_more_is_out_everywhere(door: Door) -> None:
    door.add("root@example.org", Role.ADMIN)
    number = door.add(ALICE)
    oidc = door.make(Groups("groups", GRANTED))
    door.server.settings(claims={ALICE: {"groups": ["sales"]}})
    address, browser = oidc.start("/")
    cookie, _ = oidc.finish(door.server.log_in(address, ALICE), browser)
    assert door.principals.by_cookie(cookie) is not None
    with pytest.raises(LoginRefused, match="None of your groups may use Posthouse"):
        door.enter({"groups": ["unknown"]})
    assert door.principals.by_cookie(cookie) is None
    assert "refuse: no group" in door.told(number)


@pytest.mark.promise("T1")
def test_what_who_is_in_no_group_has_opens_nothing_until_a_group_gives_rights(door: Door) -> None:
    door.add("root@example.org", Role.ADMIN)
    number = door.add(ALICE)
    with door.database.transaction() as session:
        people.replace_hash(session, number, passwords.hashed("a few words in a row"))
        api_tokens.add_token(
            session,
            name="deploy",
            digest=digest_of("posthouse_token"),
            role=Role.ADMIN,
            created_by=ALICE,
            person_id=number,
            expires_at=None,
        )

    def rights() -> tuple[Role | None, bool]:
        """What the token opens, and whether the password does."""
        bearer = door.principals.by_bearer("posthouse_token", "192.0.2.1")
        role = bearer.role if bearer else None
        try:
            door.logins.log_in_with_password(ALICE, "a few words in a row", Origin("192.0.2.1", ""))
        except LoginRefused:
            return role, False
        return role, True

    door.enter({"groups": ["admins"]})
    assert rights() == (Role.ADMIN, True)
    door.enter({"groups": ["everybody"]})
    assert rights() == (Role.VIEWER, True)
    with pytest.raises(LoginRefused, match="None of your groups"):
        door.enter({"groups": ["unknown"]})
    assert rights() == (None, False)
    assert door.enter({"groups": ["sales"]}).tags == ("sales",)
    assert rights() == (Role.OPERATOR, True)


@pytest.mark.promise("T1")
def test_who_an_administrator_locked_out_is_let_in_by_no_group(door: Door) -> None:
    door.add("root@example.org", Role.ADMIN)
    number = door.add(ALICE)
    door.enter({"groups": ["sales"]})
    door.change(number, enabled=False)
    with pytest.raises(LoginRefused, match="Nobody here"):
        door.enter({"groups": ["unknown"]})
    with pytest.raises(LoginRefused, match="Nobody here"):
        door.enter({"groups": ["sales"]})
    # And who is in no group is let in by an administrator, until the next login says otherwise.
    door.change(number, enabled=True)
    with pytest.raises(LoginRefused, match="None of your groups"):
        door.enter({"groups": ["unknown"]})
    assert not door.person(number).enabled
    door.change(number, enabled=True)
    assert not door.person(number).without_group
    # Without a mapping groups let nobody in.
    with pytest.raises(LoginRefused, match="None of your groups"):
        door.enter({"groups": ["unknown"]})
    oidc = door.make(Groups())
    address, browser = oidc.start("/")
    with pytest.raises(LoginRefused, match="Nobody here"):
        oidc.finish(door.server.log_in(address, ALICE), browser)


@pytest.mark.promise("T1")
def test_a_lost_group_counts_in_every_open_session(door: Door) -> None:
    door.add("root@example.org", Role.ADMIN)
    door.add(ALICE)
    door.server.settings(claims={ALICE: {"groups": ["admins"]}})
    oidc = door.make(Groups("groups", GRANTED))
    address, browser = oidc.start("/")
    cookie, _ = oidc.finish(door.server.log_in(address, ALICE), browser)
    door.enter({"groups": ["everybody"]})  # in another browser
    signed_in = door.principals.by_cookie(cookie)
    assert signed_in is not None
    assert signed_in.principal.role is Role.VIEWER


@pytest.mark.promise("T1")
@pytest.mark.parametrize("claims", [{"groups": ["sales"]}, {"groups": ["x"]}, {}], ids=range(3))
def test_no_mapping_takes_the_last_administrator(door: Door, claims: dict[str, Any]) -> None:
    number = door.add(ALICE, Role.ADMIN)
    assert door.enter(claims).role is Role.ADMIN
    assert door.person(number).role is Role.ADMIN
    assert door.told(number) == ["keep last administrator"]
    door.add("root@example.org", Role.ADMIN)  # now it is not the last
    if claims == {"groups": ["sales"]}:
        assert door.enter(claims).role is Role.OPERATOR
    else:
        with pytest.raises(LoginRefused):
            door.enter(claims)


def test_what_is_wrong_with_the_claim_is_said(door: Door) -> None:
    door.add("root@example.org", Role.ADMIN)
    door.add(ALICE)
    with pytest.raises(LoginRefused, match=r"no claim 'groups' in its token, which has .*email"):
        door.enter({})
    with pytest.raises(LoginRefused, match="names no group of yours"):
        door.enter({"groups": []})
    # As Entra answers for somebody in more than 200 groups.
    with pytest.raises(LoginRefused, match="so many groups") as refused:
        door.enter(
            {
                "_claim_names": {"groups": "src1"},
                "_claim_sources": {
                    "src1": {"endpoint": "https://graph.microsoft.com/v1.0/me/getMemberObjects"}
                },
            }
        )
    assert "Groups assigned to the application" in refused.value.hint


def test_the_mapping_is_a_setting_and_on_the_pages(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = '{"mail-team": {"role": "viewer", "tags": ["sales", "emea"]}}'
    monkeypatch.setenv("POSTHOUSE_OIDC_GROUPS", mapping)
    with Api(database_url, tmp_path, oidc_issuer="https://login.example") as api:
        assert api.settings.oidc_groups == {
            "mail-team": Granted(role=Role.VIEWER, tags=("sales", "emea"))
        }
        with Database(database_url) as database, database.transaction() as session:
            number = people.add_person(
                session, name="Alice", email=ALICE, role=Role.VIEWER, password_hash=None
            )
            people.give_rights(session, number, Role.VIEWER, ["sales"], ["mail-team"])
        logins, _ = logins_and_principals(api.database, token=TOKEN)
        cookie = logins.log_in_with_token(TOKEN, Origin("127.0.0.1", "")).cookie
        with httpx.Client(base_url=api.url, cookies={"posthouse_session": cookie}) as browser:
            assert "mail-team" in browser.get("/settings").text
            assert "by mail-team" in browser.get("/people").text
            form = browser.get(f"/people/{number}").text
            assert "Role and tags come from mail-team (groups of single sign-on)" in form
        assert api.http.get(f"people/{number}").json()["groups"] == ["mail-team"]
        # What an administrator chooses is no longer the group's.
        changed = api.http.patch(f"people/{number}", json={"role": "operator"})
        assert changed.json()["groups"] == []


@pytest.mark.parametrize(
    "wrong",
    ['{"role": "root"}', '{"role": "admin", "tags": ["a"]}', '{"role": "viewer", "tag": ["a"]}'],
    ids=range(3),
)
def test_a_mapping_that_cannot_be_meant_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        Granted.model_validate_json(wrong)


def test_the_pages_of_a_mapping_keep_what_the_form_shows(door: Door) -> None:
    """A saved form that changes no right leaves it with the groups."""
    number = door.add(ALICE)
    door.enter({"groups": ["everybody"]})
    door.change(number, enabled=True)
    assert door.person(number).groups == ("everybody",)
