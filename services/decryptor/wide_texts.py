"""Texts in a character set in which no letter is one octet: what is looked for in others as it lies
there is looked for in these after they were decoded."""

from __future__ import annotations

import codecs

from services.decryptor.spool import Spool
from services.decryptor.transfer_encodings import decode
from shared.mail.region import Region, region
from shared.mail.structure import Entity

_WIDE = ("utf-16", "utf16", "ucs-2", "iso-10646-ucs-2", "unicode")
#: Such a text is made anew in memory.
_LONGEST = 1 << 24


def is_wide(whole: Entity) -> bool:
    """Whether a text is in a character set in which no letter is one octet."""
    return whole.media_type.startswith("text/") and whole.parameters.get(
        "charset", ""
    ).lower().startswith(_WIDE)


def decoded_text(whole: Entity, spool: Spool) -> Region:
    """The body without its transfer encoding, and in UTF-8 where its character set is a wide one.

    Raises Undecodable.
    """
    body = decode(whole.body, whole.transfer_encoding, spool)
    if not is_wide(whole) or len(body) > _LONGEST:
        return body
    octets = body.copy()
    label = whole.parameters["charset"].lower()
    marked = octets[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    name = "utf-16" if marked else "utf-16-le" if label.endswith("le") else "utf-16-be"
    # Without a mark the first octet tells which of the two is none (RFC 2781 section 4.3).
    if not marked and octets[1:2] == b"\0":
        name = "utf-16-le"
    return region(octets.decode(name, "replace").encode("utf-8", "replace"))
