"""Verifying one signature of a SignedData (RFC 5652 section 5.6, RFC 5754, RFC 8419).

This says whether the octets are what the holder of a key signed. Whose key it is, and whether
anybody vouches for it, is the matter of `services.decryptor.trust`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from services.decryptor.cms.algorithms import (
    DIGESTS,
    SHA1,
    Algorithm,
    algorithm,
    digest,
    mask_digest,
    tagged_parameters,
)
from services.decryptor.cms.ber import INTEGER, SEQUENCE, reader, to_der
from services.decryptor.cms.errors import CmsError, Malformed, Unsupported
from services.decryptor.cms.oids import (
    DATA,
    EC_PUBLIC_KEY,
    ED448,
    ED25519,
    MESSAGE_DIGEST,
    ML_DSA_44,
    ML_DSA_65,
    ML_DSA_87,
    RSA,
    RSA_PSS,
    dotted,
    oid,
)
from services.decryptor.cms.recipients import RecipientId
from services.decryptor.cms.signed import (
    MAX_ATTRIBUTES_SIZE,
    SignedData,
    SignerInfo,
    attribute_values,
)
from shared.certificates.identifiers import Unreadable, certificate_name
from shared.mail.region import Region

#: Signature algorithms that name their digest too.
_RSA_WITH: dict[bytes, hashes.HashAlgorithm] = {
    oid("1.2.840.113549.1.1.5"): SHA1,
    oid("1.2.840.113549.1.1.11"): hashes.SHA256(),
    oid("1.2.840.113549.1.1.12"): hashes.SHA384(),
    oid("1.2.840.113549.1.1.13"): hashes.SHA512(),
    oid("1.2.840.113549.1.1.14"): hashes.SHA224(),
    oid("1.2.840.113549.1.1.15"): hashes.SHA512_224(),
    oid("1.2.840.113549.1.1.16"): hashes.SHA512_256(),
    oid("2.16.840.1.101.3.4.3.13"): hashes.SHA3_224(),
    oid("2.16.840.1.101.3.4.3.14"): hashes.SHA3_256(),
    oid("2.16.840.1.101.3.4.3.15"): hashes.SHA3_384(),
    oid("2.16.840.1.101.3.4.3.16"): hashes.SHA3_512(),
}
_ECDSA_WITH: dict[bytes, hashes.HashAlgorithm] = {
    oid("1.2.840.10045.4.1"): SHA1,
    oid("1.2.840.10045.4.3.1"): hashes.SHA224(),
    oid("1.2.840.10045.4.3.2"): hashes.SHA256(),
    oid("1.2.840.10045.4.3.3"): hashes.SHA384(),
    oid("1.2.840.10045.4.3.4"): hashes.SHA512(),
    oid("2.16.840.1.101.3.4.3.9"): hashes.SHA3_224(),
    oid("2.16.840.1.101.3.4.3.10"): hashes.SHA3_256(),
    oid("2.16.840.1.101.3.4.3.11"): hashes.SHA3_384(),
    oid("2.16.840.1.101.3.4.3.12"): hashes.SHA3_512(),
}
#: Keys that sign the message itself, or hash it in their own way.
_Unhashed = (
    ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)
#: Without attributes, such a signature covers the content itself, which must then be in memory.
_MAX_UNHASHED = 1 << 26
#: Octets of the longest certificate (with a signature of SLH-DSA), and of a name in it: of what is
#: longer each octet costs work in every signature.
_MAX_CERTIFICATE = 1 << 16
_MAX_NAME = 1 << 12
#: Letters of the name of a certificate that is nowhere, for people.
_LONGEST_SHOWN = 200


_UNREAD_KEY = (
    "The signature cannot be checked: its key is damaged, or of a kind that is not supported here. "
    "Ask the author to sign with another key."
)


class Verified(NamedTuple):
    """A signature and what it came to. `problem` is empty where it is mathematically right.

    `unknown`: it fits the content as far as that can be told without the certificate of the signer,
    which is nowhere.
    """

    signer: SignerInfo
    certificate: x509.Certificate | None
    problem: str
    weak: bool = False
    unknown: bool = False


class Content:
    """What is signed, with its digests, each computed once."""

    def __init__(self, part: Region, *, text: bool) -> None:
        """`text`: where the digest differs, line ends are tried as they were in transport."""
        self.part = part
        self._text = text
        self._digests: dict[tuple[str, bool], bytes] = {}

    def digests(self, kind: hashes.HashAlgorithm) -> Iterator[bytes]:
        """The digest of the octets as they are; then, for text, with CRLF line ends."""
        for canonical in (False, True) if self._text else (False,):
            key = (kind.name, canonical)
            if key not in self._digests:
                context = hashes.Hash(kind)
                windows: Iterable[memoryview | bytes] = self.part.windows()
                for window in canonical_lines(windows) if canonical else windows:
                    context.update(window)
                self._digests[key] = context.finalize()
            yield self._digests[key]


def canonical_lines(windows: Iterable[memoryview | bytes]) -> Iterator[bytes]:
    """The same text with every line end as CRLF (RFC 8551 section 3.1.1)."""
    carry = b""
    for window in windows:
        piece = carry + bytes(window)
        carry = b"\r" if piece.endswith(b"\r") else b""
        if carry:
            piece = piece[:-1]
        yield piece.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    yield carry


def verify(
    signed: SignedData, content: Content, certificates: Sequence[x509.Certificate]
) -> list[Verified]:
    """Verifies every signature; `certificates` are those of the message, then those known.

    Never raises for what a message can hold.
    """
    return [_verify_one(signed, signer, content, certificates) for signer in signed.signers]


def load_certificates(encoded: Iterable[bytes]) -> list[x509.Certificate]:
    """Those of the certificates that can be read, and are no larger than they can be."""
    found: list[x509.Certificate] = []
    for element in encoded:
        try:
            if len(element) > _MAX_CERTIFICATE or _longest_name(element) > _MAX_NAME:
                continue
            certificate = x509.load_der_x509_certificate(element)
            # Read now what is read on demand, and would raise in the middle of a judgement.
            _ = certificate.subject.rfc4514_string(), certificate.not_valid_before_utc
            _ = certificate.issuer, certificate.not_valid_after_utc
        except (Malformed, *Unreadable):
            continue
        found.append(certificate)
    return found


def _longest_name(certificate: bytes) -> int:
    """Octets of the issuer or the subject (RFC 5280 section 4.1). Raises Malformed."""
    fields = reader(certificate).enter(SEQUENCE)
    if fields.peek() == 0xA0:
        fields.take()  # version
    fields.take(INTEGER)
    fields.take(SEQUENCE)  # algorithm of the signature
    issuer = fields.item(SEQUENCE)
    fields.take(SEQUENCE)  # validity
    subject = fields.item(SEQUENCE)
    return max(issuer.stop - issuer.start, subject.stop - subject.start)


def _verify_one(
    signed: SignedData,
    signer: SignerInfo,
    content: Content,
    certificates: Sequence[x509.Certificate],
) -> Verified:
    found = _find(signer.identifier, certificates)
    if not found:
        return _without_certificate(signed, signer, content)
    certificate = next((one for one in found if _is_meant(signer, one)), None)
    if certificate is None:
        return Verified(signer, found[0], "The signer names another certificate than that one.")
    try:
        weak = _check(signed, signer, content, certificate.public_key())
    except CmsError as error:
        return Verified(signer, certificate, str(error))
    except Unreadable:
        return Verified(signer, certificate, _UNREAD_KEY)
    except InvalidSignature:
        return Verified(signer, certificate, "The signature does not fit the key of the signer.")
    return Verified(signer, certificate, "", weak)


def _without_certificate(signed: SignedData, signer: SignerInfo, content: Content) -> Verified:
    """Of a signature whose key is not known: wrong where the content does not fit its digest."""
    try:
        _check_content(signed, signer, content)
    except CmsError as error:
        return Verified(signer, None, str(error))
    why = (
        f"The certificate of the signer ({str(signer.identifier)[:_LONGEST_SHOWN]}) is neither in "
        "the mail nor among the known senders, so the signature was not checked: give it as a "
        "known sender's, or have the author send it along."
    )
    return Verified(signer, None, why, unknown=True)


def _find(wanted: RecipientId, certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Those of that name: of one key id there may be several, for one key."""
    found: list[x509.Certificate] = []
    for certificate in certificates:
        # The serial number is read already; the rest of the name costs a parse.
        if not wanted.key_id and certificate.serial_number != wanted.serial:
            continue
        try:
            name = certificate_name(certificate.public_bytes(serialization.Encoding.DER))
        except ValueError:
            continue
        if wanted.means(name):
            found.append(certificate)
            if not wanted.key_id:
                break
    return found


def _is_meant(signer: SignerInfo, certificate: x509.Certificate) -> bool:
    """RFC 5035 section 5.4: a signature does not count for another certificate than the one that
    the signer named, were it for the same key."""
    if signer.meant is None:
        return True
    kind = DIGESTS.get(signer.meant.algorithm)
    return kind is None or certificate.fingerprint(kind) == signer.meant.value


def _check(
    signed: SignedData, signer: SignerInfo, content: Content, key: CertificatePublicKeyTypes
) -> bool:
    """Raises where the signature is not right; tells whether its digest is a weak one."""
    kind = _check_content(signed, signer, content)
    weak = kind.name == "sha1"
    if not signer.attributes:
        _check_bare(signer, content, key, kind)
        return weak
    # As sent first: some toolkits sign attributes in an order that DER does not allow.
    message = signer.attributes
    try:
        _check_signature(key, signer.signature_algorithm, kind, signer.signature, message)
    except InvalidSignature:
        canonical = to_der(message)
        if canonical == message:
            raise
        _check_signature(key, signer.signature_algorithm, kind, signer.signature, canonical)
    return weak


def _check_content(
    signed: SignedData, signer: SignerInfo, content: Content
) -> hashes.HashAlgorithm:
    """The digest of a signature. Raises where the content is not what it says, which its attributes
    tell without the key."""
    kind = digest(signer.digest.oid)
    if kind.name == "md5":
        raise Unsupported("The signature uses MD5, which proves nothing.")
    if not signer.attributes:
        if signed.content_type != DATA:
            # RFC 5652 section 5.3; nothing would hold the type of the content.
            raise Malformed("The signature does not cover the type of the content.")
        if _are_attributes(content.part):
            # One with attributes covers those, so it fits a content that is nothing but them.
            raise Malformed("The signature was made for the attributes of another message.")
        return kind
    if signer.content_type != signed.content_type:
        raise Malformed("The signature was made for another type of content.")
    if not any(signer.message_digest == value for value in content.digests(kind)):
        raise Malformed("The content was changed after it was signed.")
    return kind


def _check_bare(
    signer: SignerInfo,
    content: Content,
    key: CertificatePublicKeyTypes,
    kind: hashes.HashAlgorithm,
) -> None:
    """A signature without attributes covers the content directly."""
    if isinstance(key, _Unhashed):
        _check_unhashed(key, signer.signature_algorithm)
        if len(content.part) > _MAX_UNHASHED:
            raise Unsupported("The signed content is too large for this signature.")
        key.verify(signer.signature, content.part.copy())
        return
    for value in content.digests(kind):
        try:
            _check_signature(
                key, signer.signature_algorithm, kind, signer.signature, value, hashed=True
            )
            return
        except InvalidSignature:
            continue
    raise Malformed("The content was changed after it was signed, or the signature does not fit.")


def _are_attributes(part: Region) -> bool:
    if len(part) > MAX_ATTRIBUTES_SIZE or part.copy(1) != b"\x31":
        return False
    try:
        return MESSAGE_DIGEST in attribute_values(part.copy())
    except Malformed:
        return False


def _check_signature(
    key: CertificatePublicKeyTypes,
    chosen: Algorithm,
    kind: hashes.HashAlgorithm,
    signature: bytes,
    message: bytes,
    *,
    hashed: bool = False,
) -> None:
    """Raises InvalidSignature. `hashed`: `message` is the digest already."""
    how = utils.Prehashed(kind) if hashed else kind
    if isinstance(key, _Unhashed):
        _check_unhashed(key, chosen)
        key.verify(signature, message)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if chosen.oid != EC_PUBLIC_KEY:
            _same(kind, _ECDSA_WITH, chosen)
        key.verify(signature, message, ec.ECDSA(how))
    elif isinstance(key, rsa.RSAPublicKey):
        if chosen.oid == RSA_PSS:
            key.verify(signature, message, _pss(chosen, kind), how)
            return
        if chosen.oid != RSA:
            _same(kind, _RSA_WITH, chosen)
        key.verify(signature, message, padding.PKCS1v15(), how)
    else:
        raise Unsupported(f"The signature algorithm {dotted(chosen.oid)} is not supported.")


def _check_unhashed(key: _Unhashed, chosen: Algorithm) -> None:
    """RFC 8419, RFC 9882: the algorithm is that of the key; raises Unsupported for another."""
    names = {
        ed25519.Ed25519PublicKey: ED25519,
        ed448.Ed448PublicKey: ED448,
        mldsa.MLDSA44PublicKey: ML_DSA_44,
        mldsa.MLDSA65PublicKey: ML_DSA_65,
        mldsa.MLDSA87PublicKey: ML_DSA_87,
    }
    if not any(isinstance(key, kind) and chosen.oid == name for kind, name in names.items()):
        raise Unsupported(f"The signature algorithm {dotted(chosen.oid)} is not supported.")


def _same(
    kind: hashes.HashAlgorithm,
    known: dict[bytes, hashes.HashAlgorithm],
    chosen: Algorithm,
) -> None:
    named = known.get(chosen.oid)
    if named is None:
        raise Unsupported(f"The signature algorithm {dotted(chosen.oid)} is not supported.")
    if named.name != kind.name:
        raise Malformed("The signature names two different digests.")


def _pss(chosen: Algorithm, kind: hashes.HashAlgorithm) -> padding.PSS:
    """RSASSA-PSS-params (RFC 4055 section 3.1). The digest must be the signer's (RFC 4056)."""
    fields = tagged_parameters(chosen.parameters)
    main = digest(algorithm(fields[0]).oid) if 0 in fields else SHA1
    mask = mask_digest(fields[1]) if 1 in fields else SHA1
    salt = 20
    if 2 in fields:
        salt = int.from_bytes(fields[2][2:])
    if main.name != kind.name:
        raise Malformed("The signature names two different digests.")
    return padding.PSS(padding.MGF1(mask), salt)
