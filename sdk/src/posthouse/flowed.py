"""Paragraphs of a text whose lines were broken to be joined again (format=flowed, RFC 3676).

Thunderbird, Apple Mail and others write such texts. With DelSp a word may be broken anywhere, as
programs do with Chinese and Japanese: only the joined text has the words of its author.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: The line above a signature stands alone, although it ends in a space (section 4.3).
_SIGNATURE: Final = "-- "


def is_flowed(parameters: Mapping[str, str]) -> bool:
    """`parameters` of the Content-Type, their names in lower case."""
    return parameters.get("format", "").lower() == "flowed"


def joined(text: str, parameters: Mapping[str, str]) -> str:
    """A flowed text (LF line ends) with one line a paragraph; what is quoted keeps its marks."""
    delete_space = parameters.get("delsp", "").lower() == "yes"
    pieces: list[str] = []
    depth_before, goes_on = 0, False
    for line in text.split("\n"):
        unmarked = line.lstrip(">")
        depth = len(line) - len(unmarked)
        content = unmarked.removeprefix(" ")  # stuffed by the sender (section 4.4)
        is_signature = content == _SIGNATURE
        if not goes_on or depth != depth_before or is_signature:
            # What is not quoted and begins with a mark stays stuffed: it must not look quoted.
            is_apart = bool(content) if depth else content.startswith(">")
            pieces += ["\n", ">" * depth, " " if is_apart else ""]
        depth_before, goes_on = depth, content.endswith(" ") and not is_signature
        pieces.append(content[:-1] if goes_on and delete_space else content)
    return "".join(pieces[1:])
