"""EnvelopedData (RFC 5652 section 6) and AuthEnvelopedData (RFC 5083)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from services.decryptor.cms import oids
from services.decryptor.cms.algorithms import Algorithm, fresh_algorithm
from services.decryptor.cms.ber import INTEGER, OID, SEQUENCE, SET, Reader, octet_string, to_der
from services.decryptor.cms.ciphers import (
    ContentCipher,
    cbc_in_memory,
    cipher_name,
    content_cipher,
    decrypt_cbc,
    decrypt_gcm,
)
from services.decryptor.cms.content import pieces
from services.decryptor.cms.content_keys import can_be_opened, key_algorithm_name, unwrap
from services.decryptor.cms.errors import CmsError, Malformed, NoRecipient, NotOpened, Unsupported
from services.decryptor.cms.recipients import CmsRecipient, read_recipients
from services.decryptor.spool import Spool, SpoolWriter
from shared.certificates import Identity, IdentityIndex
from shared.mail.region import Region, made

#: Every matching pair of recipient and key is tried, but a mail cannot ask for endless tries.
MAX_TRIES = 16
#: Octets of padding that tell a content from noise: three are right by chance once in 16 millions.
TELLING_PADDING = 3


class Fields(NamedTuple):
    """Readers of the structure (`outer`) and of its EncryptedContentInfo (`inner`).

    `inner` stands before the encrypted content; whatever follows it is read while opening.
    """

    authenticated: bool
    outer: Reader
    inner: Reader


class Envelope(NamedTuple):
    """An encrypted content and for whom it is, read but not opened.

    `content` is where the encrypted content lies, or how to go on reading where it may be in pieces
    or something may come behind it.
    """

    body: Region
    recipients: list[CmsRecipient]
    content_type: bytes
    content_algorithm: Algorithm
    content: tuple[int, int] | Fields

    @property
    def cipher(self) -> str:
        """The content encryption in words."""
        return cipher_name(self.content_algorithm.oid)


class OpenedEnvelope(NamedTuple):
    """A decrypted content: its type, its octets, and by which identity and algorithms."""

    content_type: bytes
    content: Region
    identity: Identity
    key_algorithm: str
    integrity: Literal["aead", "none"]


#: A definite length as it is written: up to 127, 255 and 65,535 octets.
_LENGTH = rb"([\x00-\x7f]|\x81.|\x82..)"
_UP_TO_RECIPIENTS = re.compile(
    rb"\x30%b\x06\x09%b\xa0%b\x30%b\x02\x01[\x00\x02]\x31%b"
    % (_LENGTH, re.escape(oids.ENVELOPED_DATA), _LENGTH, _LENGTH, _LENGTH),
    re.DOTALL,
)
_BEHIND_RECIPIENTS = re.compile(
    rb"\x30%b\x06\x09(.{9})\x30\x1d(?=(.{29}))\x06\x09(.{9})(\x04\x10.{16})\x80%b"
    % (_LENGTH, _LENGTH),
    re.DOTALL,
)


def _length(written: bytes) -> int:
    return int.from_bytes(written[1:]) if len(written) > 1 else written[0]


def usual_envelope(body: Region) -> Envelope | None:
    """What most senders write: a ContentInfo of up to 64 KiB with EnvelopedData, AES in CBC.

    Found by its shape in two steps where `content_info` and `any_envelope` take twenty, which is a
    fifth of the time that a small mail needs. None where the shape is another (longer ones
    included), or anything is not what it must be.
    """
    buffer, _, end = body
    head = _UP_TO_RECIPIENTS.match(buffer, body.start, end)
    if head is None:
        return None
    outer, explicit, inner, recipients = head.groups()
    start = head.end()
    stop = start + _length(recipients)
    tail = _BEHIND_RECIPIENTS.match(buffer, stop, end)
    if tail is None:
        return None
    fields, content_type, parameters, algorithm, nonce, size = tail.groups()
    position = tail.end()
    behind = position + _length(size)
    if not (
        behind <= end
        and behind == tail.end(1) + _length(fields)
        and behind == head.end(3) + _length(inner)
        and behind == head.end(2) + _length(explicit)
        and behind == head.end(1) + _length(outer)
    ):
        return None
    try:
        known = read_recipients(buffer, start, stop)
    except Malformed:
        return None
    chosen = made(Algorithm, (algorithm, nonce, b"\x30\x1d" + parameters))
    return made(Envelope, (body, known, content_type, chosen, (position, behind)))


def any_envelope(body: Region, content: Reader, *, authenticated: bool) -> Envelope:
    """Reads element by element up to the encrypted content, with whatever kind of lengths.

    Raises Malformed.
    """
    outer = content.enter(SEQUENCE)
    outer.take(INTEGER)
    if outer.peek() == 0xA0:
        outer.take()  # originatorInfo: certificates of the sender, of no use here
    recipients = read_recipients(body.buffer, *outer.take(SET))
    fields = outer.enter(SEQUENCE)
    content_type = fields.value(OID)
    chosen = fresh_algorithm(fields.element(SEQUENCE))
    return Envelope(body, recipients, content_type, chosen, Fields(authenticated, outer, fields))


class Fitting(NamedTuple):
    """The recipients whose private keys are here, newest first, and the cipher of the content."""

    pairs: list[tuple[CmsRecipient, Identity]]
    cipher: ContentCipher

    def unwrap(self, number: int = 0) -> bytes:
        """The content key by one of the pairs. Raises Unsupported, Malformed or NotOpened."""
        recipient, identity = self.pairs[number]
        return unwrap(recipient, identity.private_key, self.cipher.key_bytes)


def fitting(envelope: Envelope, identities: IdentityIndex) -> Fitting:
    """Who here can open it. Raises NoRecipient, or Unsupported and Malformed for its cipher."""
    pairs = []
    for recipient in envelope.recipients:
        for identity in identities.matching(*recipient.identifier):
            pairs.append((recipient, identity))
    if not pairs:
        if envelope.recipients and not any(map(can_be_opened, envelope.recipients)):
            names = dict.fromkeys(map(key_algorithm_name, envelope.recipients))
            raise Unsupported(f"Encryption for a {' or '.join(names)} is not supported.")
        raise NoRecipient("None of the certificates here is among the recipients.")
    if len(pairs) > 1:
        pairs.sort(key=lambda pair: pair[1].not_before, reverse=True)
    return made(Fitting, (pairs, content_cipher(envelope.content_algorithm)))


def open_envelope(
    envelope: Envelope,
    keys: Fitting,
    spool: Spool,
    plausible: Callable[[bytes, Region], bool],
    *,
    first_key: bytes | None = None,
) -> OpenedEnvelope:
    """Decrypts with the newest of the `keys` that fits; `first_key` is what it unwrapped already.

    `plausible(content type, content)` says whether a content without integrity can be what it
    should be: a wrong key yields noise that passes the padding check once in 256 times. It is asked
    where the padding is too short to tell; else the content may be whatever somebody encrypted.
    Raises Unsupported, Malformed or NotOpened.
    """
    cipher = keys.cipher
    failure: CmsError = NotOpened()
    for number, (recipient, identity) in enumerate(keys.pairs[:MAX_TRIES]):
        try:
            key = first_key or keys.unwrap(number)
            first_key = None
            content = _decrypt(envelope, cipher, key, spool)
        except (Unsupported, Malformed) as error:
            failure = error  # of this recipient: what another one's key opens is opened
            continue
        except NotOpened:
            continue
        if (
            cipher.mode == "CBC"
            and len(content.buffer) - content.end < TELLING_PADDING  # it lies behind the content
            and not plausible(envelope.content_type, content)
        ):
            spool.drop(content)
            continue
        integrity = "aead" if cipher.mode == "GCM" else "none"
        name = key_algorithm_name(recipient)
        return made(OpenedEnvelope, (envelope.content_type, content, identity, name, integrity))
    raise failure


def _decrypt(envelope: Envelope, cipher: ContentCipher, key: bytes, spool: Spool) -> Region:
    if not isinstance(envelope.content, Fields):
        start, end = envelope.content
        return cbc_in_memory(cipher, key, memoryview(envelope.body.buffer)[start:end])
    authenticated, outer, inner = envelope.content
    before, behind = inner.position, outer.position
    sink = spool.sink()
    try:
        if authenticated:
            _authenticated(envelope.body, outer, inner, cipher, key, sink)
        elif cipher.mode == "CBC":
            decrypt_cbc(cipher, key, _ciphertext(envelope.body, inner), sink)
            outer.leave(inner)
        else:
            # GCM where RFC 5084 does not foresee it: the tag is the end of the ciphertext.
            decrypt_gcm(cipher, key, _ciphertext(envelope.body, inner), sink, tag=None)
        return sink.finish()
    except BaseException:
        sink.discard()
        raise
    finally:
        inner.position, outer.position = before, behind


def _ciphertext(body: Region, fields: Reader) -> Iterable[memoryview]:
    tag = fields.peek()
    if tag == -1:
        raise Unsupported("The encrypted content is not in the mail.")
    if tag == 0x80:
        return Region(body.buffer, *fields.take()).windows()
    return pieces(fields.octets(0x80), body)


def _authenticated(
    body: Region, outer: Reader, inner: Reader, cipher: ContentCipher, key: bytes, sink: SpoolWriter
) -> None:
    if cipher.mode != "GCM":
        raise Unsupported(f"{cipher.name} in AuthEnvelopedData is not supported.")
    # Attributes and tag come behind the content, and GCM wants the attributes first.
    ciphertext = inner.position
    outer.leave(inner)
    associated = b""
    if outer.peek() == 0xA1:
        # RFC 5083 section 2.2: the DER encoding with the tag of a SET.
        associated = b"\x31" + outer.element(0xA1)[1:]
        if associated[1] == 0x80:
            associated = to_der(associated)
    tag = octet_string(outer)
    inner.position = ciphertext
    decrypt_gcm(cipher, key, _ciphertext(body, inner), sink, tag=tag, associated=associated)
