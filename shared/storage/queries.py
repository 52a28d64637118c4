"""SQL lives in `sql/*.sql`, named and described; this reads it.

A file holds queries that begin with `-- name: what_it_does`; comment lines below describe it.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import LiteralString, cast

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

    def __getitem__(self, name: str) -> LiteralString:
        # Only files of this package and names of columns are read here: as trusted as a literal.
        return cast(LiteralString, self._texts[name].strip())
