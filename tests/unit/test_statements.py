"""The statements that the code asks for by name, and those in the files: they are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from shared.storage.messages import MessageState

STORAGE = Path(__file__).parents[2] / "shared/storage"


def names_of(file: str) -> set[str]:
    text = (STORAGE / "sql" / f"{file}.sql").read_text(encoding="utf-8")
    return set(re.findall(r"(?m)^-- name: (\w+)$", text))


def modules() -> Iterator[tuple[Path, str, list[tuple[str, str]]]]:
    """Each module with statements: its text, and (variable, file of SQL) for what it reads."""
    for path in STORAGE.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        yield path, text, re.findall(r'(?m)^(\w+)(?:: Final)? = Queries\(\s*"(\w+)"', text)


def test_every_statement_that_is_used_exists() -> None:
    missing = []
    for path, text, read in modules():
        for variable, file in read:
            used = set(re.findall(rf'\b{variable}(?:\[|\.of\()"(\w+)"', text))
            missing += [
                f"{path.name}: {name} in {file}.sql" for name in sorted(used - names_of(file))
            ]
    assert not missing


def test_every_statement_is_asked_for() -> None:
    """By its name, in a module that reads its file."""
    states = {state.value for state in MessageState}  # asked for by the state that is looked for
    named = {path.stem: set(states) for path in (STORAGE / "sql").glob("*.sql")}
    for _, text, _ in modules():
        for file in re.findall(r'Queries\(\s*"(\w+)"', text):
            named[file] |= set(re.findall(r'["\'](\w[\w-]*)["\']', text))
    unused = [
        f"{name} in {file}.sql" for file in named for name in sorted(names_of(file) - named[file])
    ]
    assert not unused
