"""Folder names: what the server calls a folder, and what people read and write in its place.

A name on the stream is in modified UTF-7 (RFC 3501 section 5.1.3), in UTF-8 (RFC 9051 section 5.1,
and servers that never learnt the other one), or in neither. It is shown with `/` between the levels
and without the prefix of the personal namespace (RFC 2342). No two folders are shown alike:

- The inbox is `INBOX`, whatever its case. A folder below it keeps that first level, so that
  `INBOX.Inbox` is `INBOX/Inbox` and not the inbox.
- Where personal folders have a prefix, folders outside of it (shared ones, other people's) begin
  with `/`: `/Support` is the server's `Support`, while `Support` is its `INBOX.Support`.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imapclient import imap_utf7

from shared.mailbox.base import Folder
from shared.mailbox.imap.session import Untagged

_MOST_FOLDERS = 20_000
#: RFC 6154 section 2, and what older servers call them.
_SPECIAL_USES = ("All", "Archive", "Drafts", "Flagged", "Junk", "Sent", "Trash")
_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")
#: Namespaces that hold no mail folders of anybody, as RFC 2342 shows them: not asked for.
_NO_MAIL = (b"#news", b"#ftp", b"#mh", b"~")


@dataclass(frozen=True, slots=True)
class Naming:
    """How this server builds names: `delimiter` is empty where it has no levels."""

    delimiter: str = "/"
    prefix: str = ""  # of the personal namespace, with its delimiter: "INBOX."
    #: Prefixes of all other namespaces as they are on the stream; "" is not among them.
    others: tuple[bytes, ...] = ()

    def for_people(self, name: bytes, delimiter: str | None = None) -> str:
        """What people call the folder that the server calls `name`.

        `delimiter` is the one of its line in LIST, where it is not that of the personal namespace.
        """
        text = decode_name(name)
        if text.upper() == "INBOX":
            return "INBOX"
        between = self.delimiter if delimiter is None else delimiter
        if between not in ("", "/") and "/" in text:
            return "/" + text  # levels would appear where there are none
        levelled = text.replace(between, "/") if between else text
        if not self.prefix:
            return levelled
        if not self._is_personal(text):
            return "/" + levelled
        below = levelled[len(self.prefix) :]
        return levelled if _first_level(below) == "INBOX" else below

    def likely(self, folder: str) -> bytes | None:
        """What the server probably calls `folder`: to ask for, not to believe.

        None where no folder of this server can be shown like that.
        """
        full = folder[1:] if folder.startswith("/") else folder
        if self.delimiter == "" and "/" in full:
            return None
        if self.delimiter not in ("", "/") and self.delimiter in full:
            return None
        if full is folder and _first_level(full) != "INBOX":
            full = self.prefix + full
        return bytes(imap_utf7.encode(full.replace("/", self.delimiter or "/")))

    def _is_personal(self, text: str) -> bool:
        if _first_level(self.prefix.replace(self.delimiter, "/")) == "INBOX":  # in any case
            return text[: len(self.prefix)].upper() == self.prefix.upper()
        return text.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class ListedFolder:
    """A line of LIST: the server's name and what it means."""

    name: bytes
    folder: Folder
    #: It is in the personal namespace.
    personal: bool = True


def decode_name(name: bytes) -> str:
    """Modified UTF-7, or whatever a server sends in its place; never two names to one text."""
    try:
        if not name.isascii():
            return name.decode("utf-8")
        if _SHIFTED.sub(b"", name).count(b"&") == 0:
            return _SHIFTED.sub(_unshifted, name).decode("utf-8")
    except (UnicodeError, binascii.Error):
        pass
    return name.decode("ascii", "backslashreplace")


def _unshifted(match: re.Match[bytes]) -> bytes:
    """The characters of one shift sequence, in UTF-8."""
    if not match[1]:
        return b"&"
    padded = match[1].replace(b",", b"/") + b"=" * (-len(match[1]) % 4)
    return base64.b64decode(padded).decode("utf-16-be").encode()


def naming(listed: Iterable[Untagged], namespaces: Iterable[Untagged]) -> Naming:
    """From the answers to `LIST "" ""` and NAMESPACE."""
    delimiter, prefix = "/", ""
    others: list[bytes] = []
    for line in listed:
        delimiter = _delimiter_of(line.values(), delimiter)
    for line in namespaces:
        kinds = line.values()[:3]  # personal, other users', shared
        found = [entry for kind in kinds if isinstance(kind, tuple) for entry in kind]
        match kinds:
            case (((bytes() as first, between, *_), *_), *_):
                prefix = decode_name(first)
                delimiter = between.decode("ascii", "replace") if between else delimiter
        for entry in found:
            match entry:
                case (bytes() as name, *_) if name and decode_name(name) != prefix:
                    others.append(name)
    asked = [name for name in dict.fromkeys(others) if not name.startswith(_NO_MAIL)]
    return Naming(delimiter, prefix, tuple(asked))


def _delimiter_of(values: Sequence[object], otherwise: str) -> str:
    match values:
        case (tuple(), bytes() as found, *_):
            return found.decode("ascii", "replace")
        case (tuple(), None, *_):
            return ""
    return otherwise


def listed_folders(lines: Iterable[Untagged], names: Naming) -> list[ListedFolder]:
    """From the answers to LIST; lines that make no sense are left out."""
    found: dict[bytes, ListedFolder] = {}
    taken: set[str] = set()
    for line in itertools.islice(lines, _MOST_FOLDERS):
        values = line.values()
        match values:
            case (tuple() as attributes, _, (bytes() | int()) as raw, *_):
                name = raw if isinstance(raw, bytes) else str(raw).encode()
                if name in found:
                    continue
                words = {
                    bytes(a).decode("ascii", "replace").lstrip("\\").lower()
                    for a in attributes
                    if isinstance(a, bytes)
                }
                shown = names.for_people(name, _delimiter_of(values, names.delimiter))
                if shown in taken:  # one name in two encodings: the second as it is on the stream
                    shown = "/" + name.decode("ascii", "backslashreplace")
                taken.add(shown)
                special = next((use for use in _SPECIAL_USES if use.lower() in words), None)
                selectable = not words & {"noselect", "nonexistent"}
                personal = not (names.prefix and shown.startswith("/"))
                personal = personal and not name.startswith(names.others or (b"\0",))
                found[name] = ListedFolder(name, Folder(shown, selectable, special), personal)
    return sorted(found.values(), key=lambda item: item.folder.name.casefold())


def find_folder(folder: str, listed: Sequence[ListedFolder]) -> ListedFolder | None:
    """The one that is shown as `folder`; else the only one that differs in nothing but the
    composition of its characters (RFC 3629 text comes composed and decomposed)."""
    for item in listed:
        if item.folder.name == folder:
            return item
    wanted = _normal(folder)
    same = [item for item in listed if _normal(item.folder.name) == wanted]
    return same[0] if len(same) == 1 else None


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


def _first_level(text: str) -> str:
    return text.partition("/")[0].upper()


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)
