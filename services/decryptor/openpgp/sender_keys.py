"""The OpenPGP keys of senders, and what a signature is worth by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from pysequoia import Cert
from pysequoia.packet import PacketPile, Tag

from services.decryptor.layer_facts import PgpSignature
from services.decryptor.openpgp.renewed_keys import REVOCATIONS
from shared.certificates.openpgp_keys import emails_of


class SigningKey(NamedTuple):
    """One key of a certificate, with the body of its packet."""

    certificate: Cert
    fingerprint: str
    body: bytes

    @property
    def emails(self) -> tuple[str, ...]:
        """The addresses of its owner; none where nothing binds them to it today."""
        try:
            return emails_of(map(str, self.certificate.user_ids))
        except RuntimeError:
            return ()


class SenderKeys:
    """Public keys whose owners are known, or for which nobody vouches: then `is_vouched` is False,
    and no signature by them can count."""

    def __init__(self, certificates: Iterable[Cert] = (), *, is_vouched: bool = True) -> None:
        self.certificates: Sequence[Cert] = tuple(certificates)
        self.is_vouched = is_vouched

    @cached_property
    def _keys(self) -> Mapping[str, Sequence[SigningKey]]:
        """By key id and by fingerprint."""
        found: dict[str, list[SigningKey]] = {}
        for certificate in self.certificates:
            for packet in PacketPile.from_bytes(bytes(certificate)):
                if packet.fingerprint and packet.key_id:
                    key = SigningKey(certificate, packet.fingerprint, packet.body)
                    found.setdefault(packet.fingerprint, []).append(key)
                    found.setdefault(packet.key_id, []).append(key)
        return found

    @cached_property
    def unrevoked(self) -> SenderKeys | None:
        """The same keys as if nobody had revoked them or their subkeys; None where nobody has."""
        revoked = [_without_revocations(one) for one in self.certificates]
        found = [one for one in revoked if one is not None]
        return SenderKeys(found, is_vouched=self.is_vouched) if found else None

    def made_by(self, fingerprints: Iterable[str]) -> PgpSignature:
        """The owners of the certificates whose signatures were found right: the author need not be
        the first."""
        emails: list[str] = []
        signers: list[str] = []
        for fingerprint in dict.fromkeys(fingerprints):
            for certificate in self.certificates:
                if certificate.fingerprint == fingerprint:
                    emails += emails_of(map(str, certificate.user_ids))
                    signers.append(fingerprint)
        if not signers:
            return PgpSignature("invalid", reason="The signature cannot be checked.")
        addresses = tuple(dict.fromkeys(emails))
        return PgpSignature("valid", addresses, signers[0], signers=tuple(signers))

    def knows(self, key_id: str) -> bool:
        """Whether a key id or fingerprint is that of a known key or of one of its subkeys."""
        return key_id.lower() in self._keys

    def named(self, names: Iterable[str]) -> Sequence[SigningKey]:
        """The keys with one of these ids or fingerprints, each once."""
        found = [key for name in names for key in self._keys.get(name.lower(), ())]
        return list({(key.certificate.fingerprint, key.fingerprint): key for key in found}.values())


class Rings(NamedTuple):
    """The keys of known senders, and those that a mail brings itself, which prove nothing.

    `own`: fingerprints of the keys here that opened what is around the signature.
    """

    known: SenderKeys
    hints: SenderKeys
    own: frozenset[str] = frozenset()


def with_hints(
    check: Callable[[SenderKeys], PgpSignature | None], rings: Rings
) -> PgpSignature | None:
    """What `check` says with the known keys; of an unknown signer, with the mail's own key.

    A signature that is wrong by the mail's own key is wrong, whoever made it. One that is right but
    for a revocation is `revoked`.
    """
    found = check(rings.known)
    if found is None:
        return None
    known = rings.known.knows(found.name or "") or found.signature == "invalid"
    if found.signature != "valid" and known and rings.known.unrevoked:
        right = check(rings.known.unrevoked)
        if right is not None and right.signature == "valid":
            return right._replace(
                signature="revoked", reason=f"The key {right.name} that signed is revoked."
            )
    if found.signature != "untrusted" or known or not rings.hints.knows(found.name or ""):
        return found
    hinted = check(rings.hints)
    if hinted is None or hinted.signature == "invalid":
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
        if packet.tag != Tag.Signature or packet.signature_type not in REVOCATIONS
    ]
    return None if len(kept) == len(packets) else Cert.from_packets(kept)


def judge_failure(key_ids: list[str], ring: SenderKeys) -> PgpSignature:
    """What a signature is that did not verify: wrong, or by somebody unknown."""
    known = ring.named(key_ids)
    if known:
        # Who is said to have signed; a signature that is wrong is nobody's.
        return PgpSignature(
            "invalid",
            tuple(dict.fromkeys(email for key in known for email in key.emails)),
            known[0].certificate.fingerprint,
            "The signature does not verify with the known key: the content was changed "
            "after it was signed, or the key is of a kind that is not read here.",
        )
    name = key_ids[0] if key_ids else None
    reason = f"The key {name} that signed is not known here: nobody could check the signature."
    return PgpSignature("untrusted", (), name, reason)


def ring_store(ring: SenderKeys) -> Any:
    """The callback by which Sequoia asks for keys."""
    return lambda key_ids: list(ring.certificates)
