"""What is known about the secrecy and the origin of one mail.

The decryptor decides it, the ledger keeps it, the event carries it: plain values, so that every
service and every store can pass them on without knowing S/MIME or OpenPGP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

from shared.revocations import Revocation

#: What became of the encryption: `none` (there was none), `decrypted`, `no_recipient` (encrypted
#: for keys that are not here), `unsupported` (an algorithm that is not opened here), `failed`
#: (damaged, or not what it says).
Status = Literal["none", "decrypted", "no_recipient", "unsupported", "failed"]
#: Those of a mail that stayed encrypted.
UNOPENED: Final = frozenset(("no_recipient", "unsupported", "failed"))
#: `aead`: whoever changed the encrypted octets would have been noticed. `none`: they may have been
#: changed by anyone on the way (RFC 8551 section 6). None: nothing was decrypted.
Integrity = Literal["aead", "none"]
#: `valid`: all of what is handed out was signed by the owner of the one From address that every
#: reader sees, with a key that a trust anchor vouches for.
#: `mismatch`: right and vouched for, but the signer is not (the only) author that the mail shows,
#: or signed for the recipients of another encrypted mail.
#: `partial`: right and vouched for, but it does not cover all of the content: text or parts beside
#: it, or only an encrypted form.
#: `ambiguous`: right and vouched for, but readers differ on what the mail says or on who wrote it.
#: `untrusted`: nobody vouches for the signer. Mathematically right, but for that of an OpenPGP key
#: or a certificate that is not known here, which nobody can check.
#: `revoked`: mathematically right, but the certificate of the signer is revoked by its authority,
#: or the OpenPGP key by its owner.
#: `invalid`: the content is not what was signed, or the signature cannot be checked.
Signature = Literal[
    "none", "valid", "mismatch", "partial", "ambiguous", "untrusted", "revoked", "invalid"
]
Format = Literal["smime", "openpgp"]
#: What a signature lies around; `ciphertext` is an encryption that lies inside it.
Covers = Literal["content", "ciphertext", "part"]


class Layer(NamedTuple):
    """One layer of a mail, from the outermost to the innermost.

    `kind` is `encryption`, `signature` or `compression`. `verdict` is a word of `Status`, of
    `Signature`, or `opened`; `signer` and `covers` are those of a signature.
    """

    kind: Literal["encryption", "signature", "compression"]
    format: Format
    verdict: str
    signer: str | None = None
    covers: Covers | None = None


class Security(NamedTuple):
    """The facts of one mail; the default is a mail that is neither encrypted nor signed."""

    encrypted: bool = False
    status: Status = "none"
    #: The id of the uploaded certificate that opened it.
    certificate: str | None = None
    integrity: Integrity | None = None
    signature: Signature = "none"
    #: Who signed: the mail address, or the name where the certificate carries no address.
    signer: str | None = None
    #: A sentence for people; empty where there is nothing to explain.
    reason: str = ""
    #: Whom it was encrypted for: issuer and serial number, or key id.
    recipients: tuple[str, ...] = ()
    #: How the content key was protected (`RSA-OAEP`), and the content (`AES-256-GCM`).
    key_algorithm: str | None = None
    content_algorithm: str | None = None
    #: Each encryption, signature and compression, from the outermost to the innermost.
    layers: tuple[Layer, ...] = ()
    #: What was known of the signer's certificates; None where no trust anchor vouches for them.
    revocation: Revocation | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict with every field, for JSON."""
        return {
            "encrypted": self.encrypted,
            "status": self.status,
            "certificate": self.certificate,
            "integrity": self.integrity,
            "signature": self.signature,
            "signer": self.signer,
            "reason": self.reason,
            "recipients": list(self.recipients),
            "key_algorithm": self.key_algorithm,
            "content_algorithm": self.content_algorithm,
            "layers": [layer._asdict() for layer in self.layers],
            "revocation": self.revocation and self.revocation.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Security:
        """The reverse of `to_json`; unknown keys are ignored, missing ones take the default.

        Raises ValueError where `status`, `integrity` or `signature` is not one of its words.
        """
        known: dict[str, Any] = {k: value[k] for k in cls._fields if k in value}
        known["recipients"] = tuple(known.get("recipients", ()))
        known["layers"] = tuple(Layer(**layer) for layer in known.get("layers", ()))
        if known.get("revocation"):
            known["revocation"] = Revocation.from_json(known["revocation"])
        for name, words in (
            ("status", get_args(Status)),
            ("integrity", (*get_args(Integrity), None)),
            ("signature", get_args(Signature)),
        ):
            if name in known and known[name] not in words:
                raise ValueError(f"{name} cannot be {known[name]!r}")
        return cls(**known)


#: `Security.to_json` of what is neither encrypted nor signed, as nearly all mails are. Not to be
#: changed: it is the same object for all of them.
PLAIN: Final[Mapping[str, Any]] = Security().to_json()
