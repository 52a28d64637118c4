"""For whom an OpenPGP message is, and how it is encrypted: its first packets, without reading the
rest (RFC 9580)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from services.decryptor.openpgp.packets import joined, octets_of, out_of_armour, packet_at
from shared.mail.region import Region

#: Where the encrypted data packet mostly has begun, and where it must have: no mail has more
#: recipients than fit.
_LOOK_BYTES = 1 << 17
_MOST_BYTES = 1 << 22
ANYONE = "0" * 16

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
#: A session key for a password: of versions 4, 5 and 6, each with the cipher, the mode of AEAD if
#: there is one, and how the key is made of the password (sections 3.7.1 and 5.3).
_PASSWORD = re.compile(
    rb"\x04[\x01-\x04\x07-\x0d][\0\1\3\4]|\x05[\x07-\x0d][\1-\3][\0\1\3\4]"
    rb"|\x06.[\x07-\x0d][\1-\3].[\0\1\3\4]",
    re.DOTALL,
)
_LONGEST_PASSWORD = 128
#: What a message that nobody encrypted begins with: a signature, compressed data or a text.
_NOT_ENCRYPTED = (2, 4, 8, 11)
_ENCRYPTED = (9, 18, 20)
#: (cipher, mode) of RFC 9580 that are opened: AES with each mode.
_COMMON = {(cipher, mode) for cipher in (7, 8, 9) for mode in _AEAD}


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
    found = _addressed(out_of_armour(message.copy(_LOOK_BYTES)))
    if not found.kind and len(message) > _LOOK_BYTES:
        found = _addressed(out_of_armour(message.copy(_MOST_BYTES)))
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
    while packet := packet_at(data, position):
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


def is_session_key(kind: int, body: bytes) -> bool:
    """Whether the body of a packet of type 1 or 3 is what it says: of a version and for algorithms
    that there are, and of their length (sections 5.1 and 5.3)."""
    if len(body) < 4:
        return False
    if kind == 3:
        return _PASSWORD.match(body) is not None and len(body) < _LONGEST_PASSWORD
    if len(body) < 11 or body[0] not in (3, 6):
        return False
    _, algorithm = recipient_of(body)
    if body[0] == 3 and algorithm in (1, 2):
        return (int.from_bytes(body[10:12]) + 7) // 8 == len(body) - 12
    return algorithm in _PUBLIC_KEY


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
    data = out_of_armour(message.copy(_LOOK_BYTES))
    position = 0
    while packet := packet_at(data, position):
        kind, body, behind = packet
        if kind not in (1, 3, 10, 21):
            return kind == 18 and joined(data, position, body)[:1] == b"\1"
        position = behind
    return False


def whole_message(message: Region) -> Message:
    """The packets of a message up to the encrypted one, that in one piece. Reads all of it."""
    return _message_of(octets_of(message))


def beginning_of(message: Region) -> Message:
    """The same of a long message, of whose encrypted packet the first octets are there, if any."""
    return _message_of(out_of_armour(message.copy(_LOOK_BYTES)))


def _message_of(data: bytes) -> Message:
    recipients: list[bytes] = []
    position = 0
    while packet := packet_at(data, position):
        kind, body, behind = packet
        if kind == 1:
            recipients.append(body)
        elif kind not in (3, 10, 21):
            return Message(tuple(recipients), kind, joined(data, position, body))
        position = behind
    return Message(tuple(recipients), 0, b"")


def narrowed(message: Region, wanted: Collection[EncryptedSessionKey]) -> bytes:
    """The packets of a message with no other copies of the session key than those `wanted`."""
    data = octets_of(message)
    kept = bytearray()
    position = 0
    while packet := packet_at(data, position):
        kind, body, behind = packet
        if kind not in (1, 3, 10, 21):
            break
        if kind == 1 and len(body) > 10 and EncryptedSessionKey(*recipient_of(body)) in wanted:
            kept += data[position:behind]
        position = behind
    return bytes(kept) + data[position:]


def recipient_of(body: bytes) -> tuple[str, int]:
    """(key id or fingerprint, algorithm) of a Public-Key Encrypted Session Key (section 5.1)."""
    if body[0] == 6:
        size = body[1]
        fingerprint = body[3 : 2 + size].hex() if size else ANYONE
        return fingerprint, body[2 + size] if len(body) > 2 + size else 0
    return body[1:9].hex(), body[9]
