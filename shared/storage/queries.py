"""SQL lives in `sql/*.sql`, named and described; this reads it.

A file holds queries that begin with `-- name: what_it_does`; comment lines below describe it.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import LiteralString, cast

#: What `Queries.of` writes in another way for one.
_ONE = (
    (re.compile(r"= ANY\((%\(ids\)s::\w+\[\])\)"), r"= (\1)[1]"),
    (re.compile(r"= ANY\(ARRAY\((SELECT \w+ FROM \w+)\)\)"), r"= (\1)"),
    (re.compile(r"LIMIT ALL"), "LIMIT 1"),
)
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


class Queries:
    """The queries of one file: `Queries("ledger")["commit_batch"]`."""

    def __init__(self, file: str, **lists: str) -> None:
        """`lists` stand in the file's text for `{name}`: column lists made of a description."""
        text = (files("shared.storage") / "sql" / f"{file}.sql").read_text(encoding="utf-8")
        for name, columns in lists.items():
            text = text.replace(f"{{{name}}}", columns)
        parts = _NAME.split(text)[1:]
        self._texts = dict(zip(parts[::2], parts[1::2], strict=True))
        self._for_one: dict[str, LiteralString] = {}

    def __getitem__(self, name: str) -> LiteralString:
        # Only files of this package and names of columns are read here: as trusted as a literal.
        return cast(LiteralString, self._texts[name].strip())

    def of(self, name: str, count: int) -> LiteralString:
        """A query for so many `ids`, or elements of what is read up to `LIMIT ALL`.

        Of one it is written so that Postgres knows there is one. A plan that is kept for arrays of
        any length expects ten, for which it reads a table of some thousand rows (or one that was
        empty once: the ledger's of this morning) as a whole.
        """
        if count != 1:
            return self[name]
        if name not in self._for_one:
            text = self[name]
            for pattern, instead in _ONE:
                text = pattern.sub(instead, text)
            self._for_one[name] = text
        return self._for_one[name]
