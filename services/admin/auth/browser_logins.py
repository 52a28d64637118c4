"""How people log in with a browser: by bootstrap token, or by password with its second factor. How
sessions begin and end."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from services.admin.auth import (
    login_attempts,
    passwords,
    second_factor,
    stateless_bootstrap_sessions,
)
from services.admin.auth.bootstrap_token import BootstrapToken
from services.admin.auth.login_attempts import Origin
from services.admin.auth.token_guesses import TokenGuesses, network_of
from services.admin.auth.tokens import digest_of
from shared.errors import NotFound
from shared.people import SignedIn
from shared.storage import audit, browser_sessions, people
from shared.storage.pool import Database, DatabaseCannotWrite, Session
from shared.vault import Vault

_log = structlog.get_logger(__name__)

SESSION_LIFETIME: Final = timedelta(hours=12)
#: How long a code may take after the password.
_CODE_WITHIN: Final = timedelta(minutes=5)


class LoginRefused(NotFound):
    """Name or password is wrong; which of them is not told."""

    code = "login-refused"


@dataclass(frozen=True, slots=True)
class Entered:
    """A login that came through: the session's cookie, whether a code is still missing, and
    whether the session is sealed (`stateless_bootstrap_sessions`), as none could be written."""

    cookie: str
    needs_code: bool = False
    is_sealed: bool = False


class BrowserLogins:
    """Logs people in and out. Blocking: call it from a worker thread."""

    def __init__(
        self, database: Database, vault: Vault, bootstrap: BootstrapToken, guesses: TokenGuesses
    ) -> None:
        self._database = database
        self._vault = vault
        self._bootstrap = bootstrap
        self._guesses = guesses

    @property
    def has_bootstrap(self) -> bool:
        return bool(self._bootstrap.value)

    @property
    def is_new(self) -> bool:
        """There are no people yet: only the bootstrap token opens."""
        with self._database.transaction() as session:
            return not people.people(session)

    def log_in_with_token(self, token: str, origin: Origin) -> Entered:
        """Starts a session for the bootstrap token: a sealed one where Postgres takes no changes.

        Raises LoginRefused or TooManyAttempts."""
        known = self._knows(origin, None)
        try:
            attempt = login_attempts.count_login(
                self._database, login_attempts.BOOTSTRAP, origin, known_device=known
            )
            if not self._bootstrap.is_given(token):
                login_attempts.failed(self._database, attempt)
                raise _not_bootstrap()
            login_attempts.succeeded(self._database, attempt)
            with self._database.transaction() as session:
                return Entered(
                    self.start_session(session, None, browser_sessions.BOOTSTRAP, origin.address)
                )
        except DatabaseCannotWrite:
            return self._log_in_unwritten(token, origin)

    def _log_in_unwritten(self, token: str, origin: Origin) -> Entered:
        """Attempts are counted in this process, as those of other tokens are."""
        digest = digest_of(token)
        self._guesses.refuse(origin.address, digest)
        right, network = self._bootstrap.is_given(token), network_of(origin.address)
        self._guesses.note(origin.address, digest, wrong=not right)
        if not right:
            _log.warning("login failed", name=login_attempts.BOOTSTRAP, network=network)
            raise _not_bootstrap()
        _log.warning("logged in for a while, as Postgres takes no changes", network=network)
        return Entered(stateless_bootstrap_sessions.start(self._bootstrap.value), is_sealed=True)

    def log_in_with_password(self, name: str, password: str, origin: Origin) -> Entered:
        """Starts a session, which signs nobody in before `give_code` where a second factor is set
        up. Raises LoginRefused, TooManyAttempts or Busy."""
        name = name.strip()
        with self._database.transaction() as session:
            found = people.password_of(session, name)
        known = found is not None and self._knows(origin, found[0])
        stored = found[1] if found else None
        with passwords.admitted():  # first: who is sent away unheard has had no attempt
            attempt = login_attempts.count_login(
                self._database, name.lower()[:200], origin, known_device=known
            )
            matches = passwords.matches(stored, password)
        if not matches or found is None or stored is None:
            login_attempts.failed(self._database, attempt)
            raise LoginRefused("Name or password is wrong.")
        login_attempts.succeeded(self._database, attempt)
        renewed = passwords.hashed(password) if passwords.is_dated(stored) else None
        with self._database.transaction() as session:
            if renewed:
                people.replace_hash(session, found[0], renewed)
            needs_code = people.person(session, found[0]).has_second_factor
            cookie = self.start_session(session, found[0], name, origin.address, pending=needs_code)
        return Entered(cookie, needs_code)

    def give_code(self, cookie: str, code: str, origin: Origin) -> str:
        """The second factor after the password; returns the cookie of the session that signs in.

        Raises LoginRefused or TooManyAttempts."""
        digest = digest_of(cookie)
        with self._database.transaction() as session:
            found = browser_sessions.pending_session(session, digest)
        if found is None:
            raise LoginRefused("This login took too long.", hint="Start again.")
        person_id, name = found
        known = self._knows(origin, person_id)
        who = f"code of {name.lower()[:200]}"
        attempt = login_attempts.count_login(self._database, who, origin, known_device=known)
        with self._database.transaction() as session:
            accepted = second_factor.accepts(session, self._vault, person_id, code)
            if accepted:
                browser_sessions.end_session(session, digest)
                cookie = self.start_session(session, person_id, name, origin.address)
        if not accepted:
            login_attempts.failed(self._database, attempt)
            raise LoginRefused("This is not a code of now, or it was used already.")
        login_attempts.succeeded(self._database, attempt)
        return cookie

    def start_session(
        self,
        session: Session,
        person_id: int | None,
        name: str,
        address: str = "",
        *,
        pending: bool = False,
    ) -> str:
        """A new cookie for somebody whose identity has been proved; None: the bootstrap token."""
        value = secrets.token_urlsafe(32)
        if person_id is None:
            value = self._bootstrap.mark(value)
        digest = self._bootstrap.session_digest(value)
        assert digest is not None
        lifetime = _CODE_WITHIN if pending else SESSION_LIFETIME
        csrf = secrets.token_urlsafe(32)
        browser_sessions.start_session(
            session, digest, person_id, csrf, lifetime, address, pending=pending
        )
        if pending:
            return value
        subject = f"person/{person_id}" if person_id else "bootstrap"
        audit.record(session, name, "log in", subject)
        return value

    def new_device(self, cookie: str) -> str:
        """A device cookie for the browser of this session: it has logged in here once."""
        digest = self._bootstrap.session_digest(cookie)
        value = secrets.token_urlsafe(32)
        with self._database.transaction() as session:
            browser_sessions.add_device(session, digest_of(value), digest or b"")
        return value

    def _knows(self, origin: Origin, person_id: int | None) -> bool:
        if not origin.device:
            return False
        with self._database.transaction() as session:
            return browser_sessions.is_device_of(session, digest_of(origin.device), person_id)

    def log_out(self, signed_in: SignedIn) -> None:
        with self._database.transaction() as session:
            browser_sessions.end_session(session, signed_in.digest)


def _not_bootstrap() -> LoginRefused:
    return LoginRefused(
        "This is not the bootstrap token.",
        hint="It is the value of POSTHOUSE_ADMIN_TOKEN; `posthouse up` prints it.",
    )
