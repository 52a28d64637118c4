"""The new part of a reply: a guess by a kept library (quotequail), of a bounded piece of its text.

The library asks some forty expressions about each line. It is given a skeleton instead: of a run of
lines that cannot say anything about a quote one letter, of quoted lines their mark alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import quotequail

_MOST_LINES: Final = 2000
#: Lines of the skeleton, and characters of a line in it.
_MOST_KEPT: Final = 40
_LONGEST: Final = 160
#: The library's expressions take the square of how often one of these stands in a line.
_MOST_MARKS: Final = 3
#: How a line ends that introduces a quote or begins one (`… wrote:`, `---`, `___`, `<a@b>`) …
_ENDS: Final = tuple(":->_：")
#: … and how a header field begins that was copied into the text (`From: `, `*Von:* `).
_FIELD: Final = re.compile(r"\*?[-\w ]{1,40}:")
_ANYTHING: Final = "x"
_NOTHING: Final = ("", _ANYTHING)
#: As many lines make a quote to the library.
_QUOTE: Final = [">", ">", ">"]
#: Quoted lines and, up to one empty line before, `… <a@b> ha scritto:`, or a time of the day behind
#: the address, where Chinese, Turkish and Hungarian have it.
_INTRODUCED: Final = re.compile(
    r"(?:^(?!>)[^\n]{0,160}[<(][^<>()\s]{1,100}@[^<>()\s]{1,100}[>)]"
    r"(?:[^<>\n]{0,40}\d[:.]\d\d[^<>:：\n]{0,40}|[^<>:：\n]{0,20})[:：]"
    r"[ \t]*\n(?:[ \t]*\n)?)?"
    r"(?:^>[^\n]*\n)+",
    re.MULTILINE,
)
_BLANK_LINES: Final = re.compile(r"\n{3,}")
_BLANK_START: Final = re.compile(r"\A\s*(?:\n|\Z)")


def new_part(text: str) -> str:
    """What was written anew in a reply with this text (LF line ends).

    Empty where nothing that is quoted was found, where all is, or where it is too much to look at.
    """
    lines = text.strip().split("\n")
    if len(lines) > _MOST_LINES:
        return ""
    kept, starts = skeleton(lines)
    is_cut = len(kept) > _MOST_KEPT
    first = next((n for n, seen in enumerate(kept) if seen not in _NOTHING), len(kept))
    found = quotequail.unwrap("\n".join(kept[first:_MOST_KEPT])) if first < len(kept) else None
    if found is None:
        if is_cut or ">" not in kept:
            return ""
        return _unquoted(lines)
    top, bottom = first + _count(found.get("text_top")), _count(found.get("text_bottom"))
    if bottom and is_cut:
        return ""
    written = lines[: starts[top]]
    if bottom:
        written += ["", *lines[starts[len(kept) - bottom] :]]
    return _unquoted(written)


def skeleton(lines: Sequence[str]) -> tuple[list[str], list[int]]:
    """(the lines that the library is to see, for each the number of the first it stands for)."""
    kept: list[str] = []
    starts: list[int] = []
    for number, line in enumerate(lines):
        if line[:1] == ">":
            if kept[-3:] == _QUOTE:
                continue
            seen = ">"
        elif not line or line.isspace():
            seen = ""
        elif _is_short(line) and any(map(_is_hint, lines[number : number + 2])):
            seen = line.strip()  # with the one before: what introduces a quote may be wrapped
        else:
            seen = _ANYTHING
        if kept and seen == kept[-1] and seen in _NOTHING:
            continue
        kept.append(seen)
        starts.append(number)
        if len(kept) > _MOST_KEPT:
            break
    return kept, starts


def _is_hint(line: str) -> bool:
    return line[:1] != ">" and (line.rstrip().endswith(_ENDS) or _FIELD.match(line) is not None)


def _is_short(line: str) -> bool:
    return (
        len(line) <= _LONGEST and line.count("<") <= _MOST_MARKS and line.count("@") <= _MOST_MARKS
    )


def _count(text: str | None) -> int:
    return len(text.split("\n")) if text else 0


def _unquoted(lines: Sequence[str]) -> str:
    """Without quoted lines, and what introduces them in a language that the library does not know:
    a line that ends in an address and a colon."""
    written = _INTRODUCED.sub("\n", "\n".join([*lines, ""]))
    # A first line keeps its indent: ` >` is no quote here, and must not look like one.
    return _BLANK_START.sub("", _BLANK_LINES.sub("\n\n", written)).rstrip()
