"""What keeps mails from being lost, doubled or stranded, and the tests that fail without it.

A protection is a condition, an `except`, an order of two statements, a fence or a bound. Each part
of the product has a list of its own here, `PART.toml`, with one table for each protection:

    [quit-after-commit]
    module = "services/fetcher/settling.py"
    protects = "A POP3 server removes at QUIT what was retrieved and is not committed."
    remove = '''
        if not run.report.committed:
            return
    '''
    replace = ""
    tests = ["tests/integration/test_pop3_confirming.py::test_a_mail_is_not_confirmed"]

- the table's name: small letters, digits and hyphens, unique in its file
- `module`: a file of the product, from the root of the tree
- `protects`: one plain sentence: what is lost, doubled or stranded without it
- `remove`: the exact text in the module, where it stands once (whole lines, or a part of one; in
  a literal string of three quotes the line end behind the opening quotes does not count)
- `replace`: what stands in its place; nothing, where it is left out
- `tests`: node ids or files of pytest. At least one of them fails without the protection; the
  fewer and the faster, the better

`make protections NAMES="fetcher decryptor.lease-before-commit"` removes each in a copy of the tree
and runs its tests (`tests.protections.__main__`). `tests/unit/test_protections.py` holds the lists
to the tree, in a second.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Protection:
    """`part` and `name`: its file, without the ending, and its table there."""

    part: str
    name: str
    module: str
    protects: str
    remove: str
    tests: Sequence[str]
    replace: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.part}.{self.name}"

    def removed_from(self, text: str) -> str:
        """The module's `text` without it. Raises ValueError where it does not stand there once."""
        if (times := text.count(self.remove)) != 1:
            raise ValueError(f"{self.full_name}: stands {times} times in {self.module}")
        return text.replace(self.remove, self.replace)


def protections(folder: Path = FOLDER) -> list[Protection]:
    """Of every part. Raises ValueError for a table that is not as described above."""
    return [
        _read(file.stem, name, table)
        for file in sorted(folder.glob("*.toml"))
        for name, table in tomllib.loads(file.read_text(encoding="utf-8")).items()
    ]


def _read(part: str, name: str, table: object) -> Protection:
    if not isinstance(table, dict):
        raise ValueError(f"{part}.{name}: not a table")  # noqa: TRY004 (what is read is wrong)
    known = {field.name for field in fields(Protection)} - {"part", "name"}
    wanted = known - {"replace"}
    if unknown := table.keys() - known:
        raise ValueError(f"{part}.{name}: unknown {sorted(unknown)}")
    if missing := {key for key in wanted if not table.get(key)}:
        raise ValueError(f"{part}.{name}: no {sorted(missing)}")
    if not isinstance(table["tests"], list):
        raise ValueError(f"{part}.{name}: `tests` is a list")  # noqa: TRY004
    return Protection(part, name, **table)
