"""A mailbox authorised by its owner, who has no account here: by a link that somebody who may
operate the connection makes and sends.

The link opens one page and works for one login. Looking at the page changes nothing (programs that
scan mails open links, too), and a login with another account does not use the link up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from services.admin.auth import login_attempts
from services.admin.auth.tokens import digest_of, new_link_token
from services.admin.context import Context
from services.admin.operations.credentials import redirect_uri
from shared.connections import Connection
from shared.credentials import Credential, Provider
from shared.errors import InvalidInput, NotFound, PosthouseError, TryAgain
from shared.microsoft_clouds import scopes
from shared.storage import authorisation_links, connections, credentials
from shared.storage.authorisation_links import AuthorisationLink as AuthorisationLink
from shared.storage.authorisation_links import LinkClosed as LinkClosed
from shared.storage.authorisation_links import LinkState as LinkState
from shared.storage.authorisations import Authorisation
from shared.storage.pool import Session

VALID_DAYS: Final = 7
MOST_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A new link with its address, which is shown this once."""

    link: AuthorisationLink
    url: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What the owner of the mailbox is told: whose Posthouse asks for what. `installation` is the
    host of its pages."""

    link: AuthorisationLink
    connection: Connection
    provider: Provider
    scopes: tuple[str, ...]
    installation: str


def make(ctx: Context, connection_id: int, days: int = VALID_DAYS) -> MadeLink:
    """A link that is good for so many days (1 to `MOST_DAYS`). Raises NotFound, InvalidInput."""
    if not 1 <= days <= MOST_DAYS:
        raise InvalidInput(f"A link is valid for 1 to {MOST_DAYS} days.", field="days")
    token = new_link_token()
    with ctx.transaction() as session:
        connection = connections.get(session, connection_id)
        _credential(session, connection)
        number = authorisation_links.add(
            session,
            connection_id=connection_id,
            digest=digest_of(token),
            by=ctx.principal.name,
            days=days,
        )
        link = authorisation_links.link(session, number)
        after = {"link": number, "expires_at": link.expires_at}
        ctx.record(session, "make authorisation link", f"connection/{connection_id}", after=after)
    public = ctx.app_state.settings.public_url.rstrip("/")
    return MadeLink(link, f"{public}/authorise/{token}")


def links_of(ctx: Context, connection_id: int) -> Sequence[AuthorisationLink]:
    """Newest first. Raises NotFound."""
    with ctx.transaction() as session:
        connections.get(session, connection_id)
        return authorisation_links.of_connection(session, connection_id)


def revoke(ctx: Context, connection_id: int, link_id: int) -> AuthorisationLink:
    """Revokes a link; one that is closed already stays what it is. Raises NotFound."""
    with ctx.transaction() as session:
        if authorisation_links.link(session, link_id).connection_id != connection_id:
            raise NotFound("There is no such link (any more).")
        if authorisation_links.revoke(session, link_id):
            subject = f"connection/{connection_id}"
            ctx.record(session, "revoke authorisation link", subject, after={"link": link_id})
        return authorisation_links.link(session, link_id)


# ---- for who comes by the link


def offer(ctx: Context) -> Offer:
    """What the link of who asks is for, and what it is good for. Raises NotFound, InvalidInput."""
    with ctx.transaction() as session:
        link = authorisation_links.link(session, _link_id(ctx))
        connection = connections.get(session, link.connection_id)
        credential = _credential(session, connection)
    host = urlsplit(ctx.app_state.settings.public_url).hostname or ""
    return Offer(link, connection, credential.provider, scopes(connection, credential), host)


def start(ctx: Context, *, browser: str, address: str) -> str:
    """The address of the provider's login, which only the browser with this cookie can finish.

    Raises LinkClosed, TooManyAttempts, and what `Logins.start_authorisation` does.
    """
    link = _open_link(ctx)
    login_attempts.count_login_by_link(ctx.app_state.database, link.id, address)
    return ctx.app_state.mail_server_work.run(
        lambda: ctx.app_state.logins.start_authorisation(
            link.connection_id,
            session=_session(link.id, browser),
            redirect_uri=redirect_uri(ctx),
        )
    )


def finish(ctx: Context, query: Mapping[str, str], *, browser: str) -> Authorisation:
    """Keeps the tokens and uses the link up, both or neither.

    Raises LinkClosed, WrongAccount, NeedsAuthorisation, InvalidInput; the audit log has each.
    """
    link_id = _link_id(ctx)
    with ctx.transaction() as session:
        link = authorisation_links.link(session, link_id)

    def kept(session: Session, account: str) -> None:
        authorisation_links.use(session, link_id, account)
        after = {"account": account, "link": link_id}
        ctx.record(session, "authorise", f"connection/{link.connection_id}", after=after)

    try:
        _open_link(ctx)
        _, done = ctx.app_state.mail_server_work.run(
            lambda: ctx.app_state.logins.finish_authorisation(
                query,
                session=_session(link_id, browser),
                person=f"the owner, by a link of {link.created_by}",
                kept=kept,
            )
        )
    except PosthouseError as error:
        if not isinstance(error, TryAgain):
            with ctx.transaction() as session:
                subject = f"connection/{link.connection_id}"
                after = {"link": link_id, "reason": error.code}
                ctx.record(session, "authorisation refused", subject, after=after)
        raise
    return done


def _link_id(ctx: Context) -> int:
    assert ctx.principal.link_id is not None
    return ctx.principal.link_id


def _open_link(ctx: Context) -> AuthorisationLink:
    with ctx.transaction() as session:
        link = authorisation_links.link(session, _link_id(ctx))
    if link.state is not LinkState.OPEN:
        raise LinkClosed(f"This link is {link.state}.")
    return link


def _session(link_id: int, browser: str) -> str:
    """Names who began a login: `shared.storage.authorisations.flow_session` knows it by `link`."""
    return f"link {link_id} {digest_of(browser).hex()}"


def _credential(session: Session, connection: Connection) -> Credential:
    if connection.credential_id is not None:
        credential = credentials.get(session, connection.credential_id)
        if credential.needs_login:
            return credential
    raise InvalidInput(
        f"Nobody logs in for the connection {connection.name!r}: it has a password, or the "
        "application's own access.",
        hint="Links are for connections whose credential is one that somebody logs in for.",
    )
