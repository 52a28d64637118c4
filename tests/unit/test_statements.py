"""Every statement that the code asks for by name is in the file that it is asked of."""

from __future__ import annotations

import re
from pathlib import Path

STORAGE = Path(__file__).parents[2] / "shared/storage"


def test_every_statement_that_is_used_exists() -> None:
    missing = []
    for path in STORAGE.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for variable, file in re.findall(r'(?m)^(\w+)(?:: Final)? = Queries\(\s*"(\w+)"', text):
            statements = (STORAGE / "sql" / f"{file}.sql").read_text(encoding="utf-8")
            there = set(re.findall(r"(?m)^-- name: (\w+)$", statements))
            used = set(re.findall(rf'\b{variable}(?:\[|\.of\()"(\w+)"', text))
            missing += [f"{path.name}: {name} in {file}.sql" for name in sorted(used - there)]
    assert not missing
