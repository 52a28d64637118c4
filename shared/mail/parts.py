"""The parts of a mail as handlers see them: each by its path, with its name, type and size.

Paths are those of IMAP (RFC 9051 section 6.4.5.1): `1` is the first part of a multipart, `2.1` the
first part of the second; a mail that is no multipart has one part, `1`. What lies in a message in
the mail is below that message's path, and what a winmail.dat (TNEF) packs below its own.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import Final, NamedTuple

from posthouse import tnef
from posthouse.file_names import LONGEST_NAME, safe_name
from posthouse.tnef import PackedFile
from shared.mail.encoded_words import read_text
from shared.mail.fields import unfold
from shared.mail.parameters import Parameterised, read_parameters
from shared.mail.region import made
from shared.mail.structure import PART_FIELDS, Entity, Part
from shared.mail.transfer_encodings import decoded, decoded_size, measured

_DEEPEST_PACKED: Final = 3
_MOST_MESSAGES: Final = 8
_NOTHING: Final = Parameterised("", {}, ())


class PartFacts(NamedTuple):
    """What events say of a part: `size` in octets once decoded."""

    path: str
    content_type: str
    name: str
    disposition: str
    content_id: str
    size: int
    charset: str

    def to_json(self) -> dict[str, str | int]:
        """As they stand in the event; every part of every mail goes through here."""
        path, content_type, name, disposition, content_id, size, charset = self
        return {
            "path": path,
            "content_type": content_type,
            "name": name,
            "disposition": disposition,
            "content_id": content_id,
            "size": size,
            "charset": charset,
        }


class PlacedPart(NamedTuple):
    """One part and its path."""

    path: str
    part: Part

    @property
    def media_type(self) -> str:
        return self.part.entity.media_type

    @property
    def disposition(self) -> str:
        """`inline`, `attachment`, another word that the sender chose, or empty."""
        return disposition(self.part).value

    @property
    def name(self) -> str:
        return file_name(self.part)

    @property
    def content_id(self) -> str:
        """Without its brackets (RFC 2392)."""
        return content_id(self.part)

    @property
    def charset(self) -> str:
        """As the sender labels a text; empty for what is none."""
        return _charset(self.media_type, self.part.entity.parameters)

    @property
    def size(self) -> int:
        """Octets once decoded."""
        return decoded_size(self.part.entity.body, self.part.entity.transfer_encoding)

    @property
    def facts(self) -> PartFacts:
        """All of these, with the fields looked up once."""
        return self.read()[0]

    def read(self) -> tuple[PartFacts, bool]:
        """(`facts`, whether its transfer encoding is damaged)."""
        path, part = self
        header, body, media_type, parameters, encoding = part.entity
        fields = header.values(PART_FIELDS)
        placed = _disposition(fields, header.charset_hint)
        size, is_damaged = measured(body, encoding)
        told = (
            path,
            media_type[:LONGEST_NAME],
            _file_name(part.entity, placed),
            placed.value[:LONGEST_NAME],
            _content_id(fields),
            size,
            _charset(media_type, parameters)[:LONGEST_NAME],
        )
        return made(PartFacts, told), is_damaged

    def content(self) -> Generator[bytes]:
        """The decoded octets, in pieces."""
        return decoded(self.part.entity.body, self.part.entity.transfer_encoding)


class UnpackedPart(NamedTuple):
    """A file in a winmail.dat, as if it were a part. `container` is what it lies in."""

    path: str
    container: PlacedPart | UnpackedPart
    file: PackedFile

    @property
    def media_type(self) -> str:
        return self.file.content_type[:LONGEST_NAME]

    @property
    def disposition(self) -> str:
        return "attachment"

    @property
    def name(self) -> str:
        return safe_name(self.file.name)

    @property
    def content_id(self) -> str:
        return self.file.content_id

    @property
    def charset(self) -> str:
        """Nothing says which one."""
        return ""

    @property
    def size(self) -> int:
        return self.file.size

    @property
    def facts(self) -> PartFacts:
        return PartFacts(
            self.path,
            self.media_type,
            self.name,
            self.disposition,
            self.content_id,
            self.size,
            self.charset,
        )

    def content(self) -> Generator[bytes]:
        """The octets, in pieces."""
        return tnef.content(self.container.content(), self.file)


class UnpackingLimits:
    """What may still be unpacked of a mail: files, and messages in messages, each of which is one
    more way through the stream. `unreadable`: the paths of those that could not be read up to
    their end."""

    __slots__ = ("files", "messages", "unreadable")

    def __init__(self) -> None:
        self.files, self.messages = tnef.MOST_FILES, _MOST_MESSAGES
        self.unreadable: list[str] = []


def unpacked(
    placed: PlacedPart | UnpackedPart, limits: UnpackingLimits | None = None, depth: int = 0
) -> Iterator[UnpackedPart]:
    """The files in a part that is a winmail.dat, and in messages in it; of other parts none."""
    left = limits or UnpackingLimits()
    if (
        not tnef.is_packed(placed.media_type, placed.name)
        or left.files <= 0
        or depth > _DEEPEST_PACKED
    ):
        return
    if depth:
        left.messages -= 1
        if left.messages < 0:
            return
    with closing(placed.content()) as pieces:
        files, whole = tnef.read_packed(pieces)
    if not whole:
        left.unreadable.append(placed.path)
    for number, file in enumerate(files, 1):
        left.files -= 1
        if left.files < 0:
            return
        one = UnpackedPart(f"{placed.path}.{number}", placed, file)
        yield one
        yield from unpacked(one, left, depth + 1)


def leaves(root: Part) -> Iterable[PlacedPart]:
    """Every part that is no multipart, in the order of the mail; a message in it before its own."""
    if root.multipart is not None and root.parts:
        return _below(root, "")
    alone = (made(PlacedPart, ("1", root)),)
    return chain(alone, _below(root, "1.")) if root.parts else alone


def _below(part: Part, prefix: str) -> Iterator[PlacedPart]:
    """The leaves in a multipart, or in the message of a message/rfc822 (which has no number)."""
    if part.multipart is None:
        for message in part.parts:
            if message.multipart is not None and message.parts:
                yield from _below(message, prefix)
            else:
                yield PlacedPart(f"{prefix}1", message)
                yield from _below(message, f"{prefix}1.")
        return
    for number, one in enumerate(part.parts, 1):
        if one.multipart is None or not one.parts:
            yield PlacedPart(f"{prefix}{number}", one)
        yield from _below(one, f"{prefix}{number}.")


def find_part(root: Part, path: str) -> PlacedPart | UnpackedPart | None:
    """The part of that path; None where the mail has none."""
    for one in leaves(root):
        if one.path == path:
            return one
        if path.startswith(one.path + "."):
            found = next((file for file in unpacked(one) if file.path == path), None)
            if found is not None:
                return found
    return None


def disposition(part: Part) -> Parameterised:
    """Content-Disposition (RFC 2183) of a part; empty where it has none."""
    header = part.entity.header
    return _disposition(header.values(PART_FIELDS), header.charset_hint)


def _disposition(fields: Mapping[str, Sequence[bytes]], hint: str) -> Parameterised:
    values = fields.get("content-disposition")
    return read_parameters(values[0], hint) if values else _NOTHING


def is_attached(part: Part) -> bool:
    """Whether the sender wants it kept apart from the text."""
    values = part.entity.header.values(PART_FIELDS).get("content-disposition")
    return values is not None and read_parameters(values[0]).value == "attachment"


def file_name(part: Part) -> str:
    """Its name, decoded (RFC 2231, and RFC 2047 as it is sent), safe as the name of a file.

    At most 255 characters, cut before its extension; empty where the sender gave none.
    """
    return entity_file_name(part.entity)


def entity_file_name(entity: Entity) -> str:
    """`file_name` of what need not be a part of a mail."""
    header = entity.header
    return _file_name(entity, _disposition(header.values(PART_FIELDS), header.charset_hint))


def _file_name(entity: Entity, placed: Parameterised) -> str:
    name = placed.parameters.get("filename") or entity.parameters.get("name", "")
    if not name:
        return ""
    return safe_name(read_text(name.encode("utf-8", "replace")).text if "=?" in name else name)


def _charset(media_type: str, parameters: Mapping[str, str]) -> str:
    if not media_type.startswith("text/"):
        return ""
    return parameters.get("charset", "us-ascii")[:64].lower()


def content_id(part: Part) -> str:
    """Content-ID of a part without its brackets (RFC 2392); empty where it has none."""
    return _content_id(part.entity.header.values(PART_FIELDS))


def _content_id(fields: Mapping[str, Sequence[bytes]]) -> str:
    values = fields.get("content-id")
    return read_text(unfold(values[0])[:1000]).text.strip("<> ") if values else ""
