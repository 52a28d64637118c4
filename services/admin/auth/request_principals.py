"""Who makes a request: by bearer token, an address that a forward signed, a link that authorises a
mailbox, the cookie of a browser session; and whether what it names is of their part."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

import structlog
from pydantic import TypeAdapter, ValidationError

from services.admin.auth import login_attempts, stateless_bootstrap_sessions
from services.admin.auth.bootstrap_token import BootstrapToken
from services.admin.auth.token_guesses import TokenGuesses, network_of
from services.admin.auth.tokens import digest_of
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
    visibility,
)
from shared.storage.pool import Database, DatabaseCannotWrite
from shared.vault import Vault, forward_path

_log = structlog.get_logger(__name__)

#: A session that nobody uses for so long ends; a page that only refreshes itself is no use.
SESSION_IDLE: Final = timedelta(hours=2)
#: As FastAPI reads parameters.
_NUMBER: Final = TypeAdapter(int)
_ID: Final = TypeAdapter(uuid.UUID)
#: RFC 6749 appendix A.5, bounded.
_STATE: Final = re.compile(r"[\x20-\x7e]{1,500}")


class RequestPrincipals:
    """Finds who a request comes from. Blocking: call it from a worker thread."""

    def __init__(
        self, database: Database, vault: Vault, bootstrap: BootstrapToken, guesses: TokenGuesses
    ) -> None:
        self._database = database
        self._vault = vault
        self._bootstrap = bootstrap
        self._guesses = guesses

    def by_bearer(self, token: str, address: str) -> Principal | None:
        """The principal of an `Authorization: Bearer` token; None for one nobody knows.

        Raises TooManyAttempts where too many wrong ones came from this address."""
        digest = digest_of(token)
        self._guesses.refuse(address, digest)
        if self._bootstrap.is_given(token):
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

    def by_signed_address(self, claim: Claim) -> Principal | None:
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

    def by_authorisation_link(self, token: str, address: str) -> Principal | None:
        """Who comes by a link that authorises a mailbox, whatever it is still good for; None where
        nobody knows its token. Raises TooManyAttempts as `by_bearer` does."""
        digest = digest_of(token)
        self._guesses.refuse(address, digest)
        with self._database.transaction() as session:
            number = authorisation_links.by_digest(session, digest)
        self._guesses.note(address, digest, wrong=number is None)
        return None if number is None else _by_link(number)

    def by_provider_login(self, state: str) -> Principal | None:
        """Who comes back from a provider's login that a link began; None for other logins."""
        if not _STATE.fullmatch(state):
            return None
        with self._database.transaction() as session:
            begun = authorisations.flow_session(session, state)
        return _by_link(int(begun.split(" ")[1])) if begun else None

    def by_cookie(self, value: str, *, used: bool = True) -> SignedIn | None:
        """The session of a browser's cookie; None where it ended. `used`: somebody does something,
        and not only a page that refreshes itself."""
        if stateless_bootstrap_sessions.is_sealed(value):
            return stateless_bootstrap_sessions.signed_in(value, self._bootstrap.value)
        digest = self._bootstrap.session_digest(value)
        if digest is None:
            return None
        try:
            with self._database.transaction() as session:
                return browser_sessions.signed_in(session, digest, SESSION_IDLE, touch=used)
        except DatabaseCannotWrite:
            # Who is in goes on reading, so that the pages can say what is wrong.
            with self._database.transaction() as session:
                return browser_sessions.signed_in(session, digest, SESSION_IDLE, touch=False)

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


def _by_link(number: int) -> Principal:
    return Principal(name=f"authorisation link {number}", role=None, link_id=number)
