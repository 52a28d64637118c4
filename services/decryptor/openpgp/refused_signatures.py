"""What an OpenPGP signature is worth that is mathematically right and that Sequoia refuses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from datetime import UTC, datetime, timedelta
from typing import Final

from services.decryptor.layer_facts import PgpSignature
from services.decryptor.openpgp.intended_recipients import is_meant_for, meant_for_others
from services.decryptor.openpgp.renewed_keys import UNDERSTOOD, is_renewed_since
from services.decryptor.openpgp.sender_keys import SenderKeys, SigningKey
from services.decryptor.openpgp.signature_packets import (
    EXPIRES,
    MD5,
    RIPEMD160,
    WEAK_DIGESTS,
    SignaturePacket,
)

#: The difference of clocks that Sequoia allows.
_CLOCK_SKEW: Final = timedelta(minutes=30)
_OVER_A_TEXT: Final = 1
_BARE_CR: Final = re.compile(rb"\r(?!\n|\Z)")
_TEXT_WITH_CR: Final = (
    "The signed text has carriage returns without line feeds, and programs differ on whether lines "
    "end there: ask the author to sign it with ordinary line ends."
)


def refused(
    signature: SignaturePacket,
    key: SigningKey,
    ring: SenderKeys,
    own: Set[str],
    pieces: Iterable[bytes | memoryview],
) -> PgpSignature:
    """The worth of a signature that fits a key of the ring. `pieces` are the content that it lies
    over, `own` the fingerprints of the keys that opened what is around it."""
    name = key.certificate.fingerprint
    if signature.digest == MD5:
        return PgpSignature("invalid", (), name, "The signature uses MD5, which proves nothing.")
    if signature.digest in WEAK_DIGESTS:
        return PgpSignature("untrusted", key.emails, name, _weak(signature))
    if ring.is_vouched and is_renewed_since(signature, key.certificate, key.fingerprint):
        reason = f"The key {name} was renewed since it signed."
        found = PgpSignature("valid", key.emails, name, reason)
        return found if is_meant_for(signature, own) else meant_for_others(found)
    if signature.kind == _OVER_A_TEXT and has_bare_cr(pieces):
        return PgpSignature("untrusted", key.emails, name, _TEXT_WITH_CR)
    return PgpSignature("untrusted", key.emails, name, _why_not(signature, key))


def _weak(signature: SignaturePacket) -> str:
    if signature.digest == RIPEMD160:
        return (
            "The signature uses RIPEMD-160, which RFC 9580 accepts no more: ask the author to sign "
            "with SHA-256."
        )
    return "The signature uses SHA-1, which can be forged."


def _why_not(signature: SignaturePacket, key: SigningKey) -> str:
    """A sentence on what in the signature, or else in the key, keeps it from counting."""
    now, made, name = datetime.now(UTC), signature.created, key.certificate.fingerprint
    if made > now + _CLOCK_SKEW:
        return (
            f"The signature says that it was made on {_date(made)}, which is still to come: the "
            "clock of who signed is wrong, or the one here."
        )
    lasts = signature.lasts(EXPIRES)
    if lasts is not None and made + lasts <= now:
        return (
            f"The signature was to last until {_date(made + lasts)}, as who signed it said: ask "
            "them to sign again."
        )
    key_made = datetime.fromtimestamp(int.from_bytes(key.body[1:5]), UTC)
    if made < key_made:
        return (
            f"The signature says that it was made on {_date(made)}, before its key {name} was, on "
            f"{_date(key_made)}: the clock of who signed was wrong."
        )
    unknown = [kind for kind, critical, _ in signature.subpackets if critical]
    unknown = [kind for kind in unknown if kind not in UNDERSTOOD]
    if unknown:
        return (
            f"The signature has a critical condition that is not known here (subpacket "
            f"{unknown[0]}): ask the author to sign without it."
        )
    return (
        f"The signature fits the key {name}, which was not good for signing then: it had expired, "
        "or is meant for other uses. Ask its owner for the key as it is now."
    )


def has_bare_cr(pieces: Iterable[bytes | memoryview]) -> bool:
    """Whether a content has a carriage return that no line feed follows."""
    open_end = False
    for piece in pieces:
        octets = bytes(piece)
        if not octets:
            continue
        if (open_end and octets[:1] != b"\n") or _BARE_CR.search(octets):
            return True
        open_end = octets.endswith(b"\r")
    return open_end


def _date(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
