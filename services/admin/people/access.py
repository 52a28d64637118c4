"""Proofs of identity: bootstrap token, password, API or handler token, browser session.

Random tokens are kept as SHA-256 digests: with 256 bits of randomness a slow hash adds nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import Final

from services.admin.people import passwords
from services.admin.people.guessing import WINDOW_SECONDS, TokenGuesses
from shared.errors import NotFound, TryAgain
from shared.people import ApiToken, Principal, Role, SignedIn
from shared.storage import audit, people
from shared.storage.pool import Database, Session

SESSION_LIFETIME: Final = timedelta(hours=12)
#: Failed logins within the window, after which further ones are refused unseen.
WINDOW: Final = timedelta(minutes=15)
FAILURES_OF_A_NAME: Final = 10
FAILURES_OF_AN_ADDRESS: Final = 50
_BOOTSTRAP_MARK: Final = "b."


class LoginRefused(NotFound):
    """Name or password is wrong; which of them is not told."""

    code = "login-refused"


class TooManyAttempts(TryAgain):
    """Logins under this name or from this address are refused for a while."""

    code = "too-many-attempts"


def digest_of(token: str) -> bytes:
    """What is stored of a random token."""
    return hashlib.sha256(token.encode()).digest()


class Access:
    """Who a request comes from. Blocking: call it from a worker thread."""

    def __init__(self, database: Database, admin_token: str | None) -> None:
        self._database = database
        self._admin_token = admin_token or ""
        self._guesses = TokenGuesses()

    @property
    def has_bootstrap(self) -> bool:
        return bool(self._admin_token)

    def bearer(self, token: str, address: str) -> Principal | None:
        """The principal of an `Authorization: Bearer` token; None for one nobody knows.

        Raises TooManyAttempts where too many wrong ones came from this address."""
        digest = digest_of(token)
        if self._guesses.refuses(address, digest):
            raise TooManyAttempts(
                "Too many wrong tokens from this address.",
                hint="Wait a minute, then try again with a valid one.",
                retry_after=WINDOW_SECONDS,
            )
        if self._is_bootstrap(token):
            found: Principal | None = Principal(name=people.BOOTSTRAP, role=Role.ADMIN)
        else:
            with self._database.transaction() as session:
                found = people.bearer(session, digest)
        self._guesses.note(address, digest, wrong=found is None)
        return found

    def cookie(self, value: str) -> SignedIn | None:
        """The session of a browser's cookie; None where it ended."""
        digest = self._session_digest(value)
        if digest is None:
            return None
        with self._database.transaction() as session:
            return people.signed_in(session, digest)

    def log_in_with_token(self, token: str, address: str) -> str:
        """Starts a session for the bootstrap token; returns the cookie. Raises LoginRefused."""
        sources = [f"address {address}", "bootstrap"]
        self._refuse_too_many(sources)
        if not self._is_bootstrap(token):
            self._note_failure(sources)
            raise LoginRefused(
                "This is not the bootstrap token.",
                hint="It is the value of POSTHOUSE_ADMIN_TOKEN; `posthouse up` prints it.",
            )
        with self._database.transaction() as session:
            people.forget_failures(session, sources)
            return self.start_session(session, None, people.BOOTSTRAP)

    def log_in_with_password(self, name: str, password: str, address: str) -> str:
        """Starts a session; returns the cookie. Raises LoginRefused or TooManyAttempts."""
        sources = [f"address {address}", f"name {name.strip().lower()[:200]}"]
        self._refuse_too_many(sources)
        with self._database.transaction() as session:
            found = people.password_of(session, name.strip())
        stored = found[1] if found else None
        if not passwords.matches(stored, password) or found is None or stored is None:
            self._note_failure(sources)
            raise LoginRefused("Name or password is wrong.")
        with self._database.transaction() as session:
            if passwords.is_dated(stored):
                people.replace_hash(session, found[0], passwords.hashed(password))
            people.forget_failures(session, sources[1:])
            return self.start_session(session, found[0], name.strip())

    def start_session(self, session: Session, person_id: int | None, name: str) -> str:
        """A new cookie for somebody whose identity has been proved; None: the bootstrap token."""
        value = ("" if person_id else _BOOTSTRAP_MARK) + secrets.token_urlsafe(32)
        digest = self._session_digest(value)
        assert digest is not None
        people.start_session(
            session, digest, person_id, secrets.token_urlsafe(32), SESSION_LIFETIME
        )
        subject = f"person/{person_id}" if person_id else "bootstrap"
        audit.record(session, name, "log in", subject)
        return value

    def log_out(self, signed_in: SignedIn) -> None:
        with self._database.transaction() as session:
            people.end_session(session, signed_in.digest)

    def _is_bootstrap(self, token: str) -> bool:
        return bool(self._admin_token) and hmac.compare_digest(
            token.encode(), self._admin_token.encode()
        )

    def _session_digest(self, value: str) -> bytes | None:
        """A session of the bootstrap token ends when that token is changed or taken away."""
        if value.startswith(_BOOTSTRAP_MARK):
            return digest_of(value + self._admin_token) if self._admin_token else None
        return digest_of(value)

    def _refuse_too_many(self, sources: list[str]) -> None:
        with self._database.transaction() as session:
            counts = people.failures(session, sources, WINDOW)
        for source, count in counts.items():
            limit = FAILURES_OF_AN_ADDRESS if source.startswith("address ") else FAILURES_OF_A_NAME
            if count >= limit:
                raise TooManyAttempts(
                    "Too many failed logins.",
                    hint="Wait a quarter of an hour, then try again.",
                    retry_after=WINDOW.total_seconds(),
                )

    def _note_failure(self, sources: list[str]) -> None:
        with self._database.transaction() as session:
            people.note_failure(session, sources)


def new_token() -> str:
    """A fresh API or handler token; the prefix lets secret scanners know it."""
    return f"posthouse_{secrets.token_urlsafe(32)}"


__all__ = [
    "Access",
    "ApiToken",
    "LoginRefused",
    "TooManyAttempts",
    "digest_of",
    "new_token",
]
