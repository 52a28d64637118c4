"""The list of connections, and finding one by what somebody typed. Contacts no mail server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from services.admin.context import Context
from services.admin.operations.connection_views import ConnectionView
from services.admin.operations.tag_rights import sees
from shared.errors import InvalidInput
from shared.quantities import counted
from shared.storage import connection_list, connections, handlers
from shared.storage.connection_list import SORTS as SORTS
from shared.storage.connection_list import Filter as Filter
from shared.storage.list_search import Page


def search_connections(
    ctx: Context,
    wanted: Filter = Filter(),
    *,
    sort: str = "name",
    page: int = 1,
    per_page: int = 50,
    beginning: str = "",
) -> Page[ConnectionView]:
    """The list (without warnings), those whose name begins with `beginning` first."""
    with ctx.transaction() as session:
        wanted = replace(wanted, part=ctx.principal.tags)
        found = connection_list.search(
            session, wanted, sort=sort, page=page, per_page=per_page, beginning=beginning
        )
    items = tuple(ConnectionView(connection, status) for connection, status in found.items)
    return Page(items, found.total, found.page, found.per_page, found.counts)


def ids_matching(ctx: Context, wanted: Filter) -> list[int]:
    """The ids of all that match, by name."""
    with ctx.transaction() as session:
        return connection_list.ids_of(session, replace(wanted, part=ctx.principal.tags))


def tags_in_use(ctx: Context) -> Mapping[str, int]:
    """Every tag, with how many connections have it."""
    with ctx.transaction() as session:
        return connection_list.tags_in_use(session, ctx.principal.tags)


def handler_names(ctx: Context) -> Mapping[int, str]:
    """The name of each handler, by id; none for who has rights by tag."""
    if ctx.principal.tags:
        return {}
    with ctx.transaction() as session:
        return {one.id: one.name for one in handlers.search(session)}


def find_connection(ctx: Context, typed: str) -> tuple[int, str]:
    """Id and name, by id, name, or a part of the name that no other one has. Raises InvalidInput.

    The id of a connection that is gone stays usable: its mails are still there.
    """
    with ctx.transaction() as session:
        if typed.isdecimal() and typed.isascii():
            found = [c for c in connections.get_many(session, [int(typed[:18])]) if sees(ctx, c)]
            return int(typed[:18]), found[0].name if found else typed
        exact = connections.by_name(session, typed)
        if exact is not None and sees(ctx, exact):
            return exact.id, exact.name
        page = connection_list.search(session, Filter(q=typed, part=ctx.principal.tags), per_page=4)
    if page.total == 1:
        one = page.items[0][0]
        return one.id, one.name
    names = ", ".join(connection.name for connection, _ in page.items)
    raise InvalidInput(
        f"{counted(page.total, 'connection matches', 'connections match')} “{typed}”."
        if page.total
        else "No connection is so named.",
        field="connection",
        hint=f"Such as {names}. Type more of the name." if names else "",
    )
