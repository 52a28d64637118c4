"""HTML of mails before a library reads it: what few octets of it would make thousands of times as
many elements, an element in thousands of others, or a tag with thousands of attributes."""

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
#: Open elements that a parser may look at for all tags together: an end tag that fits none, or a
#: paragraph, has it go through all of them. Some 0.2 seconds.
_MOST_LOOKS: Final = 50_000_000
#: What one element that is looked at here, for an end tag, counts beside what a parser looks at.
_OWN_LOOK: Final = 10
#: No fewer tags take so many, and none is shorter than that.
_FEW_TAGS: Final = 10_000
_SHORTEST_TAG: Final = 3
#: Attributes of one tag: a parser compares each with all before it. Browsers have room for more,
#: pages no use.
_MOST_ATTRIBUTES: Final = 500
_SHORTEST_ATTRIBUTE: Final = 2
#: As a parser cuts a tag, tags of ends too (HTML, section 13.2.5.32 and following).
_SPACE: Final = r" \t\n\r\f"
_ATTRIBUTE: Final = (
    rf"[{_SPACE}/]*+[^{_SPACE}/>][^{_SPACE}/>=]*+[{_SPACE}]*+"
    rf"""(?:=[{_SPACE}]*+(?:"[^"]*+"?+|'[^']*+'?+|[^{_SPACE}>]*+))?+"""
)
#: Up to the first tag that has more; each character is looked at once.
_FEW_ATTRIBUTES: Final = re.compile(
    rf"(?:[^<]*+<(?:/?[a-zA-Z][^{_SPACE}/>]*+(?:{_ATTRIBUTE}){{0,{_MOST_ATTRIBUTES}}}+"
    rf"[{_SPACE}/]*+(?:>|\Z)|(?!/?[a-zA-Z])))*+[^<]*+"
)
_NAMED: Final = re.compile(r"<(/?)([a-z][^\s/>]*+)", re.IGNORECASE)
_VOID: Final = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track",
     "wbr")
)  # fmt: skip
#: Elements that the next of their name ends, and what ends a row or a table with its cells.
_REPEATED: Final = ("p", "li", "dt", "dd", "option", "td", "th", "tr")
_CELLS: Final = ("td", "th")
_OF_TABLES: Final = (*_CELLS, "tr", "tbody", "thead", "tfoot")
_OF_LISTS: Final = ("p", "li", "dt", "dd")
_ENDED_WITH: Final = {
    "table": _OF_TABLES,
    **dict.fromkeys(("ul", "ol", "dl", "div", "blockquote", "center"), _OF_LISTS),
}


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
    """Cut off where elements lie more than `deepest` in each other, or where a parser would have
    looked at too many of those that are open, or at too many attributes of one tag: it takes the
    square of their number."""
    if len(html) > _MOST_ATTRIBUTES * _SHORTEST_ATTRIBUTE:
        few = _FEW_ATTRIBUTES.match(html)
        html = few[0] if few else html
    depth = 0
    # As nearly all mails have fewer tags than that, none is counted in them.
    for tag in _TAG.finditer(html) if html.count("<") > deepest else ():
        depth += -1 if tag[1] else 1
        if depth > deepest:
            html = html[: tag.start()]
            break
    if (
        len(html) <= _FEW_TAGS * _SHORTEST_TAG
        or sum(1 for _ in _ANY_TAG.finditer(html)) <= _FEW_TAGS
    ):
        return html
    return _without_many_looks(html)


def _without_many_looks(html: str) -> str:
    """No fewer elements count as open than are: where end tags are left out or stand in a wrong
    order it may be more, and an end tag that fits nothing ends nothing."""
    looks = 0
    opened: list[str] = []
    for tag in _NAMED.finditer(html):
        looks += len(opened)
        if looks > _MOST_LOOKS:
            return html[: tag.start()]
        name = tag[2].lower()
        if tag[1]:
            looks += _OWN_LOOK * _close(opened, name)
        elif name not in _VOID:
            if name == "tr" and opened and opened[-1] in _CELLS:
                opened.pop()
            if name in _REPEATED and opened and opened[-1] == name:
                opened.pop()
            opened.append(name)
    return html


def _close(opened: list[str], name: str) -> int:
    """How many elements were looked at."""
    with_it = _ENDED_WITH.get(name, ())
    count = len(opened)
    last = count - 1
    while last >= 0 and opened[last] in with_it:
        last -= 1
    if last >= 0 and opened[last] == name:
        del opened[last:]
    return count - last
