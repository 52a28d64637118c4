"""Who logs in at the admin service, and who asks it something, made as the service makes them."""

from __future__ import annotations

from services.admin.auth.bootstrap_token import BootstrapToken
from services.admin.auth.browser_logins import BrowserLogins
from services.admin.auth.request_principals import RequestPrincipals
from services.admin.auth.token_guesses import TokenGuesses
from shared.people import SignedIn
from shared.storage.pool import Database
from shared.vault import Vault, new_key


def logins_and_principals(
    database: Database, vault: Vault | None = None, token: str | None = None
) -> tuple[BrowserLogins, RequestPrincipals]:
    """`token`: the bootstrap token; `vault`: one of its own where it is not given."""
    shared = (vault or Vault.from_settings([new_key()]), BootstrapToken(token), TokenGuesses())
    return BrowserLogins(database, *shared), RequestPrincipals(database, *shared)


def browser_session(
    database: Database, vault: Vault, token: str, person_id: int | None
) -> tuple[str, SignedIn]:
    """The cookie of a new session of somebody (None: of the bootstrap token), and the session."""
    logins, principals = logins_and_principals(database, vault, token)
    with database.transaction() as session:
        cookie = logins.start_session(session, person_id, "somebody")
    signed_in = principals.by_cookie(cookie)
    assert signed_in is not None
    return cookie, signed_in
