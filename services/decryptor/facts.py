"""What the layers of one mail turned out to be, and what follows for the mail as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from cryptography import x509

from services.decryptor.cms.verify import Verified
from services.decryptor.openpgp.verifying import PgpSignature
from services.decryptor.trust import TrustStore
from shared.certificates.parsing import addresses
from shared.security import Integrity, Security, Signature, Status

_RANK: dict[Signature, int] = {"none": 0, "invalid": 1, "untrusted": 2, "valid": 3}


class Verdict(NamedTuple):
    """What one signature layer is worth."""

    signature: Signature
    signer: str | None
    reason: str


_UNSIGNED = Verdict("none", None, "")


@dataclass(slots=True)
class SignedLayer:
    """One signature around (a part of) the mail: verified, not yet judged.

    `broken` says why it could not even be read.
    """

    verified: list[Verified] = field(default_factory=list)
    certificates: list[x509.Certificate] = field(default_factory=list)
    broken: str = ""
    openpgp: PgpSignature | None = None


@dataclass(slots=True)
class Facts:
    """Collected from the outermost layer to the innermost."""

    encrypted: bool = False
    status: Status = "none"
    certificate: str | None = None
    integrity: Integrity | None = None
    reason: str = ""
    recipients: list[str] = field(default_factory=list)
    key_algorithm: str | None = None
    content_algorithm: str | None = None
    signatures: list[SignedLayer] = field(default_factory=list)

    def decrypted(
        self,
        certificate: str,
        integrity: Literal["aead", "none"],
        key_algorithm: str,
        content_algorithm: str,
    ) -> None:
        """One encrypted layer was opened; the weakest integrity of all layers counts."""
        self.status = "decrypted"
        self.certificate = self.certificate or certificate
        if self.integrity is None or integrity == "none":
            self.integrity = integrity
        self.key_algorithm, self.content_algorithm = key_algorithm, content_algorithm

    def failed(self, status: Status, reason: str) -> None:
        """A layer did not open; what lies inside it stays unknown."""
        self.status, self.reason = status, reason

    def judged(self, authors: set[str], trust: TrustStore) -> Security:
        """The facts as a value. `authors` are the addresses that the mail says it is from."""
        overall = self._overall(authors, trust) if self.signatures else _UNSIGNED
        decrypted = self.status == "decrypted"
        return Security(
            encrypted=self.encrypted,
            status=self.status,
            certificate=self.certificate if decrypted else None,
            integrity=self.integrity if decrypted else None,
            signature=overall.signature,
            signer=overall.signer,
            reason=f"{self.reason} {overall.reason}".strip() if overall.reason else self.reason,
            recipients=tuple(dict.fromkeys(self.recipients)),
            key_algorithm=self.key_algorithm,
            content_algorithm=self.content_algorithm,
        )

    def _overall(self, authors: set[str], trust: TrustStore) -> Verdict:
        """The innermost signature is the author's; those around it are made on the way, and
        matter when they show that something was changed there."""
        *around, overall = [_judge_layer(layer, authors, trust) for layer in self.signatures]
        for outer in around:
            if outer.signature == "invalid":
                overall = Verdict("invalid", overall.signer, outer.reason)
        return overall


def _judge_layer(layer: SignedLayer, authors: set[str], trust: TrustStore) -> Verdict:
    if layer.openpgp is not None:
        return _judge_openpgp(layer.openpgp, authors)
    if layer.broken or not layer.verified:
        return Verdict("invalid", None, layer.broken or "The mail carries no signature.")
    verdicts = [_judge(one, layer.certificates, authors, trust) for one in layer.verified]
    return max(verdicts, key=lambda verdict: _RANK[verdict.signature])


def _judge_openpgp(found: PgpSignature, authors: set[str]) -> Verdict:
    matching = [email for email in found.emails if email in authors]
    signer = matching[0] if matching else found.emails[0] if found.emails else found.name
    if found.signature == "valid" and not matching:
        return Verdict("untrusted", signer, _not_the_sender(signer))
    return Verdict(found.signature, signer, found.reason)


def _not_the_sender(signer: str | None) -> str:
    return f"Signed by {signer}, who is not the sender of the mail."


def _judge(
    one: Verified, certificates: list[x509.Certificate], authors: set[str], trust: TrustStore
) -> Verdict:
    if one.certificate is None:
        return Verdict("invalid", None, one.problem)
    emails = addresses(one.certificate)
    matching = [email for email in emails if email in authors]
    signer = (matching or [*emails, _common_name(one.certificate)])[0]
    if one.problem:
        return Verdict("invalid", signer, one.problem)
    if one.weak:
        return Verdict("untrusted", signer, "The signature uses SHA-1, which can be forged.")
    answer = trust.judge(one.certificate, certificates, one.signer.signing_time)
    if not answer.trusted:
        return Verdict("untrusted", signer, answer.reason)
    if not matching:
        return Verdict("untrusted", signer, _not_the_sender(signer))
    return Verdict("valid", signer, _since_expired(one.certificate))


def _since_expired(certificate: x509.Certificate) -> str:
    if certificate.not_valid_after_utc < datetime.now(certificate.not_valid_after_utc.tzinfo):
        return "The certificate of the signer has expired since it signed."
    return ""


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()
