"""SignedData (RFC 5652 section 5): what is signed, by whom, and whether that is so."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

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
from services.decryptor.cms.oids import (
    CONTENT_TYPE,
    MESSAGE_DIGEST,
    SIGNING_CERTIFICATE,
    SIGNING_CERTIFICATE_V2,
    SIGNING_TIME,
    oid,
)
from services.decryptor.cms.recipients import RecipientId, read_identifier
from services.decryptor.spool import Spool
from shared.mail.region import Region

MAX_SIGNERS = 16
MAX_CERTIFICATES = 64
#: Signed attributes of one signer, and octets of them; programs write five or six.
MAX_ATTRIBUTES = 256
MAX_ATTRIBUTES_SIZE = 1 << 16
#: Attributes that have one value (RFC 5652 section 11): readers differ on which of two counts.
_SINGLE = (CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME)
_SHA1 = oid("1.3.14.3.2.26")
_SHA256 = oid("2.16.840.1.101.3.4.2.1")


class CertificateDigest(NamedTuple):
    """Which certificate the signer means: the OID of a digest, and what it makes of it."""

    algorithm: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class SignerInfo:
    """One signature. `attributes` are the signed attributes as sent, with the tag of a SET.

    `meant` is the certificate that the signer names among them; None where he names none.
    """

    identifier: RecipientId
    digest: Algorithm
    attributes: bytes
    signature_algorithm: Algorithm
    signature: bytes
    message_digest: bytes = b""
    content_type: bytes = b""
    signing_time: datetime | None = None
    meant: CertificateDigest | None = None


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
        left = MAX_CERTIFICATES
        while (tag := bag.peek()) != -1:
            left -= 1
            if left < 0:
                raise Malformed("There are too many certificates.")
            if tag == SEQUENCE:
                certificates.append(bag.element())
            else:
                bag.take()  # attribute certificates and other formats
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
        if len(attributes) > MAX_ATTRIBUTES_SIZE:
            raise Malformed("The signed attributes are larger than they can be.")
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
        meant=_meant(values),
    )


def attribute_values(attributes: bytes) -> dict[bytes, bytes]:
    """The first value's element of each attribute, by type.

    Raises Malformed where a type occurs twice, or one has two values that has one (RFC 5652 section
    11): two message digests are an attack.
    """
    found: dict[bytes, bytes] = {}
    sequence = reader_at(attributes).enter(SET)
    while sequence.peek() != -1:
        one = sequence.enter(SEQUENCE)
        name = one.value(OID)
        values = one.enter(SET)
        if name in found:
            raise Malformed("A signed attribute occurs twice.")
        if len(found) >= MAX_ATTRIBUTES:
            raise Malformed("There are too many signed attributes.")
        found[name] = values.element() if values.peek() != -1 else b""
        if name in _SINGLE and values.peek() != -1:
            raise Malformed("A signed attribute has two values.")
        one.leave(values)
        sequence.leave(one)
    return found


def _content_of(element: bytes, tag: int) -> bytes:
    if not element:
        return b""
    if tag == OCTET_STRING:
        return octet_string(reader_at(element))
    return reader_at(element).value(tag)


def _meant(values: dict[bytes, bytes]) -> CertificateDigest | None:
    """The first certificate of SigningCertificate in its newer or older form (RFC 5035 sections 3
    and 5.4); None where there is none, or it is damaged."""
    try:
        if second := values.get(SIGNING_CERTIFICATE_V2):
            first = _first_certificate(second)
            named = first.element(SEQUENCE) if first.peek() == SEQUENCE else b""
            kind = algorithm(named).oid if named else _SHA256
        elif older := values.get(SIGNING_CERTIFICATE):
            first, kind = _first_certificate(older), _SHA1
        else:
            return None
        return CertificateDigest(kind, octet_string(first))
    except Malformed:
        return None


def _first_certificate(element: bytes) -> Reader:
    return reader_at(element).enter(SEQUENCE).enter(SEQUENCE).enter(SEQUENCE)


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
