"""Access tokens that are always fresh: early refresh, one refresh at a time, rotation kept.

A delegated token lives in a cache that all replicas share (`TokenCache`): it is refreshed under
that cache's lock and saved before the lock is given back, so a rotated refresh token is never lost
and two workers never spend the same one. A token of the application itself needs no such care (any
number may be valid at once) and stays in the memory of the process.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from shared.clock import utc_now
from shared.errors import NeedsAuthorisation, OwnFailure, PosthouseError, SecretUnreadable
from shared.mailbox.errors.diagnoses import GrantLost

#: A token is refreshed this long before it expires, but at most in the last fifth of its life.
EARLY = timedelta(minutes=10)
#: After an early refresh that failed, the token in hand is used this long before the next one.
_PAUSE = timedelta(minutes=1)
#: How often tokens are saved where the cache breaks off; each waits as long as the cache does.
_SAVES = 3
#: Seconds that a token is good for where the server does not say, and the most that is believed.
_USUAL_S, _LONGEST_S = 3600.0, 10 * 365 * 86_400.0


_MOMENTS = ("expires_at", "issued_at", "grant_ends_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What an authorisation server gave: secret, whole. `account` is who logged in."""

    access_token: str = field(repr=False)
    expires_at: datetime
    issued_at: datetime = field(default_factory=utc_now)
    refresh_token: str = field(default="", repr=False)
    account: str = ""
    scope: str = ""
    #: When the refresh token itself ends, where the provider says so (Google, state "Testing").
    grant_ends_at: datetime | None = None
    #: Every address that the ID token names for the account.
    names: tuple[str, ...] = ()

    @property
    def refresh_due(self) -> datetime:
        """From when on a fresh one is fetched, while this one still works."""
        return self.expires_at - min(EARLY, (self.expires_at - self.issued_at) / 5)

    def renewed(self, fresh: Tokens) -> Tokens:
        """`fresh`, with what a refresh answer leaves out (RFC 6749 section 6) kept from here."""
        return replace(
            fresh,
            refresh_token=fresh.refresh_token or self.refresh_token,
            account=fresh.account or self.account,
            scope=fresh.scope or self.scope,
            grant_ends_at=fresh.grant_ends_at or self.grant_ends_at,
            names=fresh.names or self.names,
        )

    def to_bytes(self) -> bytes:
        values: dict[str, Any] = asdict(self)
        for name in _MOMENTS:
            values[name] = values[name].isoformat() if values[name] else None
        return json.dumps(values).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> Tokens:
        """Raises SecretUnreadable where this is not what `to_bytes` wrote."""
        try:
            values = json.loads(text)
            for name in _MOMENTS:
                values[name] = datetime.fromisoformat(values[name]) if values[name] else None
            values["names"] = tuple(values["names"])
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise SecretUnreadable(
                "The stored tokens of a connection are not in a form this version can read.",
                hint="Authorise the connection again.",
            ) from error


class LockedTokenCache(Protocol):
    """The cache of one connection while nobody else can read or write it under the lock."""

    def load(self) -> bytes | None:
        """None where nobody authorised, or the grant was lost or revoked."""
        ...

    def save(self, tokens: bytes, expires_at: datetime) -> None: ...

    def lose(self) -> None:
        """The grant is gone at the provider: nobody needs to try these tokens again."""
        ...


class TokenCache(Protocol):
    """Where the tokens of one connection are kept for all replicas, sealed."""

    def read(self) -> bytes | None:
        """What `load` would give, without waiting for the lock."""
        ...

    def locked(self) -> AbstractContextManager[LockedTokenCache]:
        """Excludes every other holder; what was saved is durable once the block has ended."""
        ...


def lifetime(seconds: object, now: datetime | None = None) -> datetime:
    """When a token with `expires_in` seconds ends; an hour where the server does not say, or says
    what is no time: `NaN`, or more than ten years."""
    try:
        left = float(str(seconds))
    except ValueError:
        left = _USUAL_S
    if not 0 <= left <= _LONGEST_S:
        left = _USUAL_S
    return (now or utc_now()) + timedelta(seconds=left)


class DelegatedToken:
    """`access_token(renew)` of a connection that somebody authorised. Thread-safe."""

    def __init__(
        self,
        cache: TokenCache,
        refresh: Callable[[Tokens], Tokens],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._cache = cache
        self._refresh = refresh
        self._now = now
        self._given = ""
        self._next_early = datetime.min.replace(tzinfo=UTC)
        self._mutex = threading.Lock()

    def __call__(self, renew: bool = False) -> str:
        """A token that works. `renew`: the server refused the one that was given before.

        Raises NeedsAuthorisation where there is no grant (any more), and what the token endpoint
        refused with: only GrantLost loses the grant, everything else leaves it to the next time.
        """
        with self._mutex:
            refused = self._given if renew else ""
            tokens = _opened(self._cache.read())
            if not self._usable(tokens, refused):
                tokens = self._refreshed(refused)
            self._given = tokens.access_token
            return tokens.access_token

    def _usable(self, tokens: Tokens, refused: str) -> bool:
        if tokens.access_token == refused:
            return False
        now = self._now()
        return tokens.refresh_due > now or (tokens.expires_at > now and now < self._next_early)

    def _refreshed(self, refused: str) -> Tokens:
        given: list[Tokens] = []
        try:
            return self._under_lock(refused, given)
        except OwnFailure:
            if not given:
                raise
            return self._saved_after_all(*given)

    def _under_lock(self, refused: str, given: list[Tokens]) -> Tokens:
        """Puts what was spent and what was had for it into `given` before that is saved."""
        lost: GrantLost | None = None
        with self._cache.locked() as locked:
            tokens = _opened(locked.load())
            if self._usable(tokens, refused):
                return tokens  # another worker was quicker
            try:
                fresh = tokens.renewed(self._refresh(tokens))
                given += [tokens, fresh]
                locked.save(fresh.to_bytes(), fresh.expires_at)
                tokens = fresh
            except GrantLost as error:
                locked.lose()
                lost = error
            except PosthouseError:
                # Refreshed early, so what the provider cannot or will not do is not yet our outage.
                if tokens.access_token == refused or tokens.expires_at <= self._now():
                    raise
                self._next_early = self._now() + _PAUSE
        if lost is not None:
            raise lost
        return tokens

    def _saved_after_all(self, spent: Tokens, fresh: Tokens) -> Tokens:
        """The cache broke off when the provider had given `fresh`: who forgot them would spend the
        same refresh token twice, which ends the grant where they rotate (RFC 9700 section 4.14.2).
        """
        for left in reversed(range(_SAVES)):
            try:
                with self._cache.locked() as locked:
                    held = _opened(locked.load())
                    if held.refresh_token != spent.refresh_token:
                        return held  # saved, as far as it seemed not, or of a new login
                    locked.save(fresh.to_bytes(), fresh.expires_at)
                return fresh
            except OwnFailure:
                if not left:
                    raise
        raise AssertionError("unreachable")


def _opened(sealed: bytes | None) -> Tokens:
    if sealed is None:
        raise NeedsAuthorisation(
            "Nobody has authorised this connection at the provider, or the authorisation is gone.",
            hint="Press Authorise at the connection and log in as its user.",
        )
    return Tokens.from_bytes(sealed)


class ApplicationTokens:
    """Tokens of applications themselves, in memory; one fetch at a time for each key."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._mutex = threading.Lock()
        self._slots: dict[tuple[object, ...], tuple[threading.Lock, list[Tokens]]] = {}

    def source(self, key: tuple[object, ...], fetch: Callable[[], Tokens]) -> Callable[[bool], str]:
        """`access_token(renew)`; all with one `key` (credential, version, scopes) share it."""
        given = ""

        def access_token(renew: bool = False) -> str:
            nonlocal given
            with self._mutex:
                if len(self._slots) > 10_000:  # versions of credentials that were edited since
                    self._slots.clear()
                lock, held = self._slots.setdefault(key, (threading.Lock(), []))
            with lock:
                stale = not held or held[0].refresh_due <= self._now()
                if stale or (renew and held[0].access_token == given):
                    try:
                        held[:] = [fetch()]
                    except PosthouseError:
                        if renew or not held or held[0].expires_at <= self._now():
                            raise
                given = held[0].access_token
                return given

        return access_token


def at(epoch: float) -> datetime:
    """Seconds since 1970 as an instant."""
    return datetime.fromtimestamp(epoch, UTC)
