"""The packets of OpenPGP, out of their armour: where each begins and ends, and whether those of a
text are one message (RFC 9580)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from itertools import islice

from shared.mail.region import Region

ARMOUR_MESSAGE = b"-----BEGIN PGP MESSAGE-----"
ARMOUR_SIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----"
#: Pieces of one packet, and packets, that are looked at: more make no message of these sizes.
_MOST_PIECES = 1 << 17
_MOST_PACKETS = 1 << 18

#: Letters for the types of packets (section 5), and the messages that they make. Markers and
#: padding may be anywhere; Sequoia takes the square of the number of those that lie behind.
_NOTHING = "-"
_MOST_FILLING = 64
_LETTERS = {1: "K", 2: "S", 3: "K", 4: "O", 8: "C", 9: "E", 11: "L", 18: "E", 20: "E"}
_LETTERS |= dict.fromkeys((10, 21), _NOTHING)
_MESSAGE = re.compile("K*+[EC]|[SO]*+[LC]S*+")

#: The lines between the first one of an armour and its base64, and an empty line behind them, which
#: may have white space in it (RFC 9580 section 6.2).
_ARMOUR_HEADERS = re.compile(rb"(?:[^\n:]*+:[^\n]*+\n)*+[ \t\r]*+\n?")


def octets_of(message: Region) -> bytes:
    """All packets of a message, out of their armour."""
    return out_of_armour(message.copy())


def why_not_one_message(data: bytes) -> str:
    """Why packets are not those of one message (RFC 9580 section 10.3) alone; empty where they are.

    Sequoia reads the first of several, GnuPG refuses them. What does not begin like a packet is
    let pass.
    """
    kinds = "".join(map(letter_of, islice(_kinds_of(data), _MOST_PACKETS)))
    if kinds.count(_NOTHING) > _MOST_FILLING:
        return "The message holds too many packets that say nothing."
    one = _MESSAGE.fullmatch(kinds.replace(_NOTHING, ""))
    return "" if one else "Several encrypted messages lie in one part."


def _kinds_of(data: bytes) -> Iterator[int]:
    position = 0
    while packet := packet_at(data, position):
        kind, _, position = packet
        yield kind


def packets_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each packet, bodies in one piece; what is damaged ends them.

    A megabyte can hold half a million of them: take no more than there may be.
    """
    position = 0
    while packet := packet_at(data, position):
        kind, body, behind = packet
        yield kind, joined(data, position, body)
        position = behind


def whole_packets(data: bytes, most: int) -> list[tuple[int, bytes]]:
    """(type, body) of each packet, but for those that say nothing; none where they do not end
    where `data` does, or where there are more than `most`."""
    found: list[tuple[int, bytes]] = []
    position = filling = 0
    while position < len(data):
        packet = packet_at(data, position)
        if packet is None or _end_of(data, position, packet[2]) > len(data):
            return []
        kind, body, behind = packet
        if letter_of(kind) == _NOTHING:
            filling += 1
        else:
            found.append((kind, joined(data, position, body)))
        if filling > _MOST_FILLING or len(found) > most:
            return []
        position = behind
    return found


def letter_of(kind: int) -> str:
    """For a type of packets: S(ignature), O(ne-pass signature), C(ompressed), L(iteral) …"""
    return _LETTERS.get(kind, "?")


def _end_of(data: bytes, position: int, behind: int) -> int:
    """Where a packet at `position` says that it ends, which may be further than there is data."""
    if not data[position] & 0x40 or not 224 <= data[position + 1] < 255:
        return behind
    return max(end for _, end in _pieces(data, position + 1))


def joined(data: bytes, position: int, body: bytes) -> bytes:
    """The body of a packet at `position`: its parts together where its length is partial."""
    if not data[position] & 0x40 or not 224 <= data[position + 1] < 255:
        return body
    return b"".join(data[start:end] for start, end in _pieces(data, position + 1))


def _behind_pieces(data: bytes, at: int) -> int:
    """Where a body of partial length ends, whose first length is `at`."""
    end = at
    for piece in _pieces(data, at):
        end = piece[1]
    return min(end, len(data))


def _pieces(data: bytes, at: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the pieces of a body of partial length (section 4.2.1.4); of too many, the
    last one is all that is left."""
    for _ in range(_MOST_PIECES):
        if at >= len(data) or not 224 <= data[at] < 255:
            break
        size = 1 << (data[at] & 0x1F)
        yield at + 1, at + 1 + size
        at += 1 + size
    else:
        yield at, len(data)
        return
    first = data[at] if at < len(data) else 0
    width = 1 if first < 192 else 2 if first < 224 else 5
    if width == 1:
        size = first
    elif width == 2:
        size = ((first - 192) << 8) + int.from_bytes(data[at + 1 : at + 2]) + 192
    else:
        size = int.from_bytes(data[at + 1 : at + 5])
    yield at + width, at + width + size


def out_of_armour(data: bytes) -> bytes:
    """The packets themselves: taken out of their armour where they are in one."""
    begin = data.find(b"-----BEGIN PGP")
    if begin < 0:
        return data
    headers = _ARMOUR_HEADERS.match(data, data.find(b"\n", begin) + 1)
    assert headers is not None
    start = headers.end()
    stops = [data.find(b"\n-----END", start - 1), len(data)]
    end = min(one for one in stops if one >= 0)
    checksum = data.find(b"\n=", start - 1, end)
    characters = data[start : end if checksum < 0 else checksum].translate(None, b" \t\r\n\v\f")
    try:
        return binascii.a2b_base64(characters[: len(characters) // 4 * 4])
    except binascii.Error:
        return b""


def packet_at(data: bytes, position: int) -> tuple[int, bytes, int] | None:
    """(type, body, offset behind it) of the packet at `position` (section 4.2).

    Of a packet of partial length, the lengths of its pieces are left in the body (`joined`); one
    of indeterminate length is what is there.
    """
    if position + 2 > len(data) or not data[position] & 0x80:
        return None
    first, length = data[position], data[position + 1]
    if first & 0x40:
        kind, start = first & 0x3F, position + 2
        if length >= 224 and length != 255:
            end = _behind_pieces(data, position + 1)
            return kind, data[start:end], end
        if length == 255:
            size, start = int.from_bytes(data[start : start + 4]), start + 4
        elif length >= 192:
            size = ((length - 192) << 8) + int.from_bytes(data[start : start + 1]) + 192
            start += 1
        else:
            size = length
    else:
        kind, width = first >> 2 & 0x0F, (1, 2, 4, 0)[first & 3]
        start = position + 1 + width
        if not width:
            return kind, data[start:], len(data)
        size = int.from_bytes(data[position + 1 : start])
    return kind, data[start : start + size], start + size
