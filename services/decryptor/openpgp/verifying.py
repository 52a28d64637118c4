"""OpenPGP signatures: checked against the public keys that the administrator trusts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from pysequoia import Cert, Sig, verify
from pysequoia.packet import PacketPile, SignatureType, Tag

from services.decryptor.cms.verify import canonical_lines
from services.decryptor.layer_facts import PgpSignature
from services.decryptor.openpgp.packets import octets_of, packets_of
from services.decryptor.spool import Spool
from shared.certificates.openpgp_keys import emails_of
from shared.mail.region import Region, region

#: Signatures beside one text that are looked at.
MAX_SIGNATURES: Final = 16
#: Packets among which they are looked for, and the types of those that say nothing (RFC 9580
#: sections 5.8 and 5.14).
_MAX_PACKETS: Final = 64
_SIGNATURE: Final = 2
_SKIPPED: Final = (10, 21)
_REVOCATIONS: Final = (SignatureType.KeyRevocation, SignatureType.SubkeyRevocation)


class SenderKeys:
    """Public keys whose owners are known."""

    def __init__(self, certificates: Iterable[Cert] = ()) -> None:
        self.certificates: Sequence[Cert] = tuple(certificates)

    @cached_property
    def unrevoked(self) -> SenderKeys | None:
        """The same keys as if nobody had revoked them or their subkeys; None where nobody has."""
        revoked = [_without_revocations(one) for one in self.certificates]
        found = [one for one in revoked if one is not None]
        return SenderKeys(found) if found else None

    def made_by(self, valid: list[Any]) -> PgpSignature:
        """The owners of the signatures that were found right: the author need not be the first."""
        emails: list[str] = []
        name = None
        for found in valid:
            for certificate in self.certificates:
                if certificate.fingerprint == found.certificate:
                    emails += emails_of(map(str, certificate.user_ids))
                    name = name or certificate.fingerprint
        if name is None:
            return PgpSignature("invalid", reason="The signature cannot be checked.")
        return PgpSignature("valid", tuple(dict.fromkeys(emails)), name)

    def knows(self, key_id: str) -> bool:
        """Whether a key id or fingerprint is that of a known key or of one of its subkeys."""
        return any(key_id.lower() in names for names in map(_names, self.certificates))


class Rings(NamedTuple):
    """The keys of known senders, and those that a mail brings itself, which prove nothing."""

    known: SenderKeys
    hints: SenderKeys


def with_hints(
    check: Callable[[SenderKeys], PgpSignature | None], rings: Rings
) -> PgpSignature | None:
    """What `check` says with the known keys; of an unknown signer, with the mail's own key.

    A signature that is wrong by the mail's own key is wrong, whoever made it. One that is right but
    for a revocation is `revoked`.
    """
    found = check(rings.known)
    if found is not None and found.signature == "invalid" and rings.known.unrevoked:
        right = check(rings.known.unrevoked)
        if right is not None and right.signature == "valid":
            return right._replace(
                signature="revoked", reason=f"The key {right.name} that signed is revoked."
            )
    if found is None or found.signature != "untrusted" or not rings.hints.knows(found.name or ""):
        return found
    hinted = check(rings.hints)
    if hinted is None or hinted.signature != "valid":
        return PgpSignature(
            "invalid", (), found.name, "The content was changed after it was signed."
        )
    return found._replace(
        content=hinted.content,
        reason=f"The key {hinted.name} that signed came with the mail (Autocrypt): nobody vouches "
        "for it.",
    )


def _without_revocations(certificate: Cert) -> Cert | None:
    """None where the key and its subkeys are not revoked (RFC 9580 section 5.2.1)."""
    packets = list(PacketPile.from_bytes(bytes(certificate)))
    kept = [
        packet
        for packet in packets
        if packet.tag != Tag.Signature or packet.signature_type not in _REVOCATIONS
    ]
    return None if len(kept) == len(packets) else Cert.from_packets(kept)


def _names(certificate: Cert) -> set[str]:
    names: set[str] = set()
    for packet in PacketPile.from_bytes(bytes(certificate)):
        names |= {name for name in (packet.fingerprint, packet.key_id) if name}
    return names


def judge_failure(key_ids: list[str], ring: SenderKeys) -> PgpSignature:
    """What a signature is that did not verify: wrong, or by somebody unknown."""
    if any(ring.knows(key_id) for key_id in key_ids):
        return PgpSignature(
            "invalid",
            reason="The signature does not verify with the known key: the content was changed, or "
            "key or digest were no longer good for signing.",
        )
    name = key_ids[0] if key_ids else None
    return PgpSignature("untrusted", (), name, f"The key {name} that signed is not known here.")


def verify_detached(part: Region, armoured: bytes, rings: Rings, spool: Spool) -> PgpSignature:
    """Verifies the signature of a multipart/signed (RFC 3156 section 5) over its first part, or
    those of several people."""
    signatures = _signatures(armoured)
    if not signatures:
        return PgpSignature("invalid", reason="The attached signature is not a signature.")
    names = [name for one in signatures for name in _issuers(one)]

    def check(ring: SenderKeys) -> PgpSignature:
        valid: list[Any] = []
        known = [one for one in signatures if any(map(ring.knows, _issuers(one)))]
        for canonical in (False, True) if known else ():
            path = _written(part, spool, canonical=canonical)
            for one in known:
                try:
                    result = verify(file=str(path), store=ring_store(ring), signature=one)
                except (RuntimeError, ValueError):
                    continue
                valid += result.valid_sigs
            if valid:
                return ring.made_by(valid)
        return judge_failure(names, ring)

    found = with_hints(check, rings)
    assert found is not None
    return found


def _signatures(armoured: bytes) -> list[Sig]:
    """The signatures of a file of them, in its order, up to the first packet of another kind.

    Sequoia would unpack compressed packets among them, however deep and without a bound.
    """
    found: list[Sig] = []
    for kind, body in islice(packets_of(octets_of(region(armoured))), _MAX_PACKETS):
        if kind == _SIGNATURE:
            packet = bytes((0xC0 | kind, 0xFF)) + len(body).to_bytes(4) + body
            with suppress(RuntimeError, ValueError):  # others may be good
                found.append(Sig.from_bytes(packet))
        elif kind not in _SKIPPED:
            break
    return found[:MAX_SIGNATURES]


def _issuers(one: Sig) -> list[str]:
    return [name for name in (one.issuer_fingerprint, one.issuer_key_id) if name]


def verify_inline(text: bytes, rings: Rings) -> PgpSignature:
    """Verifies a text between its own signature lines (RFC 9580 section 7)."""

    def check(ring: SenderKeys) -> PgpSignature:
        asked: list[str] = []

        def store(key_ids: list[str]) -> list[Cert]:
            asked.extend(key_ids)
            return list(ring.certificates)

        try:
            result = verify(bytes=text, store=store)
        except (RuntimeError, ValueError, OSError):  # the last where it is over 25 MiB
            if not asked:
                return PgpSignature("invalid", reason="The signature in the text is damaged.")
            return judge_failure(asked, ring)
        return ring.made_by(result.valid_sigs)._replace(content=result.bytes or b"")

    found = with_hints(check, rings)
    assert found is not None
    return found


def ring_store(ring: SenderKeys) -> Any:
    """The callback by which Sequoia asks for keys."""
    return lambda key_ids: list(ring.certificates)


def _written(part: Region, spool: Spool, *, canonical: bool) -> Path:
    file, path = spool.named()
    with file:
        for window in canonical_lines(part.windows()) if canonical else part.windows():
            file.write(window)
    return path
