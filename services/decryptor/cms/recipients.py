"""RecipientInfos (RFC 5652 section 6.2): for whom the content key was wrapped, and how."""

from __future__ import annotations

from typing import Literal, NamedTuple

from services.decryptor.cms.algorithms import Algorithm, algorithm
from services.decryptor.cms.ber import (
    BIT_STRING,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    Reader,
    octet_string,
)
from services.decryptor.cms.errors import Malformed
from shared.certificates.naming import CertificateName, name_text, normalised_name

#: Distribution lists have some hundreds of members; each costs its parse.
MAX_RECIPIENTS = 2_000


class RecipientId(NamedTuple):
    """Which certificate: by issuer (Name element) and serial number, or by key id."""

    issuer: bytes = b""
    serial: int = 0
    key_id: bytes = b""

    def means(self, name: CertificateName) -> bool:
        """Whether this is the certificate with that name."""
        if self.key_id:
            return self.key_id in name.key_ids
        return self.serial == name.serial and (
            self.issuer == name.issuer
            or normalised_name(self.issuer) == normalised_name(name.issuer)
        )

    def __str__(self) -> str:
        if self.key_id:
            return f"key id {self.key_id[:64].hex()}"
        return f"{name_text(self.issuer)}, serial {self.serial:x}"


class Recipient(NamedTuple):
    """One wrapped copy of the content key.

    `kind` is `transport` (RSA), `agreement` (ECDH), or another kind of RFC 5652 that no
    certificate opens. `originator_key` is the sender's ephemeral public key of an agreement:
    algorithm and point; b"" where the sender is only referred to.
    """

    kind: Literal["transport", "agreement", "shared key", "password", "other"]
    identifier: RecipientId
    algorithm: Algorithm
    wrapped_key: bytes
    originator_algorithm: Algorithm | None = None
    originator_key: bytes = b""
    user_keying_material: bytes = b""


_NOTHING = Algorithm(b"", b"", b"")
_OTHER: dict[int, Literal["shared key", "password", "other"]] = {
    0xA2: "shared key",
    0xA3: "password",
    0xA4: "other",
}


def read_recipients(source: Reader) -> list[Recipient]:
    """Reads the SET OF RecipientInfo before which `source` stands. Raises Malformed."""
    infos = source.enter(SET)
    found: list[Recipient] = []
    while (tag := infos.peek()) != -1:
        if tag == SEQUENCE:
            inner = infos.enter(tag)
            found.append(_transport(inner))
            infos.leave(inner)
        elif tag == 0xA1:
            inner = infos.enter(tag)
            found.extend(_agreement(inner))
            infos.leave(inner)
        elif tag in _OTHER:
            infos.take()
            found.append(Recipient(_OTHER[tag], RecipientId(), _NOTHING, b""))
        else:
            raise Malformed("The recipients are not in a known form.")
        if len(found) > MAX_RECIPIENTS:
            raise Malformed("There are too many recipients.")
    source.leave(infos)
    return found


def _transport(fields: Reader) -> Recipient:
    fields.take(INTEGER)
    identifier = read_identifier(fields)
    chosen = algorithm(fields.element(SEQUENCE))
    return Recipient("transport", identifier, chosen, octet_string(fields))


def read_identifier(fields: Reader) -> RecipientId:
    """The certificate that a CHOICE of IssuerAndSerialNumber or [0] key id means."""
    if fields.peek() == SEQUENCE:
        inner = fields.enter(SEQUENCE)
        issuer = inner.element(SEQUENCE)
        serial = int.from_bytes(inner.value(INTEGER), signed=True)
        fields.leave(inner)
        return RecipientId(issuer, serial)
    return RecipientId(key_id=octet_string(fields, 0x80))


def _agreement(fields: Reader) -> list[Recipient]:
    fields.take(INTEGER)
    originator = fields.enter(0xA0)
    originator_algorithm, originator_key = None, b""
    if originator.peek() == 0xA1:
        public = originator.enter(0xA1)
        originator_algorithm = algorithm(public.element(SEQUENCE))
        originator_key = public.value(BIT_STRING)[1:]
        originator.leave(public)
    fields.leave(originator)
    material = b""
    if fields.peek() == 0xA1:
        inner = fields.enter(0xA1)
        material = octet_string(inner)
        fields.leave(inner)
    chosen = algorithm(fields.element(SEQUENCE))
    keys = fields.enter(SEQUENCE)
    found: list[Recipient] = []
    while keys.peek() != -1:
        one = keys.enter(SEQUENCE)
        if one.peek() == 0xA0:
            by_key = one.enter(0xA0)
            identifier = RecipientId(key_id=octet_string(by_key, OCTET_STRING))
            one.leave(by_key)
        else:
            identifier = read_identifier(one)
        found.append(
            Recipient(
                "agreement",
                identifier,
                chosen,
                octet_string(one),
                originator_algorithm,
                originator_key,
                material,
            )
        )
        keys.leave(one)
        if len(found) > MAX_RECIPIENTS:
            raise Malformed("There are too many recipients.")
    fields.leave(keys)
    return found
