"""docs/threat-model.md names the tests that try to break it: each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"`((?:sdk/)?tests/[\w/]+\.py)::(test_\w+)`")


def named() -> list[tuple[str, str]]:
    return _NAMED.findall((ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8"))


def test_every_test_that_is_named_exists() -> None:
    missing = []
    for path, name in named():
        file = ROOT / path
        tree = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.Module([], [])
        functions = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        if name not in functions:
            missing.append(f"{path}::{name}")
    assert named()
    assert not missing
