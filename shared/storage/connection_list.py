"""The list of connections: filtered, sorted, counted by health, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from shared.connections import Connection, Health, Mode
from shared.errors import InvalidInput
from shared.storage.connections import ConnectionStatus, get_many, statuses
from shared.storage.list_search import Page, contains
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL: Final = Queries("connections")
#: What the list can be sorted by; a leading `-` turns it round.
SORTS: Final[Mapping[str, LiteralString]] = {
    "name": "coalesce(name_key, lower(name))",
    "host": "lower(host)",
    "username": "lower(username)",
    "mode": "mode",
    # What needs somebody first.
    "health": "array_position(ARRAY['failing', 'needs-authorisation', 'overdue', 'unused',"
    " 'pending', 'working', 'disabled'], health)",
    "created": "created_at",
    "next_run": "due_at",
    "last_success": "last_success_at",
}
_BEGINNING: Final[LiteralString] = f"NOT starts_with({SORTS['name']}, %(beginning)s), "


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which connections are meant: those that all of it is true of.

    `q` is a part of the name, description, host, username or a tag, whatever its case; `handler_id`
    takes the connection; `tags` are all on it, of `part` at least one (the rights of who asks).
    """

    q: str = ""
    health: Health | None = None
    mode: Mode | None = None
    tags: tuple[str, ...] = ()
    handler_id: int | None = None
    part: tuple[str, ...] = ()

    def values(self) -> dict[str, Any]:
        """For the queries' parameters."""
        return {
            "pattern": contains(self.q),
            "health": self.health.value if self.health else None,
            "mode": self.mode.value if self.mode else None,
            "tags": list(self.tags) or None,
            "handler_id": self.handler_id,
            "part": list(self.part) or None,
        }

    @property
    def narrows(self) -> bool:
        """Whether anything is filtered, health apart."""
        return bool(self.q.strip() or self.mode or self.tags or self.handler_id or self.part)


def search(
    session: Session,
    wanted: Filter,
    *,
    sort: str = "name",
    page: int = 1,
    per_page: int = 50,
    beginning: str = "",
) -> Page[tuple[Connection, ConnectionStatus]]:
    """A page of the list. `counts` says how many match per health, whatever health is asked for.
    Those whose name begins with `beginning` come first."""
    key = sort.removeprefix("-")
    if key not in SORTS:
        raise InvalidInput(f"Sort by one of: {', '.join(SORTS)}.", field="sort")
    direction: LiteralString = "DESC NULLS LAST" if sort.startswith("-") else "ASC NULLS LAST"
    first: LiteralString = _BEGINNING if beginning else ""
    order: LiteralString = f"\nORDER BY {first}{SORTS[key]} {direction}, id\n"
    skipped = min((page - 1) * per_page, 2**31)
    values = wanted.values() | {"per_page": per_page, "skipped": skipped}
    values["beginning"] = beginning.casefold()
    if wanted.narrows:
        counted = _SQL["counted"] + "\n" + _SQL["fitting"] + "\nGROUP BY health"
    else:
        counted = _SQL["counted"] + "\nGROUP BY health"
    counts = _counts(session.execute(_SQL["judged"] + "\n" + counted, values))
    total = counts.get(wanted.health, 0) if wanted.health else sum(counts.values())
    listed = _SQL["judged"] + "\n" + _SQL["ids"] + "\n" + _SQL["fitting"]
    listed += "\n" + _SQL["of_health"] + order + _SQL["one_page"]
    ids = [row[0] for row in session.execute(listed, values)]
    found = {connection.id: connection for connection in get_many(session, ids)}
    how = statuses(session, ids)
    # Each statement sees what is committed by then: one that is deleted meanwhile is left out.
    items = tuple((found[i], how[i]) for i in ids if i in found and i in how)
    return Page(items, total=total, page=page, per_page=per_page, counts=counts)


def ids_of(session: Session, wanted: Filter) -> list[int]:
    """The ids of all that match, by name."""
    order: LiteralString = f"\nORDER BY {SORTS['name']}, id"
    listed = _SQL["judged"] + "\n" + _SQL["ids"] + "\n" + _SQL["fitting"]
    listed += "\n" + _SQL["of_health"] + order
    return [row[0] for row in session.execute(listed, wanted.values())]


def count_by_health(session: Session) -> dict[Health, int]:
    """How many connections there are of each health."""
    return _counts(session.execute(_SQL["judged"] + "\n" + _SQL["counted"] + "\nGROUP BY health"))


def tags_in_use(session: Session, part: Sequence[str] = ()) -> dict[str, int]:
    """Every tag, with how many connections have it; of connections with one of `part` alone."""
    return dict(session.execute(_SQL["tags"], {"part": list(part) or None}).fetchall())


def _counts(rows: Iterable[tuple[Any, ...]]) -> dict[Health, int]:
    return {Health(row[0]): int(row[1]) for row in rows}
