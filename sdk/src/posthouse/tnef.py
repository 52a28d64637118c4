"""What Outlook packs into winmail.dat: the files in a stream of MS-OXTNEF, read as it goes by.

No library that is kept reads such a stream in bounded memory: here a file is its place in the
stream and is never held. What is cut off or breaks the grammar ends the list; what came before
stays. Texts of the message itself (mostly RTF) and embedded objects that are no messages are not
unpacked.

A stream has neither a length nor a mark at its end, and nothing in it tells how many attachments
follow (section 2.1.1: `TNEFStream = TNEFHeader TNEFVersion OEMCodePage MessageData *AttachData`).
One that ends behind a whole attachment, where others should follow, is therefore not to be told
from a whole one; where its message or its last attachment is incomplete, it is.
"""

from __future__ import annotations

import mimetypes
import struct
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Final, NamedTuple

_TYPES: Final = frozenset(("application/ms-tnef", "application/vnd.ms-tnef"))
#: What it is called where its type does not tell.
_NAME: Final = "winmail.dat"
#: What an embedded message is told as: a stream of the same kind.
MESSAGE: Final = "application/vnd.ms-tnef"
#: MS-OXTNEF section 2.1.3.2: TNEFSignature.
_SIGNATURE: Final = 0x223E9F78
_LEVEL_MESSAGE, _LEVEL_ATTACHMENT = 1, 2
#: Section 2.1.3.3, idAttribute.
_CODEPAGE: Final = 0x00069007
_REND_DATA: Final = 0x00069002
_TITLE: Final = 0x00018010
_DATA: Final = 0x0006800F
_PROPERTIES: Final = 0x00069005
#: Without one of these a message has no content: attMsgProps, attBody.
_CONTENTS: Final = frozenset((0x00069003, 0x0002800C))
#: MS-OXPROPS 2.601 (PidTagAttachDataObject) and following.
_DATA_OBJECT, _FILE_NAME, _LONG_FILE_NAME = 0x3701, 0x3704, 0x3707
_MIME_TAG, _CONTENT_ID, _DISPLAY_NAME = 0x370E, 0x3712, 0x3001
_NAMED: Final = 0x8000
#: Octets of fixed types, padded to four (MS-OXTNEF 2.1.3.4).
_FIXED: Final = {
    0x02: 4, 0x03: 4, 0x04: 4, 0x05: 8, 0x06: 8, 0x07: 8, 0x0A: 4, 0x0B: 4, 0x14: 8, 0x40: 8,
    0x48: 16,
}  # fmt: skip
_OBJECT, _STRING, _UNICODE, _BINARY = 0x0D, 0x1E, 0x1F, 0x102
_MULTIPLE: Final = 0x1000
#: IID_IMessage, 00020307-0000-0000-C000-000000000046, as it lies there.
_MESSAGE_IID: Final = bytes.fromhex("0703020000000000c000000000000046")

_USUAL_CODEPAGE: Final = "cp1252"
MOST_FILES: Final = 200
_MOST_ATTRIBUTES: Final = 20_000
_MOST_PROPERTIES: Final = 2_000
_LONGEST_TEXT: Final = 1024


class PackedFile(NamedTuple):
    """One file. `start` and `size` say where it lies in the stream, in octets."""

    start: int
    size: int
    name: str
    content_type: str
    content_id: str = ""


def is_packed(content_type: str, name: str) -> bool:
    """Whether a part is to be unpacked."""
    return content_type in _TYPES or name.lower() == _NAME


class _Ended(Exception):
    """The stream is over, or is none."""


class _TnefStream:
    """Reads on through pieces; holds one of them."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece = b""
        self._at = 0
        self.position = 0

    def read(self, size: int) -> bytes:
        """Exactly so many octets, few. Raises _Ended."""
        found = bytearray()
        for part in self._take(size):
            found += part
        return bytes(found)

    def skip(self, size: int) -> None:
        for _ in self._take(size):
            pass

    def has_ended(self) -> bool:
        """Whether no octet is left."""
        while self._at >= len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return True
            self._piece, self._at = piece, 0
        return False

    def number(self, size: int = 4) -> int:
        return int.from_bytes(self.read(size), "little")

    def _take(self, size: int) -> Iterator[bytes]:
        left = size
        while left > 0:
            if self._at >= len(self._piece):
                piece = next(self._pieces, None)
                if piece is None:
                    raise _Ended
                self._piece, self._at = piece, 0
            part = self._piece[self._at : self._at + left]
            self._at += len(part)
            self.position += len(part)
            left -= len(part)
            yield part


class _Draft:
    """What is known so far of the file that is being read."""

    def __init__(self) -> None:
        self.place: tuple[int, int] | None = None
        self.is_message = self.has_properties = self.has_title = False
        self.title = self.content_type = self.content_id = ""
        self.names: dict[int, str] = {}

    def is_whole(self, others_have_properties: bool) -> bool:
        """Whether nothing of the last attachment can be seen to be missing.

        One by reference, or of an OLE object, has properties and no data. Who writes the properties
        of one attachment writes those of all.
        """
        if others_have_properties:
            return self.has_properties
        return self.has_properties or (self.place is not None and self.has_title)

    def done(self) -> PackedFile | None:
        if self.place is None:
            return None
        order = (_LONG_FILE_NAME, _FILE_NAME, _DISPLAY_NAME)
        name = next((self.names[one] for one in order if self.names.get(one)), self.title)
        if self.is_message:
            return PackedFile(*self.place, name, MESSAGE)
        kind = self.content_type.lower() or mimetypes.guess_type(name)[0]
        return PackedFile(
            *self.place, name, kind or "application/octet-stream", self.content_id.strip("<> ")
        )


class Unpacked(NamedTuple):
    """The files of a stream. `whole`: it could be read up to `MOST_FILES`, or up to an end at which
    nothing that had begun is incomplete."""

    files: list[PackedFile]
    whole: bool


def packed_files(pieces: Iterable[bytes]) -> list[PackedFile]:
    """The files in a stream that comes in pieces, at most `MOST_FILES`; of what is no TNEF none."""
    return read_packed(pieces).files


def read_packed(pieces: Iterable[bytes]) -> Unpacked:
    """The files in a stream, as `packed_files` has them, and whether all of it was read."""
    stream = _TnefStream(pieces)
    found: list[PackedFile] = []
    draft = _Draft()
    #: Whether there is a message with a content, an attachment, and one with properties.
    has_content = has_attachment = have_properties = False

    def finish() -> None:
        one = draft.done()
        if one is not None and len(found) < MOST_FILES:
            found.append(one)

    whole = False
    try:
        if stream.number() != _SIGNATURE:
            return Unpacked([], whole)
        stream.skip(2)  # the key of the attachments, of no use
        codepage = ""
        for _ in range(_MOST_ATTRIBUTES):
            if len(found) >= MOST_FILES:
                whole = True
                break
            if stream.has_ended():
                whole = draft.is_whole(have_properties) if has_attachment else has_content
                break
            level, attribute, size = struct.unpack("<BII", stream.read(9))
            if level not in (_LEVEL_MESSAGE, _LEVEL_ATTACHMENT):
                break
            end = stream.position + size
            if attribute == _CODEPAGE and size >= 4:
                codepage = f"cp{stream.number()}"
            elif level == _LEVEL_ATTACHMENT and attribute == _REND_DATA:
                finish()
                have_properties = have_properties or draft.has_properties
                draft, has_attachment = _Draft(), True
            elif level == _LEVEL_ATTACHMENT and attribute == _TITLE:
                draft.has_title = True
                draft.title = _text(stream.read(min(size, _LONGEST_TEXT)), codepage)
            elif level == _LEVEL_ATTACHMENT and attribute == _DATA:
                place = (stream.position, size)
                stream.skip(size)  # what is cut off is no file
                draft.place = place
            elif level == _LEVEL_ATTACHMENT and attribute == _PROPERTIES:
                draft.has_properties = True
                _read_properties(stream, end, draft, codepage)
            elif attribute in _CONTENTS:
                has_content = True
            if stream.position > end:
                break
            stream.skip(end - stream.position + 2)  # and the checksum
    except _Ended:
        pass
    finish()
    return Unpacked(found, whole)


def content(pieces: Generator[bytes], file: PackedFile) -> Generator[bytes]:
    """The octets of a file, of the same stream read anew."""
    position, end = 0, file.start + file.size
    with closing(pieces):
        for piece in pieces:
            first, last = max(file.start - position, 0), min(len(piece), end - position)
            position += len(piece)
            if first < last:
                yield piece[first:last]
            if position >= end:
                return


def _read_properties(stream: _TnefStream, end: int, draft: _Draft, codepage: str) -> None:
    """MsgPropertyList (MS-OXTNEF 2.1.3.4) of an attachment, up to `end`. Raises _Ended."""
    for _ in range(min(stream.number(), _MOST_PROPERTIES)):
        if stream.position + 4 > end:
            return
        kind, identifier = struct.unpack("<HH", stream.read(4))
        if identifier >= _NAMED:
            stream.skip(16)
            if stream.number() == 0:
                stream.skip(4)
            else:
                stream.skip(_padded(stream.number()))
        base = kind & ~_MULTIPLE
        if base in _FIXED:
            stream.skip(_FIXED[base] * (stream.number() if kind & _MULTIPLE else 1))
        elif base in (_OBJECT, _STRING, _UNICODE, _BINARY):
            for _ in range(min(stream.number(), _MOST_PROPERTIES)):
                size = stream.number()
                start = stream.position
                if start + size > end:
                    raise _Ended
                _take_value(stream, (base, identifier, size), draft, codepage)
                stream.skip(start + _padded(size) - stream.position)
        else:
            raise _Ended  # how long it is nobody can tell
        if stream.position > end:
            raise _Ended


def _take_value(
    stream: _TnefStream, value: tuple[int, int, int], draft: _Draft, codepage: str
) -> None:
    kind, identifier, size = value
    if kind in (_STRING, _UNICODE):
        if identifier in (_FILE_NAME, _LONG_FILE_NAME, _DISPLAY_NAME, _MIME_TAG, _CONTENT_ID):
            label = "utf-16-le" if kind == _UNICODE else codepage
            text = _text(stream.read(min(size, _LONGEST_TEXT)), label)
            if identifier == _MIME_TAG:
                draft.content_type = text
            elif identifier == _CONTENT_ID:
                draft.content_id = text
            else:
                draft.names[identifier] = text
    elif (
        identifier == _DATA_OBJECT
        and size > 16
        and draft.place is None
        and stream.read(16) == _MESSAGE_IID
    ):
        start = stream.position
        stream.skip(size - 16)  # what is cut off is no message
        draft.place, draft.is_message = (start, size - 16), True


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _text(octets: bytes, label: str) -> str:
    if label == "utf-16-le":
        return octets[: len(octets) & ~1].decode(label, "replace").partition("\0")[0]
    text = octets.partition(b"\0")[0]
    try:
        return text.decode(label or _USUAL_CODEPAGE, "replace")
    except LookupError:
        return text.decode(_USUAL_CODEPAGE, "replace")
