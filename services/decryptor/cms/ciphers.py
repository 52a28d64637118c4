"""Content encryption: streams ciphertext in, plaintext out (RFC 3565, 5084, 3370).

CBC is opened because it is what most senders produce. It proves nothing about the content: whoever
can change the mail can change the plaintext (EFAIL), which is why the integrity of a mail is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import (
    AEADDecryptionContext,
    Cipher,
    CipherContext,
    algorithms,
    modes,
)

from services.decryptor.cms.algorithms import Algorithm
from services.decryptor.cms.ber import INTEGER, OCTET_STRING, SEQUENCE, octet_string, reader_at
from services.decryptor.cms.errors import Malformed, NotOpened, Unsupported
from services.decryptor.cms.oids import dotted, oid
from services.decryptor.spool import SpoolWriter
from shared.mail.region import Region, made

Mode = Literal["CBC", "GCM"]
#: RFC 5084 section 3.2: aes-ICVlen DEFAULT 12. Shorter tags can be guessed.
MIN_TAG_BYTES = 12
_GATHER = 1 << 16
_LARGEST_BLOCK = 16
_PADDINGS = [bytes((count,)) * count for count in range(17)]


class ContentCipher(NamedTuple):
    """A content encryption algorithm with its parameters, ready for a key."""

    name: str
    key_bytes: int
    block_bytes: int
    mode: Mode
    nonce: bytes
    tag_bytes: int = 0


_AES = "2.16.840.1.101.3.4.1."
_KNOWN: dict[bytes, tuple[str, int, int, Mode]] = {
    oid(_AES + "2"): ("AES-128-CBC", 16, 16, "CBC"),
    oid(_AES + "22"): ("AES-192-CBC", 24, 16, "CBC"),
    oid(_AES + "42"): ("AES-256-CBC", 32, 16, "CBC"),
    oid(_AES + "6"): ("AES-128-GCM", 16, 16, "GCM"),
    oid(_AES + "26"): ("AES-192-GCM", 24, 16, "GCM"),
    oid(_AES + "46"): ("AES-256-GCM", 32, 16, "GCM"),
    oid("1.2.840.113549.3.7"): ("3DES-CBC", 24, 8, "CBC"),
}
_NAMED = {
    oid("1.2.840.113549.3.2"): "RC2-CBC",
    oid("1.3.14.3.2.7"): "DES-CBC",
    oid("1.2.840.113549.3.4"): "RC4",
    oid(_AES + "7"): "AES-128-CCM",
    oid(_AES + "27"): "AES-192-CCM",
    oid(_AES + "47"): "AES-256-CCM",
    oid("1.2.840.113549.1.9.16.3.18"): "ChaCha20-Poly1305",
    oid("1.2.392.200011.61.1.1.1.2"): "Camellia-128-CBC",
    oid("1.2.392.200011.61.1.1.1.4"): "Camellia-256-CBC",
}


def cipher_name(name: bytes) -> str:
    """What people call the algorithm; its OID where it is not known."""
    known = _KNOWN.get(name)
    return known[0] if known else _NAMED.get(name, dotted(name))


def content_cipher(chosen: Algorithm) -> ContentCipher:
    """The cipher of a contentEncryptionAlgorithm. Raises Unsupported or Malformed."""
    known = _KNOWN.get(chosen.oid)
    if known is None:
        raise Unsupported(f"The content encryption {cipher_name(chosen.oid)} is not supported.")
    name, key_bytes, block_bytes, mode = known
    written = chosen.parameters
    if mode == "CBC":
        if len(written) == 2 + block_bytes and written[:2] == bytes((OCTET_STRING, block_bytes)):
            nonce = written[2:]
        else:
            nonce = octet_string(reader_at(written))
        if len(nonce) != block_bytes:
            raise Malformed("The initialisation vector has the wrong length.")
        return made(ContentCipher, (name, key_bytes, block_bytes, mode, nonce, 0))
    fields = reader_at(written).enter(SEQUENCE)
    nonce = octet_string(fields, OCTET_STRING)
    tag_bytes = int.from_bytes(fields.value(INTEGER)) if fields.peek() == INTEGER else 12
    if not MIN_TAG_BYTES <= tag_bytes <= 16:
        raise Unsupported("The authentication tag is too short to prove anything.")
    if not 8 <= len(nonce) <= 128:
        raise Malformed("The nonce has the wrong length.")
    return ContentCipher(name, key_bytes, block_bytes, mode, nonce, tag_bytes)


def decrypt_cbc(
    cipher: ContentCipher, key: bytes, pieces: Iterable[memoryview], sink: SpoolWriter
) -> None:
    """Writes the plaintext of CBC with the padding of RFC 5652 section 6.3.

    Raises NotOpened; what was written until then must be discarded.
    """
    context = _cbc(cipher, key)
    last = b""
    for plain in _updated(context, _gathered(pieces)):
        sink.write(plain)
        last = bytes(plain[-cipher.block_bytes :]) or last
    try:
        context.finalize()
    except ValueError as error:
        raise NotOpened from error
    sink.cut(_padding(last, cipher.block_bytes))


def cbc_in_memory(cipher: ContentCipher, key: bytes, content: memoryview) -> Region:
    """The plaintext of a small content in CBC. Raises NotOpened."""
    size = cipher.block_bytes
    if not content or len(content) % size:
        raise NotOpened
    plain = _cbc(cipher, key).update(content)
    return made(Region, (plain, 0, len(plain) - _padding(plain[-size:], size)))


def _cbc(cipher: ContentCipher, key: bytes) -> CipherContext:
    algorithm = TripleDES(key) if cipher.block_bytes == 8 else algorithms.AES(key)
    return Cipher(algorithm, modes.CBC(cipher.nonce)).decryptor()


def _padding(last: bytes, block_bytes: int) -> int:
    """How much of the last block is padding. Raises NotOpened where it is none."""
    count = last[-1] if last else 0
    if not 1 <= count <= block_bytes or not last.endswith(_PADDINGS[count]):
        raise NotOpened
    return count


def decrypt_gcm(
    cipher: ContentCipher,
    key: bytes,
    pieces: Iterable[memoryview],
    sink: SpoolWriter,
    *,
    tag: bytes | None,
    associated: bytes = b"",
) -> None:
    """Writes the plaintext of GCM; nothing of it may be used before this returns.

    `tag` None: the tag is the end of the ciphertext, as some toolkits put GCM into EnvelopedData.
    Raises NotOpened; what was written until then must be discarded.
    """
    if tag is not None and not MIN_TAG_BYTES <= len(tag) <= 16:
        raise NotOpened
    context = Cipher(
        algorithms.AES(key), modes.GCM(cipher.nonce, min_tag_length=MIN_TAG_BYTES)
    ).decryptor()
    assert isinstance(context, AEADDecryptionContext)
    if associated:
        context.authenticate_additional_data(associated)
    if tag is not None:
        for plain in _updated(context, _gathered(pieces)):
            sink.write(plain)
    else:
        ending = _CipherEnd(cipher.tag_bytes)
        for plain in _updated(context, ending.before(_gathered(pieces))):
            sink.write(plain)
        tag = ending.octets
        if len(tag) < cipher.tag_bytes:
            raise NotOpened
    try:
        sink.write(context.finalize_with_tag(tag))
    except InvalidTag as error:
        raise NotOpened from error


def _updated(context: CipherContext, pieces: Iterable[memoryview | bytes]) -> Iterator[memoryview]:
    """What comes out of each piece, valid until the next one is taken.

    In one buffer: `update` needs five times as long, as it makes and clears one for each piece.
    """
    buffer = bytearray()
    for piece in pieces:
        if len(buffer) < len(piece) + _LARGEST_BLOCK:
            buffer = bytearray(len(piece) + _LARGEST_BLOCK)
        with memoryview(buffer) as view, view[: context.update_into(piece, view)] as plain:
            yield plain


class _CipherEnd:
    """Keeps the last `size` octets of what passes, in `octets`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.octets = b""

    def before(self, pieces: Iterable[memoryview | bytes]) -> Iterator[bytes]:
        """All pieces but that ending."""
        for piece in pieces:
            held = self.octets + bytes(piece)
            self.octets = held[-self._size :]
            yield held[: -self._size]


def _gathered(pieces: Iterable[memoryview]) -> Iterator[memoryview | bytes]:
    """The same octets in pieces worth a call: BER chunks of 1,000 octets cost more than AES."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        if not waiting and len(piece) >= _GATHER:
            yield piece
            continue
        waiting.append(bytes(piece))
        size += len(piece)
        if size >= _GATHER:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield waiting[0] if len(waiting) == 1 else b"".join(waiting)
