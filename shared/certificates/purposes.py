"""What a certificate may be used for: to vouch for senders, or to sign mail; and if not, why.

The rules are those by which OpenSSL builds paths (X509_check_ca and its purpose `smimesign`), so
that what is accepted at the upload counts when a mail is judged. RFC 5280 section 4.2.1.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.certificates.identifiers import Unreadable

#: Shorter RSA keys have been forged, or soon will be.
MIN_RSA_BITS = 2048
_MAIL, _ANY = ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
_NETSCAPE_TYPE = x509.ObjectIdentifier("2.16.840.1.113730.1.1")
#: Its bits for clients of TLS and for mail; OpenSSL takes either for mail.
_NETSCAPE_MAIL = 0xA0
_SIGNS = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)


def why_no_trust_anchor(certificate: x509.Certificate) -> str:
    """Why this certificate can vouch for no signer of mails; empty where it can."""
    try:
        return why_no_ca(certificate) or weak_key(certificate)
    except Unreadable:
        return "it cannot be read"


def why_no_ca(certificate: x509.Certificate) -> str:
    """Why its extensions keep a certificate from vouching for others; empty where they do not."""
    return _no_issuer(certificate) or _not_for_mail(certificate, (_MAIL,))


def _no_issuer(certificate: x509.Certificate) -> str:
    if certificate.version == x509.Version.v1:
        # Roots of before 1999 have no extensions; there, to be one's own issuer is what counts.
        return "" if certificate.subject == certificate.issuer else "version 1 has no authorities"
    usage = _usage(certificate)
    if usage is not None and not usage.key_cert_sign:
        return "its key usage does not allow it to sign certificates"
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return "" if usage is not None else "its basic constraints, which would say so, are missing"
    return "" if basic.ca else "its basic constraints say that it is none"


def weak_key(certificate: x509.Certificate) -> str:
    """Why nothing that this key signs proves anything; empty where it does."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return f"its key is too short: RSA with {key.key_size} bits"
    if isinstance(key, dsa.DSAPublicKey):
        return "its key is of a kind that is not used for mail any more: DSA"
    return "" if isinstance(key, _SIGNS) else "its key is of a kind that cannot sign"


def may_sign_mail(certificate: x509.Certificate) -> bool:
    """RFC 8550 section 4.4: key usage and extended key usage, where they are present.

    Section 4.4.4 has the receiver of a message take anyExtendedKeyUsage in a signer's certificate.
    For one that vouches for others RFC 5280 section 4.2.1.12 leaves that open; OpenSSL refuses it.
    """
    try:
        usage = _usage(certificate)
        if usage is not None and not (usage.digital_signature or usage.content_commitment):
            return False
        return not _not_for_mail(certificate, (_MAIL, _ANY)) and _netscape_allows(certificate)
    except Unreadable:
        return False


def _not_for_mail(
    certificate: x509.Certificate, accepted: tuple[x509.ObjectIdentifier, ...]
) -> str:
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    if any(one in purposes for one in accepted):
        return ""
    if _ANY in purposes:
        return "it is meant for any use, and not for mail by name"
    return "it is not meant for mail"


def _netscape_allows(certificate: x509.Certificate) -> bool:
    """What certificates said of their use before there was an extended key usage."""
    try:
        found = certificate.extensions.get_extension_for_oid(_NETSCAPE_TYPE).value
    except x509.ExtensionNotFound:
        return True
    assert isinstance(found, x509.UnrecognizedExtension)
    # A BIT STRING: tag, length, unused bits, bits.
    return len(found.value) == 4 and bool(found.value[3] & _NETSCAPE_MAIL)


def _usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
