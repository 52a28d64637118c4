"""Searches the ledger for mails. Reads only.

What has an index is looked for in all that the ledger keeps: a message-id, whole words and
addresses (`shared.mail.search_terms`), a connection, most states. What has none (parts of words,
acknowledged mails, those in a queue) is looked for in so many of the newest mails at a time, and
the page says how far back that was.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

from psycopg import errors as pg
from psycopg.rows import dict_row

from shared.clock import first_id, time_of
from shared.errors import InvalidInput
from shared.mail import search_terms
from shared.storage.arrays import array
from shared.storage.message_filter import MessageFilter, conditions, indexed_conditions, spellings
from shared.storage.messages import HEAD, LoggedMessage, logged_message
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("message_search")

#: A statement that takes longer is given up, so that it cannot keep Postgres from its work.
_SEARCH_SECONDS: Final = 5
#: All mails of the range are looked at for so long, then `_MOST` of them.
_WHOLE_SECONDS: Final = 1
#: Mails that are looked at together where there is no index: 0.1 s.
_MOST: Final = 30_000
#: Where each mail takes longer: so many at first, then twice as many, and no more after so long.
_FEWEST: Final = 250
_SOON_S: Final = 0.25
#: Words are looked for in so many of the newest mails first, one by one: frequent ones are there.
_FIRST: Final = 2_000
#: Then by their index, in the mails of a day first: it gives all that have a word, in no order.
_WINDOWS: Final = (timedelta(days=1), timedelta(days=8))


@dataclass(frozen=True, slots=True)
class MessagePage:
    """A page of mails, newest first; `next` continues after it, None at the end.

    `looked_back_to` is set where not all mails were looked at: the time of the last one that was.
    """

    items: tuple[LoggedMessage, ...]
    next: uuid.UUID | None
    looked_back_to: datetime | None = None


def search(
    session: Session,
    wanted: MessageFilter,
    *,
    before: uuid.UUID | None = None,
    limit: int = 50,
) -> MessagePage:
    """Newest first; `before` continues after the last of the page before.

    Raises InvalidInput where the search would take too long.
    """
    search = _Search(session, wanted, before, limit)
    text = wanted.q.strip()
    if not text:
        return search.whole_or_part()
    if not before and (found := search.by_message_id(text)):
        return search.page(found)
    if terms := search_terms.terms_sought(text):
        page = search.by_terms(terms)
        if page.items or page.looked_back_to or (before and search.has(terms)):
            return page
    return search.by_part(text)


class _Search:
    """The conditions of one search, and the ways to ask for what they choose."""

    def __init__(
        self, session: Session, wanted: MessageFilter, before: uuid.UUID | None, limit: int
    ) -> None:
        self._session = session
        self._state = wanted.state
        self._limit = limit
        self._conditions, self._values = conditions(wanted)
        self._values |= {"before": before, "limit": limit + 1, "most": _MOST}

    def page(self, found: Sequence[LoggedMessage], floor: uuid.UUID | None = None) -> MessagePage:
        """What was found; where mails were looked at down to `floor` only, it goes on there."""
        items = tuple(found[: self._limit])
        if len(found) > self._limit:
            return MessagePage(items, items[-1].id)
        return MessagePage(items, floor, time_of(floor) if floor else None)

    def whole_or_part(self) -> MessagePage:
        """All mails of the range where that is quick, else some of the newest of them."""
        parts = indexed_conditions(self._state)
        if parts is not None:
            with suppress(pg.QueryCanceled):
                return self.page(self._found(parts, {}, _WHOLE_SECONDS))
        return self._some()

    def _some(self) -> MessagePage:
        """Of the newest mails of the range as many as can be looked at soon, the first few alone:
        with many handlers each takes its time."""
        found: list[LoggedMessage] = []
        before, most = self._values["before"], _FEWEST
        deadline = time.monotonic() + _SOON_S
        while True:
            left = {"before": before, "most": most, "limit": self._limit + 1 - len(found)}
            more, floor = self._newest([], left)
            found += more
            if floor is None or len(found) > self._limit or time.monotonic() > deadline:
                return self.page(found, floor)
            before, most = floor, min(2 * most, _MOST)

    def by_message_id(self, text: str) -> list[LoggedMessage]:
        """Looking up an exact message-id costs nothing, and is what people mostly have."""
        return self._found([_SQL["with_message_id"]], {"message_ids": spellings(text)})

    def by_part(self, text: str) -> MessagePage:
        """Mails that have `text` as a part of one of their fields."""
        if text.isascii():
            return self.page(*self._newest([_SQL["with_ascii"]], {"pattern": _like(text.lower())}))
        return self.page(*self._newest([_SQL["with_text"]], {"pattern": _pattern(text)}))

    def by_terms(self, terms: set[bytes]) -> MessagePage:
        """Mails that have all `terms`: among the newest ones, then by the index, from the newest
        window of time to the oldest."""
        values = _of_terms(terms)
        more, floor = self._newest([_SQL["with_terms"]], {**values, "most": _FIRST})
        found = _having(terms, more)
        if floor is None or len(found) > self._limit:
            return self.page(found)
        before, since = floor, self._values["since"]
        for lower in (*(first_id(time_of(floor) - window) for window in _WINDOWS), None):
            is_last = lower is None or bool(since and since >= lower)
            values |= {
                "before": before,
                "since": since if is_last else lower,
                "limit": self._limit + 1 - len(found),
            }
            try:
                more = self._found([_SQL["with_terms"]], values, _WHOLE_SECONDS, "best_by_index")
            except pg.QueryCanceled:
                more, lowest = self._newest([_SQL["with_terms"]], {**values, "since": since})
                return self.page([*found, *_having(terms, more)], lowest)
            found += _having(terms, more)
            if lower is None or is_last or len(found) > self._limit:
                break
            before = lower
        return self.page(found)

    def has(self, terms: set[bytes]) -> bool:
        """Whether any mail has all `terms`, wherever this page begins."""
        values = {**_of_terms(terms), "before": None}
        found = self._found([_SQL["with_terms"]], values, order="best_by_index")
        return bool(_having(terms, found))

    def _newest(
        self, parts: Sequence[LiteralString], values: Mapping[str, Any]
    ) -> tuple[list[LoggedMessage], uuid.UUID | None]:
        """What `parts` choose of the newest mails of the range, and the last of these mails where
        there are more."""
        values = {**self._values, **values}
        query: LiteralString = "\n".join((_SQL["candidates"], _SQL["in_range"], _SQL["floor"]))
        row = self._session.execute(query, values).fetchone()
        floor: uuid.UUID | None = row[0] if row else None
        try:
            return self._found(parts, {**values, "since": floor or values["since"]}), floor
        except pg.QueryCanceled as error:
            raise InvalidInput(
                f"This search was given up after {_SEARCH_SECONDS} seconds.",
                field="q",
                hint="Narrow it: by connection, by time, or with the whole message-id.",
            ) from error

    def _found(
        self,
        parts: Sequence[LiteralString],
        values: Mapping[str, Any],
        seconds: int = _SEARCH_SECONDS,
        order: str = "newest",
    ) -> list[LoggedMessage]:
        """One more than the limit where there are more. Raises pg.QueryCanceled."""
        chosen = (_SQL["candidates"], *self._conditions, *parts, _SQL[order])
        query: LiteralString = "\n".join(chosen)
        with self._session.transaction(), self._session.cursor(row_factory=dict_row) as cursor:
            # Compiling the plan of all partitions takes seconds, and running it a millisecond.
            cursor.execute(f"SET LOCAL jit = off; SET LOCAL statement_timeout = '{seconds}s'")
            ids = [row["id"] for row in cursor.execute(query, {**self._values, **values})]
            found: LiteralString = "\n".join((HEAD, _SQL["found"]))
            return [logged_message(row) for row in cursor.execute(found, {"ids": ids})]


def _of_terms(terms: set[bytes]) -> dict[str, Any]:
    return {"terms": array(map(str, search_terms.numbers(terms)))}


def _having(terms: set[bytes], found: Sequence[LoggedMessage]) -> list[LoggedMessage]:
    """Without mails that have another term of the same number."""
    return [one for one in found if terms <= search_terms.terms_of(one.headers)]


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _pattern(text: str) -> str:
    """A regular expression of Postgres for `text` in any case.

    It folds ASCII everywhere, other letters only where the database's locale knows them: those
    are written out in each of their cases.
    """
    return "".join(
        re.escape(c)
        if c.isascii()
        else "[" + "".join({v for v in (c, c.lower(), c.upper()) if len(v) == 1}) + "]"
        for c in text
    )
