"""Header fields of a mail whose content was opened: which are kept, which are replaced.

A mail has outer header fields, which every server on the way can write, and may have protected
ones inside what was encrypted or signed (RFC 8551 section 3.1, RFC 9788). What is handed on is the
outer header with the content's own fields and, where there are any, the protected ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header
from email.utils import getaddresses

from services.decryptor.mime import Entity, entity, field_end, field_value

#: The fields that the event shows, by their name there.
SHOWN = {
    b"subject": "subject",
    b"from": "from",
    b"to": "to",
    b"cc": "cc",
    b"date": "date",
    b"message-id": "message_id",
}
_MAX_VALUE = 1 << 16


def fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name in lower case, the field as it lies there with its line ends) of a header block.

    A line that is no field (an mbox `From ` line, garbage) comes with the name b"".
    """
    position = 0
    while position < len(header):
        end = field_end(header, position)
        whole = header[position:end]
        name, colon, _ = whole.partition(b":")
        name = name.rstrip(b" \t").lower()
        yield (name if colon and b" " not in name and b"\n" not in name else b""), whole
        position = end


def payload_of(whole: Entity, outer: Entity) -> Entity:
    """The entity whose header fields are the protected ones.

    That is the root of what was encrypted or signed, or the message inside where that root is a
    whole mail wrapped for the sake of its header (RFC 8551 section 3.1). A mail that is merely
    forwarded alone is told by its parameter, or by another author.
    """
    if whole.media_type != "message/rfc822" or whole.transfer_encoding in (
        "base64",
        "quoted-printable",
    ):
        return whole
    inner = entity(whole.body)
    forwarded = whole.parameters.get("forwarded", "").lower()
    if forwarded == "no" or (forwarded != "yes" and authors(inner.header) & authors(outer.header)):
        return inner
    return whole


def authors(header: bytes) -> set[str]:
    """The addresses of From, in lower case."""
    value = decoded(field_value(header, b"from"))
    return {address.lower() for _, address in getaddresses([value]) if "@" in address}


def protected_fields(payload: Entity) -> dict[bytes, bytes]:
    """The protected fields that the event shows: the whole field as it lies there, by name."""
    found: dict[bytes, bytes] = {}
    if len(payload.header) == sum(end - start for _, start, end in payload.described):
        return found  # nothing but Content-* fields, as in most mails
    for name, whole in fields(payload.header):
        if name in SHOWN:
            found.setdefault(name, whole)
    return found


def compose(outer: Entity, protected: dict[bytes, bytes], content: Entity) -> bytes:
    """The header block of the opened mail, with its empty line.

    The outer fields are kept byte for byte, but for those about the content, which are those of
    the opened entity, and those that are there in a protected form.
    """
    end = b"\r\n" if b"\r\n" in outer.header else b"\n"
    kept = _without_content_fields(outer)
    described = b"".join([content.header[start:stop] for _, start, stop in content.described])
    if protected:
        kept = _replaced(kept, protected, end)
    if kept and not kept.endswith(b"\n"):
        kept += end
    if described and not described.endswith(b"\n"):
        described += end
    if b"\nMIME-Version:" not in kept and not field_value(kept, b"mime-version"):
        kept += b"MIME-Version: 1.0" + end
    return kept + described + end


def _without_content_fields(whole: Entity) -> bytes:
    """All fields but Content-*, byte for byte."""
    header = whole.header
    kept: list[bytes] = []
    position = 0
    for _, start, end in whole.described:
        if start > position:
            kept.append(header[position:start])
        position = end
    kept.append(header[position:])
    return b"".join(kept)


def _replaced(header: bytes, protected: dict[bytes, bytes], end: bytes) -> bytes:
    """The fields with the protected ones in the place of their outer forms."""
    kept: list[bytes] = []
    missing = {name: one if one.endswith(b"\n") else one + end for name, one in protected.items()}
    for name, whole in fields(header):
        if name not in protected:
            kept.append(whole if whole.endswith(b"\n") else whole + end)
        elif name in missing:
            kept.append(missing.pop(name))
    return b"".join([*kept, *missing.values()])


def decoded(value: bytes) -> str:
    """An unstructured or address field as text: encoded words (RFC 2047) and UTF-8 decoded."""
    value = value[:_MAX_VALUE]
    text = value.decode("utf-8", "surrogateescape")
    if "=?" not in text:
        return value.decode("utf-8", "replace")
    try:
        parts = decode_header(text)
    except (HeaderParseError, ValueError):
        return value.decode("utf-8", "replace")
    result = ""
    for part, charset in parts:
        if isinstance(part, str):
            result += part
            continue
        try:
            result += part.decode(charset or "utf-8", "replace")
        except LookupError:
            result += part.decode("utf-8", "replace")
    return result.encode("utf-8", "replace").decode()
