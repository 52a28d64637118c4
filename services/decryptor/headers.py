"""Header fields of a mail whose content was opened: which are kept, which are replaced.

A mail has outer header fields, which every server on the way can write, and may have protected
ones inside what was encrypted or signed (RFC 8551 section 3.1, RFC 9788). What is handed on is the
outer header with the content's own fields and, where there are any, the protected ones.
"""

from __future__ import annotations

from email.errors import HeaderParseError
from email.header import decode_header
from email.utils import getaddresses

from shared.mail.fields import HeaderBlock
from shared.mail.structure import Entity, entity

#: The fields that the event shows, by their name there.
SHOWN = {
    "subject": "subject",
    "from": "from",
    "to": "to",
    "cc": "cc",
    "date": "date",
    "message-id": "message_id",
}
_MAX_VALUE = 1 << 16


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


def authors(header: HeaderBlock) -> set[str]:
    """The addresses of From, in lower case."""
    value = decoded(header.value("from"))
    return {address.lower() for _, address in getaddresses([value]) if "@" in address}


def protected_fields(payload: Entity) -> dict[str, bytes]:
    """The protected fields that the event shows: the whole field as it lies there, by name."""
    found: dict[str, bytes] = {}
    for name, _, start, end in payload.header.fields:
        if name in SHOWN:
            found.setdefault(name, payload.header.octets[start:end])
    return found


def compose(outer: Entity, protected: dict[str, bytes], content: Entity) -> bytes:
    """The header block of the opened mail, with its empty line.

    The outer fields are kept byte for byte, but for those about the content, which are those of
    the opened entity, and those that are there in a protected form.
    """
    octets = outer.header.octets
    end = b"\r\n" if b"\r\n" in octets else b"\n"
    kept: list[bytes] = []
    missing = dict(protected)
    versioned = False
    for name, _, start, stop in outer.header.fields:
        if name.startswith("content-"):
            continue
        versioned = versioned or name == "mime-version"
        if name not in protected:
            kept.append(octets[start:stop])
        elif name in missing:
            kept.append(missing.pop(name))
    kept += missing.values()
    if not versioned:
        kept.append(b"MIME-Version: 1.0" + end)
    kept += [
        content.header.octets[start:stop]
        for name, _, start, stop in content.header.fields
        if name.startswith("content-")
    ]
    return b"".join([one if one.endswith(b"\n") else one + end for one in kept]) + end


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
