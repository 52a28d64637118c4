"""RecipientInfos (RFC 5652 section 6.2): for whom the content key was wrapped, and how."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from asn1crypto import x509

from services.decryptor.cms.algorithms import Algorithm, algorithm
from services.decryptor.cms.ber import (
    BIT_STRING,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    Reader,
    octet_string,
    to_der,
)
from services.decryptor.cms.errors import Malformed

#: Distribution lists have some hundreds of members; each costs its parse.
MAX_RECIPIENTS = 2_000


@dataclass(frozen=True, slots=True)
class RecipientId:
    """Which certificate: by issuer (Name element) and serial number, or by key id."""

    issuer: bytes = b""
    serial: int = 0
    key_id: bytes = b""

    def __str__(self) -> str:
        if self.key_id:
            return f"key id {self.key_id[:64].hex()}"
        return f"{name_text(self.issuer)}, serial {self.serial:x}"


@dataclass(frozen=True, slots=True)
class Recipient:
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
    identifier = _identifier(fields)
    chosen = algorithm(fields.element(SEQUENCE))
    return Recipient("transport", identifier, chosen, octet_string(fields))


def _identifier(fields: Reader) -> RecipientId:
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
            identifier = _identifier(one)
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


@lru_cache(maxsize=1024)
def name_text(name: bytes) -> str:
    """A Name for people: `CN=Example CA, O=Example`; its bytes in hex where it is damaged."""
    try:
        parsed = x509.Name.load(to_der(name))
        parts = [
            f"{_SHORT.get(pair['type'].native, pair['type'].native)}={pair['value'].native}"
            for relative in reversed(list(parsed.chosen))
            for pair in relative
        ]
        return ", ".join(parts)[:500]
    except (ValueError, TypeError, KeyError, Malformed):
        return name[:64].hex()


_SHORT = {
    "common_name": "CN",
    "organization_name": "O",
    "organizational_unit_name": "OU",
    "country_name": "C",
    "locality_name": "L",
    "state_or_province_name": "ST",
    "email_address": "E",
    "serial_number": "SN",
    "domain_component": "DC",
}
