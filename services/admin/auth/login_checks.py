"""Checks who somebody is: by bootstrap token, password with its second factor, API or handler
token, browser session."""

from __future__ import annotations

import hmac
import re
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from pydantic import TypeAdapter, ValidationError

from services.admin.auth import (
    login_attempts,
    passwords,
    second_factor,
    stateless_bootstrap_sessions,
)
from services.admin.auth.login_attempts import Origin, TooManyAttempts
from services.admin.auth.token_guesses import WINDOW_SECONDS, TokenGuesses, network_of
from services.admin.auth.tokens import digest_of
from shared.errors import NotFound
from shared.forwarding.signed_links import Claim
from shared.people import Principal, Role, SignedIn
from shared.storage import (
    api_tokens,
    audit,
    authorisation_links,
    authorisations,
    browser_sessions,
    forwards,
    handlers,
    people,
    visibility,
)
from shared.storage.pool import Database, DatabaseCannotWrite, Session
from shared.vault import Vault, forward_path

_log = structlog.get_logger(__name__)

SESSION_LIFETIME: Final = timedelta(hours=12)
#: A session that nobody uses for so long ends; a page that only refreshes itself is no use.
SESSION_IDLE: Final = timedelta(hours=2)
#: How long a code may take after the password.
_CODE_WITHIN: Final = timedelta(minutes=5)
_BOOTSTRAP_MARK: Final = "b."
#: As FastAPI reads parameters.
_NUMBER: Final = TypeAdapter(int)
_ID: Final = TypeAdapter(uuid.UUID)
#: RFC 6749 appendix A.5, bounded.
_STATE: Final = re.compile(r"[\x20-\x7e]{1,500}")


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


class LoginChecks:
    """Who a request comes from. Blocking: call it from a worker thread."""

    def __init__(self, database: Database, vault: Vault, admin_token: str | None) -> None:
        self._database = database
        self._vault = vault
        self._admin_token = admin_token or ""
        self._guesses = TokenGuesses()

    @property
    def has_bootstrap(self) -> bool:
        return bool(self._admin_token)

    @property
    def is_new(self) -> bool:
        """There are no people yet: only the bootstrap token opens."""
        with self._database.transaction() as session:
            return not people.people(session)

    def bearer(self, token: str, address: str) -> Principal | None:
        """The principal of an `Authorization: Bearer` token; None for one nobody knows.

        Raises TooManyAttempts where too many wrong ones came from this address."""
        digest = digest_of(token)
        self._refuse_guesses(address, digest)
        if self._is_bootstrap(token):
            found: Principal | None = Principal(name=browser_sessions.BOOTSTRAP, role=Role.ADMIN)
        else:
            with self._database.transaction() as session:
                found = api_tokens.bearer(session, digest)
        self._guesses.note(address, digest, wrong=found is None)
        if found is None:
            _log.warning("token refused", network=network_of(address))
            with self._database.transaction() as session:
                subject = f"network/{network_of(address)}"
                audit.record_once(
                    session, "nobody", "token refused", subject, login_attempts.WINDOW
                )
        return found

    def link(self, claim: Claim) -> Principal | None:
        """The handler whose forward signed an address of a mail; None where it did not, or for too
        long ago."""
        with self._database.transaction() as session:
            sealed = forwards.link_key(session, claim.handler_id)
            if sealed is None:
                return None
            key = self._vault.open(sealed, forward_path("link_key", claim.handler_id))
            if not claim.holds(key):
                return None
            name = handlers.get(session, claim.handler_id).name
        return Principal(name=f"handler {name}", role=None, handler_id=claim.handler_id)

    def by_link(self, token: str, address: str) -> Principal | None:
        """Who comes by a link that authorises a mailbox, whatever it is still good for; None where
        nobody knows its token. Raises TooManyAttempts as `bearer` does."""
        digest = digest_of(token)
        self._refuse_guesses(address, digest)
        with self._database.transaction() as session:
            number = authorisation_links.by_digest(session, digest)
        self._guesses.note(address, digest, wrong=number is None)
        return None if number is None else _by_link(number)

    def by_login(self, state: str) -> Principal | None:
        """Who comes back from a provider's login that a link began; None for other logins."""
        if not _STATE.fullmatch(state):
            return None
        with self._database.transaction() as session:
            begun = authorisations.flow_session(session, state)
        return _by_link(int(begun.split(" ")[1])) if begun else None

    def cookie(self, value: str, *, used: bool = True) -> SignedIn | None:
        """The session of a browser's cookie; None where it ended. `used`: somebody does something,
        and not only a page that refreshes itself."""
        if stateless_bootstrap_sessions.is_sealed(value):
            return stateless_bootstrap_sessions.signed_in(value, self._admin_token)
        digest = self._session_digest(value)
        if digest is None:
            return None
        try:
            with self._database.transaction() as session:
                return browser_sessions.signed_in(session, digest, SESSION_IDLE, touch=used)
        except DatabaseCannotWrite:
            # Who is in goes on reading, so that the pages can say what is wrong.
            with self._database.transaction() as session:
                return browser_sessions.signed_in(session, digest, SESSION_IDLE, touch=False)

    def log_in_with_token(self, token: str, origin: Origin) -> Entered:
        """Starts a session for the bootstrap token: a sealed one where Postgres takes no changes.

        Raises LoginRefused or TooManyAttempts."""
        known = self._knows(origin, None)
        try:
            attempt = login_attempts.count_login(
                self._database, login_attempts.BOOTSTRAP, origin, known_device=known
            )
            if not self._is_bootstrap(token):
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
        self._refuse_guesses(origin.address, digest)
        right, network = self._is_bootstrap(token), network_of(origin.address)
        self._guesses.note(origin.address, digest, wrong=not right)
        if not right:
            _log.warning("login failed", name=login_attempts.BOOTSTRAP, network=network)
            raise _not_bootstrap()
        _log.warning("logged in for a while, as Postgres takes no changes", network=network)
        return Entered(stateless_bootstrap_sessions.start(self._admin_token), is_sealed=True)

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
        value = ("" if person_id else _BOOTSTRAP_MARK) + secrets.token_urlsafe(32)
        digest = self._session_digest(value)
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

    def sees(self, principal: Principal, named: Iterable[tuple[str, str]]) -> bool:
        """Whether all that a route's parameters name is of this principal's part: `connection_id`
        (or `connection`), `message_id`, `entry_id`, each as often as it is given.

        A text is read as the route reads it (pydantic: `+7`, ` 7` and `7.0` are 7, too), else one
        of the two could take for an id what the other does not. What is no id is left to the route.
        """
        tags = principal.tags
        with self._database.transaction() as session:
            for name, text in named:
                try:
                    match name:
                        case "connection_id" | "connection":
                            number = _NUMBER.validate_python(text)
                            is_visible = abs(number) < 1 << 63 and visibility.sees_connection(
                                session, tags, number
                            )
                        case "message_id":
                            is_visible = visibility.sees_message(
                                session, tags, _ID.validate_python(text)
                            )
                        case "entry_id":
                            entry = _ID.validate_python(text)
                            is_visible = visibility.sees_quarantined(session, tags, entry)
                        case _:
                            is_visible = True
                except ValidationError:
                    continue
                if not is_visible:
                    return False
        return True

    def new_device(self, cookie: str) -> str:
        """A device cookie for the browser of this session: it has logged in here once."""
        digest = self._session_digest(cookie)
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

    def _refuse_guesses(self, address: str, digest: bytes) -> None:
        if self._guesses.refuses(address, digest):
            raise TooManyAttempts(
                "Too many wrong tokens from this address.",
                hint="Wait a minute, then try again with a valid one.",
                retry_after=WINDOW_SECONDS,
            )

    def _is_bootstrap(self, token: str) -> bool:
        return bool(self._admin_token) and hmac.compare_digest(
            token.encode(), self._admin_token.encode()
        )

    def _session_digest(self, value: str) -> bytes | None:
        """A session of the bootstrap token ends when that token is changed or taken away."""
        if value.startswith(_BOOTSTRAP_MARK):
            return digest_of(value + self._admin_token) if self._admin_token else None
        return digest_of(value)


def _not_bootstrap() -> LoginRefused:
    return LoginRefused(
        "This is not the bootstrap token.",
        hint="It is the value of POSTHOUSE_ADMIN_TOKEN; `posthouse up` prints it.",
    )


def _by_link(number: int) -> Principal:
    return Principal(name=f"authorisation link {number}", role=None, link_id=number)
