"""How many signatures lie in front of the text of an OpenPGP message, without reading the rest.

Sequoia takes the square of their number: of 16,000, for which ten kilobytes of compressed packets
have room, a dozen seconds. Programs write one.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable

from services.decryptor.openpgp.packets import packets_of

#: Signatures of one message that are looked at; one more makes it none that a person wrote.
MOST_SIGNATURES = 64
#: Octets that have room for so many, the longest (RSA of 16,384 bits) among them, and for the
#: beginning of the text behind them.
LOOK = 1 << 18
#: As Sequoia has it: how deep compressed packets may lie in each other.
_DEEPEST = 16
_SIGNATURES, _COMPRESSED = (2, 4), 8
_SKIPPED = (10, 21)
_UNPACKERS: dict[int, Callable[[], zlib._Decompress | bz2.BZ2Decompressor]] = {
    1: lambda: zlib.decompressobj(wbits=-15),
    2: zlib.decompressobj,
    3: bz2.BZ2Decompressor,
}


def has_many_signatures(beginning: bytes) -> bool:
    """Whether there are more than `MOST_SIGNATURES`, by the first `LOOK` octets of the packets of a
    message; also where no text begins within these."""
    found = 0
    for _ in range(_DEEPEST):
        inside: bytes | None = None
        for kind, body in packets_of(beginning):
            found += kind in _SIGNATURES
            if found > MOST_SIGNATURES:
                return True
            if kind == _COMPRESSED:
                inside = _unpacked(body)
            elif kind not in (*_SIGNATURES, *_SKIPPED):
                return False
            if inside is not None:
                break
        if inside is None:
            # What is no message at all is for others to say.
            return len(beginning) >= LOOK
        beginning = inside
    return True


def _unpacked(body: bytes) -> bytes:
    unpacker = _UNPACKERS.get(body[0] if body else 0)
    if unpacker is None:
        return body[1:]  # algorithm 0, or one that nobody knows
    try:
        return unpacker().decompress(body[1:], LOOK)
    except (OSError, ValueError, EOFError, zlib.error):
        return b""
