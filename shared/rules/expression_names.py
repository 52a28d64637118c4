"""The names of connections in an expression: followed where a connection gets another name.

Only where `connection` is compared with a text that is written out, or looked for in a list of
them: what a pattern means by a name nobody can say.
"""

from __future__ import annotations

import re
from typing import Final

from shared.rules import regular_expressions

_TEXT: Final = regular_expressions.TEXT
_NAME: Final = r"(?<![.\w])connection\b"
_NAMING: Final = re.compile(
    rf"{_NAME}\s*[!=]=\s*(?P<behind>{_TEXT})"
    rf"|{_NAME}\s+in\s*\[(?P<among>\s*(?:(?:{_TEXT})\s*,?\s*)*)\]"
    rf"|(?P<before>{_TEXT})\s*[!=]=\s*connection\b(?!\s*[.\[(])"
    rf"|{_TEXT}|{regular_expressions.COMMENT}",
    re.DOTALL,
)
_BOUND: Final = re.compile(r"\(\s*connection\s*,")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def renamed(expression: str, before: str, after: str) -> str:
    """The expression where the connection `before` is called `after`."""
    if "connection" not in expression or _BOUND.search(expression):
        return expression

    def of_text(found: re.Match[str]) -> str:
        return _written(after) if _value(found[0]) == before else found[0]

    def of_naming(found: re.Match[str]) -> str:
        for group in ("behind", "among", "before"):
            if found[group] is not None:
                start, end = (at - found.start() for at in found.span(group))
                texts = re.sub(_TEXT, of_text, found[group], flags=re.DOTALL)
                return found[0][:start] + texts + found[0][end:]
        return found[0]

    return _NAMING.sub(of_naming, expression)


def _value(text: str) -> str | None:
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


def _written(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
