"""HTML of mails before a library reads it: how deep its elements lie in each other."""

from __future__ import annotations

import re
from typing import Final

#: Start tags that no end tag need follow do not count (HTML, section 13.1.2.4, and void elements).
_TAG: Final = re.compile(
    r"<(?:(/)[a-z]|(?!(?:p|li|dt|dd|tr|td|th|br|hr|img|input|meta|link|col|wbr|area|option)\b)[a-z])",
    re.IGNORECASE,
)


def not_too_deep(html: str, deepest: int) -> str:
    """Cut off where elements lie more than `deepest` in each other: parsers take its square."""
    depth = 0
    for tag in _TAG.finditer(html):
        depth += -1 if tag[1] else 1
        if depth > deepest:
            return html[: tag.start()]
    return html
