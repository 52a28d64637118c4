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

    def __init__(self, file: str) -> None:
        text = (files("shared.storage") / "sql" / f"{file}.sql").read_text(encoding="utf-8")
        parts = _NAME.split(text)[1:]
        self._texts = dict(zip(parts[::2], parts[1::2], strict=True))

    def __getitem__(self, name: str) -> LiteralString:
        # Only files of this package are read here, so the text is as trusted as a literal.
        return cast(LiteralString, self._texts[name].strip())
