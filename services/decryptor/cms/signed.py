"""SignedData (RFC 5652 section 5): what is signed, by whom, and whether that is so."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from asn1crypto import core

from services.decryptor.cms.algorithms import Algorithm, algorithm
from services.decryptor.cms.ber import (
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    Reader,
    octet_string,
    reader_at,
    to_der,
)
from services.decryptor.cms.content import pieces
from services.decryptor.cms.errors import Malformed
from services.decryptor.cms.oids import CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME
from services.decryptor.cms.recipients import RecipientId, read_identifier
from services.decryptor.spool import Spool
from shared.mail.region import Region

MAX_SIGNERS = 16
MAX_CERTIFICATES = 64


@dataclass(frozen=True, slots=True)
class SignerInfo:
    """One signature. `attributes` are the signed attributes as sent, with the tag of a SET."""

    identifier: RecipientId
    digest: Algorithm
    attributes: bytes
    signature_algorithm: Algorithm
    signature: bytes
    message_digest: bytes = b""
    content_type: bytes = b""
    signing_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class SignedData:
    """A signed content, not verified yet. `content` is None where the signature is detached."""

    content_type: bytes
    content: Region | None
    certificates: list[bytes] = field(default_factory=list)
    signers: list[SignerInfo] = field(default_factory=list)


def read_signed(body: Region, content: Reader, spool: Spool) -> SignedData:
    """Reads the whole structure; an encapsulated content in many pieces goes to the spool.

    Raises Malformed.
    """
    fields = content.enter(SEQUENCE)
    fields.take(INTEGER)
    fields.take(SET)  # digestAlgorithms: each signer names its own
    encapsulated = fields.enter(SEQUENCE)
    content_type = encapsulated.value(OID)
    signed: Region | None = None
    if encapsulated.peek() == 0xA0:
        inner = encapsulated.enter(0xA0)
        signed = _joined(inner, body, spool)
        encapsulated.leave(inner)
    fields.leave(encapsulated)
    certificates: list[bytes] = []
    if fields.peek() == 0xA0:
        bag = fields.enter(0xA0)
        while (tag := bag.peek()) != -1:
            if tag != SEQUENCE:
                bag.take()  # attribute certificates and other formats
                continue
            if len(certificates) >= MAX_CERTIFICATES:
                raise Malformed("There are too many certificates.")
            certificates.append(bag.element())
        fields.leave(bag)
    if fields.peek() == 0xA1:
        fields.take()  # revocation lists
    signers: list[SignerInfo] = []
    infos = fields.enter(SET)
    while infos.peek() != -1:
        if len(signers) >= MAX_SIGNERS:
            raise Malformed("There are too many signatures.")
        one = infos.enter(SEQUENCE)
        signers.append(_signer(one))
        infos.leave(one)
    fields.leave(infos)
    return SignedData(content_type, signed, certificates, signers)


def _joined(source: Reader, body: Region, spool: Spool) -> Region:
    """An octet string as a region: where it lies if in one piece, else copied together."""
    if source.peek() == OCTET_STRING:
        start, end = source.take()
        return Region(body.buffer, start, end)
    sink = spool.sink()
    for piece in pieces(source.octets(), body):
        sink.write(piece)
    return sink.finish()


def _signer(fields: Reader) -> SignerInfo:
    fields.take(INTEGER)
    identifier = read_identifier(fields.buffer, fields.item(fields.peek()))
    digest = algorithm(fields.element(SEQUENCE))
    attributes = b""
    if fields.peek() == 0xA0:
        # RFC 5652 section 5.4: what is signed has the tag of a SET, not the implicit one.
        attributes = b"\x31" + fields.element(0xA0)[1:]
    signature_algorithm = algorithm(fields.element(SEQUENCE))
    signature = octet_string(fields)
    values = attribute_values(attributes) if attributes else {}
    return SignerInfo(
        identifier,
        digest,
        attributes,
        signature_algorithm,
        signature,
        message_digest=_content_of(values.get(MESSAGE_DIGEST, b""), OCTET_STRING),
        content_type=_content_of(values.get(CONTENT_TYPE, b""), OID),
        signing_time=_time(values.get(SIGNING_TIME, b"")),
    )


def attribute_values(attributes: bytes) -> dict[bytes, bytes]:
    """The first value's element of each attribute, by type.

    Raises Malformed where a type occurs twice (RFC 5652 section 11 forbids it for these, and two
    message digests are an attack).
    """
    found: dict[bytes, bytes] = {}
    sequence = reader_at(attributes).enter(SET)
    while sequence.peek() != -1:
        one = sequence.enter(SEQUENCE)
        name = one.value(OID)
        values = one.enter(SET)
        if name in found:
            raise Malformed("A signed attribute occurs twice.")
        found[name] = values.element() if values.peek() != -1 else b""
        one.leave(values)
        sequence.leave(one)
    return found


def _content_of(element: bytes, tag: int) -> bytes:
    if not element:
        return b""
    if tag == OCTET_STRING:
        return octet_string(reader_at(element))
    return reader_at(element).value(tag)


def _time(element: bytes) -> datetime | None:
    """A Time (RFC 5652 section 11.3); None where absent or damaged."""
    kind = {0x17: core.UTCTime, 0x18: core.GeneralizedTime}.get(element[0]) if element else None
    if kind is None:
        return None
    try:
        value = kind.load(to_der(element)).native
    except (ValueError, TypeError, Malformed):
        return None
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else None
