"""HTML of mails before a library reads it: what few octets of it would make thousands of times as
many elements, or an element in thousands of others."""

from __future__ import annotations

import re
from typing import Final

#: Start tags that no end tag need follow do not count (HTML, section 13.1.2.4, and void elements).
_TAG: Final = re.compile(
    r"<(?:(/)[a-z]|(?!(?:p|li|dt|dd|tr|td|th|br|hr|img|input|meta|link|col|wbr|area|option)\b)[a-z])",
    re.IGNORECASE,
)
#: What a parser opens again in each block behind it until its end tag comes, once for each set of
#: attributes: 1,200 of them before 2,400 paragraphs are three million elements (HTML, section
#: 13.2.4.3, "the list of active formatting elements"). Of `a` at most one is open.
_FORMATTING: Final = re.compile(
    r"<(/?)(?:b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])", re.IGNORECASE
)
_ANY_TAG: Final = re.compile(r"<[/a-z]", re.IGNORECASE)
#: Elements that formatting may make, at some 240 octets each.
_MOST_FORMATTED: Final = 200_000


def without_formatting(html: str) -> str:
    """The same with `span` in place of bold, fonts and the like: the text is the same.

    Where it stands in a comment or an attribute it is replaced too, which nobody sees: what is a
    tag and what is not needs no second parser then.
    """
    return _FORMATTING.sub(r"<\1span", html)


def bounded_formatting(html: str) -> str:
    """Without formatting where it would make too many elements; else as it is."""
    formatting = sum(1 for one in _FORMATTING.finditer(html) if not one[1])
    if formatting * sum(1 for _ in _ANY_TAG.finditer(html)) <= _MOST_FORMATTED:
        return html
    return without_formatting(html)


def not_too_deep(html: str, deepest: int) -> str:
    """Cut off where elements lie more than `deepest` in each other: parsers take its square."""
    depth = 0
    for tag in _TAG.finditer(html):
        depth += -1 if tag[1] else 1
        if depth > deepest:
            return html[: tag.start()]
    return html
