"""For whom an OpenPGP signature was made (RFC 9580 section 5.2.3.36).

Programs sign for whom they encrypt (GnuPG from 2.3 on). Such a signature counts in a message that
is encrypted for one of these alone: whoever got it could encrypt its text again, for somebody else,
with the signature of its author (section 13.12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from services.decryptor.layer_facts import PgpSignature
from services.decryptor.openpgp.sender_keys import SenderKeys
from services.decryptor.openpgp.signature_packets import SignaturePacket, fits, read_signature
from shared.certificates import OpenPGPKey


def fingerprints_of(key: OpenPGPKey) -> frozenset[str]:
    """By which an intended recipient may name that key: as a whole, or a part that decrypts."""
    return frozenset((key.fingerprint, *(one.fingerprint for one in key.subkeys)))


def is_meant_for(signature: SignaturePacket, own: Set[str]) -> bool:
    """Whether a signature is for everybody, or for a key with one of these fingerprints."""
    return not signature.intended or not own.isdisjoint(signature.intended)


def meant_for_others(right: PgpSignature) -> PgpSignature:
    """What a signature that is right is worth for whom it was not made."""
    reason = (
        f"The key {right.name} signed for the recipients of another encrypted message: somebody "
        "may have sent its text on."
    )
    return right._replace(signature="mismatch", reason=reason)


def counted(
    valid: PgpSignature,
    ring: SenderKeys,
    bodies: Iterable[bytes],
    digest: Callable[[SignaturePacket], bytes | None],
    own: Set[str],
) -> PgpSignature:
    """What of a `valid` signature, or several over one text, counts here; by the bodies of all of
    their packets. `digest` is that of the text, for a signature."""
    read = [one for one in map(read_signature, bodies) if one is not None]
    if all(is_meant_for(one, own) for one in read):
        return valid
    # Packets that fit nothing are easily put beside one that is right.
    meant = {
        key.certificate.fingerprint
        for one in read
        if is_meant_for(one, own)
        for key in ring.named(issuer.hex() for issuer in one.issuers)
        if fits(one, key.body, digest(one))
    }
    signers = [one for one in valid.signers if one in meant]
    if signers:
        return ring.made_by(signers)._replace(content=valid.content)
    return meant_for_others(valid)
