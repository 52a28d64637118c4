"""The corpus of vendors' words, read."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORDS = Path(__file__).parent / "words.tsv"
_HTTP = re.compile(r"(\d{3}) ?(?:Retry-After=(\d+) ?)?(text/html )?(.*)")


@dataclass(frozen=True, slots=True)
class Line:
    """One answer; see README.md."""

    protocol: str
    provider: str
    answers: str
    words: str
    source: str
    expected: str
    delay: float | None

    @property
    def http(self) -> tuple[int, float | None, str, str]:
        """Status, Retry-After, content type and body of an answer by HTTP."""
        found = _HTTP.fullmatch(self.words)
        assert found is not None, self.words
        status, asked, page, body = found.groups()
        kind = "text/html" if page else "application/json"
        return int(status), float(asked) if asked else None, kind, body

    @property
    def json(self) -> dict[str, Any]:
        """The JSON of an answer by HTTP; empty where it has none."""
        _, _, kind, body = self.http
        return dict(json.loads(body)) if body and kind == "application/json" else {}

    def __str__(self) -> str:
        number = re.search(r"AADSTS\d+", self.words)
        return f"{self.protocol}, {self.answers}: {number[0] if number else self.words[:60]}"


def lines() -> list[Line]:
    with WORDS.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [
            Line(delay=float(delay) if (delay := row.pop("delay")) else None, **row) for row in rows
        ]
