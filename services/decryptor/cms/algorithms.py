"""Reading AlgorithmIdentifier (RFC 5280 section 4.1.1.2) and the digests that others refer to."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes

from services.decryptor.cms.ber import (
    INDEFINITE,
    NULL,
    OID,
    SEQUENCE,
    Reader,
    end_of,
    header,
    reader_at,
    skip,
)
from services.decryptor.cms.errors import Malformed, Unsupported
from services.decryptor.cms.oids import MGF1, dotted, oid


class Algorithm(NamedTuple):
    """An AlgorithmIdentifier: the OID's content octets, the parameters' element (b"" where absent),
    and the whole as it was sent."""

    oid: bytes
    parameters: bytes
    raw: bytes


#: Parameters are some names and a nonce; what was read is remembered.
MAX_ALGORITHM = 1 << 12


@lru_cache(maxsize=512)
def algorithm(raw: bytes) -> Algorithm:
    """Reads one AlgorithmIdentifier of those that come again and again. Raises Malformed."""
    return fresh_algorithm(raw)


def fresh_algorithm(raw: bytes) -> Algorithm:
    """Reads one AlgorithmIdentifier whose parameters are new in each mail. Raises Malformed."""
    if not 0 < len(raw) <= MAX_ALGORITHM:
        raise Malformed("An algorithm is not what it can be.")
    _, first, end = header(raw, 0, len(raw))
    if end == INDEFINITE:
        end = end_of(raw, first, end, len(raw)) - 2
    tag, start, stop = header(raw, first, end) if first < end else (0, 0, 0)
    if tag != OID:
        raise Malformed("An algorithm has no name.")
    return Algorithm(raw[start:stop], raw[stop : skip(raw, stop, end)] if stop < end else b"", raw)


#: The default of many an old standard; a matter of reading what was sent, not of choice.
SHA1 = hashes.SHA1()  # noqa: S303
_SHA2 = "2.16.840.1.101.3.4.2."
DIGESTS: dict[bytes, hashes.HashAlgorithm] = {
    oid("1.3.14.3.2.26"): SHA1,
    oid(_SHA2 + "1"): hashes.SHA256(),
    oid(_SHA2 + "2"): hashes.SHA384(),
    oid(_SHA2 + "3"): hashes.SHA512(),
    oid(_SHA2 + "4"): hashes.SHA224(),
    oid(_SHA2 + "5"): hashes.SHA512_224(),
    oid(_SHA2 + "6"): hashes.SHA512_256(),
    oid(_SHA2 + "7"): hashes.SHA3_224(),
    oid(_SHA2 + "8"): hashes.SHA3_256(),
    oid(_SHA2 + "9"): hashes.SHA3_384(),
    oid(_SHA2 + "10"): hashes.SHA3_512(),
    oid(_SHA2 + "11"): hashes.SHAKE128(32),
    oid(_SHA2 + "12"): hashes.SHAKE256(64),
    oid("1.2.840.113549.2.5"): hashes.MD5(),  # noqa: S303 -- named, so that it can be refused
}
#: Digests that are named and not supported.
_NAMES = {
    oid("1.3.36.3.2.1"): "RIPEMD-160",
    oid("1.2.840.113549.2.2"): "MD2",
    oid("1.0.10118.3.0.55"): "Whirlpool",
    oid("1.2.156.10197.1.401"): "SM3",
    oid("1.2.643.7.1.1.2.2"): "Streebog",
    oid("1.2.643.7.1.1.2.3"): "Streebog",
}


def digest(name: bytes) -> hashes.HashAlgorithm:
    """The digest of that OID. Raises Unsupported."""
    found = DIGESTS.get(name)
    if found is None:
        raise Unsupported(f"The digest {_NAMES.get(name) or dotted(name)} is not supported.")
    return found


def mask_digest(raw: bytes) -> hashes.HashAlgorithm:
    """The digest of an MGF1 AlgorithmIdentifier (RFC 8017 appendix B.2.1)."""
    mask = algorithm(raw)
    if mask.oid != MGF1:
        raise Unsupported(f"The mask generation {dotted(mask.oid)} is not supported.")
    if not mask.parameters or mask.parameters[0] == NULL:
        return SHA1
    return digest(algorithm(mask.parameters).oid)


def tagged_parameters(raw: bytes) -> dict[int, bytes]:
    """The elements of a SEQUENCE of explicitly tagged optional fields, by tag number."""
    found: dict[int, bytes] = {}
    if not raw or raw[0] == NULL:
        return found
    fields = reader_at(raw).enter(SEQUENCE)
    while (tag := fields.peek()) != -1:
        if tag & 0xE0 != 0xA0:
            raise Malformed("The parameters of an algorithm are not what it defines.")
        inner: Reader = fields.enter(tag)
        found[tag & 0x1F] = inner.element()
        fields.leave(inner)
    return found
