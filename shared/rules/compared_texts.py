"""The texts that an expression compares its facts with, where they are written out in it.

Comments, and texts of which others stand inside, are none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from typing import Final

from shared.rules import regular_expressions

_TEXT: Final = regular_expressions.TEXT
_COMPARED: Final = re.compile(
    # fact == "…", fact in ["…", "…"], fact.startsWith("…"), headers["…"]
    r"(?<![.\w])(?P<fact>[a-z]+)(?:"
    rf"\s*[!=]=\s*(?P<behind>{_TEXT})"
    rf"|\s+in\s*\[\s*(?P<among>(?:(?:{_TEXT})\s*(?:,\s*)?)*)\]"
    rf"|\s*\.\s*(?:contains|startsWith|endsWith)\s*\(\s*(?P<part>{_TEXT})"
    rf"|\s*\[\s*(?P<key>{_TEXT})\s*\])"
    # "…" == fact, "…" in fact
    rf"|(?P<before>{_TEXT})\s*(?:[!=]=\s*|in\s+)(?P<later>[a-z]+)\b(?!\s*[.\[(])"
    rf"|{_TEXT}|{regular_expressions.COMMENT}",
    re.DOTALL,
)
_BOUND: Final = re.compile(r"\(\s*(\w+)\s*,")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_ONE: Final = re.compile(_TEXT, re.DOTALL)


def compared(expression: str, facts: Set[str], *, parts: bool = False) -> Iterator[tuple[str, str]]:
    """(fact, text) of each, also of `parts` of a text that are asked for; those with escapes other
    than of quotes and backslashes are left out, and facts whose names `exists` and `all` give to
    something else."""
    bound = set(_BOUND.findall(expression))
    for found in _COMPARED.finditer(expression):
        fact = found["fact"] or found["later"]
        if fact not in facts or fact in bound:
            continue
        texts = found["behind"] or found["among"] or found["before"] or found["key"]
        if texts is None and parts:
            texts = found["part"]
        for text in _ONE.findall(texts or ""):
            if (value := value_of(text)) is not None:
                yield fact, value


def value_of(text: str) -> str | None:
    """What a text says; None where it has escapes other than of quotes and backslashes."""
    is_raw = text[0] in "rR"
    quoted = text[1:] if is_raw else text
    quotes = 3 if len(quoted) >= 6 and quoted[:3] in ('"""', "'''") else 1
    inside = quoted[quotes:-quotes]
    if is_raw or "\\" not in inside:
        return inside
    if any(one not in "\\\"'" for one in _ESCAPED.findall(inside)):
        return None
    return _ESCAPED.sub(r"\1", inside)
