"""Armours in a text with markup: programs in browsers, and editors, put tags and entities there.

What is found is named and never opened: whoever wrote the markup around it could carry the text
away (EFAIL). So it need only be told what lies there, from its beginning.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from shared.mail.region import Region

#: What lies between two words of a first line.
GAP: Final = rb"(?:[ \t\r\n]|\xc2?\xa0|&nbsp;?|&#(?:160|32|[xX][aA]0|[xX]20);?|<[^<>]{0,200}>)"
_FIRST_LINE: Final = re.compile(
    rb"BEGIN%b{1,16}+(?:(PGP)%b{1,16}+MESSAGE|(?:CMS|PKCS7))(?![A-Za-z0-9])" % (GAP, GAP)
)
_BREAK: Final = re.compile(r"<(?:br|/?(?:p|div|li|tr|td|pre|blockquote))\b[^<>]*>", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^<>]*>")
#: Octets of markup that are read behind a first line, and first lines that are looked at.
_LOOK: Final = 1 << 14
_MOST: Final = 16


class MarkedUp(NamedTuple):
    """The beginning of an armour's base64 without the markup; `is_openpgp`, or else CMS."""

    is_openpgp: bool
    base64: bytes


def armours_in(text: Region) -> Iterator[MarkedUp]:
    """The armours of messages whose first lines stand in a text, at most 16 of them."""
    buffer, position, end = text
    if buffer.find(b"BEGIN", position, end) < 0:
        return
    for _ in range(_MOST):
        found = _FIRST_LINE.search(buffer, position, end)
        if found is None:
            return
        position = found.end()
        behind = buffer[position : min(end, position + _LOOK)].decode("latin-1")
        yield MarkedUp(found[1] is not None, _base64(behind))


def _base64(behind: str) -> bytes:
    """The lines behind a first line up to the last one, but for header lines."""
    shown = html.unescape(_TAG.sub("", _BREAK.sub("\n", behind)))
    lines = shown.splitlines()[1:]
    kept: list[str] = []
    for line in lines:
        if "END" in line and "--" in line:
            break
        if ":" not in line:
            kept.append(line.strip(" \t\xa0\xc2>"))
    return "\n".join(kept).encode("ascii", "ignore")
