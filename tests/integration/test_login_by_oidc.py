"""People log in to Posthouse through a certified OpenID Connect provider."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from services.admin.auth.browser_logins import LoginRefused
from services.admin.auth.oidc import Oidc, OidcProvider
from services.admin.auth.request_principals import RequestPrincipals
from shared.allowed_hosts import HostRules
from shared.errors import TryAgain
from shared.people import Role
from shared.storage import people
from shared.storage.pool import Database
from tests.rig.logins import logins_and_principals
from tests.servers.certificates import Authority
from tests.servers.oidc import LOGIN_REDIRECT, OidcServer
from tests.servers.provider import Said, ScriptedProvider
from tests.servers.scripted import Conversation, ScriptedServer


@dataclass
class Door:
    """Posthouse's login with one person, and the provider that people prove themselves at."""

    server: OidcServer
    database: Database
    principals: RequestPrincipals
    oidc: Oidc

    def add(self, email: str) -> int:
        with self.database.transaction() as session:
            return people.add_person(
                session, name=email, email=email, role=Role.OPERATOR, password_hash=None
            )

    def enter(self, user: str) -> tuple[str, str]:
        address, browser = self.oidc.start("/mails")
        return self.oidc.finish(self.server.log_in(address, user), browser)


@pytest.fixture
def door(database_url: str, oidc: OidcServer) -> Iterator[Door]:
    with Database(database_url) as database:
        logins, principals = logins_and_principals(database)
        provider = OidcProvider(
            oidc.issuer, oidc.login_client_id, oidc.client_secret, LOGIN_REDIRECT, oidc.ca
        )
        yield Door(oidc, database, principals, Oidc(provider, database, logins))


def test_who_was_added_by_address_comes_in(door: Door) -> None:
    number = door.add("Alice@Example.org")
    cookie, follow = door.enter("alice@example.org")
    signed_in = door.principals.by_cookie(cookie)
    assert signed_in is not None
    assert signed_in.principal.person_id == number
    assert signed_in.principal.role is Role.OPERATOR
    assert follow == "/mails"
    # From now on the subject counts: the address may change at either side.
    with door.database.transaction() as session:
        assert people.person(session, number).uses_oidc
    door.enter("alice@example.org")


def test_a_stranger_and_a_locked_out_person_stay_outside(door: Door) -> None:
    number = door.add("bob@example.org")
    with pytest.raises(LoginRefused, match=r"Nobody here has the account eve@example\.org"):
        door.enter("eve@example.org")
    with door.database.transaction() as session:
        people.change_person(
            session,
            number,
            name="bob",
            email="bob@example.org",
            role=Role.OPERATOR,
            tags=(),
            enabled=False,
            password_hash=None,
        )
    with pytest.raises(LoginRefused):
        door.enter("bob@example.org")


def test_an_answer_counts_once_and_in_its_own_browser(door: Door) -> None:
    door.add("alice@example.org")
    address, browser = door.oidc.start("/")
    answer = door.server.log_in(address, "alice@example.org")
    with pytest.raises(LoginRefused, match="not started in this browser"):
        door.oidc.finish(answer, "another browser's cookie")
    _, other = door.oidc.start("/")
    with pytest.raises(LoginRefused, match="not started in this browser"):
        door.oidc.finish(answer, other)
    door.oidc.finish(answer, browser)
    with pytest.raises(LoginRefused):
        door.oidc.finish(answer, browser)


@pytest.mark.promise("T1")
def test_who_starts_logins_fills_nothing(door: Door) -> None:
    tables = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
    with door.database.transaction() as session:
        names = [name for (name,) in session.execute(f"{tables} AND relkind = 'r'").fetchall()]

    def rows() -> list[int]:
        with door.database.transaction() as session:
            counted = (session.execute(f"SELECT count(*) FROM {name}").fetchone() for name in names)
            return [one[0] for one in counted if one]

    before = rows()
    for _ in range(20):
        _, browser = door.oidc.start("/" + "x" * 60_000)
        assert len(browser) < 4000
    assert rows() == before


def test_a_code_of_another_login_is_refused(door: Door) -> None:
    door.add("alice@example.org")
    first, _ = door.oidc.start("/")
    stolen = door.server.log_in(first, "alice@example.org")
    second, browser = door.oidc.start("/")
    mine = door.server.log_in(second, "alice@example.org")
    with pytest.raises(LoginRefused):
        # PKCE: the code was made for the other login's verifier.
        door.oidc.finish({**mine, "code": stolen["code"]}, browser)


def silent(talk: Conversation) -> None:
    talk.say_nothing()


@dataclass
class Written:
    """A provider whose answers a test writes, and our side of it."""

    server: ScriptedProvider
    oidc: Oidc

    def describe(self, **changes: str) -> None:
        self.server.say(200, self.server.document("") | changes, discovery=True)


def written(database: Database, server: ScriptedProvider, ca: str, rules: HostRules) -> Written:
    logins, _ = logins_and_principals(database)
    provider = OidcProvider(server.issuer, "id", "secret", LOGIN_REDIRECT, ca, rules)
    return Written(server, Oidc(provider, database, logins))


@pytest.fixture
def by_hand(database_url: str, authority: Authority) -> Iterator[Written]:
    """Only this provider's host may be reached, as the setting names it."""
    identity = authority.issue("localhost", "127.0.0.1")
    rules = HostRules.parse(["mail.example.org"], [])
    with ScriptedProvider(identity) as server, Database(database_url) as database:
        yield written(database, server, authority.pem, rules)


def test_an_answer_of_the_provider_is_counted_as_it_unfolds(by_hand: Written) -> None:
    """200 MiB in 200 kB of gzip: nobody's memory is filled, and people are told."""
    bomb = gzip.compress(b" " * (200 << 20))
    said = Said(200, bomb, headers={"Content-Encoding": "gzip"})
    by_hand.server.say_octets(said, discovery=True)
    tracemalloc.start()
    try:
        with pytest.raises(TryAgain) as refused:
            by_hand.oidc.start("/mails")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.code == "answer-too-large"
    assert peak < 80 << 20


@pytest.mark.promise("T1")
@pytest.mark.parametrize("elsewhere", ["https://127.0.0.1", "http://localhost"])
@pytest.mark.parametrize("name", ["jwks_uri", "token_endpoint"])
def test_what_the_provider_names_is_held_to_the_rules_of_hosts(
    by_hand: Written, authority: Authority, name: str, elsewhere: str
) -> None:
    """Nor is a secret sent there in plain text."""
    door = by_hand
    with ScriptedServer(silent, tls=authority.issue("127.0.0.1")) as other:
        door.describe(**{name: f"{elsewhere}:{other.port}/"})
        if (name, elsewhere) == ("token_endpoint", "https://127.0.0.1"):
            _, browser = door.oidc.start("/")
            state = browser.partition(".")[0]
            with pytest.raises(TryAgain, match="not allowed here"):
                door.oidc.finish({"state": state, "code": "c"}, browser)
        else:
            with pytest.raises(TryAgain, match=r"not allowed here|no https address"):
                door.oidc.start("/")
        assert other.connections == 0


@pytest.mark.promise("T1")
def test_a_provider_that_says_nothing_holds_few_of_our_threads(
    database_url: str, authority: Authority
) -> None:
    """Anybody can start a login: what waits for the provider must not be all that serves pages."""
    with Database(database_url) as database, ThreadPoolExecutor(4) as threads:
        logins, _ = logins_and_principals(database)
        with ScriptedServer(silent, tls=authority.issue("localhost")) as server:
            issuer = f"https://localhost:{server.port}"
            oidc = Oidc(OidcProvider(issuer, "us", None, "", authority.pem), database, logins)
            waiting = [threads.submit(oidc.start, "/") for _ in range(4)]
            while server.connections < 4:
                assert not any(one.done() for one in waiting)
                time.sleep(0.01)
            for _ in range(40):
                with pytest.raises(TryAgain, match="Many logins wait"):
                    oidc.start("/")
            assert server.connections == 4
        for one in waiting:
            with pytest.raises(TryAgain):
                one.result()


@pytest.mark.promise("T1")
def test_a_redirect_of_the_provider_is_not_followed(by_hand: Written, authority: Authority) -> None:
    with ScriptedServer(silent, tls=authority.issue("localhost")) as other:
        to = {"Location": f"https://localhost:{other.port}/"}
        by_hand.server.say_octets(Said(307, b"", headers=to), discovery=True)
        with pytest.raises(TryAgain, match="points elsewhere"):
            by_hand.oidc.start("/")
        assert other.connections == 0


@pytest.mark.promise("T1")
def test_a_provider_at_a_denied_address_is_not_asked(
    database_url: str, authority: Authority
) -> None:
    rules = HostRules.parse([], ["127.0.0.0/8", "::1"])
    identity = authority.issue("localhost", "127.0.0.1")
    with ScriptedProvider(identity) as server, Database(database_url) as database:
        with pytest.raises(TryAgain, match="not allowed here"):
            written(database, server, authority.pem, rules).oidc.start("/")
        assert server.asked == []


@pytest.mark.parametrize(
    "octets",
    [b"[" * 100_000, b"null", b'{"issuer": 1}', b'"x"', b"{}", b'{"issuer": "ISSUER"}', b"\xff"],
    ids=range(7),
)
def test_whatever_a_provider_says_of_itself_is_told_as_its_fault(
    by_hand: Written, octets: bytes
) -> None:
    said = octets.replace(b"ISSUER", by_hand.server.issuer.encode())
    by_hand.server.say_octets(Said(200, said), discovery=True)
    with pytest.raises(TryAgain, match="does not answer as it should"):
        by_hand.oidc.start("/")
