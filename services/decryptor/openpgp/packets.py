"""For whom an OpenPGP message is: its first packets, without reading the rest (RFC 9580)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection, Iterator
from itertools import islice
from typing import NamedTuple

from shared.mail.region import Region

ARMOUR_MESSAGE = b"-----BEGIN PGP MESSAGE-----"
ARMOUR_SIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----"
#: Where the encrypted data packet mostly has begun, and where it must have: no mail has more
#: recipients than fit.
_LOOK_BYTES = 1 << 17
_MOST_BYTES = 1 << 22
ANYONE = "0" * 16
#: Pieces of one packet, and packets, that are looked at: more make no message of these sizes.
_MOST_PIECES = 1 << 17
_MOST_PACKETS = 1 << 18

_PUBLIC_KEY = {
    1: "RSA",
    2: "RSA",
    16: "ElGamal",
    18: "ECDH",
    25: "X25519",
    26: "X448",
    35: "ML-KEM-768+X25519",
    36: "ML-KEM-1024+X448",
}
#: Those of them that are opened where the key is here (RFC 9580 section 9.1).
_OPENED = (1, 2, 18, 25, 26, 35, 36)
_SYMMETRIC = {
    1: "IDEA",
    2: "3DES",
    3: "CAST5",
    4: "Blowfish",
    7: "AES-128",
    8: "AES-192",
    9: "AES-256",
    10: "Twofish",
    11: "Camellia-128",
    12: "Camellia-192",
    13: "Camellia-256",
}
_AEAD = {1: "EAX", 2: "OCB", 3: "GCM"}
#: What a message that nobody encrypted begins with: a signature, compressed data or a text.
_NOT_ENCRYPTED = (2, 4, 8, 11)
_ENCRYPTED = (9, 18, 20)
#: (cipher, mode) of RFC 9580 that are opened: AES with each mode.
_COMMON = {(cipher, mode) for cipher in (7, 8, 9) for mode in _AEAD}


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


class Message(NamedTuple):
    """The packets of an encrypted message: the bodies for its recipients, and the encrypted one
    with its type (0 where there is none)."""

    recipients: tuple[bytes, ...]
    kind: int
    data: bytes


class EncryptedForm(NamedTuple):
    """How the content of a message is encrypted: the algorithms in words.

    `unsupported` says why it is not opened, whoever has the key; empty where it may be.
    `needs_reencryption`: Sequoia opens it in another form only (`reencryption`). `uncommon`: the
    cipher and its mode are none that was ever seen to open, so what does not open need not be
    damaged."""

    algorithm: str | None = None
    unsupported: str = ""
    needs_reencryption: bool = False
    uncommon: bool = False


class EncryptedSessionKey(NamedTuple):
    """One copy of the session key: key id or fingerprint (`ANYONE` where the sender hid it), and
    the algorithm of the key (RFC 9580 section 9.1)."""

    key_id: str
    algorithm: int


class Addressed(NamedTuple):
    """The recipients of a message: key ids or fingerprints in lower-case hex, `anyone` where the
    sender hid them; `password` where a password opens it; and the algorithm of the first in words.
    `unsupported_keys`: the algorithms of the recipients where none of them is opened here.
    `session_keys` are all copies of it. `kind` is the type of the packet behind them, 0 where there
    is none; `endless`: the recipients do not end where those of a mail do."""

    key_ids: tuple[str, ...]
    anyone: bool
    password: bool
    key_algorithm: str | None
    unsupported_keys: str
    form: EncryptedForm
    session_keys: tuple[EncryptedSessionKey, ...] = ()
    kind: int = 0
    endless: bool = False

    @property
    def is_encrypted(self) -> bool:
        """Whether it is a message that somebody encrypted, for whomever."""
        return bool(self.session_keys) or self.password or self.kind in _ENCRYPTED

    @property
    def is_plain(self) -> bool:
        """Whether it is a message that nobody encrypted: signed, compressed, or neither."""
        return not self.is_encrypted and self.kind in _NOT_ENCRYPTED


def addressed(message: Region) -> Addressed:
    """Reads the packets before the encrypted data; whatever is damaged just ends the list."""
    found = _addressed(_binary(message.copy(_LOOK_BYTES)))
    if not found.kind and len(message) > _LOOK_BYTES:
        found = _addressed(_binary(message.copy(_MOST_BYTES)))
        return found._replace(endless=not found.kind and len(message) > _MOST_BYTES)
    return found


def _addressed(data: bytes) -> Addressed:
    session_keys: list[EncryptedSessionKey] = []
    algorithms: list[str] = []
    unsupported: list[str] = []
    password = False
    form = EncryptedForm()
    behind = 0
    position = 0
    while packet := _packet(data, position):
        kind, body, position = packet
        if kind == 1 and len(body) > 10:
            key_id, algorithm = recipient_of(body)
            session_keys.append(EncryptedSessionKey(key_id, algorithm))
            algorithms.append(_PUBLIC_KEY.get(algorithm, f"algorithm {algorithm}"))
            if algorithm not in _OPENED:
                unsupported.append(algorithms[-1])
        elif kind == 3:
            password = True
        elif kind not in (1, 10, 21):  # cut off, markers and padding
            form, behind = _form_of(kind, body), kind
            break
    none_opened = bool(unsupported) and len(unsupported) == len(session_keys)
    return Addressed(
        tuple(one.key_id for one in session_keys if one.key_id != ANYONE),
        any(one.key_id == ANYONE for one in session_keys),
        password,
        algorithms[0] if algorithms else None,
        " or ".join(dict.fromkeys(unsupported)) if none_opened else "",
        form,
        tuple(session_keys),
        behind,
    )


def _form_of(kind: int, body: bytes) -> EncryptedForm:
    """The form of the encrypted packet of type `kind` (RFC 9580 sections 5.7 and 5.13)."""
    if kind == 9:
        return EncryptedForm(
            "CFB without MDC",
            "The message has nothing that shows changes, and is not opened (EFAIL).",
        )
    if kind == 18 and body:
        if body[0] == 2 and len(body) > 3:
            uncommon = (body[1], body[2]) not in _COMMON
            return EncryptedForm(_cipher_and_mode(body), uncommon=uncommon)
        if body[0] > 2:
            name = f"version {body[0]} of packet type 18"
            return EncryptedForm(name, f"The encryption by {name} is not supported.")
        return EncryptedForm("CFB with MDC")
    if kind == 20 and len(body) > 3:
        name = _cipher_and_mode(body)
        if body[1] in (7, 8, 9) and body[2] == 2:
            return EncryptedForm(name, needs_reencryption=True)
        return EncryptedForm(
            name,
            f"The message is encrypted in a form of GnuPG's own (packet type 20, {name}), which is "
            "not supported.",
        )
    return EncryptedForm()


def _cipher_and_mode(body: bytes) -> str:
    cipher = _SYMMETRIC.get(body[1], f"cipher {body[1]}")
    return f"{cipher}-{_AEAD.get(body[2], body[2])}"


def is_ordinary(message: Region) -> bool:
    """Whether the encrypted packet is of type 18 version 1 (RFC 9580 section 5.13.1)."""
    data = _binary(message.copy(_LOOK_BYTES))
    position = 0
    while packet := _packet(data, position):
        kind, body, position = packet
        if kind not in (1, 3, 10, 21):
            # Of a partial length, whose octet comes before the version.
            return kind == 18 and b"\1" in body[:2]
    return False


def whole_message(message: Region) -> Message:
    """The packets of a message up to the encrypted one, that in one piece. Reads all of it."""
    data = _binary(message.copy())
    recipients: list[bytes] = []
    position = 0
    while packet := _packet(data, position):
        kind, body, behind = packet
        if kind == 1:
            recipients.append(body)
        elif kind not in (3, 10, 21):
            return Message(tuple(recipients), kind, _joined(data, position, body))
        position = behind
    return Message(tuple(recipients), 0, b"")


def narrowed(message: Region, wanted: Collection[EncryptedSessionKey]) -> bytes:
    """The packets of a message with no other copies of the session key than those `wanted`."""
    data = octets_of(message)
    kept = bytearray()
    position = 0
    while packet := _packet(data, position):
        kind, body, behind = packet
        if kind not in (1, 3, 10, 21):
            break
        if kind == 1 and len(body) > 10 and EncryptedSessionKey(*recipient_of(body)) in wanted:
            kept += data[position:behind]
        position = behind
    return bytes(kept) + data[position:]


def octets_of(message: Region) -> bytes:
    """All packets of a message, out of their armour."""
    return _binary(message.copy())


def why_not_one_message(data: bytes) -> str:
    """Why packets are not those of one message (RFC 9580 section 10.3) alone; empty where they are.

    Sequoia reads the first of several, GnuPG refuses them. What does not begin like a packet is
    let pass.
    """
    kinds = "".join(_LETTERS.get(kind, "?") for kind in islice(_kinds_of(data), _MOST_PACKETS))
    if kinds.count(_NOTHING) > _MOST_FILLING:
        return "The message holds too many packets that say nothing."
    one = _MESSAGE.fullmatch(kinds.replace(_NOTHING, ""))
    return "" if one else "Several encrypted messages lie in one part."


def _kinds_of(data: bytes) -> Iterator[int]:
    position = 0
    while packet := _packet(data, position):
        kind, _, position = packet
        yield kind


def packets_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each packet, bodies in one piece; what is damaged ends them.

    A megabyte can hold half a million of them: take no more than there may be.
    """
    position = 0
    while packet := _packet(data, position):
        kind, body, behind = packet
        yield kind, _joined(data, position, body)
        position = behind


def _joined(data: bytes, position: int, body: bytes) -> bytes:
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


def _binary(data: bytes) -> bytes:
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


def _packet(data: bytes, position: int) -> tuple[int, bytes, int] | None:
    """(type, body, offset behind it) of the packet at `position` (section 4.2).

    Of a packet of partial length, the lengths of its pieces are left in the body (`_joined`); one
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


def recipient_of(body: bytes) -> tuple[str, int]:
    """(key id or fingerprint, algorithm) of a Public-Key Encrypted Session Key (section 5.1)."""
    if body[0] == 6:
        size = body[1]
        fingerprint = body[3 : 2 + size].hex() if size else ANYONE
        return fingerprint, body[2 + size] if len(body) > 2 + size else 0
    return body[1:9].hex(), body[9]
