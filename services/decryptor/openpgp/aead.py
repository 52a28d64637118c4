"""The encrypted data packet of RFC 9580: type 18, version 2 (section 5.13.2)."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import cmac, hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.decryptor.cms.errors import Malformed, NotOpened, Unsupported

_EAX, _OCB, _GCM = 1, 2, 3
#: Octets of the nonce by mode (section 9.6), and of a key by cipher.
NONCES = {_EAX: 16, _OCB: 15, _GCM: 12}
_KEYS = {7: 16, 8: 24, 9: 32}
_TAG = 16
_SALT = 32
_LARGEST_CHUNK = 16
_HEAD = 4
#: Pieces in EAX, which is made of other modes here and takes ten times as long. Programs make
#: pieces of 4 KiB and more; these are for 64 MiB of them.
_MOST_PIECES = 1 << 14
_COUNTER = 8

Decrypt = Callable[[bytes, bytes, bytes], bytes]


def decrypt_version_2(data: bytes, session_key: bytes) -> bytes:
    """The packets inside the body of such a packet.

    Raises NotOpened, Malformed (more pieces than any program makes) or Unsupported.
    """
    start = _HEAD + _SALT
    if len(data) < start + _TAG or data[0] != 2:
        raise NotOpened
    _, cipher, mode, size = data[:_HEAD]
    if cipher not in _KEYS or mode not in NONCES or size > _LARGEST_CHUNK:
        raise Unsupported("This mode of the encrypted packet is not supported.")
    if len(session_key) != _KEYS[cipher]:
        raise NotOpened
    # As additional data, the packet is named by its type as a new header has it.
    ad = b"\xd2" + data[:_HEAD]
    length = _KEYS[cipher] + NONCES[mode] - _COUNTER
    derived = HKDF(hashes.SHA256(), length, data[_HEAD:start], ad).derive(session_key)
    key, prefix = derived[: _KEYS[cipher]], derived[_KEYS[cipher] :]
    decrypt = decrypting(mode, key)
    chunk = (1 << size + 6) + _TAG
    sealed, final = data[start:-_TAG], data[-_TAG:]
    if mode == _EAX and len(sealed) > chunk * _MOST_PIECES:
        raise Malformed("The message is cut into too many pieces.")
    found: list[bytes] = []
    try:
        for number, at in enumerate(range(0, len(sealed), chunk)):
            found.append(decrypt(prefix + number.to_bytes(_COUNTER), sealed[at : at + chunk], ad))
        total = sum(map(len, found)).to_bytes(8)
        decrypt(prefix + len(found).to_bytes(_COUNTER), final, ad + total)
    except (InvalidTag, ValueError) as error:
        raise NotOpened from error
    return b"".join(found)


def decrypting(mode: int, key: bytes) -> Decrypt:
    """What opens one piece of that mode (section 9.6): of nonce, sealed text and additional data.
    Raises InvalidTag, or ValueError for a piece that is too short."""
    if mode == _OCB:
        return AESOCB3(key).decrypt
    if mode == _GCM:
        return AESGCM(key).decrypt
    return lambda nonce, sealed, ad: decrypt_eax(key, nonce, sealed, ad)


def decrypt_eax(key: bytes, nonce: bytes, sealed: bytes, ad: bytes) -> bytes:
    """EAX (Bellare, Rogaway, Wagner 2004) with AES and a tag of 16 octets. Raises InvalidTag."""
    text, tag = sealed[:-_TAG], sealed[-_TAG:]
    counter, header, of_text = (_omac(key, t, one) for t, one in enumerate((nonce, ad, text)))
    expected = bytes(a ^ b ^ c for a, b, c in zip(counter, header, of_text, strict=True))
    if not bytes_eq(expected, tag):
        raise InvalidTag
    context = Cipher(algorithms.AES(key), modes.CTR(counter)).decryptor()
    return context.update(text) + context.finalize()


def _omac(key: bytes, number: int, octets: bytes) -> bytes:
    context = cmac.CMAC(algorithms.AES(key))
    context.update(number.to_bytes(_TAG))
    context.update(octets)
    return context.finalize()
