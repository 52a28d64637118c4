"""OpenPGP packets made by hand, as no program makes them (RFC 9580)."""

from __future__ import annotations

import hashlib
import os
import time

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESOCB3
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pysequoia import Tsk
from pysequoia.packet import PacketPile, Tag

from services.decryptor.openpgp.recipients import recipient_of, whole_message
from services.decryptor.openpgp.reencryption import decrypted
from shared.certificates import OpenPGPKey
from shared.certificates.openpgp_subkeys import framed
from shared.mail.region import region

_ED25519 = 27
_DIGESTS = {1: "md5", 2: "sha1", 3: "ripemd160", 10: "sha512"}


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
    signed = over + head + b"\x04\xff" + len(head).to_bytes(4)
    digest = hashlib.new(_DIGESTS[by], signed, usedforsecurity=False).digest()
    return head + b"\0\0" + digest[:2] + owner.sign(digest)


def certified(
    owner: Ed25519PrivateKey, public: bytes, user_id: bytes, *, flags: int = 3, more: bytes = b""
) -> bytes:
    """A key with a user id that it binds to itself, made now."""
    over = framed(public) + b"\xb4" + len(user_id).to_bytes(4) + user_id
    own = made_signature(owner, public, 0x13, over, int(time.time()), flags=flags, more=more)
    return packet(6, public) + packet(13, user_id) + packet(2, own)


def locked(secret: Tsk, password: str, usage: int) -> bytes:
    """A secret key as it is, behind a password: by AEAD and Argon2 (usage 253), or by CFB and
    iterations (254); RFC 9580 sections 3.7 and 5.5.3."""
    public = {
        one.fingerprint: one.body
        for one in PacketPile.from_bytes(bytes(secret.extract_certificate()))
    }
    kinds = ((Tag.SecretKey, 5), (Tag.SecretSubkey, 7), (Tag.UserID, 13), (Tag.Signature, 2))
    made = b""
    for one in PacketPile.from_bytes(bytes(secret)):
        kind, body = next(number for tag, number in kinds if tag == one.tag), one.body
        if kind in (5, 7):
            assert one.fingerprint is not None
            body = _locked(kind, public[one.fingerprint], body, password.encode(), usage)
        made += packet(kind, body)
    return made


def _locked(kind: int, public: bytes, body: bytes, password: bytes, usage: int) -> bytes:
    is_new = public[0] == 6
    plain = body[len(public) + 1 : None if is_new else -2]
    nonce, salt = os.urandom(15 if usage == 253 else 16), os.urandom(16)
    if usage == 253:
        stretched = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=1 << 12)
        how, stretch = bytes((9, 2)), bytes((4,)) + salt + bytes((1, 1, 12))
        info = bytes((0xC0 | kind,)) + public[:1] + how
        key = HKDF(hashes.SHA256(), 32, None, info).derive(stretched.derive(password))
        sealed = AESOCB3(key).encrypt(nonce, plain, bytes((0xC0 | kind,)) + public)
    else:
        how, stretch = bytes((9,)), bytes((3, 8)) + salt[:8] + bytes((96,))
        data = salt[:8] + password
        count = 16 << 12
        key = hashlib.sha256((data * (count // len(data) + 1))[:count]).digest()
        context = Cipher(algorithms.AES(key), CFB(nonce)).encryptor()
        check = hashlib.sha1(plain, usedforsecurity=False).digest()
        sealed = context.update(plain + check) + context.finalize()
    if is_new:
        how += bytes((len(stretch),))
        how = bytes((len(how + stretch + nonce),)) + how
    return public + bytes((usage,)) + how + stretch + nonce + sealed


def public_of(owner: Ed25519PrivateKey, at: int) -> bytes:
    """The body of a public key packet of version 4."""
    point = owner.public_key().public_bytes_raw()
    return bytes((4,)) + at.to_bytes(4) + bytes((_ED25519,)) + point


def sealed_again(message: bytes, key: OpenPGPKey, packets: bytes, *, mixed: bool = False) -> bytes:
    """A message with other packets inside, for whom `message` is, by its session key: in the form
    of RFC 9580 (type 18, version 2, OCB) where that has it, else in that of RFC 4880; `mixed`: in
    the other one of them."""
    read = whole_message(region(message))
    found = next(
        decrypted(read, key, one)
        for one in key.subkeys
        if recipient_of(read.recipients[0])[0] in (one.key_id, one.fingerprint)
    )
    recipient, session = packet(1, found.recipient), found.key.key
    if (read.data[0] == 2) != mixed:
        head = bytes((2, 9, 2, 16))
        salt, ad = os.urandom(32), b"\xd2" + head
        derived = HKDF(hashes.SHA256(), 39, salt, ad).derive(session)
        ocb, prefix = AESOCB3(derived[:32]), derived[32:]
        assert len(packets) <= 1 << 22
        body = ocb.encrypt(prefix + bytes(8), packets, ad)
        body += ocb.encrypt(prefix + (1).to_bytes(8), b"", ad + len(packets).to_bytes(8))
        return recipient + packet(18, head + salt + body)
    plain = bytes(18) + packets + b"\xd3\x14"
    plain += hashlib.sha1(plain, usedforsecurity=False).digest()
    context = Cipher(algorithms.AES(session), CFB(bytes(16))).encryptor()
    return recipient + packet(18, b"\1" + context.update(plain) + context.finalize())
