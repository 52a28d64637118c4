"""Authorising a connection at its OAuth2 provider, by a person who logs in there."""

from __future__ import annotations

from collections.abc import Mapping

from services.admin.context import Context
from services.admin.operations.credentials import redirect_uri
from shared.connections import Connection
from shared.errors import Conflict
from shared.mailbox_logins import GrantShared, Others
from shared.storage.authorisations import Authorisation


def start(ctx: Context, connection_id: int, *, session: str) -> str:
    """The address of the provider's login. Only `session`, which names the browser session or
    the token that asks, can finish it. Raises NotFound, InvalidInput, NeedsPerson, TryAgain."""
    return ctx.app_state.mail_server_work.run(
        lambda: ctx.app_state.logins.start_authorisation(
            connection_id, session=session, redirect_uri=redirect_uri(ctx)
        )
    )


def connection_of(ctx: Context, query: Mapping[str, str]) -> int | None:
    """The connection that this login was begun for; None where that is not known.

    Ask before `finish`, which ends it.
    """
    return ctx.app_state.logins.connection_of(query)


def finish(
    ctx: Context, query: Mapping[str, str], *, session: str
) -> tuple[Connection, Authorisation]:
    """Takes what the provider sent the browser back with, and keeps the tokens.

    Raises InvalidInput for a login that was not started so, WrongAccount, NeedsAuthorisation.
    """
    connection, authorisation = ctx.app_state.mail_server_work.run(
        lambda: ctx.app_state.logins.finish_authorisation(
            query, session=session, person=ctx.principal.name
        )
    )
    with ctx.transaction() as transaction:
        account = {"account": authorisation.account}
        ctx.record(transaction, "authorise", f"connection/{connection.id}", after=account)
    return connection, authorisation


def revoke(ctx: Context, connection_id: int, others: Others = Others.ASK) -> bool:
    """Forgets the tokens and revokes the grant; False where the provider did not confirm.

    Raises GrantShared where other connections use the same grant and nobody said what becomes
    of them; Conflict without their names for who has rights by tag, and may not end theirs.
    """
    part = bool(ctx.principal.tags)
    if part and others is Others.END:
        others = Others.ASK
    try:
        confirmed = ctx.app_state.mail_server_work.run(
            lambda: ctx.app_state.logins.revoke(connection_id, others=others)
        )
    except GrantShared:
        if not part:
            raise
        raise Conflict(
            "Other connections use the same authorisation.",
            hint="Somebody who sees all connections may revoke it at the provider.",
            code="grant-shared",
        ) from None
    with ctx.transaction() as transaction:
        ctx.record(
            transaction, "revoke", f"connection/{connection_id}", after={"others": others.value}
        )
    return confirmed
