"""OAuth2 for mailboxes: logging in at a provider, and fresh access tokens from then on.

`start` and `finish` are the two halves of the authorisation-code flow (RFC 6749 section 4.1 with
PKCE, RFC 7636); between them somebody logs in at the provider. `access_token_of` gives what a
mailbox needs to log in, for every grant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.connections import Connection
from shared.credentials import ClientSecrets, Credential, Provider
from shared.errors import InvalidInput, NeedsAuthorisation, NeedsPerson
from shared.mailbox.failures import Unreachable
from shared.mailbox.net.https import Reach
from shared.mailbox.oauth.tokens import ApplicationTokens, DelegatedToken, TokenCache, Tokens
from shared.microsoft_clouds import authority, scopes
from shared.telemetry import metrics

__all__ = ["TokenCache", "Tokens", "WrongAccount", "access_token_of", "finish", "start"]


class WrongAccount(NeedsAuthorisation):
    """Somebody else logged in than the connection's user; nothing was kept."""

    code = "wrong-account"


class AuthorisationServer(Protocol):
    """What both providers offer (`GoogleProvider`, `MicrosoftProvider`)."""

    def start(
        self, scopes: Sequence[str], *, redirect_uri: str, login_hint: str
    ) -> tuple[str, str, dict[str, Any]]: ...

    def redeem(self, flow: Mapping[str, Any], answer: Mapping[str, str]) -> Tokens: ...

    def refresh(self, tokens: Tokens, scopes: Sequence[str]) -> Tokens: ...

    def for_itself(self, scopes: Sequence[str], subject: str) -> Tokens: ...

    def revoke(self, tokens: Tokens) -> bool: ...

    @property
    def revokes(self) -> bool:
        """Whether `revoke` ends anything at the provider."""
        ...


@dataclass(frozen=True, slots=True)
class StartedLogin:
    """`url` is for the browser, `state` names the flow, `flow` is secret and needed to finish."""

    url: str
    state: str
    flow: bytes = field(repr=False)


#: Tokens that applications have for themselves, shared by all connections of this process.
_OWN = ApplicationTokens()


def server_of(
    credential: Credential,
    secrets: ClientSecrets,
    connection: Connection,
    reach: Reach | None = None,
) -> AuthorisationServer:
    """The authorisation server that a connection's tokens come from; `reach` says where it may be
    looked for."""
    # The vendors' libraries take long to load: only who needs a token waits for them.
    timeout = connection.timeout_ms / 1000
    if credential.provider is Provider.GOOGLE:
        from shared.mailbox.oauth.google import GoogleProvider

        return GoogleProvider(credential, secrets, timeout=timeout, reach=reach)
    from shared.mailbox.oauth.microsoft import MicrosoftProvider

    where = credential.setting("authority").rstrip("/") or authority(connection, credential)
    return MicrosoftProvider(credential, secrets, where, timeout=timeout, reach=reach)


def start(
    connection: Connection,
    credential: Credential,
    secrets: ClientSecrets,
    redirect_uri: str,
    reach: Reach | None = None,
) -> StartedLogin:
    """Begins a login. Raises InvalidInput where the grant needs none."""
    if not credential.needs_login:
        raise InvalidInput(
            f"The credential {credential.name!r} gives application access: nobody logs in.",
            field="credential_id",
            hint="Test the connection instead.",
        )
    server = server_of(credential, secrets, connection, reach)
    url, state, flow = server.start(
        scopes(connection, credential),
        redirect_uri=redirect_uri,
        login_hint=connection.username,
    )
    return StartedLogin(url, state, json.dumps(flow).encode())


def finish(
    connection: Connection,
    credential: Credential,
    secrets: ClientSecrets,
    flow: bytes,
    answer: Mapping[str, str],
    reach: Reach | None = None,
) -> Tokens:
    """Ends a login with the query that the provider's redirect brought.

    Raises WrongAccount where somebody else logged in, NeedsAuthorisation where consent was denied,
    NeedsPerson where the application is not set up rightly. Tokens of a wrong account are only
    forgotten: taking them back would end that account's whole grant, and other connections may
    use it.
    """
    server = server_of(credential, secrets, connection, reach)
    tokens = server.redeem(json.loads(flow), answer)
    names = tokens.names or (tokens.account,)
    if any(same_account(name, connection.username) for name in names):
        return tokens
    raise WrongAccount(
        f"{tokens.account or 'An unnamed account'} logged in, but this connection is for "
        f"{connection.username}.",
        hint=f"Log out at the provider (or use a private window), then authorise again as "
        f"{connection.username}."
        + (
            f" That person needs access to {connection.shared_mailbox}."
            if connection.shared_mailbox
            else ""
        ),
    )


def access_token_of(
    connection: Connection,
    credential: Credential,
    secrets: ClientSecrets,
    cache: TokenCache,
    reach: Reach | None = None,
) -> Callable[[bool], str]:
    """`Login.access_token` for a connection: fresh tokens, whatever the grant."""
    server = server_of(credential, secrets, connection, reach)
    wanted = scopes(connection, credential)
    if credential.needs_login:
        return DelegatedToken(
            cache,
            lambda tokens: _counted(credential.provider, lambda: server.refresh(tokens, wanted)),
        )
    # A service account's token is for one mailbox, an application's for all it may open.
    subject = connection.mailbox if credential.provider is Provider.GOOGLE else ""
    key = (credential.id, credential.updated_at, wanted, authority(connection, credential), subject)
    return _OWN.source(
        key, lambda: _counted(credential.provider, lambda: server.for_itself(wanted, subject))
    )


def _counted(provider: Provider, ask: Callable[[], Tokens]) -> Tokens:
    """Asks for tokens, and counts what became of it. Whatever fails on the way there is a token
    that was not had, and says nothing of the mail server."""
    outcome = "failed"
    try:
        tokens = ask()
        outcome = "ok"
        return tokens
    except NeedsPerson:
        outcome = "refused"
        raise
    except Unreachable as error:
        if error.code == "unknown-host":
            error.hint = "Tokens come from there: look at name resolution and firewall here."
        error.step = "authorisation"
        raise
    finally:
        metrics.TOKEN_REFRESHES.labels(provider.value, outcome).inc()


def same_account(account: str, username: str) -> bool:
    """Whether two addresses name one account; Gmail ignores dots and has two domains."""
    return bool(account) and _canonical(account) == _canonical(username)


def _canonical(address: str) -> str:
    local, at, domain = address.strip().casefold().rpartition("@")
    if domain in ("gmail.com", "googlemail.com"):
        local, domain = local.replace(".", ""), "gmail.com"
    return f"{local}{at}{domain}"
