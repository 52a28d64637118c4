"""What a certificate may be used for: to vouch for senders, or to sign mail; and if not, why.

The rules are those by which OpenSSL builds paths (X509_check_ca and its purpose `smimesign`), so
that what is accepted at the upload counts when a mail is judged. RFC 5280 section 4.2.1.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.certificates.naming import Unreadable

#: Shorter RSA keys have been forged, or soon will be.
MIN_RSA_BITS = 2048
_FOR_MAIL = (ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
_SIGNS = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)


def why_no_authority(certificate: x509.Certificate) -> str:
    """Why this certificate can vouch for no signer of mails; empty where it can."""
    try:
        return _no_authority(certificate) or weak_key(certificate) or not_for_mail(certificate)
    except Unreadable:
        return "it cannot be read"


def _no_authority(certificate: x509.Certificate) -> str:
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


def not_for_mail(certificate: x509.Certificate) -> str:
    """Why its extended key usage keeps a certificate from mail; empty where it does not."""
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    return "" if any(one in purposes for one in _FOR_MAIL) else "it is not meant for mail"


def may_sign_mail(certificate: x509.Certificate) -> bool:
    """RFC 8550 section 4.4: key usage and extended key usage, where they are present."""
    try:
        usage = _usage(certificate)
        if usage is not None and not (usage.digital_signature or usage.content_commitment):
            return False
        return not not_for_mail(certificate)
    except Unreadable:
        return False


def _usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
