"""Keys whose owner made their self-signatures anew after a mail was signed (RFC 9580 section
5.2.3.10: of several self-signatures the most recent one counts).

GnuPG writes the new self-signature in the place of the old one when it extends a key: what was
signed before has then no self-signature of its time, by which Sequoia judges. Here is what lets
such a signature count: everything that is required of the key, by its newest self-signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pysequoia import Cert
from pysequoia.packet import Packet, PacketPile, SignatureType, Tag

from services.decryptor.openpgp.signature_packets import (
    EXPIRES,
    FLAGS,
    KEY_EXPIRES,
    WEAK_DIGESTS,
    Digests,
    SignaturePacket,
    fits,
    read_signature,
)
from shared.certificates.openpgp_subkeys import framed

REVOCATIONS = (SignatureType.KeyRevocation, SignatureType.SubkeyRevocation)
_KEYS = (Tag.PublicKey, Tag.PublicSubkey)
_CERTIFICATIONS = (0x10, 0x11, 0x12, 0x13)
_DIRECT_KEY, _SUBKEY_BINDING, _BACK_SIGNATURE = 0x1F, 0x18, 0x19
_MAY_SIGN = 0x02
#: Hashed subpackets that a signature over a text may say are critical: they are looked at here, or
#: limit nothing (times, issuers, the signer's user id).
UNDERSTOOD = (2, 3, 16, 28, 33)
_CLOCK_SKEW = timedelta(days=1)
_SHORTEST_RSA = 2048
_RSA, _DSA = (1, 3), 17
#: Operations with a key that one signature may ask for: the newest self-signature first, over each
#: user id. A sender can put thousands of both that fit nothing into a key, each pair of which costs
#: a tenth of a millisecond; keys with tens of user ids are rare.
_MOST_TRIES = 512


class _Key(NamedTuple):
    """One key of a certificate: the body of its packet, its id, and when it was made."""

    body: bytes
    id: bytes
    created: datetime


def is_renewed_since(signature: SignaturePacket, certificate: Cert, fingerprint: str) -> bool:
    """Whether a signature that is right counts, as the key with that fingerprint was extended, or
    its self-signatures made anew, after it signed."""
    if not _counts(signature):
        return False
    packets = list(PacketPile.from_bytes(bytes(certificate)))
    if any(one.tag == Tag.Signature and one.signature_type in REVOCATIONS for one in packets):
        return False
    keys = {one.fingerprint: _key(one) for one in packets if one.tag in _KEYS}
    primary, signer = keys.get(certificate.fingerprint), keys.get(fingerprint)
    read = [read_signature(one.body) for one in packets if one.tag == Tag.Signature]
    if primary is None or signer is None or _is_weak(signer):
        return False
    made = [
        one
        for one in read
        if one is not None and one.digest not in WEAK_DIGESTS and primary.id in one.issuers
    ]
    made.sort(key=lambda one: one.created, reverse=True)
    tries = iter(range(_MOST_TRIES))
    own = next(_own_signatures(made, packets, primary, tries), None)
    if own is None or not _lasted(certificate, primary, signature.created):
        return False
    if signer == primary:
        binding = own
    else:
        found = next(_bindings(made, primary, signer, tries), None)
        if found is None:
            return False
        binding = found
    end = binding.lasts(KEY_EXPIRES)
    return (
        bool((binding.value(FLAGS) or b"\0")[0] & _MAY_SIGN)
        and signature.created < max(own.created, binding.created)
        and signer.created <= signature.created
        and (end is None or signature.created < signer.created + end)
    )


def _counts(signature: SignaturePacket) -> bool:
    """Whether nothing in the signature itself keeps it from counting."""
    now = datetime.now(UTC)
    lasts = signature.lasts(EXPIRES)
    return (
        signature.version > 3
        and signature.kind in (0, 1)
        and signature.digest not in WEAK_DIGESTS
        and signature.created <= now + _CLOCK_SKEW
        and (lasts is None or now < signature.created + lasts)
        and all(kind in UNDERSTOOD for kind, critical, _ in signature.subpackets if critical)
    )


def _key(packet: Packet) -> _Key:
    id = bytes.fromhex(packet.key_id or "")
    return _Key(packet.body, id, packet.key_created or datetime.now(UTC))


def _is_weak(key: _Key) -> bool:
    algorithm = key.body[5]
    bits = int.from_bytes(key.body[10:12] if key.body[0] > 4 else key.body[6:8])
    return algorithm == _DSA or (algorithm in _RSA and bits < _SHORTEST_RSA)


def _lasted(certificate: Cert, primary: _Key, at: datetime) -> bool:
    """Whether the certificate is one that counts today, and lasted at that time already."""
    try:
        end = certificate.expiration
        return bool(certificate.user_ids) and primary.created <= at and (end is None or at < end)
    except RuntimeError:
        return False


def _own_signatures(
    made: Iterable[SignaturePacket],
    packets: Iterable[Packet],
    primary: _Key,
    tries: Iterator[int],
) -> Iterator[SignaturePacket]:
    """Those of the primary key about itself: wherever they stand, as wrong ones stand there too."""
    key = framed(primary.body)
    texts = [one.body for one in packets if one.tag == Tag.UserID]
    names = [Digests(_once(key + b"\xb4" + len(one).to_bytes(4) + one)) for one in texts]
    direct = Digests(_once(key))
    for one in made:
        over = names if one.kind in _CERTIFICATIONS else [direct]
        if one.kind in (*_CERTIFICATIONS, _DIRECT_KEY) and any(
            fits(one, primary.body, digests.of(one))
            for digests, _ in zip(over, tries, strict=False)
        ):
            yield one


def _bindings(
    made: Iterable[SignaturePacket], primary: _Key, subkey: _Key, tries: Iterator[int]
) -> Iterator[SignaturePacket]:
    """Those of the primary key that bind a subkey, and that the subkey answers (section 5.2.1.9):
    else somebody could call another's key their own."""
    digests = Digests(_once(framed(primary.body) + framed(subkey.body)))
    bindings = (one for one in made if one.kind == _SUBKEY_BINDING)
    for one, _ in zip(bindings, tries, strict=False):
        if not fits(one, primary.body, digests.of(one)):
            continue
        for body, _ in zip(one.embedded, tries, strict=False):
            back = read_signature(body)
            if (
                back is not None
                and back.kind == _BACK_SIGNATURE
                and back.digest not in WEAK_DIGESTS
                and fits(back, subkey.body, digests.of(back))
            ):
                yield one
                break


def _once(octets: bytes) -> Callable[[], list[bytes]]:
    return lambda: [octets]
