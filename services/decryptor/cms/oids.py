"""Object identifiers as they lie in the octets: the content octets of an OBJECT IDENTIFIER.

Compared as octets, so that reading a message never has to decode one; `dotted` is for messages.
"""

from __future__ import annotations

from functools import lru_cache


def oid(dotted_form: str) -> bytes:
    """The content octets of an object identifier (X.690 section 8.19)."""
    first, second, *rest = (int(arc) for arc in dotted_form.split("."))
    octets = bytearray()
    for arc in (first * 40 + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(arc & 0x7F | 0x80)
        octets += bytes(reversed(septets))
    return bytes(octets)


@lru_cache(maxsize=256)
def dotted(content: bytes) -> str:
    """The usual notation of content octets, cut short where they are absurdly long."""
    arcs: list[int] = []
    arc = 0
    for octet in content[:32]:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    if not arcs:
        return "?"
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - first * 40, *arcs[1:]))


# Content types: RFC 5652, 5083 (authEnvelopedData), 3274 (compressedData).
DATA = oid("1.2.840.113549.1.7.1")
SIGNED_DATA = oid("1.2.840.113549.1.7.2")
ENVELOPED_DATA = oid("1.2.840.113549.1.7.3")
COMPRESSED_DATA = oid("1.2.840.113549.1.9.16.1.9")
AUTH_ENVELOPED_DATA = oid("1.2.840.113549.1.9.16.1.23")
#: signedAndEnvelopedData (PKCS #7), encryptedData: encrypted, and not opened.
OTHER_ENCRYPTIONS = (oid("1.2.840.113549.1.7.4"), oid("1.2.840.113549.1.7.6"))

# Attributes: RFC 5652 section 11.
CONTENT_TYPE = oid("1.2.840.113549.1.9.3")
MESSAGE_DIGEST = oid("1.2.840.113549.1.9.4")
SIGNING_TIME = oid("1.2.840.113549.1.9.5")
# RFC 5035: which certificate the signer means.
SIGNING_CERTIFICATE = oid("1.2.840.113549.1.9.16.2.12")
SIGNING_CERTIFICATE_V2 = oid("1.2.840.113549.1.9.16.2.47")

# Key transport: RFC 3370, RFC 3560.
RSA = oid("1.2.840.113549.1.1.1")
RSA_OAEP = oid("1.2.840.113549.1.1.7")
MGF1 = oid("1.2.840.113549.1.1.8")
P_SPECIFIED = oid("1.2.840.113549.1.1.9")
RSA_PSS = oid("1.2.840.113549.1.1.10")

# Key encapsulation: RFC 9629, RFC 9936, RFC 9690.
ORI_KEM = oid("1.2.840.113549.1.9.16.13.3")
RSA_KEM = oid("1.2.840.113549.1.9.16.3.14")
KEM_RSA = oid("1.0.18033.2.2.4")
ML_KEM_512 = oid("2.16.840.1.101.3.4.4.1")
ML_KEM_768 = oid("2.16.840.1.101.3.4.4.2")
ML_KEM_1024 = oid("2.16.840.1.101.3.4.4.3")

# Signatures with ML-DSA: RFC 9882.
ML_DSA_44 = oid("2.16.840.1.101.3.4.3.17")
ML_DSA_65 = oid("2.16.840.1.101.3.4.3.18")
ML_DSA_87 = oid("2.16.840.1.101.3.4.3.19")

ZLIB = oid("1.2.840.113549.1.9.16.3.8")

# Public keys that an originator of a key agreement may send: RFC 5480, RFC 8410.
EC_PUBLIC_KEY = oid("1.2.840.10045.2.1")
ED25519 = oid("1.3.101.112")
ED448 = oid("1.3.101.113")
