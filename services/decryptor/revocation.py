"""What is known of the revocation of signers' certificates, as verdicts take it.

A verdict is made with what is known at that moment, from memory. Certificates that a mail was
believed by are noted, so that the scheduler learns about them; this service asks nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from shared.certificates.revocation import issuer_key
from shared.clock import utc_now
from shared.revocations import Mode, Revocation, of_path
from shared.storage.revocations import KnownRevocation, Noted

#: How often it is said again that mails come by with a certificate.
_SAID_AGAIN: Final = timedelta(days=1)
#: Certificates that wait to be noted.
_MOST_WAITING: Final = 1000
_REASONS: Final = {
    "keyCompromise": "its key was compromised",
    "cACompromise": "the key of its authority was compromised",
    "aACompromise": "the key of its authority was compromised",
    "affiliationChanged": "its owner's affiliation changed",
    "superseded": "it was replaced",
    "cessationOfOperation": "it is not used any more",
    "certificateHold": "it is on hold",
    "privilegeWithdrawn": "its owner's right was withdrawn",
}


class Revocations:
    """What is known, as it was when this was made. Thread-safe."""

    def __init__(self, known: Iterable[KnownRevocation] = (), *, mode: Mode = "off") -> None:
        self.mode = mode
        self._known = {one.fingerprint: one for one in known}
        self._lock = threading.Lock()
        self._noted: set[bytes] = set()
        self._waiting: list[Noted] = []

    def of(self, path: Sequence[x509.Certificate]) -> Revocation | None:
        """What is known of a path from a signer to a trust anchor, which is not
        asked about itself; None where there is nobody to ask.

        Only for paths of signatures that were verified: authorities are asked about what is here.
        """
        if self.mode == "off":
            return Revocation() if len(path) > 1 else None
        now = utc_now()
        return of_path(self._revocation_of(one, issuer, now) for one, issuer in pairwise(path))

    def taken(self) -> list[Noted]:
        """The certificates that came by and are to be noted, once each."""
        if not self._waiting:
            return []
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting

    def _revocation_of(
        self, one: x509.Certificate, issuer: x509.Certificate, now: datetime
    ) -> Revocation:
        fingerprint = one.fingerprint(hashes.SHA256())
        known = self._known.get(fingerprint)
        if known is None or now - known.seen_at > _SAID_AGAIN:
            self._note(fingerprint, one, issuer, now)
        return known.revocation.at(now) if known is not None else Revocation()

    def _note(
        self, fingerprint: bytes, one: x509.Certificate, issuer: x509.Certificate, now: datetime
    ) -> None:
        # Authorities need not say any more what became of certificates that have expired.
        if one.not_valid_after_utc <= now:
            return
        with self._lock:
            if fingerprint in self._noted or len(self._waiting) >= _MOST_WAITING:
                return
            self._noted.add(fingerprint)
            self._waiting.append(
                Noted(
                    fingerprint,
                    one.public_bytes(Encoding.DER),
                    issuer.public_bytes(Encoding.DER),
                    issuer_key(issuer),
                    one.not_valid_after_utc,
                )
            )


def revoked_sentence(revocation: Revocation) -> str:
    """For people: that a certificate is revoked, since when and why."""
    since = f" on {revocation.revoked_at:%Y-%m-%d}" if revocation.revoked_at else ""
    why = _REASONS.get(revocation.reason, "")
    return (
        f"The certificate of the signer, or one that vouches for it, was revoked{since}"
        f"{': ' if why else ''}{why}."
    )
