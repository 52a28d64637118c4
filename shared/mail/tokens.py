"""Tokens of structured fields (RFC 5322 section 3.2), with delimiters that have no partner."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from shared.mail.encoded_words import WORD_START, end_of_word
from shared.mail.findings import FindingKind

_NEXT = re.compile(
    rb"(?P<space>[ \t\r\n\x00]++)|(?P<special>[\"(<>,;:])|(?P<eq>=\?)"
    rb"|(?P<text>(?:@\[[^\[\]\s<>]{0,64}\]|[^\s\x00\"(<>,;:=]|=(?!\?))++)|(?P<other>.)",
    re.DOTALL,
)
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_ANGLE = re.compile(rb'<(?:"(?:[^"\\]|\\.)*+"|\((?:[^()\\]|\\.)*+\)|[^<>"(])*+>', re.DOTALL)
_UNCLOSED_ANGLE = re.compile(rb"<[^<>,;\"]*+")
#: Behind so many angle brackets without a partner none is looked for: each look may take all.
_MOST_UNCLOSED = 32


class Token(NamedTuple):
    """`kind`: `space`, `quoted`, `comment`, `word` (encoded), `text`, `<` (to its `>`), `gap` (a
    delimiter without a partner), or one of the characters `,`, `;`, `:`."""

    kind: str
    start: int
    end: int


def tokens(value: bytes, say: Callable[[FindingKind, int, str], None]) -> Iterator[Token]:
    """Every octet of a value in one token; a delimiter without a partner is said."""
    closing = _parentheses(value) if b"(" in value else {}
    last_quote = value.rfind(b'"')
    unclosed = position = 0
    while position < len(value):
        match = _NEXT.match(value, position)
        if match is None:
            return
        kind, start, end = match.lastgroup or "", position, match.end()
        position = end
        if kind in ("space", "text"):
            yield Token(kind, start, end)
        elif kind == "eq":
            word = WORD_START.match(value, start)
            position = end_of_word(value, start, word) if word else -1
            if position < 0:
                position = end
                yield Token("text", start, end)
            else:
                yield Token("word", start, position)
        elif kind != "special":
            yield Token("text", start, end)
        elif (char := match[0]) in (b",", b";", b":"):
            yield Token(char.decode("ascii"), start, end)
        elif char == b'"':
            quoted = _QUOTED.match(value, start) if start < last_quote else None
            if quoted is None:
                say(FindingKind.UNBALANCED_DELIMITER, start, '"')
                last_quote = start  # no later one has a partner either
                yield Token("gap", start, end)
            else:
                position = quoted.end()
                yield Token("quoted", start, position)
        elif char == b"(":
            position = closing.get(start, -1) + 1
            if position == 0:
                position = end
                say(FindingKind.UNBALANCED_DELIMITER, start, "(")
                yield Token("gap", start, end)
            else:
                yield Token("comment", start, position)
        elif char == b"<":
            angle = _ANGLE.match(value, start) if unclosed < _MOST_UNCLOSED else None
            if angle is None:
                unclosed += 1
                say(FindingKind.UNBALANCED_DELIMITER, start, "<")
                angle = _UNCLOSED_ANGLE.match(value, start)
                assert angle is not None
            position = angle.end()
            yield Token("<", start, position)
        else:
            say(FindingKind.UNBALANCED_DELIMITER, start, ">")
            yield Token("gap", start, end)


def _parentheses(value: bytes) -> dict[int, int]:
    """Offsets of opening parentheses to those of the closing ones: comments nest."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    position = 0
    for match in re.finditer(rb"\\.|[()]", value, re.DOTALL):
        position = match.start()
        if match[0] == b"(":
            opened.append(position)
        elif match[0] == b")" and opened:
            pairs[opened.pop()] = position
    return pairs
