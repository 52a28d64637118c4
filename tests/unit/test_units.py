"""One word and one unit for sizes (docs/glossary.md): octets in code, kB and KiB for people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
PRODUCT = ("cli", "services", "shared", "sdk/src", "bench")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
#: As a type (`-> bytes`, `bytes |`) it has no such word before it.
BYTES = re.compile(r"(?:\d|\}|\b(?:the|its|their|many|raw)) bytes\b(?![\w`(=|\]-])")
KB = re.compile(r"(?<![\w+/])KB(?![\w+/=])")


def prose() -> list[Path]:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "sdk").glob("*.md")]
    return [path for path in pages if path != GLOSSARY and path.name != "CHANGELOG.md"]


def sources() -> list[Path]:
    return [
        path
        for folder in PRODUCT
        for ending in ("py", "html", "js", "sql")
        for path in (ROOT / folder).rglob(f"*.{ending}")
        if "migrations" not in path.parts  # a released one never changes
    ]


@pytest.mark.parametrize("wrong", [BYTES, KB], ids=["bytes", "KB"])
def test_sizes_have_one_word_and_one_unit(wrong: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in [*prose(), *sources()]
        for match in wrong.finditer(
            CODE.sub("", path.read_text("utf-8"))
            if path.suffix == ".md"
            else path.read_text("utf-8")
        )
    ]
    assert not found
