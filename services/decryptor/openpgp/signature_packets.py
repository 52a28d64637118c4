"""One OpenPGP signature by itself: did the holder of a key make it over these octets (RFC 9580
section 5.2)?

Sequoia's binding says whether a signature counts. It does not say why one does not, and hashes
everything anew for each. This says nothing of what a signature is worth: any digest, any key and
any time will do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, utils

from services.decryptor.cms.algorithms import SHA1
from services.decryptor.cms.errors import NotOpened
from services.decryptor.openpgp.packet_body import PacketBody
from services.decryptor.openpgp.session_keys import CURVES

#: Those by which a signature can be forged.
MD5, RIPEMD160, WEAK_DIGESTS = 1, 3, (1, 2, 3)
#: The digests of RFC 9580 section 9.5 that are here.
DIGESTS: Mapping[int, hashes.HashAlgorithm] = {
    MD5: hashes.MD5(),  # noqa: S303 -- known, so that it can be told from what is wrong
    2: SHA1,
    8: hashes.SHA256(),
    9: hashes.SHA384(),
    10: hashes.SHA512(),
    11: hashes.SHA224(),
    12: hashes.SHA3_256(),
    14: hashes.SHA3_512(),
}
_RSA, _DSA, _ECDSA, _EDDSA, _ED25519, _ED448 = (1, 3), 17, 19, 22, 27, 28
#: What RSA signs of RIPEMD-160 (RFC 9580 section 5.2.2.1), which `cryptography` has not: the ASN.1
#: before the digest.
_RIPEMD160_INFO = bytes.fromhex("3021300906052b2403020105000414")
_CURVE_ED25519 = bytes.fromhex("2b06010401da470f01")
_OLDEST, _SALTED = 3, 6
#: Ways in which one content is digested: signatures of version 6 have a salt each.
_MOST_WAYS = 4
_VERSIONS = (4, _SALTED)
#: Octets of one area of subpackets: version 6 gives its length four octets, and Sequoia reads no
#: more either.
_MOST_OF_AREA = 0xFFFF
#: Subpackets of one signature: an area holds at most 2,800 intended recipients (section 5.2.3.36),
#: but 32,000 of those that are empty, each of which takes fifty times its octets of memory.
_MOST_SUBPACKETS = 4_096
#: Keys of which one signature says that they made it: programs name one, by id and fingerprint.
_MOST_ISSUERS = 4
#: Types of subpackets (section 5.2.3.7).
CREATED, EXPIRES, KEY_EXPIRES, ISSUER, FLAGS, EMBEDDED, FINGERPRINT = 2, 3, 9, 16, 27, 32, 33
_INTENDED = 35
_CRITICAL = 0x80


class SignaturePacket(NamedTuple):
    """`kind` is its type, `digest` and `key_algorithm` are numbers of RFC 9580 sections 9.5 and
    9.1. `subpackets` are the hashed ones: (type, whether critical, data). `trailer` is hashed
    behind the content, `salt` before it; `values` are what the key made of the digest. `issuers`
    are ids of that key, as somebody says, a few. `embedded`: signatures in it, which prove
    themselves."""

    version: int
    kind: int
    key_algorithm: int
    digest: int
    subpackets: tuple[tuple[int, bool, bytes], ...]
    trailer: bytes
    salt: bytes
    values: bytes
    issuers: tuple[bytes, ...] = ()
    embedded: tuple[bytes, ...] = ()

    def value(self, kind: int) -> bytes:
        """The data of the first hashed subpacket of that type; empty where there is none."""
        return next((data for one, _, data in self.subpackets if one == kind), b"")

    @property
    def intended(self) -> frozenset[str]:
        """The fingerprints, in lower-case hex, of the keys that it is for; empty: for everybody."""
        # Behind the version of the key.
        return frozenset(data[1:].hex() for one, _, data in self.subpackets if one == _INTENDED)

    @property
    def created(self) -> datetime:
        """When it says that it was made; the beginning of time where it does not."""
        return datetime.fromtimestamp(int.from_bytes(self.value(CREATED)[:4]), UTC)

    def lasts(self, kind: int) -> timedelta | None:
        """How long it, or the key that it binds, lasts from its creation on; None: without end."""
        seconds = int.from_bytes(self.value(kind)[:4])
        return timedelta(seconds=seconds) if seconds else None


def read_signature(body: bytes) -> SignaturePacket | None:
    """The body of a signature packet of version 3, 4 or 6; None where it is of another, damaged,
    or longer than any that a program makes."""
    try:
        octets = PacketBody(body)
        version = octets.number(1)
        if version == _OLDEST:
            return _of_version_3(octets)
        if version not in _VERSIONS:
            return None
        wide = 4 if version == _SALTED else 2
        kind, key_algorithm, digest = octets.take(3)
        hashed = _area(octets, wide)
        head = body[: octets.position]
        unsigned = _area(octets, wide)
        octets.take(2)  # the digest's first octets
        salt = octets.take(octets.number(1)) if version == _SALTED else b""
        subpackets = _subpackets(hashed, _MOST_SUBPACKETS)
        every = subpackets + _subpackets(unsigned, _MOST_SUBPACKETS - len(subpackets))
        issuers = dict.fromkeys(filter(None, map(_issuer, every)))
        return SignaturePacket(
            version,
            kind,
            key_algorithm,
            digest,
            subpackets,
            head + bytes((version, 0xFF)) + len(head).to_bytes(4),
            salt,
            octets.rest(),
            tuple(issuers)[:_MOST_ISSUERS],
            tuple(data for one, _, data in every if one == EMBEDDED),
        )
    except NotOpened:
        return None


def with_issuer_id(body: bytes) -> bytes:
    """The body of a signature packet of version 4 that names its key by id as well, where it does
    by fingerprint alone: in the area that is not signed (section 5.2.3.12)."""
    read = read_signature(body)
    if read is None or read.version != _VERSIONS[0] or not read.issuers:
        return body
    octets = PacketBody(body)
    octets.take(4)
    octets.take(octets.number(2))
    start = octets.position
    size = octets.number(2)
    subpacket = bytes((9, ISSUER)) + read.issuers[0]
    if size + len(subpacket) > _MOST_OF_AREA or subpacket in body[: octets.position + size]:
        return body
    return body[:start] + (size + len(subpacket)).to_bytes(2) + subpacket + octets.rest()


def _of_version_3(octets: PacketBody) -> SignaturePacket:
    """As PGP 2 made them (section 5.2.2)."""
    octets.take(1)
    signed = octets.take(5)
    issuer = octets.take(8)
    key_algorithm, digest = octets.take(2)
    octets.take(2)
    subpackets = ((CREATED, False, signed[1:]),)
    values = octets.rest()
    return SignaturePacket(
        _OLDEST, signed[0], key_algorithm, digest, subpackets, signed, b"", values, (issuer,)
    )


def _issuer(subpacket: tuple[int, bool, bytes]) -> bytes:
    """The key id in a subpacket (sections 5.2.3.12 and 5.2.3.35); empty where it is another."""
    kind, _, data = subpacket
    if kind == FINGERPRINT and len(data) > 20:
        return data[1:9] if data[0] == _SALTED else data[-8:]
    return data if kind == ISSUER and len(data) == 8 else b""


def _area(octets: PacketBody, wide: int) -> bytes:
    """An area of subpackets, whose length has `wide` octets. Raises NotOpened."""
    size = octets.number(wide)
    if size > _MOST_OF_AREA:
        raise NotOpened
    return octets.take(size)


def _subpackets(area: bytes, most: int) -> tuple[tuple[int, bool, bytes], ...]:
    """Raises NotOpened where there are more than `most`, or they are damaged."""
    octets = PacketBody(area)
    found: list[tuple[int, bool, bytes]] = []
    while octets.position < len(area):
        if len(found) >= most:
            raise NotOpened
        size = octets.number(1)
        if size == 255:
            size = octets.number(4)
        elif size >= 192:
            size = ((size - 192) << 8) + octets.number(1) + 192
        kind = octets.number(1)
        data = octets.take(size - 1 if size else 0)
        found.append((kind & ~_CRITICAL, bool(kind & _CRITICAL), data))
    return tuple(found)


class Digests:
    """The digests of one content, which is read once for each way of digesting it."""

    def __init__(self, pieces: Callable[[], Iterable[bytes | memoryview]]) -> None:
        """`pieces` gives the content anew each time."""
        self._pieces = pieces
        self._contexts: dict[tuple[int, bytes], _Context] = {}

    def of(self, signature: SignaturePacket) -> bytes | None:
        """What the key signed, if it signed this; None where the digest is not known, or the
        content was read in too many ways already."""
        key = (signature.digest, signature.salt)
        if key not in self._contexts:
            context = _context(signature.digest)
            if context is None or len(self._contexts) >= _MOST_WAYS:
                return None
            context.update(signature.salt)
            for piece in self._pieces():
                context.update(piece)
            self._contexts[key] = context
        context = self._contexts[key].copy()
        context.update(signature.trailer)
        return context.finalize()


class _Context(Protocol):
    """A digest that is being made."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def copy(self) -> _Context: ...

    def finalize(self) -> bytes: ...


class _Ripemd160:
    def __init__(self, made: hashlib._Hash) -> None:
        self._made = made

    def update(self, data: bytes | memoryview, /) -> None:
        self._made.update(data)

    def copy(self) -> _Ripemd160:
        return _Ripemd160(self._made.copy())

    def finalize(self) -> bytes:
        return self._made.digest()


def _context(number: int) -> _Context | None:
    """None where the digest is not here."""
    if number == RIPEMD160:
        try:
            return _Ripemd160(hashlib.new("ripemd160", usedforsecurity=False))
        except ValueError:  # OpenSSL before 3.0.7 has it in a provider that nobody loads
            return None
    kind = DIGESTS.get(number)
    return None if kind is None else hashes.Hash(kind)


def fits(signature: SignaturePacket, public: bytes, digest: bytes | None) -> bool | None:
    """Whether the holder of a key, whose packet has the body `public`, signed a digest.

    None where the kind of key or of digest is not known here.
    """
    # A key of DSA or ECDSA asks for the length of a digest alone, which is that of SHA-1.
    kind = SHA1 if signature.digest == RIPEMD160 else DIGESTS.get(signature.digest)
    if digest is None or kind is None:
        return None
    try:
        key = PacketBody(public)
        version, _ = key.number(1), key.take(4)
        if key.number(1) != signature.key_algorithm:
            return False
        if version == _SALTED:
            key.take(4)
        return _fits(signature, key, kind, digest)
    except InvalidSignature:
        return False
    except (NotOpened, ValueError, UnsupportedAlgorithm):
        return None


def _fits(
    signature: SignaturePacket, key: PacketBody, kind: hashes.HashAlgorithm, digest: bytes
) -> bool | None:
    values = PacketBody(signature.values)
    algorithm = signature.key_algorithm
    if algorithm in _RSA:
        n, e = key.mpi(), key.mpi()
        owner = rsa.RSAPublicNumbers(int.from_bytes(e), int.from_bytes(n)).public_key()
        made = values.mpi().rjust(len(n), b"\0")
        if signature.digest == RIPEMD160:
            signed = owner.recover_data_from_signature(made, padding.PKCS1v15(), None)
            return signed == _RIPEMD160_INFO + digest
        owner.verify(made, digest, padding.PKCS1v15(), utils.Prehashed(kind))
    elif algorithm == _DSA:
        p, q, g, y = (int.from_bytes(key.mpi()) for _ in range(4))
        numbers = dsa.DSAPublicNumbers(y, dsa.DSAParameterNumbers(p, q, g))
        numbers.public_key().verify(_der(values), digest, utils.Prehashed(kind))
    elif algorithm == _ECDSA:
        curve = CURVES.get(key.take(key.number(1)))
        if curve is None:
            return None
        point = ec.EllipticCurvePublicKey.from_encoded_point(curve, key.mpi())
        point.verify(_der(values), digest, ec.ECDSA(utils.Prehashed(kind)))
    elif algorithm == _EDDSA and key.take(key.number(1)) == _CURVE_ED25519:
        edwards = ed25519.Ed25519PublicKey.from_public_bytes(key.mpi()[1:])
        edwards.verify(b"".join(values.mpi().rjust(32, b"\0") for _ in range(2)), digest)
    elif algorithm == _ED25519:
        ed25519.Ed25519PublicKey.from_public_bytes(key.take(32)).verify(values.take(64), digest)
    elif algorithm == _ED448:
        ed448.Ed448PublicKey.from_public_bytes(key.take(57)).verify(values.take(114), digest)
    else:
        return None
    return True


def _der(values: PacketBody) -> bytes:
    """The two numbers of a signature of DSA or ECDSA as `cryptography` reads them."""
    r, s = (int.from_bytes(values.mpi()) for _ in range(2))
    return utils.encode_dss_signature(r, s)
