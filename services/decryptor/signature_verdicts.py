"""What the signatures of a mail are worth, each for itself and for the mail as a whole.

A signature is `valid` for exactly what is handed out, and for its author alone; everything else
has a word of its own. docs/threat-model.md says what each word promises.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from cryptography import x509

from services.decryptor.author import Author, is_one_of
from services.decryptor.cms.verify import Verified
from services.decryptor.layer_facts import EncryptedLayer, Facts, PgpSignature, SignedLayer
from services.decryptor.revocation import revoked_sentence
from services.decryptor.trust import TrustStore
from shared.certificates.uploads import addresses
from shared.mail_security import Covers, Layer, Security, Signature
from shared.revocations import Revocation

_RANK: dict[Signature, int] = {
    "none": 0,
    "invalid": 1,
    "revoked": 2,
    "untrusted": 3,
    "mismatch": 4,
    "valid": 5,
}


_AROUND_ENCRYPTED = (
    "The signature covers the encrypted form only, and proves nothing about its content."
)
_NOBODY_SAID = "No authority has said lately that the certificate of the signer is not revoked."


class SignatureVerdict(NamedTuple):
    """What one signature is worth."""

    signature: Signature
    signer: str | None
    reason: str
    revocation: Revocation | None = None


_UNSIGNED = SignatureVerdict("none", None, "")


def judged(facts: Facts, author: Author, doubt: str, trust: TrustStore) -> Security:
    """The facts as a value. `doubt` says what in the content that is handed out is ambiguous."""
    layers: list[Layer] = []
    verdicts: list[tuple[SignatureVerdict, bool]] = []
    last_encryption = -1
    if facts.encrypted and facts.signed:
        for number, layer in enumerate(facts.layers):
            if isinstance(layer, EncryptedLayer):
                last_encryption = number
    for number, layer in enumerate(facts.layers):
        if isinstance(layer, SignedLayer):
            around = number < last_encryption
            verdict = _judge_layer(layer, author, doubt, trust, around=around)
            if not layer.forwarded:
                verdicts.append((verdict, around))
            covers: Covers = "ciphertext" if around else "part" if layer.limit else "content"
            layers.append(
                Layer("signature", layer.format, verdict.signature, verdict.signer, covers)
            )
        elif isinstance(layer, EncryptedLayer):
            layers.append(Layer("encryption", layer.format, layer.status))
        else:
            layers.append(Layer("compression", layer.format, "opened"))
    overall = _overall(verdicts)
    decrypted = facts.was_decrypted
    return Security(
        encrypted=facts.encrypted,
        status=facts.status,
        certificate=facts.certificate if decrypted else None,
        integrity=facts.integrity if decrypted else None,
        signature=overall.signature,
        signer=overall.signer,
        reason=" ".join([*facts.reasons, overall.reason]).strip(),
        recipients=tuple(dict.fromkeys(facts.recipients)),
        key_algorithm=facts.key_algorithm,
        content_algorithm=facts.content_algorithm,
        layers=tuple(layers),
        revocation=overall.revocation,
    )


def _overall(verdicts: list[tuple[SignatureVerdict, bool]]) -> SignatureVerdict:
    """The innermost signature is the author's; those around it are made on the way, and matter
    when they show that something was changed there."""
    if not verdicts:
        return _UNSIGNED
    overall = verdicts[-1][0]
    for outer, _ in verdicts[:-1]:
        if outer.signature == "invalid":
            overall = overall._replace(signature="invalid", reason=outer.reason)
    return overall


def _judge_layer(
    layer: SignedLayer, author: Author, doubt: str, trust: TrustStore, *, around: bool
) -> SignatureVerdict:
    if layer.openpgp is not None:
        verdict = _judge_openpgp(layer.openpgp, author)
    elif layer.broken or not layer.verified:
        verdict = SignatureVerdict(
            "invalid", None, layer.broken or "The mail carries no signature."
        )
    else:
        verdicts = [_judge(one, layer.certificates, author, trust) for one in layer.verified]
        verdict = max(verdicts, key=lambda verdict: _RANK[verdict.signature])
    if layer.broken and layer.openpgp is not None:
        verdict = verdict._replace(signature="invalid", reason=layer.broken)
    return _limited(verdict, layer, author, doubt, around=around)


def _limited(
    verdict: SignatureVerdict, layer: SignedLayer, author: Author, doubt: str, *, around: bool
) -> SignatureVerdict:
    """What a signature that is right proves at most, where it stands.

    Of somebody for whom nobody vouches it stays untrusted: "right, but around a part", beside an
    address that anybody can write into a certificate, would say that this is the signer's.
    """
    if verdict.signature in ("invalid", "revoked"):
        return verdict
    limit: tuple[Signature, str] | None = layer.limit
    if around:
        limit = ("partial", _AROUND_ENCRYPTED)
    if verdict.signature == "untrusted":
        return verdict._replace(reason=f"{verdict.reason} {limit[1]}") if limit else verdict
    if limit is not None:
        return verdict._replace(signature=limit[0], reason=limit[1])
    if author.problem == "ambiguous" or doubt:
        return verdict._replace(signature="ambiguous", reason=author.reason or doubt)
    if author.problem != "none":
        return verdict._replace(signature=author.problem, reason=author.reason)
    return verdict


def _judge_openpgp(found: PgpSignature, author: Author) -> SignatureVerdict:
    matching = author.address if is_one_of(author.address, found.emails) else None
    signer = matching or (found.emails[0] if found.emails else found.name)
    if found.signature == "valid" and not matching:
        return SignatureVerdict("mismatch", signer, _not_the_sender(signer))
    return SignatureVerdict(found.signature, signer, found.reason)


def _not_the_sender(signer: str | None) -> str:
    return f"Signed by {signer}, who is not the sender of the mail."


def _judge(
    one: Verified, certificates: list[x509.Certificate], author: Author, trust: TrustStore
) -> SignatureVerdict:
    if one.certificate is None:
        return SignatureVerdict("untrusted" if one.unknown else "invalid", None, one.problem)
    emails = addresses(one.certificate)
    matching = author.address if is_one_of(author.address, emails) else None
    signer = matching or [*emails, _common_name(one.certificate)][0]
    if one.problem:
        return SignatureVerdict("invalid", signer, one.problem)
    if one.weak:
        return SignatureVerdict(
            "untrusted", signer, "The signature uses SHA-1, which can be forged."
        )
    answer = trust.judge(one.certificate, certificates, one.signer.signing_time)
    if not answer.trusted:
        return SignatureVerdict("untrusted", signer, answer.reason)
    revocation = trust.revocations.of(answer.path)
    if revocation is not None and revocation.status == "revoked":
        # Whatever time of signing is claimed: whoever has a stolen key claims one of before.
        return SignatureVerdict("revoked", signer, revoked_sentence(revocation), revocation)
    if (
        trust.revocations.mode == "require"
        and revocation is not None
        and revocation.status != "good"
    ):
        return SignatureVerdict("untrusted", signer, _NOBODY_SAID, revocation)
    if not matching:
        return SignatureVerdict("mismatch", signer, _not_the_sender(signer), revocation)
    reason = answer.reason or _since_expired(one.certificate)
    return SignatureVerdict("valid", signer, reason, revocation)


def _since_expired(certificate: x509.Certificate) -> str:
    if certificate.not_valid_after_utc < datetime.now(certificate.not_valid_after_utc.tzinfo):
        return "The certificate of the signer has expired since it signed."
    return ""


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()
