"""Messages that Sequoia's binding does not open: decrypted here, encrypted again for it.

- GnuPG's own encrypted packet (type 20, OCB): GnuPG from 2.3 on encrypts so for keys that it made
  itself. The packet was in drafts of what became RFC 9580 (draft-ietf-openpgp-rfc4880bis-10 section
  5.16) and is in no standard. It is decrypted here, chunk by chunk with its tags.
- Keys on Brainpool curves, and contents that are compressed with BZip2, which the binding is built
  without.
- Messages that are signed and not encrypted (`gpg --sign`): the binding gives out only what it has
  verified, and nobody may know the signer.

What is found inside is encrypted again, for a password of this moment, as a packet of type 18: what
the message holds is then read, verified and bounded like that of any other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESOCB3
from cryptography.hazmat.primitives.constant_time import bytes_eq

from services.decryptor.cms.errors import CmsError, NotOpened, Unsupported
from services.decryptor.openpgp.aead import decrypt_version_2
from services.decryptor.openpgp.recipients import (
    ANYONE,
    EncryptedSessionKey,
    Message,
    recipient_of,
)
from services.decryptor.openpgp.session_keys import SessionKey, block_cipher, session_key
from services.decryptor.openpgp.signature_counts import LOOK, has_many_signatures
from services.decryptor.openpgp.signed_messages import in_one_pass
from shared.certificates import OpenPGPKey
from shared.certificates.openpgp_keys import secret_packet
from shared.certificates.openpgp_subkeys import Subkey

_OCB = 2
#: Versions of a packet with the session key: for type 18 of version 2, and for all others (RFC 9580
#: section 10.3.2.1).
_NEW, _OLD = 6, 3
_AES_256, _SHA_256 = 9, 8
#: How a packet of type 19 with a SHA-1 begins.
_MDC = b"\xd3\x14"
_TAG_BYTES = 16
_NONCE_BYTES = 15
#: A message of this form, and what it unpacks to, is in memory several times over while it is
#: encrypted again.
MAX_BYTES = 1 << 26
#: Recipients that are tried: each costs an operation with the private key.
MAX_RECIPIENTS = 64
MANY_SIGNATURES = "The message holds more or longer signatures than are looked at."


class DecryptedPackets(NamedTuple):
    """The packets inside a message, with the recipient and the session key that opened it."""

    packets: bytes
    recipient: bytes
    key: SessionKey


class Reencrypted(NamedTuple):
    """A message and the password that opens it."""

    message: bytes
    password: str


def reencrypted(message: Message, key: OpenPGPKey, subkey: Subkey, limit: int) -> Reencrypted:
    """The message of that subkey, for a password. `limit` bounds what is unpacked, in octets.

    Raises NotOpened (damaged, or another key), Malformed (over the limit) or Unsupported.
    """
    return for_password(decrypted(message, key, subkey).packets, limit)


def for_password(packets: bytes, limit: int) -> Reencrypted:
    """A message that holds these packets. `limit` bounds what is unpacked, in octets.

    Raises NotOpened (damaged), Malformed (over the limit) or Unsupported (many signatures).
    """
    plain = in_one_pass(packets, min(limit, MAX_BYTES))
    if has_many_signatures(plain[:LOOK]):
        raise Unsupported(MANY_SIGNATURES)
    password = os.urandom(16).hex()
    # The session key is the digest of the password: simple S2K (RFC 9580 section 3.7.1.1).
    session = hashlib.sha256(password.encode()).digest()
    prefix = os.urandom(16)
    prefix += prefix[-2:]
    body = prefix + plain + _MDC
    body += hashlib.sha1(body, usedforsecurity=False).digest()
    context = Cipher(algorithms.AES(session), CFB(bytes(16))).encryptor()
    sealed = b"\1" + context.update(body) + context.finalize()
    return Reencrypted(
        _packet(3, bytes((4, _AES_256, 0, _SHA_256))) + _packet(18, sealed), password
    )


def decrypted(
    message: Message,
    key: OpenPGPKey,
    subkey: Subkey,
    wanted: Collection[EncryptedSessionKey] | None = None,
) -> DecryptedPackets:
    """The packets inside, by that subkey, with one of the copies of the session key that are
    `wanted`, each of which is tried; else with one of a few that are for that subkey.

    Raises NotOpened or Unsupported.
    """
    secret = secret_packet(key, subkey.fingerprint)
    failure: CmsError = NotOpened()
    version = _NEW if message.kind == 18 and message.data[:1] == b"\2" else _OLD
    for recipient in meant(message, subkey, wanted):
        if recipient[0] != version:
            continue
        try:
            found = session_key(secret, subkey.fingerprint, recipient)
            opens = _decrypt_20 if message.kind == 20 else _decrypt_18
            return DecryptedPackets(opens(message.data, found), recipient, found)
        except NotOpened:
            pass  # another copy may open it
        except Unsupported as error:
            failure = error
    raise failure


def meant(
    message: Message, subkey: Subkey, wanted: Collection[EncryptedSessionKey] | None
) -> list[bytes]:
    """The copies of the session key that may be for that subkey."""
    if wanted is not None:
        return [
            one
            for one in message.recipients
            if len(one) > 10 and EncryptedSessionKey(*recipient_of(one)) in wanted
        ]
    names = (subkey.key_id, subkey.fingerprint, ANYONE)
    found = [one for one in message.recipients if len(one) >= 12 and recipient_of(one)[0] in names]
    return found[:MAX_RECIPIENTS]


def _decrypt_18(data: bytes, key: SessionKey) -> bytes:
    """The packets inside one of type 18 (RFC 9580 section 5.13)."""
    if data[:1] == b"\2":
        return decrypt_version_2(data, key.key)
    if data[:1] != b"\1":
        raise Unsupported("This version of the encrypted packet is not read here.")
    context = Cipher(block_cipher(key), CFB(bytes(16))).decryptor()
    body = context.update(data[1:]) + context.finalize()
    digest = hashlib.sha1(body[:-20], usedforsecurity=False).digest()
    if len(body) < 40 or body[-22:-20] != _MDC or not bytes_eq(digest, body[-20:]):
        raise NotOpened
    return body[18:-22]


def _decrypt_20(data: bytes, key: SessionKey) -> bytes:
    """The packets inside one of type 20: chunks of 2^(c+6) octets, each with its tag, and a last
    tag over all of them."""
    if len(data) < 4 + _NONCE_BYTES + _TAG_BYTES or data[0] != 1:
        raise NotOpened
    cipher, mode, size = data[1:4]
    if cipher != key.cipher:
        raise NotOpened
    if mode != _OCB or size > 22:
        raise Unsupported("This mode of GnuPG's own form of encryption is not supported.")
    head, nonce = b"\xd4" + data[:4], data[4 : 4 + _NONCE_BYTES]
    chunk = (1 << size + 6) + _TAG_BYTES
    sealed, final = data[4 + _NONCE_BYTES : -_TAG_BYTES], data[-_TAG_BYTES:]
    context = AESOCB3(key.key)
    found: list[bytes] = []
    number = 0
    try:
        for number, at in enumerate(range(0, len(sealed), chunk)):
            piece = sealed[at : at + chunk]
            ad = head + number.to_bytes(8)
            found.append(context.decrypt(_nonce(nonce, number), piece, ad))
        number = len(found)
        total = sum(map(len, found)).to_bytes(8)
        context.decrypt(_nonce(nonce, number), final, head + number.to_bytes(8) + total)
    except (InvalidTag, ValueError) as error:
        raise NotOpened from error
    return b"".join(found)


def _nonce(start: bytes, number: int) -> bytes:
    return start[:-8] + (int.from_bytes(start[-8:]) ^ number).to_bytes(8)


def _packet(kind: int, body: bytes) -> bytes:
    return bytes((0xC0 | kind, 0xFF)) + len(body).to_bytes(4) + body
