"""What the layers of one mail turned out to be, from the outermost to the innermost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from cryptography import x509

from services.decryptor.cms.verify import Verified
from shared.mail_security import Format, Integrity, Signature, Status


class PgpSignature(NamedTuple):
    """What a signature is worth before the author of the mail is looked at.

    `emails` are those of the key that signed; `name` says who it is where there are none.
    `content` is what was verified, where the signature lies in a text; `signers` are the
    fingerprints of the keys whose signatures were found right.
    """

    signature: Signature
    emails: tuple[str, ...] = ()
    name: str | None = None
    reason: str = ""
    content: bytes = b""
    signers: tuple[str, ...] = ()


@dataclass(slots=True)
class SignedLayer:
    """One signature around (a part of) the mail: verified, not yet judged.

    `broken` says why it could not even be read. `limit` is a word and a sentence where the
    signature, however right, does not cover what is handed out: `partial` or `ambiguous`.
    `forwarded`: it is that of another mail, which this one holds, or of a text in it, all of which
    its author signed.
    """

    format: Format = "smime"
    verified: list[Verified] = field(default_factory=list)
    certificates: list[x509.Certificate] = field(default_factory=list)
    broken: str = ""
    openpgp: PgpSignature | None = None
    limit: tuple[Signature, str] | None = None
    forwarded: bool = False

    @property
    def is_right(self) -> bool:
        """Whether the octets are what some key signed; whose key it is remains to be judged."""
        if self.broken:
            return False
        if self.openpgp is not None:
            return self.openpgp.signature in ("valid", "revoked", "mismatch")
        return any(not one.problem for one in self.verified)

    def limited(self, word: Signature, reason: str) -> None:
        """The first limit that is found counts."""
        self.limit = self.limit or (word, reason)


@dataclass(slots=True)
class EncryptedLayer:
    """One encryption; `status` is what became of it."""

    format: Format
    status: Status = "failed"


@dataclass(slots=True)
class CompressedLayer:
    """One compression."""

    format: Format = "smime"


@dataclass(slots=True)
class Facts:
    """Collected from the outermost layer to the innermost."""

    status: Status = "none"
    certificate: str | None = None
    integrity: Integrity | None = None
    reasons: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    key_algorithm: str | None = None
    content_algorithm: str | None = None
    layers: list[SignedLayer | EncryptedLayer | CompressedLayer] = field(default_factory=list)
    encrypted: bool = False
    signed: bool = False
    #: Fingerprints of the OpenPGP keys that opened layers.
    openers: frozenset[str] = frozenset()
    _outside: tuple[Signature, str] | None = None

    @property
    def is_open(self) -> bool:
        """Whether something was taken out of an encryption or a signature.

        What was only compressed is not handed out in another form than it came: it can be had
        from the mail at any time, and may be a thousand times its size.
        """
        return (self.status == "none" and self.signed) or self.was_decrypted

    @property
    def was_decrypted(self) -> bool:
        """Whether an encryption was opened, whatever became of those inside it."""
        return self.encrypted and any(
            isinstance(one, EncryptedLayer) and one.status == "decrypted" for one in self.layers
        )

    @property
    def is_covered(self) -> bool:
        """Whether a signature that is right lies around what the next layers are found in."""
        return any(isinstance(one, SignedLayer) and one.is_right for one in self.layers)

    def encryption(self, kind: Format) -> None:
        """An encrypted layer begins; `decrypted` or `failed` says what became of it."""
        self.encrypted = True
        self.layers.append(EncryptedLayer(kind))

    def signature(self, layer: SignedLayer) -> SignedLayer:
        """Adds a layer, and gives it back."""
        self.signed = True
        self.layers.append(layer)
        if self._outside is not None:
            layer.limited(*self._outside)
        return layer

    def more_outside(self, word: Signature, reason: str) -> None:
        """The mail as it came shows more than all layers to come, and limits their signatures: a
        word and a sentence as those of `SignedLayer.limit`. The first one counts."""
        self._outside = self._outside or (word, reason)

    def decrypted(
        self,
        certificate: str,
        integrity: Literal["aead", "none"],
        key_algorithm: str,
        content_algorithm: str,
    ) -> None:
        """One encrypted layer was opened; the weakest integrity of all layers counts."""
        self._became("decrypted")
        self.certificate = self.certificate or certificate
        if self.integrity is None or integrity == "none":
            self.integrity = integrity
        self.key_algorithm, self.content_algorithm = key_algorithm, content_algorithm

    def failed(self, status: Status, reason: str) -> None:
        """A layer did not open; what lies inside it stays unknown."""
        self._became(status)
        self.remark(reason)

    def remark(self, reason: str) -> None:
        """Adds a sentence for people."""
        if reason and reason not in self.reasons:
            self.reasons.append(reason)

    def _became(self, status: Status) -> None:
        self.status = status
        last = self.layers[-1] if self.layers else None
        if isinstance(last, EncryptedLayer):
            last.status = status
