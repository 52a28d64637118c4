"""The names of connections in an expression: which there are, and followed where one gets another.

Only where `connection` is compared with a text that is written out, or looked for in a list of
them: what a pattern means by a name nobody can say. What is not followed is told.
"""

from __future__ import annotations

import re
from typing import Final

from shared.rules import regular_expressions
from shared.rules.compared_texts import compared, value_of
from shared.rules.expression import evaluate
from shared.rules.facts import RuleFacts

_TEXT: Final = regular_expressions.TEXT
_NAME: Final = r"(?<![.\w])connection\b"
_NAMING: Final = re.compile(
    rf"{_NAME}\s*[!=]=\s*(?P<behind>{_TEXT})"
    rf"|{_NAME}\s+in\s*\[(?P<among>\s*(?:(?:{_TEXT})\s*,?\s*)*)\]"
    rf"|(?P<before>{_TEXT})\s*[!=]=\s*connection\b(?!\s*[.\[(])"
    rf"|{_TEXT}|{regular_expressions.COMMENT}",
    re.DOTALL,
)
#: What asks of a part of the name, with a text that is written out.
_ASKING: Final = re.compile(
    rf"{_NAME}\s*\.\s*(?:startsWith|endsWith|contains|matches)\s*\(\s*(?:{_TEXT})\s*\)"
    rf"|{_NAMING.pattern}|{_NAME}",
    re.DOTALL,
)
_BOUND: Final = re.compile(r"\(\s*connection\s*,")


def named(expression: str) -> list[str]:
    """The names that `connection` is compared with."""
    return [name for _, name in compared(expression, {"connection"})]


def renamed(expression: str, before: str, after: str) -> str:
    """The expression where the connection `before` is called `after`."""
    if "connection" not in expression or _BOUND.search(expression):
        return expression

    def of_text(found: re.Match[str]) -> str:
        return _written(after) if value_of(found[0]) == before else found[0]

    def of_naming(found: re.Match[str]) -> str:
        for group in ("behind", "among", "before"):
            if found[group] is not None:
                start, end = (at - found.start() for at in found.span(group))
                texts = re.sub(_TEXT, of_text, found[group], flags=re.DOTALL)
                return found[0][:start] + texts + found[0][end:]
        return found[0]

    return _NAMING.sub(of_naming, expression)


def not_followed(expression: str, before: str, after: str) -> list[str]:
    """What of the expression asks for the name of a connection in another way, and may answer
    otherwise where `before` is called `after`: calls whose answers differ, or `connection`."""
    if _BOUND.search(expression):
        return ["connection"]
    found = []
    for one in _ASKING.finditer(expression):
        asked = one[0]
        is_call = asked.startswith("connection") and asked.endswith(")")
        if asked == "connection" or (is_call and _differ(asked, before, after)):
            found.append(asked)
    return list(dict.fromkeys(found))


def _differ(call: str, before: str, after: str) -> bool:
    first, second = (evaluate(call, RuleFacts(connection=name))[0] for name in (before, after))
    return first is not second


def _written(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
