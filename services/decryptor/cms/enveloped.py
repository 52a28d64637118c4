"""EnvelopedData (RFC 5652 section 6) and AuthEnvelopedData (RFC 5083)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from services.decryptor.cms.algorithms import Algorithm, fresh_algorithm
from services.decryptor.cms.ber import INTEGER, OID, SEQUENCE, SET, Reader, octet_string, to_der
from services.decryptor.cms.ciphers import (
    ContentCipher,
    cipher_name,
    content_cipher,
    decrypt_cbc,
    decrypt_gcm,
)
from services.decryptor.cms.content import pieces
from services.decryptor.cms.errors import CmsError, NoRecipient, NotOpened, Unsupported
from services.decryptor.cms.keys import key_algorithm_name, unwrap
from services.decryptor.cms.recipients import Recipient, read_recipients
from services.decryptor.spool import Region, Sink, Spool
from shared.certificates import Identity, IdentityIndex

#: Every matching pair of recipient and key is tried, but a mail cannot ask for endless tries.
MAX_TRIES = 16


class Envelope(NamedTuple):
    """An encrypted content and for whom it is, read but not opened.

    `fields` stands before the encrypted content; whatever follows it is read while opening.
    """

    body: Region
    authenticated: bool
    recipients: list[Recipient]
    content_type: bytes
    content_algorithm: Algorithm
    outer: Reader
    fields: Reader

    @property
    def cipher(self) -> str:
        """The content encryption in words."""
        return cipher_name(self.content_algorithm.oid)


class OpenedEnvelope(NamedTuple):
    """A decrypted content: its type, its bytes, and by which identity and algorithms."""

    content_type: bytes
    content: Region
    identity: Identity
    key_algorithm: str
    integrity: Literal["aead", "none"]


_LENGTH = rb"([\x00-\x7f]|\x81.|\x82..|\x83...|\x84....)"
_UP_TO_RECIPIENTS = re.compile(rb"\x30%b\x02\x01[\x00\x02]\x31%b" % (_LENGTH, _LENGTH), re.DOTALL)
_BEHIND_RECIPIENTS = re.compile(
    rb"\x30%b\x06\x09(.{9})\x30\x1d(?=\x06\x09(.{9})(\x04\x10.{16}))(.{29})(?=\x80%b)"
    % (_LENGTH, _LENGTH),
    re.DOTALL,
)


def read_envelope(body: Region, content: Reader, *, authenticated: bool) -> Envelope:
    """Reads everything before the encrypted content. Raises Malformed."""
    return (None if authenticated else usual_envelope(body, content)) or any_envelope(
        body, content, authenticated
    )


def usual_envelope(body: Region, content: Reader) -> Envelope | None:
    """What most senders write: definite lengths, AES in CBC, nothing behind the content.

    Found by its shape in two steps where `any_envelope` takes a dozen, which is a tenth of the
    time that a small mail needs. None where the shape is another, or a length is not what it must
    be.
    """
    buffer, end = body.buffer, content.end
    head = _UP_TO_RECIPIENTS.match(buffer, content.position, end)
    if head is None:
        return None
    start = head.end()
    stop = start + _length(head[2])
    tail = _BEHIND_RECIPIENTS.match(buffer, stop, end)
    if tail is None or stop > end:
        return None
    behind = head.end(1) + _length(head[1])
    position = tail.end()
    if not behind == tail.end(1) + _length(tail[1]) == tail.end(6) + _length(tail[6]) <= end:
        return None
    return Envelope(
        body,
        False,
        read_recipients(buffer, start, stop),
        tail[2],
        Algorithm(tail[3], tail[4], b"\x30\x1d" + tail[5]),
        Reader(buffer, position, behind, behind),
        Reader(buffer, position, behind, behind),
    )


def _length(octets: bytes) -> int:
    return octets[0] if len(octets) == 1 else int.from_bytes(octets[1:])


def any_envelope(body: Region, content: Reader, authenticated: bool) -> Envelope:
    """Reads element by element, whatever the order of recipients and the kind of lengths."""
    outer = content.enter(SEQUENCE)
    outer.take(INTEGER)
    if outer.peek() == 0xA0:
        outer.take()  # originatorInfo: certificates of the sender, of no use here
    recipients = read_recipients(body.buffer, *outer.take(SET))
    fields = outer.enter(SEQUENCE)
    content_type = fields.value(OID)
    chosen = fresh_algorithm(fields.element(SEQUENCE))
    return Envelope(body, authenticated, recipients, content_type, chosen, outer, fields)


def open_envelope(
    envelope: Envelope,
    identities: IdentityIndex,
    spool: Spool,
    plausible: Callable[[bytes, Region], bool],
) -> OpenedEnvelope:
    """Decrypts with the newest identity that fits.

    `plausible(content type, content)` says whether a content without integrity can be what it
    should be: a wrong key yields noise that passes the padding check once in 256 times.
    Raises NoRecipient, Unsupported, Malformed or NotOpened.
    """
    fitting = [
        (recipient, identity)
        for recipient in envelope.recipients
        for identity in identities.matching(
            recipient.identifier.issuer, recipient.identifier.serial, recipient.identifier.key_id
        )
    ]
    if not fitting:
        raise NoRecipient("None of the certificates here is among the recipients.")
    if len(fitting) > 1:
        fitting.sort(key=lambda pair: pair[1].not_before, reverse=True)
    cipher = content_cipher(envelope.content_algorithm)
    failure: CmsError = NotOpened()
    for recipient, identity in fitting[:MAX_TRIES]:
        try:
            key = unwrap(recipient, identity.private_key, cipher.key_bytes)
            content = _decrypt(envelope, cipher, key, spool)
        except Unsupported as error:
            failure = error
            continue
        except NotOpened:
            continue
        if cipher.mode == "CBC" and not plausible(envelope.content_type, content):
            spool.drop(content)
            continue
        return OpenedEnvelope(
            envelope.content_type,
            content,
            identity,
            key_algorithm_name(recipient),
            "aead" if cipher.mode == "GCM" else "none",
        )
    raise failure


def _decrypt(envelope: Envelope, cipher: ContentCipher, key: bytes, spool: Spool) -> Region:
    start = envelope.fields.position
    behind = envelope.outer.position
    sink = spool.sink()
    try:
        if envelope.authenticated:
            _authenticated(envelope, cipher, key, sink, spool.memory)
        elif cipher.mode == "CBC":
            decrypt_cbc(cipher, key, _ciphertext(envelope, spool.memory), sink)
            envelope.outer.leave(envelope.fields)
        else:
            # GCM where RFC 5084 does not foresee it: the tag is the end of the ciphertext.
            decrypt_gcm(cipher, key, _ciphertext(envelope, spool.memory), sink, tag=None)
        return sink.finish()
    except BaseException:
        sink.discard()
        raise
    finally:
        envelope.fields.position = start
        envelope.outer.position = behind


def _ciphertext(envelope: Envelope, memory: int) -> Iterable[memoryview]:
    fields = envelope.fields
    tag = fields.peek()
    if tag == -1:
        raise Unsupported("The encrypted content is not in the mail.")
    if tag == 0x80:
        start, end = fields.take()
        if end - start <= memory:
            return (memoryview(envelope.body.buffer)[start:end],)
        return Region(envelope.body.buffer, start, end).windows()
    return pieces(fields.octets(0x80), envelope.body)


def _authenticated(
    envelope: Envelope, cipher: ContentCipher, key: bytes, sink: Sink, memory: int
) -> None:
    if cipher.mode != "GCM":
        raise Unsupported(f"{cipher.name} in AuthEnvelopedData is not supported.")
    # Attributes and tag come behind the content, and GCM wants the attributes first.
    ciphertext = envelope.fields.position
    envelope.outer.leave(envelope.fields)
    associated = b""
    if envelope.outer.peek() == 0xA1:
        # RFC 5083 section 2.2: the DER encoding with the tag of a SET.
        associated = b"\x31" + envelope.outer.element(0xA1)[1:]
        if associated[1] == 0x80:
            associated = to_der(associated)
    tag = octet_string(envelope.outer)
    envelope.fields.position = ciphertext
    decrypt_gcm(cipher, key, _ciphertext(envelope, memory), sink, tag=tag, associated=associated)
