"""Header fields of a mail whose content was opened: which are kept, which are replaced.

A mail has outer header fields, which every server on the way can write, and may have protected
ones inside what was encrypted or signed (RFC 8551 section 3.1, RFC 9788). What is handed on is the
outer header with the content's own fields and, where there are any, the protected ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.mail.addresses import read_addresses
from shared.mail.fields import SINGLE_FIELDS, HeaderBlock
from shared.mail.structure import MIME_FIELDS, Entity, entity

#: The fields that the event shows.
SHOWN = frozenset(("subject", "from", "to", "cc", "date", "message-id"))
#: Fields by which a server tells what it found; one from the inside would speak in its name.
_OF_SERVERS = (
    "authentication-results",
    "arc-",
    "received-spf",
    "return-path",
    "x-posthouse-",
    "x-spam",
    "x-forefront-",
    "x-ms-exchange-",
    "x-microsoft-antispam",
)

#: Fields that servers write on the way, and no program into a mail that it makes.
_OF_DELIVERY = ("received", "return-path", "delivered-to")


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


def may_be_forwarded(whole: Entity, mail: Entity) -> bool:
    """Whether a message/rfc822 that nothing calls forwarded or wrapped came to who sends it on: it
    has fields that servers write on the way. Its author may be one that somebody invented."""
    return whole.parameters.get("forwarded", "").lower() != "no" and any(
        field.name in _OF_DELIVERY for field in mail.header.fields
    )


def authors(header: HeaderBlock) -> set[str]:
    """The addresses of From, in lower case."""
    return {one.address.lower() for one in read_addresses(header.value("from")).addresses}


def inner_fields(payload: Entity) -> dict[str, list[bytes]]:
    """The fields of a content that are handed on with it: whole, as they lie there, by name.

    All but those about the content itself, and but those by which servers tell what they checked.
    """
    found: dict[str, list[bytes]] = {}
    for name, _, start, end in payload.header.fields:
        if name and name != "mime-version" and not name.startswith(("content-", *_OF_SERVERS)):
            found.setdefault(name, []).append(payload.header.octets[start:end])
    return found


def compose(outer: Entity, inner: Mapping[str, Sequence[bytes]], content: Entity) -> bytes:
    """The header block of the opened mail, with its empty line.

    The outer fields are kept octet for octet, but for those about the content, which are those of
    the opened entity. Of the `inner` fields, those that a mail has once take the place of their
    outer forms; the others stand behind all outer ones.
    """
    octets = outer.header.octets
    end = b"\r\n" if b"\r\n" in octets else b"\n"
    kept: list[bytes] = []
    missing = dict(inner)
    versioned = False
    begun = 0  # of the fields that are kept as they lie
    # Most contents have no fields of their own, and then the other fields need not be read.
    listed = outer.header.fields if inner else outer.header.select(MIME_FIELDS)
    for name, _, start, stop in listed:
        if name.startswith("content-"):
            replaced: Sequence[bytes] = ()
        elif name in inner and name in SINGLE_FIELDS:
            replaced = missing.pop(name, ())
        else:
            versioned = versioned or name == "mime-version"
            continue
        kept += [octets[begun:start], *replaced]
        begun = stop
    kept.append(octets[begun:])
    for fields in missing.values():
        kept += fields
    if not versioned:
        kept.append(b"MIME-Version: 1.0" + end)
    kept += [
        content.header.octets[start:stop]
        for name, _, start, stop in content.header.select(MIME_FIELDS)
        if name.startswith("content-")
    ]
    lines = [one if one.endswith(b"\n") else one + end for one in kept if one]
    return b"".join(lines) + (b"\r\n" if lines[-1].endswith(b"\r\n") else b"\n")
