"""Places that somebody can go to: connections, handlers, one mail, found by what was typed.

Shows no more than who asks may open. Contacts no mail server.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from services.admin.context import Context
from services.admin.operations.connection_list import handler_names, search_connections
from shared.errors import NotFound
from shared.storage import messages, visibility
from shared.storage.connection_list import Filter

#: Of each kind: who wants another one types more.
_OF_A_KIND: Final = 8


@dataclass(frozen=True, slots=True)
class JumpTarget:
    """Where a name leads. `detail` tells those apart that are named alike."""

    kind: str
    name: str
    address: str
    detail: str = ""


def find_jump_targets(ctx: Context, typed: str) -> list[JumpTarget]:
    """The mail of this id, then connections and handlers with `typed` in what they are known by;
    those whose name begins with it first. Nothing for an empty text."""
    text = typed.strip()
    if not text:
        return []
    return [*_mail(ctx, text), *_connections(ctx, text), *_handlers(ctx, text)]


def _mail(ctx: Context, text: str) -> list[JumpTarget]:
    try:
        number = uuid.UUID(text)
    except ValueError:
        return []
    tags = ctx.principal.tags
    with ctx.transaction() as session:
        if tags and not visibility.sees_message(session, tags, number):
            return []
        try:
            found = messages.get(session, number).message
        except NotFound:
            return []
    return [JumpTarget("Mail", found.subject or "(no subject)", f"/mails/{number}", str(number))]


def _connections(ctx: Context, text: str) -> list[JumpTarget]:
    found = search_connections(ctx, Filter(q=text), per_page=_OF_A_KIND, beginning=text).items
    return [
        JumpTarget("Connection", one.name, f"/connections/{one.id}", one.mailbox)
        for one in (view.connection for view in found)
    ]


def _handlers(ctx: Context, text: str) -> list[JumpTarget]:
    found = [
        JumpTarget("Handler", name, f"/handlers/{number}")
        for number, name in handler_names(ctx).items()
        if text.casefold() in name.casefold()
    ]
    return sorted(found, key=lambda place: (not _begins(place.name, text), place.name))[:_OF_A_KIND]


def _begins(name: str, text: str) -> bool:
    return name.casefold().startswith(text.casefold())
