"""A new connection that is like another one, with its secrets where they go to the same server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.admin.context import Context
from services.admin.operations.connection_views import ConnectionView, get_connection
from services.admin.operations.credentials import refuse_misfit
from services.admin.operations.drafts import checked_edit, refuse_moved_password
from services.admin.operations.tag_rights import as_copied, refuse_beyond
from shared.errors import InvalidInput
from shared.microsoft_certificates import pem_of
from shared.storage import connections
from shared.vault import login_certificate_path, password_path


def duplicate_connection(
    ctx: Context, source_id: int, changes: Mapping[str, Any]
) -> ConnectionView:
    """Adds a connection, disabled, with the fields of `source_id` and these `changes`, of which the
    name is one. Tokens of OAuth2 are not copied: somebody authorises anew.

    Raises NotFound, NameTaken, and InvalidInput, also where the stored password would go to
    another server than the one it was stored for. Who has rights by tag copies no tag of others.
    """
    if not changes.get("name"):
        raise InvalidInput("The copy needs a name of its own.", field="name")
    with ctx.transaction() as session:
        source = as_copied(ctx, connections.get(session, source_id))
    wanted = checked_edit(source, {**changes, "enabled": False})
    refuse_beyond(ctx, source, wanted.connection)
    refuse_moved_password(source, wanted)
    vault = ctx.app_state.vault
    with ctx.transaction() as session:
        refuse_misfit(session, wanted.connection)
        number = connections.insert(session, replace(wanted.connection, id=0))
        password = wanted.password.encode() if wanted.password else None
        sealed = connections.sealed_password(session, source_id)
        if password is None and wanted.connection.has_password and sealed is not None:
            password = vault.open(sealed, password_path(source_id))
        if password:
            connections.write_password(session, number, vault.seal(password, password_path(number)))
        pem = pem_of(wanted.client_certificate).encode() if wanted.client_certificate else None
        sealed = connections.sealed_client_certificate(session, source_id)
        if pem is None and wanted.connection.has_client_certificate and sealed is not None:
            pem = vault.open(sealed, login_certificate_path(source_id))
        if pem:
            connections.write_client_certificate(
                session, number, vault.seal(pem, login_certificate_path(number))
            )
        made = connections.get(session, number)
        ctx.record(session, "duplicate", f"connection/{number}", None, made)
    return get_connection(ctx, number)
