"""Tokens stay fresh: rotation under many workers, early refresh, lost grants, revocation."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise

import psycopg
import pytest

from shared.clock import utc_now
from shared.credentials import Provider
from shared.errors import NeedsAuthorisation, TryAgain
from shared.mailbox.oauth import provider as oauth
from shared.mailbox.oauth.tokens import ApplicationTokens, DelegatedToken, Tokens, lifetime
from shared.mailbox_logins import Logins
from shared.storage.pool import Database
from tests.integration.oauth.conftest import Stack

WORKERS = 8


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (3599, 3599),
        ("1800", 1800),
        (0, 0),
        (None, 3600),
        ("soon", 3600),
        ("NaN", 3600),
        ("inf", 3600),
        (-5, 3600),
        (1e300, 3600),
    ],
)
def test_a_token_without_a_sensible_end_is_good_for_an_hour(said: object, seconds: int) -> None:
    now = utc_now()
    assert lifetime(said, now) == now + timedelta(seconds=seconds)


#: Ends the session that holds the lock of the tokens while the provider is asked.
_END_WAITING = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction'
"""


@pytest.mark.promise("A4")
@pytest.mark.parametrize("provider", list(Provider))
def test_no_rotation_is_lost_under_eight_workers(
    stack: Stack, database_url: str, provider: Provider
) -> None:
    """The authorisation server ends the whole grant when one refresh token is spent twice, so a
    single lost or doubled rotation makes everybody after it fail."""
    connection = stack.connection(stack.credential(provider=provider))
    stack.authorise(connection)
    seen: set[str] = set()
    start = threading.Barrier(WORKERS)

    def work(_: int) -> list[str]:
        # Each with a pool of its own, as another replica has it.
        with Database(database_url, size=1) as database:
            token = Logins(database, stack.vault).of(connection).access_token
            assert token is not None
            got = [token(False)]
            start.wait()
            while len(seen) <= 101:  # the first came from the login: a hundred rotations
                got.append(token(True))
                seen.add(got[-1])
        return got

    with ThreadPoolExecutor(WORKERS) as pool:
        answers = list(pool.map(work, range(WORKERS)))
    # A worker may be served with what another fetched meanwhile, never with what it refused.
    for got in answers:
        assert all(before != after for before, after in pairwise(got))
    # And the grant still lives: the last refresh token is the one that was saved.
    token = stack.logins.of(connection).access_token
    assert token is not None
    assert token(False) in seen
    assert token(True) not in seen


@pytest.mark.promise("A4")
def test_no_rotation_is_lost_where_postgres_breaks_off(stack: Stack, database_url: str) -> None:
    """The provider has answered, and the session that was to save it is ended (a failover, an
    administrator, a time-out). Spent once more, the refresh token would end the grant."""
    connection = stack.connection(stack.credential())
    stack.authorise(connection)
    token = stack.logins.of(connection).access_token
    assert isinstance(token, DelegatedToken)
    ask = token._refresh
    ended: list[tuple[object, ...]] = []

    def ask_and_end(tokens: Tokens) -> Tokens:
        fresh = ask(tokens)
        if not ended:
            with psycopg.connect(database_url) as elsewhere:
                ended.extend(elsewhere.execute(_END_WAITING).fetchall())
        return fresh

    token._refresh = ask_and_end
    first = token(False)
    second = token(True)
    assert len(ended) == 1
    assert token(True) not in {first, second}
    status = stack.logins.authorisation(connection.id)
    assert status is not None
    assert status.valid


@pytest.mark.promise("A4")
def test_a_refresh_is_shared_by_those_who_wait_for_it(stack: Stack) -> None:
    """Eight threads find the token about to expire; the provider is asked once."""
    connection = stack.connection(stack.credential())
    stack.authorise(connection)
    age_token(stack, connection.id, left=timedelta(seconds=30))
    barrier = threading.Barrier(WORKERS)

    def ask(_: int) -> str:
        token = stack.logins.of(connection).access_token
        assert token is not None
        barrier.wait()
        return token(False)

    with ThreadPoolExecutor(WORKERS) as pool:
        assert len(Counter(pool.map(ask, range(WORKERS)))) == 1


@pytest.mark.promise("A4")
def test_a_token_is_refreshed_before_it_expires(stack: Stack) -> None:
    connection = stack.connection(stack.credential())
    stack.authorise(connection)
    token = stack.logins.of(connection).access_token
    assert token is not None
    first = token(False)
    assert token(False) == first
    age_token(stack, connection.id, left=timedelta(minutes=5))
    assert token(False) != first


@pytest.mark.promise("A4")
def test_an_outage_of_the_provider_is_no_outage_while_the_token_lasts(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = stack.connection(stack.credential())
    stack.authorise(connection)
    first = stored_tokens(stack, connection.id).access_token
    _unreachable(monkeypatch)
    token = stack.logins.of(connection).access_token
    assert token is not None
    age_token(stack, connection.id, left=timedelta(minutes=5))
    assert token(False) == first
    age_token(stack, connection.id, left=timedelta(seconds=-5))
    with pytest.raises(TryAgain):
        token(False)


@pytest.mark.promise("A4")
@pytest.mark.parametrize("provider", list(Provider))
def test_a_revoked_grant_needs_authorisation_at_once_and_heals(
    stack: Stack, provider: Provider
) -> None:
    connection = stack.connection(stack.credential(provider=provider), enabled=True)
    stack.authorise(connection)
    stack.oidc.revoke(stored_tokens(stack, connection.id).refresh_token)
    token = stack.logins.of(connection).access_token
    assert token is not None
    token(False)
    with pytest.raises(NeedsAuthorisation):
        token(True)
    status = stack.logins.authorisation(connection.id)
    assert status is not None and not status.valid and status.lost_at is not None
    # Nobody needs to ask the provider again to know it.
    with pytest.raises(NeedsAuthorisation):
        token(False)
    with stack.database.transaction() as session:
        session.execute(
            "UPDATE connection_state SET health = 'needs-authorisation', due_at = now() + '1 day'"
        )
    stack.authorise(connection)
    assert token(False)
    with stack.database.transaction() as session:
        row = session.execute(
            "SELECT health, due_at <= now() FROM connection_state WHERE connection_id = %s",
            (connection.id,),
        ).fetchone()
    assert row == ("pending", True)


@pytest.mark.promise("A4")
def test_tokens_are_sealed_and_bound_to_their_connection(stack: Stack) -> None:
    one = stack.connection(stack.credential())
    other = stack.connection(stack.credential())
    stack.authorise(one)
    stack.authorise(other)
    secret = stored_tokens(stack, one.id).refresh_token
    with stack.database.transaction() as session:
        rows = session.execute("SELECT cache FROM authorisation").fetchall()
        assert not any(secret.encode() in bytes(row[0]) for row in rows)
        session.execute(
            "UPDATE authorisation SET cache = (SELECT cache FROM authorisation "
            "WHERE connection_id = %s) WHERE connection_id = %s",
            (one.id, other.id),
        )
    token = stack.logins.of(other).access_token
    assert token is not None
    with pytest.raises(Exception, match="was changed or moved"):
        token(False)


@pytest.mark.promise("A4")
def test_grants_that_nobody_uses_are_kept_alive(stack: Stack) -> None:
    connection = stack.connection(stack.credential())
    stack.authorise(connection)
    before = stored_tokens(stack, connection.id)
    assert stack.logins.keep_alive(utc_now() - timedelta(days=7)) == 0
    with stack.database.transaction() as session:
        session.execute("UPDATE authorisation SET authorised_at = now() - interval '30 days'")
    age_token(stack, connection.id, left=timedelta(days=-29))
    assert stack.logins.keep_alive(utc_now() - timedelta(days=7)) == 1
    assert stored_tokens(stack, connection.id).refresh_token != before.refresh_token
    assert stack.logins.keep_alive(utc_now() - timedelta(days=7)) == 0


@pytest.mark.promise("A4")
@pytest.mark.parametrize("provider", list(Provider))
def test_revoking_ends_the_grant_at_the_provider(stack: Stack, provider: Provider) -> None:
    credential = stack.credential(provider=provider)
    connection = stack.connection(credential)
    stack.authorise(connection)
    tokens = stored_tokens(stack, connection.id)
    assert stack.logins.revoke(connection.id) is True
    token = stack.logins.of(connection).access_token
    assert token is not None
    with pytest.raises(NeedsAuthorisation):
        token(False)
    server = oauth.server_of(credential, stack.logins._secrets(credential), connection)
    with pytest.raises(NeedsAuthorisation):
        server.refresh(tokens, ["https://mail.google.com/"])


@pytest.mark.promise("A4")
def test_an_application_token_that_is_refused_is_fetched_anew_and_once() -> None:
    numbers, tokens = itertools.count(1), ApplicationTokens()

    def fetch() -> Tokens:
        return Tokens(access_token=f"token-{next(numbers)}", expires_at=lifetime(3600))

    one, other = tokens.source(("key",), fetch), tokens.source(("key",), fetch)
    assert [one(False), other(False)] == ["token-1"] * 2
    assert [one(True), other(True)] == ["token-2"] * 2


@pytest.mark.promise("A4")
@pytest.mark.parametrize("left_s", [60, -5])
def test_an_application_token_is_used_to_its_end_while_the_provider_is_away(left_s: int) -> None:
    now = utc_now()
    ends = now + timedelta(seconds=left_s)
    fetched = iter([Tokens(access_token="token", issued_at=now - timedelta(1), expires_at=ends)])

    def fetch() -> Tokens:
        for tokens in fetched:
            return tokens
        raise TryAgain("The provider cannot be reached.")

    token = ApplicationTokens(lambda: now).source(("key",), fetch)
    assert token(False) == "token"
    if left_s > 0:
        assert token(False) == "token"
    else:
        with pytest.raises(TryAgain):
            token(False)
    with pytest.raises(TryAgain):
        token(True)


def stored_tokens(stack: Stack, connection_id: int) -> Tokens:
    text = stack.logins._cache(connection_id).read()
    assert text is not None
    return Tokens.from_bytes(text)


def age_token(stack: Stack, connection_id: int, *, left: timedelta) -> None:
    """Makes the stored access token look as if it ended in `left`, after an hour of life."""
    from dataclasses import replace

    with stack.logins._cache(connection_id).locked() as locked:
        text = locked.load()
        assert text is not None
        ends = utc_now() + left
        aged = replace(
            Tokens.from_bytes(text), expires_at=ends, issued_at=ends - timedelta(hours=1)
        )
        locked.save(aged.to_bytes(), ends)
    with stack.database.transaction() as session:
        session.execute("UPDATE authorisation SET refreshed_at = authorised_at")


def _unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Callable[[], None]:
        raise TryAgain("The provider cannot be reached.")

    monkeypatch.setattr("shared.mailbox.oauth.microsoft.MicrosoftProvider.refresh", refuse)
