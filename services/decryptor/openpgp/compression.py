"""Compressed OpenPGP packets (RFC 9580 section 5.6)."""

from __future__ import annotations

import bz2
import zlib
from itertools import islice

from services.decryptor.cms.errors import Malformed, NotOpened
from services.decryptor.openpgp.packets import packets_of

_COMPRESSED = 8
_ZIP, _ZLIB, BZIP2 = 1, 2, 3
#: As much as shows which packet a content begins with.
_LOOK = 64


def compression_of(packets: bytes) -> int:
    """The algorithm (section 9.4) where all of `packets` is compressed; else 0."""
    found = list(islice(packets_of(packets), 2))
    return found[0][1][0] if [kind for kind, _ in found] == [_COMPRESSED] and found[0][1] else 0


def beginning_of(packets: bytes) -> bytes:
    """The first octets of what is compressed by ZIP or ZLIB; those of `packets` where it is not."""
    algorithm = compression_of(packets)
    if algorithm not in (_ZIP, _ZLIB):
        return packets[:_LOOK]
    try:
        return _decompressor(algorithm).decompress(_body(packets), _LOOK)
    except zlib.error:
        return b""


def unpacked(packets: bytes, limit: int) -> bytes:
    """The packets inside the compression; the same where there is none, or one of another kind.

    Raises NotOpened where it is damaged, Malformed where it unpacks to more than `limit` octets.
    """
    algorithm = compression_of(packets)
    if algorithm not in (_ZIP, _ZLIB, BZIP2):
        return packets
    unpacker = bz2.BZ2Decompressor() if algorithm == BZIP2 else _decompressor(algorithm)
    try:
        found = unpacker.decompress(_body(packets), limit)
    except (OSError, ValueError, zlib.error) as error:
        raise NotOpened from error
    if not unpacker.eof:
        if len(found) < limit:
            raise NotOpened
        raise too_large(limit)
    return found


def too_large(limit: int) -> Malformed:
    """What is raised of a content of more than `limit` octets."""
    return Malformed(f"The content unpacks to more than {limit} octets.")


def _decompressor(algorithm: int) -> zlib._Decompress:
    return zlib.decompressobj(wbits=-15 if algorithm == _ZIP else 15)


def _body(packets: bytes) -> bytes:
    return next(packets_of(packets))[1][1:]
