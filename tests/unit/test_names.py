"""One name, one thing: a reader or an editor that goes to a class finds the one that is meant."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]


def classes_below(*folders: str) -> dict[str, list[str]]:
    found = defaultdict(list)
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def test_no_two_classes_of_the_product_bear_one_name() -> None:
    twice = {
        n: places for n, places in classes_below("cli", "services", "shared").items() if places[1:]
    }
    assert not twice


def test_no_two_classes_of_the_sdk_bear_one_name() -> None:
    """Its names are those that handlers import: some are what the product calls the same thing."""
    assert not {n: places for n, places in classes_below("sdk/src").items() if places[1:]}
