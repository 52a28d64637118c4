"""Folder names: what people write (`Main/Sub`, `Entwürfe`) and what the server calls them.

The server's delimiter and personal prefix come from LIST and NAMESPACE (RFC 2342); names are in
modified UTF-7 (RFC 3501 section 5.1.3). INBOX is case-insensitive and never localised.
"""

from __future__ import annotations

import difflib
import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imapclient import imap_utf7

from shared.mailbox.base import Folder
from shared.mailbox.imap_session import Untagged

#: RFC 6154 section 2, and what older servers call them.
_MOST_FOLDERS = 20_000
_SPECIAL_USES = ("All", "Archive", "Drafts", "Flagged", "Junk", "Sent", "Trash")


@dataclass(frozen=True, slots=True)
class Naming:
    """How this server builds names: `delimiter` is empty where it has no levels."""

    delimiter: str = "/"
    prefix: str = ""  # of the personal namespace, with its delimiter: "INBOX."

    def encode(self, folder: str) -> bytes | None:
        """The server's name for `folder`; None where no folder can have this name here."""
        levels = _normal(folder).split("/")
        if not folder or (len(levels) == 1 and levels[0].upper() == "INBOX"):
            return b"INBOX"
        if self.delimiter and any(self.delimiter in level for level in levels):
            return None
        if len(levels) > 1 and not self.delimiter:
            return None
        if levels[0].upper() == "INBOX":
            return bytes(imap_utf7.encode(self.delimiter.join(["INBOX", *levels[1:]])))
        return bytes(imap_utf7.encode(self.prefix + self.delimiter.join(levels)))

    def decode(self, name: bytes) -> str:
        """What people call the folder that the server calls `name`."""
        text = decode_name(name)
        if text.upper() == "INBOX":
            return "INBOX"
        if self.prefix and text.startswith(self.prefix) and len(text) > len(self.prefix):
            text = text[len(self.prefix) :]
        if self.delimiter and self.delimiter != "/":
            text = text.replace(self.delimiter, "/")
        return text


@dataclass(frozen=True, slots=True)
class ListedFolder:
    """A line of LIST: the server's name and what it means."""

    name: bytes
    folder: Folder


def decode_name(name: bytes) -> str:
    """Modified UTF-7, or whatever a server sends in its place."""
    try:
        return _normal(str(imap_utf7.decode(name)))
    except (UnicodeError, ValueError):
        return _normal(name.decode("utf-8", "replace"))


def naming(listed: Iterable[Untagged], namespaces: Iterable[Untagged]) -> Naming:
    """From the answers to `LIST "" ""` and NAMESPACE."""
    delimiter, prefix = "/", ""
    for line in listed:
        match line.values():
            case (tuple(), bytes() as found, *_):
                delimiter = found.decode("ascii", "replace")
            case (tuple(), None, *_):
                delimiter = ""
    for line in namespaces:
        match line.values():
            case (((bytes() as first, found, *_), *_), *_):
                prefix = decode_name(first)
                if isinstance(found, bytes):
                    delimiter = found.decode("ascii", "replace")
    return Naming(delimiter, prefix)


def listed_folders(lines: Iterable[Untagged], names: Naming) -> list[ListedFolder]:
    """From the answers to LIST; lines that make no sense are left out."""
    found: dict[bytes, ListedFolder] = {}
    for line in itertools.islice(lines, _MOST_FOLDERS):
        match line.values():
            case (tuple() as attributes, _, (bytes() | int()) as raw, *_):
                name = raw if isinstance(raw, bytes) else str(raw).encode()
                words = {
                    bytes(a).decode("ascii", "replace").lstrip("\\").lower()
                    for a in attributes
                    if isinstance(a, bytes)
                }
                special = next((use for use in _SPECIAL_USES if use.lower() in words), None)
                selectable = not words & {"noselect", "nonexistent"}
                found[name] = ListedFolder(name, Folder(names.decode(name), selectable, special))
    return sorted(found.values(), key=lambda item: item.folder.name.casefold())


def near_matches(folder: str, folders: Sequence[Folder]) -> list[str]:
    """Names that somebody may have meant: same but for case, same last level, or similar."""
    names = [item.name for item in folders if item.selectable]
    wanted = _normal(folder).casefold()
    last = wanted.rpartition("/")[2]
    same = [
        n
        for n in names
        if n.casefold() == wanted or n.casefold().replace(".", "/") == wanted.replace(".", "/")
    ]
    level = [n for n in names if n.casefold().rpartition("/")[2] == last]
    folded = {n.casefold(): n for n in names}
    similar = [folded[n] for n in difflib.get_close_matches(wanted, folded, n=3, cutoff=0.6)]
    return list(dict.fromkeys([*same, *level, *similar]))[:5]


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)
