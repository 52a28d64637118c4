"""What a signed OpenPGP message holds: its text and its signatures (RFC 9580 sections 7 and 10.3).

Programs of before 1998 wrote the signatures in front of the text, without the one-pass packets that
tell a reader beforehand how to digest it; the grammar still has that form. Sequoia's binding does
not verify it, and all that a one-pass packet says is in its signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from services.decryptor.cms.errors import Malformed
from services.decryptor.openpgp.cleartext import signed_text
from services.decryptor.openpgp.compression import (
    BZIP2,
    beginning_of,
    compression_of,
    unpacked,
)
from services.decryptor.openpgp.packets import ARMOUR_SIGNED, octets_of, packets_of
from services.decryptor.openpgp.signature_packets import read_signature
from shared.mail.region import region

#: What is looked into lies in memory several times over.
MOST_BYTES = 1 << 24
_SIGNATURE, _ONE_PASS, _LITERAL = 2, 4, 11
#: Packets that are looked at: a text has few signatures.
_MOST = 64
_MARK = b"-----BEGIN PGP SIGNATURE-----"
#: From its first blank only, so that each is looked at once.
_BLANKS = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")


class SignedMessage(NamedTuple):
    """`content` is the text that was signed, `signatures` are the bodies of their packets."""

    content: bytes
    signatures: tuple[bytes, ...]


def read_signed_message(message: bytes, limit: int) -> SignedMessage | None:
    """Of a text between its lines, or of packets; None where it is no such message.

    `limit` bounds what is unpacked, in octets. Raises NotOpened or Malformed (over the limit).
    """
    if message.startswith(ARMOUR_SIGNED):
        text = signed_text(message)
        if text is None:
            return None
        armour = region(message[message.rfind(_MARK) :])
        return SignedMessage(_BLANKS.sub(b"", text), _signatures(packets_of(octets_of(armour))))
    found = list(islice(packets_of(unpacked(message, limit)), _MOST))
    literal = [body for kind, body in found if kind == _LITERAL]
    if len(literal) != 1 or len(literal[0]) < 2:
        return None
    # Behind its format and its file name there is a date: nobody signs these (section 5.9).
    return SignedMessage(literal[0][2 + literal[0][1] + 4 :], _signatures(found))


def in_one_pass(packets: bytes, limit: int) -> bytes:
    """The same message as Sequoia's binding reads it: with one-pass packets, and without a
    compression that the binding does not know.

    `limit` bounds what is unpacked, in octets. Raises NotOpened or Malformed (over the limit).
    """
    if compression_of(packets) == BZIP2:
        packets = unpacked(packets, limit)
    elif _begins_with_signature(beginning_of(packets)):
        try:
            packets = unpacked(packets, min(limit, MOST_BYTES))
        except Malformed:
            return packets
    if not _begins_with_signature(packets):
        return packets
    found = list(islice(packets_of(packets), _MOST))
    if not found:
        return packets
    *signatures, (last, content) = found
    heads = [_one_pass(body) if kind == _SIGNATURE else b"" for kind, body in signatures]
    if last != _LITERAL or not all(heads):
        return packets
    made = [_packet(_ONE_PASS, head + b"\0") for head in heads[:-1]]
    made += [_packet(_ONE_PASS, heads[-1] + b"\1"), _packet(_LITERAL, content)]
    made += [_packet(_SIGNATURE, body) for _, body in reversed(signatures)]
    return b"".join(made)


def _begins_with_signature(packets: bytes) -> bool:
    first = packets[0] if packets else 0
    kind = first & 0x3F if first & 0x40 else first >> 2 & 0x0F
    return bool(first & 0x80) and kind == _SIGNATURE


def _one_pass(signature: bytes) -> bytes:
    """A one-pass packet (section 5.4) without its last octet, which says whether it is the last
    one; empty where the signature is of version 6, which never lay before a text, or damaged."""
    read = read_signature(signature)
    if read is None or read.version > 4 or not read.issuers:
        return b""
    return bytes((3, read.kind, read.digest, read.key_algorithm)) + read.issuers[0]


def _packet(kind: int, body: bytes) -> bytes:
    return bytes((0xC0 | kind, 0xFF)) + len(body).to_bytes(4) + body


def _signatures(packets: Iterable[tuple[int, bytes]]) -> tuple[bytes, ...]:
    return tuple(body for kind, body in islice(packets, _MOST) if kind == _SIGNATURE)
