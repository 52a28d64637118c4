"""In what two versions of a connection differ: fields, mailbox, grant. Pure."""

from __future__ import annotations

from typing import Any

from shared.connections import Connection


def recorded(connection: Connection) -> dict[str, Any]:
    """The fields of a connection as the audit log has them."""
    hidden = {"created_at", "updated_at"}
    return {n: getattr(connection, n) for n in Connection.__slots__ if n not in hidden}


def differing(before: Connection, after: Connection) -> set[str]:
    """The names of the fields whose values differ."""
    return {name for name in Connection.__slots__ if getattr(before, name) != getattr(after, name)}


def is_other_grant(before: Connection, after: Connection) -> bool:
    """Whether stored tokens were given for another host, account or application."""
    return before.uses_oauth and (
        before.endpoint != after.endpoint
        or before.credential_id != after.credential_id
        or before.mode is not after.mode
        or before.username.casefold() != after.username.casefold()
        or bool(before.shared_mailbox) != bool(after.shared_mailbox)
    )


def is_other_mailbox(before: Connection, after: Connection) -> bool:
    """Whether what is known of the old mailbox means nothing for the new one.

    A changed host alone is taken for the same mailbox on a new server: its mails are recognised
    by their content.
    """
    other_ids = before.kind.family != after.kind.family
    return other_ids or before.mailbox.casefold() != after.mailbox.casefold()


def is_other_server(before: Connection, after: Connection) -> bool:
    """Whether what a mail is known by may name another one there: a server begins to count where it
    likes, so that UIDVALIDITY and UIDs, or UIDLs, of two may be equal by chance."""
    old, new = before.endpoint, after.endpoint
    usual = set(after.kind.ports.values())
    same = old[0].casefold() == new[0].casefold() and (
        old[1] == new[1] or {old[1], new[1]} <= usual
    )
    return not same and not after.kind.unique_keys
