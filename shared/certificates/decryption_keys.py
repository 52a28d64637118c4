"""The keys that mails are opened with, and how the right one is found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from asn1crypto import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa, x448, x25519

from shared.certificates.identifiers import CertificateName, certificate_name, normalised_name
from shared.certificates.openpgp_keys import OpenPGPKey, load_openpgp
from shared.errors import InvalidInput

#: The private keys that can open a mail.
PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | x25519.X25519PrivateKey
    | x448.X448PrivateKey
    | mlkem.MLKEM768PrivateKey
    | mlkem.MLKEM1024PrivateKey
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Identity:
    """One uploaded certificate with its private key, ready for use.

    Expired ones are as good as any: the mails that were encrypted for them do not change.
    """

    id: str
    certificate: bytes
    private_key: PrivateKey = field(repr=False)
    name: CertificateName
    not_before: datetime

    @classmethod
    def load(cls, id: str, certificate: bytes, private_key: bytes) -> Identity:
        """From certificate DER and PKCS #8 DER, as `ParsedCertificate` gives them.

        Raises InvalidInput where either cannot be read, or the key cannot decrypt.
        """
        try:
            # The key was checked when it was uploaded; the check costs more than opening a mail.
            key = serialization.load_der_private_key(
                private_key, None, unsafe_skip_rsa_key_validation=True
            )
            name = certificate_name(certificate)
            not_before = x509.Certificate.load(certificate).not_valid_before
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInput("The certificate or its private key cannot be read.") from error
        if not isinstance(key, PrivateKey):
            raise InvalidInput("A key of this type cannot decrypt mail.")
        return cls(id, certificate, key, name, not_before)


class IdentityIndex:
    """Finds identities by what a recipient is called in a mail; newest first.

    Looked up by the issuer's octets and the serial number, then by the issuer's normalised name
    (senders re-encode names: other string types, other case), or by key id.
    """

    def __init__(
        self, identities: Iterable[Identity] = (), openpgp: Iterable[OpenPGPKey] = ()
    ) -> None:
        self.identities: Sequence[Identity] = tuple(
            sorted(identities, key=lambda identity: identity.not_before, reverse=True)
        )
        self.openpgp: tuple[OpenPGPKey, ...] = tuple(
            sorted(openpgp, key=lambda key: key.created or _EPOCH, reverse=True)
        )
        self._by_name: dict[tuple[bytes, int], list[Identity]] = {}
        self._by_serial: dict[int, list[Identity]] = {}
        self._by_key_id: dict[bytes, list[Identity]] = {}
        for identity in self.identities:
            issuer, serial, _ = identity.name
            self._by_name.setdefault((issuer, serial), []).append(identity)
            self._by_serial.setdefault(serial, []).append(identity)
            for key_id in identity.name.key_ids:
                self._by_key_id.setdefault(key_id, []).append(identity)

    @classmethod
    def load(
        cls, stored: Iterable[tuple[str, Literal["smime", "openpgp"], bytes, bytes]]
    ) -> IdentityIndex:
        """From (id, kind, certificate, private key) as `ParsedCertificate` gives them.

        Raises InvalidInput where one of them cannot be read.
        """
        identities: list[Identity] = []
        openpgp: list[OpenPGPKey] = []
        for id, kind, certificate, private_key in stored:
            if kind == "openpgp":
                openpgp.append(load_openpgp(id, certificate, private_key))
            else:
                identities.append(Identity.load(id, certificate, private_key))
        return cls(identities, openpgp)

    def __len__(self) -> int:
        return len(self.identities) + len(self.openpgp)

    def matching(self, issuer: bytes, serial: int, key_id: bytes) -> Sequence[Identity]:
        """The identities that a recipient identifier means: `key_id`, or else issuer and serial.

        `issuer` is a Name element in BER.
        """
        if key_id:
            return self._by_key_id.get(key_id, ())
        exact = self._by_name.get((issuer, serial))
        if exact is not None:
            return exact
        candidates = self._by_serial.get(serial)
        if candidates is None:
            return ()
        wanted = normalised_name(issuer)
        return [
            identity for identity in candidates if normalised_name(identity.name.issuer) == wanted
        ]
