"""Parts of a mail that an event carries or points to, as streams and files."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import EmailPolicy
from pathlib import Path, PurePath
from typing import IO, Final

from posthouse import tnef
from posthouse.errors import PosthouseError
from posthouse.file_names import cut_for_disk
from posthouse.mail import Part
from posthouse.mime_fields import file_name
from posthouse.mime_parts import Leaf, leaves

#: The code of Posthouse's answer where a mail has no such part.
NO_SUCH_PART = "no-such-part"
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\:]+")


class NoSuchPart(PosthouseError, LookupError):
    """The mail has no part of that path."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One part that is more than text. `name` is empty where the sender gave none."""

    part: Part
    _open: Callable[[str], IO[bytes]]

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def content_type(self) -> str:
        return self.part.content_type

    @property
    def size(self) -> int:
        """Octets once decoded."""
        return self.part.size

    def open(self) -> IO[bytes]:
        """Its octets as a stream, to be closed by the caller. Raises OSError, NoSuchPart."""
        return self._open(self.part.path)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes it into `folder` under its name, or under `name (2)` where that is taken.

        A name of more than 136 octets is cut before its extension. Nothing is written outside of
        the folder, whatever the sender called it. Raises OSError, NoSuchPart; what was written by
        half is removed.
        """
        name = PurePath(self._file_name())
        number = 1
        while True:
            path = Path(folder, name if number == 1 else f"{name.stem} ({number}){name.suffix}")
            try:
                file = path.open("xb")
                break
            except FileExistsError:
                number += 1
        try:
            with file, self.open() as stream:
                shutil.copyfileobj(stream, file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _file_name(self) -> str:
        name = _UNSAFE.sub("_", self.part.name).strip(" .")
        return cut_for_disk(name) if name else f"part-{self.part.path}"


class _RawUtf8(EmailPolicy):
    """The default policy, for header fields in raw UTF-8 as well (RFC 6532)."""

    def header_fetch_parse(self, name: str, value: str) -> str:
        try:
            value = value.encode("ascii", "surrogateescape").decode("utf-8")
        except UnicodeError:
            pass  # octets of another charset: as Python shows them
        found: str = super().header_fetch_parse(name, value)
        return found


_POLICY: Final = _RawUtf8()


def read_message(raw: bytes) -> EmailMessage:
    """A mail as Python's `email` reads it, with its default policy and raw UTF-8 in fields."""
    found = message_from_bytes(raw, policy=_POLICY)
    assert isinstance(found, EmailMessage)
    return found


def decoded_text(octets: bytes, charset: str) -> str:
    """As the label says; where that cannot be, as UTF-8 or Latin-1."""
    for label in (charset, "utf-8"):
        try:
            return octets.decode(label)
        except (LookupError, ValueError):
            continue
    return octets.decode("latin-1")


def part_of(raw: bytes, path: str, told: Sequence[Part] = ()) -> IO[bytes]:
    """One decoded part of a mail in memory; `told` are those that its event names.

    Raises NoSuchPart.
    """
    for leaf in leaves(raw):
        if leaf.path == path:
            return io.BytesIO(leaf.content)
        if path.startswith(f"{leaf.path}.") and _is_packed(leaf, told):
            numbers = [int(one) for one in path[len(leaf.path) + 1 :].split(".") if one.isdecimal()]
            return io.BytesIO(_unpacked(leaf.content, numbers, path))
    raise NoSuchPart(f"the mail has no part {path}")


def _is_packed(leaf: Leaf, told: Sequence[Part]) -> bool:
    """By the name that the event tells, where it tells of the part."""
    names = [one.name for one in told if one.path == leaf.path]
    name = names[0] if names else file_name(leaf.header)
    return tnef.is_packed(leaf.media_type, name)


def _unpacked(packed: bytes, numbers: Sequence[int], path: str) -> bytes:
    """A file in a winmail.dat, by its number, and on in the message that it may be."""
    for number in numbers:
        files = tnef.packed_files([packed])
        if not 0 < number <= len(files):
            raise NoSuchPart(f"the mail has no part {path}")
        file = files[number - 1]
        packed = packed[file.start : file.start + file.size]
    return packed
