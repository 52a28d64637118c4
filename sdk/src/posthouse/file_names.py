"""Names of files that strangers chose: safe to show and to save, and cut with their extension kept.

Without its extension a file is opened by the wrong program, or by none.
"""

from __future__ import annotations

import re
from typing import Final

#: A name is shown, and may become a file: no folder, no control, no direction marks in it.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f/\\\\\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]+"
)
#: Characters of a name in an event.
LONGEST_NAME: Final = 255
#: Octets. A name has at most 255 on most disks, and 143 where it is encrypted on them (eCryptfs);
#: ` (2)` may become part of it.
_LONGEST_ON_DISK: Final = 136
#: What is longer, or has spaces in it, is no extension but a part of a sentence.
_EXTENSION: Final = re.compile(r"\.[^\s.]{1,16}\Z")


def safe_name(text: str) -> str:
    """What a sender calls a file, as events say it: at most 255 characters."""
    name = _UNSAFE.sub("_", text).strip(" .")
    if len(name) <= LONGEST_NAME:
        return name
    extension = _extension(name)
    return name[: LONGEST_NAME - len(extension)] + extension


def cut_for_disk(name: str) -> str:
    """A name short enough for a disk, in UTF-8, with room for a number behind it."""
    octets = name.encode("utf-8", "replace")
    if len(octets) <= _LONGEST_ON_DISK:
        return name
    extension = _extension(name)
    room = _LONGEST_ON_DISK - len(extension.encode("utf-8", "replace"))
    return octets[:room].decode("utf-8", "ignore") + extension


def _extension(name: str) -> str:
    found = _EXTENSION.search(name)
    return "" if found is None else found[0]
