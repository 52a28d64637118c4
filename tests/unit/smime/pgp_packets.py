"""OpenPGP packets made by hand, as no program makes them (RFC 9580)."""

from __future__ import annotations

import hashlib
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.certificates.openpgp_subkeys import framed

_ED25519 = 27
_DIGESTS = {1: hashlib.md5, 2: hashlib.sha1, 10: hashlib.sha512}


def packet(kind: int, body: bytes) -> bytes:
    return bytes((0xC0 | kind, 0xFF)) + len(body).to_bytes(4) + body


def made_signature(
    owner: Ed25519PrivateKey,
    public: bytes,
    kind: int,
    over: bytes,
    at: int,
    *,
    flags: int = 0,
    embedded: bytes = b"",
    more: bytes = b"",
    by: int = 10,
) -> bytes:
    """The body of a signature packet of version 4 by the key whose packet has the body `public`.

    `more`: further hashed subpackets; `by`: the number of the digest.
    """
    hashed = bytes((5, 2)) + at.to_bytes(4)
    hashed += bytes((22, 33, 4)) + hashlib.sha1(framed(public), usedforsecurity=False).digest()
    hashed += bytes((2, 27, flags)) if flags else b""
    if embedded:
        hashed += b"\xff" + (1 + len(embedded)).to_bytes(4) + bytes((32,)) + embedded
    hashed += more
    head = bytes((4, kind, _ED25519, by)) + len(hashed).to_bytes(2) + hashed
    digest = _DIGESTS[by](over + head + b"\x04\xff" + len(head).to_bytes(4)).digest()
    return head + b"\0\0" + digest[:2] + owner.sign(digest)


def certified(
    owner: Ed25519PrivateKey, public: bytes, user_id: bytes, *, flags: int = 3, more: bytes = b""
) -> bytes:
    """A key with a user id that it binds to itself, made now."""
    over = framed(public) + b"\xb4" + len(user_id).to_bytes(4) + user_id
    own = made_signature(owner, public, 0x13, over, int(time.time()), flags=flags, more=more)
    return packet(6, public) + packet(13, user_id) + packet(2, own)


def public_of(owner: Ed25519PrivateKey, at: int) -> bytes:
    """The body of a public key packet of version 4."""
    point = owner.public_key().public_bytes_raw()
    return bytes((4,)) + at.to_bytes(4) + bytes((_ED25519,)) + point
