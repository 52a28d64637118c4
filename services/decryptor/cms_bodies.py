"""The octets of a CMS structure in the body of an entity, also where its encoding is told wrongly.

Gateways lose Content-Transfer-Encoding with the media type (RFC 8551 section 3.9), scripts attach
what openssl wrote (PEM), or encode twice, lists write a footer below the base64. Every structure
begins with a SEQUENCE, so what else lies there can be told.
"""

from __future__ import annotations

import binascii
import re

from services.decryptor.spool import Spool
from services.decryptor.transfer_encodings import Undecodable, decode
from shared.mail.region import Region, region

_SEQUENCE = b"\x30"
#: What is decoded again lies in memory.
_LONGEST = 1 << 26
_LOOK = 1 << 8
_TIMES = 2
#: The first line of PEM (RFC 7468; gpgsm writes SIGNED MESSAGE), then the base64 of a SEQUENCE.
_ENCODED = re.compile(rb"\s*(?:-----BEGIN [A-Z0-9 #]{1,32}-----[ \t]*\r?\n\s*)?(?=M[A-Za-z0-9+/])")
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+")


def structure_of(body: Region, encoding: str, spool: Spool) -> Region:
    """The decoded body; the same region where there is nothing to decode.

    Raises Undecodable.
    """
    try:
        found = decode(body, encoding, spool)
    except Undecodable:
        inside = _inside(body)
        if inside is None:
            raise
        found = inside
    for _ in range(_TIMES):
        if found.copy(1) == _SEQUENCE:
            break
        inside = _inside(found)
        if inside is None:
            break
        found = inside
    return found


def _inside(body: Region) -> Region | None:
    """What the base64 of a structure holds, up to what is none; None where there is none."""
    begun = _ENCODED.match(body.copy(_LOOK))
    if begun is None or len(body) > _LONGEST:
        return None
    text = _BASE64.match(body.copy(), begun.end())
    assert text is not None
    characters = text[0].translate(None, b" \t\r\n\v\f")
    if len(characters) % 4 == 1:  # the first of a word below
        characters = characters[:-1]
    try:
        return region(binascii.a2b_base64(characters + b"=" * (-len(characters) % 4)))
    except binascii.Error:
        return None
