"""What a layer held: a MIME entity, or a text without header fields.

Programs encrypt texts as they are (the openssl command without -text, gpg in a pipe). Where a
content does not begin with a header, all of it is the text: nothing that was decrypted is dropped.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Mapping

from shared.mail.fields import SINGLE_FIELDS, HeaderBlock, read_fields
from shared.mail.region import Region, made
from shared.mail.structure import Entity, entity

#: An entity begins with a header field or with an empty line.
_START = re.compile(rb"\r?\n|[!-9;-~]+[ \t]*:")
_LONGEST_NAME = 256
#: Fields that a mail may have many times, and that no letter begins with.
_KNOWN = SINGLE_FIELDS | {
    "received", "return-path", "resent-from", "resent-to", "resent-date", "keywords", "comments",
    "delivered-to", "dkim-signature", "autocrypt", "user-agent", "hp-outer",
}  # fmt: skip
_OF_ADDRESSES = frozenset(("from", "sender", "reply-to", "to", "cc", "bcc"))
_OF_MIME = ("content-", "mime-version")
_FAMILIES = ("x-", "list-", "arc-")
_DIGIT = re.compile(rb"\d")
_LOOK = 1 << 12
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
#: A text in another character set than UTF-8 has more octets below 128 than above.
_SHORT_TEXT = 64
#: How files begin that people encrypt as they are, and whose octets look like noise; and UTF-16.
_FILES = (
    b"%PDF", b"PK\3\4", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x1f\x8b\x08", b"7z\xbc\xaf",
    codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE,
)  # fmt: skip
#: What a text without a character set is in that is not UTF-8: most likely, and no more.
GUESSED = "windows-1252"


def entity_of(content: Region, *, signed: bool = False) -> Entity:
    """The entity that fills `content`; where that has no header, a text around all of it.

    `signed`: somebody signed the octets, and whoever got them chose the form of this mail. What may
    be a text is one then, since a header shows less of it.
    """
    read = _read(content)
    if read is not None and not (signed and may_be_text(read.header)):
        return read
    charset = _charset_of(content)
    if charset is None:
        return _around(content, "application/octet-stream", {}, "binary")
    return text_entity(content, charset)


def text_entity(content: Region, charset: str) -> Entity:
    """An entity around a text that has no header of its own."""
    return _around(content, "text/plain", {"charset": charset}, "8bit")


def _around(
    content: Region, media_type: str, parameters: Mapping[str, str], encoding: str
) -> Entity:
    given = "".join(f'; {name}="{value}"' for name, value in parameters.items())
    header = f"Content-Type: {media_type}{given}\r\nContent-Transfer-Encoding: {encoding}\r\n"
    return made(Entity, (read_fields(header.encode()), content, media_type, parameters, encoding))


def may_be_text(header: HeaderBlock) -> bool:
    """Whether a header may be the first lines of a text: it has fields, and none of MIME.

    Programs that sign a mail write what it is (RFC 8551 section 3.1, RFC 3156 section 5); people
    sign texts that begin with `Note: …`, or `Comments: …`, and an empty line.
    """
    return bool(header.fields) and not any(
        field.name.startswith(_OF_MIME) for field in header.fields
    )


def has_header(content: Region) -> bool:
    """Whether a content begins with a header: fields alone, of which one is of MIME, or all are of
    mail and hold what such fields hold.

    A letter may begin with a line that has a colon ("To: whom it may concern").
    """
    return _read(content) is not None


def _starts_with_field(content: Region) -> bool:
    buffer, start, end = content
    return _START.match(buffer, start, min(end, start + _LONGEST_NAME)) is not None


def _read(content: Region) -> Entity | None:
    if not _starts_with_field(content):
        return None
    read = entity(content)
    return read if _is_header(read.header) else None


def _is_header(header: HeaderBlock) -> bool:
    known, of_mime = True, not header.fields
    for name, value, _, _ in header.fields:
        if not name:
            return False
        if name.startswith(_OF_MIME):
            of_mime = True
        elif name in _KNOWN or name.startswith(_FAMILIES):
            known = known and _may_be(name, value)
        else:
            known = False
    return known or of_mime


def _may_be(name: str, value: bytes) -> bool:
    """Whether a field may be one of mail by its value; an empty one, and a group, may be."""
    if name in _OF_ADDRESSES:
        return not value.strip() or b"@" in value or b";" in value
    return name != "date" or _DIGIT.search(value) is not None


def _charset_of(content: Region) -> str | None:
    """The character set of a text without a header; None where it is no text."""
    if _CONTROL.search(content.copy(_LOOK)):
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    charset = "utf-8"
    for window in content.windows():
        octets = bytes(window)
        if b"\0" in octets:
            return None
        if charset == "utf-8":
            try:
                decoder.decode(octets)
            except UnicodeDecodeError:
                charset = GUESSED
    return charset


def is_utf8(content: Region) -> bool:
    """Whether the octets are those of a text in UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for window in content.windows():
            decoder.decode(bytes(window))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def is_guessed(whole: Entity, content: Region) -> bool:
    """Whether nothing in `content`, which became `whole`, says what its characters are."""
    return whole.body == content and whole.parameters.get("charset") == GUESSED


def looks_readable(content: Region) -> bool:
    """Whether a content can be what somebody encrypted: an entity, a text or a file.

    What a wrong key makes of a content passes the padding check once in 256 times; it does not
    look like this, and nothing packs it.
    """
    if not len(content) or _starts_with_field(content):
        return True
    beginning = content.copy(_LOOK)
    if beginning.startswith(_FILES) or len(zlib.compress(beginning)) < len(beginning):
        return True
    if _CONTROL.search(beginning):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning)
    except UnicodeDecodeError:
        high = sum(octet > 127 for octet in beginning)
        return len(beginning) >= _SHORT_TEXT or high * 4 <= len(beginning)
    return True
