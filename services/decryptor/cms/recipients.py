"""RecipientInfos (RFC 5652 section 6.2): for whom the content key was wrapped, and how."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from services.decryptor.cms.algorithms import Algorithm, algorithm
from services.decryptor.cms.ber import (
    BIT_STRING,
    INTEGER,
    OID,
    SEQUENCE,
    Buffer,
    Item,
    items,
    octets_of,
    small,
)
from services.decryptor.cms.errors import Malformed
from services.decryptor.cms.oids import ORI_KEM
from shared.certificates.identifiers import CertificateName, name_text, normalised_name
from shared.mail.region import made

#: Distribution lists have some hundreds of members; each costs its parse.
MAX_RECIPIENTS = 2_000
#: A name is some lines of text, in octets; what was made of it is remembered.
MAX_NAME = 1 << 13
MAX_SERIAL = 64
#: The usual lengths of a key that RSA wrapped, in octets (2048, 3072 and 4096 bits), and how the
#: OCTET STRING of each begins.
_RSA_KEYS = tuple((size, b"\x04\x82" + size.to_bytes(2)) for size in (256, 384, 512))

#: The longest of the names that are remembered, in octets: others are no certificate's.
_REMEMBERED = 1 << 13


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

    @lru_cache(maxsize=2048)  # noqa: B019 -- a value, and few of them come again and again
    def __str__(self) -> str:
        if self.key_id:
            return f"key id {self.key_id[:64].hex()}"
        return f"{name_text(self.issuer)}, serial {self.serial:x}"


class Encapsulation(NamedTuple):
    """What a KEMRecipientInfo (RFC 9629) has beside the wrapped key: the encapsulated secret, and
    how the key that wraps, of `key_bytes` octets, comes from it."""

    ciphertext: bytes
    derivation: Algorithm
    key_bytes: int
    wrap: Algorithm


class CmsRecipient(NamedTuple):
    """One wrapped copy of the content key.

    `kind` is `transport` (RSA), `agreement` (ECDH), `encapsulation` (ML-KEM), or another kind of
    RFC 5652 that no certificate opens. `originator_key` is the sender's ephemeral public key of an
    agreement: algorithm and point; b"" where the sender is only referred to.
    """

    kind: Literal["transport", "agreement", "encapsulation", "shared key", "password", "other"]
    identifier: RecipientId
    algorithm: Algorithm
    wrapped_key: bytes
    originator_algorithm: Algorithm | None = None
    originator_key: bytes = b""
    user_keying_material: bytes = b""
    encapsulation: Encapsulation | None = None

    def __str__(self) -> str:
        """For whom, for people."""
        if self.kind in ("shared key", "password"):
            return f"a {self.kind}"
        return "a recipient of an unknown kind" if self.kind == "other" else str(self.identifier)


_NOTHING = Algorithm(b"", b"", b"")
_OTHER: dict[int, Literal["shared key", "password"]] = {0xA2: "shared key", 0xA3: "password"}


def read_recipients(buffer: Buffer, start: int, stop: int) -> list[CmsRecipient]:
    """Reads the content of a SET OF RecipientInfo. Raises Malformed."""
    if buffer[start : start + 2] == b"\x30\x82":  # as RSA makes it, mostly for one recipient
        first = start + 4
        if first + int.from_bytes(buffer[start + 2 : first]) == stop:
            return [_transport(buffer, first, stop)]
    found: list[CmsRecipient] = []
    for info in items(buffer, start, stop):
        if info.tag == SEQUENCE:
            found.append(_transport(buffer, info.start, info.stop))
        elif info.tag == 0xA1:
            found.extend(_agreement(buffer, info))
        elif info.tag == 0xA4:
            found.append(_other(buffer, info))
        elif info.tag in _OTHER:
            found.append(CmsRecipient(_OTHER[info.tag], RecipientId(), _NOTHING, b""))
        else:
            raise _unknown()
        if len(found) > MAX_RECIPIENTS:
            raise Malformed("There are too many recipients.")
    return found


def read_identifier(buffer: Buffer, item: Item) -> RecipientId:
    """The certificate that a CHOICE of IssuerAndSerialNumber or [0] key id means."""
    if item.tag != SEQUENCE:
        return RecipientId(key_id=octets_of(buffer, item, 0x80))
    pair = items(buffer, item.start, item.stop)
    if len(pair) != 2 or pair[0].tag != SEQUENCE or pair[1].tag != INTEGER:
        raise _unknown()
    issuer, serial = pair
    if issuer.next - issuer.begin > MAX_NAME or serial.stop - serial.start > MAX_SERIAL:
        raise _unknown()
    return RecipientId(
        small(buffer, issuer.begin, issuer.next),
        int.from_bytes(buffer[serial.start : serial.stop], signed=True),
    )


def _transport(buffer: Buffer, start: int, stop: int) -> CmsRecipient:
    return usual_transport(buffer, start, stop) or any_transport(buffer, start, stop)


def usual_transport(buffer: Buffer, start: int, stop: int) -> CmsRecipient | None:
    """A KeyTransRecipientInfo by its end, where a key of a usual length lies; None where not.

    A test holds it to `any_transport` over mutated input: both say the same of what this takes.
    """
    for size, beginning in _RSA_KEYS:
        key = stop - size
        if key - 4 > start and buffer[key - 4 : key] == beginning:
            before = bytes(buffer[start : key - 4])
            known = _before_key(before) if len(before) <= _REMEMBERED else _read_before(before)
            if known is not None:
                wrapped = bytes(buffer[key:stop])
                return made(CmsRecipient, ("transport", *known, wrapped, None, b"", b"", None))
    return None


def any_transport(buffer: Buffer, start: int, stop: int) -> CmsRecipient:
    """A KeyTransRecipientInfo element by element. Raises Malformed."""
    fields = items(buffer, start, stop)
    if len(fields) < 4 or fields[2].tag != SEQUENCE:
        raise _unknown()
    _, identifier, chosen, encrypted = fields[:4]
    return CmsRecipient(
        "transport",
        read_identifier(buffer, identifier),
        algorithm(small(buffer, chosen.begin, chosen.next)),
        octets_of(buffer, encrypted),
    )


# A mailbox gets mail for the same few certificates all day: only the wrapped key is new.
@lru_cache(maxsize=2048)
def _before_key(content: bytes) -> tuple[RecipientId, Algorithm] | None:
    return _read_before(content)


def _read_before(content: bytes) -> tuple[RecipientId, Algorithm] | None:
    """What stands before the wrapped key of a KeyTransRecipientInfo; None where it is not that."""
    try:
        fields = items(content, 0, len(content))
        if len(fields) != 3 or fields[2].tag != SEQUENCE:
            return None
        _, identifier, chosen = fields
        return read_identifier(content, identifier), algorithm(content[chosen.begin : chosen.next])
    except Malformed:
        return None


def _agreement(buffer: Buffer, info: Item) -> list[CmsRecipient]:
    fields = items(buffer, info.start, info.stop)
    material = b""
    if len(fields) > 4 and fields[2].tag == 0xA1:
        inner = items(buffer, fields[2].start, fields[2].stop)
        material = octets_of(buffer, inner[0]) if inner else b""
        del fields[2]
    if len(fields) < 4 or (fields[1].tag, fields[2].tag, fields[3].tag) != (0xA0, 0x30, 0x30):
        raise _unknown()
    _, originator, chosen, keys = fields[:4]
    public_algorithm, public_key = _originator(buffer, originator)
    scheme = algorithm(small(buffer, chosen.begin, chosen.next))
    found: list[CmsRecipient] = []
    for one in items(buffer, keys.start, keys.stop):
        pair = items(buffer, one.start, one.stop)
        if len(pair) != 2:
            raise _unknown()
        identifier, wrapped = pair
        if identifier.tag == 0xA0:  # RecipientKeyIdentifier, of which only the key id counts
            key_id = items(buffer, identifier.start, identifier.stop)
            named = RecipientId(key_id=octets_of(buffer, key_id[0])) if key_id else RecipientId()
        else:
            named = read_identifier(buffer, identifier)
        found.append(
            CmsRecipient(
                "agreement",
                named,
                scheme,
                octets_of(buffer, wrapped),
                public_algorithm,
                public_key,
                material,
            )
        )
        if len(found) > MAX_RECIPIENTS:
            raise Malformed("There are too many recipients.")
    return found


def _other(buffer: Buffer, info: Item) -> CmsRecipient:
    """An OtherRecipientInfo, of which the one kind that anybody uses is KEMRecipientInfo."""
    pair = items(buffer, info.start, info.stop)
    if len(pair) != 2 or pair[0].tag != OID:
        raise _unknown()
    kind, value = pair
    name = small(buffer, kind.start, kind.stop)
    if name != ORI_KEM or value.tag != SEQUENCE:
        return CmsRecipient("other", RecipientId(), Algorithm(name, b"", b""), b"")
    fields = items(buffer, value.start, value.stop)
    material = b""
    if len(fields) == 9 and fields[6].tag == 0xA0:
        inner = items(buffer, fields[6].start, fields[6].stop)
        material = octets_of(buffer, inner[0]) if inner else b""
        del fields[6]
    tags = [one.tag for one in fields]
    if len(tags) != 8 or (tags[2], tags[4], tags[5], tags[6]) != (0x30, 0x30, INTEGER, 0x30):
        raise _unknown()
    _, identifier, encapsulated, ciphertext, derivation, size, wrap, wrapped = fields
    return CmsRecipient(
        "encapsulation",
        read_identifier(buffer, identifier),
        algorithm(small(buffer, encapsulated.begin, encapsulated.next)),
        octets_of(buffer, wrapped),
        user_keying_material=material,
        encapsulation=Encapsulation(
            octets_of(buffer, ciphertext),
            algorithm(small(buffer, derivation.begin, derivation.next)),
            int.from_bytes(small(buffer, size.start, size.stop)),
            algorithm(small(buffer, wrap.begin, wrap.next)),
        ),
    )


def _originator(buffer: Buffer, originator: Item) -> tuple[Algorithm | None, bytes]:
    """The sender's ephemeral key: algorithm and point; None where it is only referred to."""
    for choice in items(buffer, originator.start, originator.stop):
        if choice.tag == 0xA1:
            pair = items(buffer, choice.start, choice.stop)
            if len(pair) != 2 or pair[1].tag != BIT_STRING:
                raise _unknown()
            chosen, point = pair
            return (
                algorithm(small(buffer, chosen.begin, chosen.next)),
                small(buffer, point.start + 1, point.stop),
            )
    return None, b""


def _unknown() -> Malformed:
    return Malformed("The recipients are not in a known form.")
