"""OpenPGP signatures: checked against the public keys that the administrator trusts."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Set
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pysequoia import Cert, Sig, verify

from services.decryptor.cms.errors import Malformed, NotOpened
from services.decryptor.cms.verify import canonical_lines
from services.decryptor.layer_facts import PgpSignature
from services.decryptor.openpgp.bounded_work import bounded_work
from services.decryptor.openpgp.intended_recipients import counted
from services.decryptor.openpgp.packets import ARMOUR_SIGNED, octets_of, packets_of
from services.decryptor.openpgp.refused_signatures import refused
from services.decryptor.openpgp.sender_keys import (
    Rings,
    SenderKeys,
    judge_failure,
    ring_store,
    with_hints,
)
from services.decryptor.openpgp.signature_counts import MOST_SIGNATURES
from services.decryptor.openpgp.signature_packets import (
    Digests,
    SignaturePacket,
    fits,
    read_signature,
    with_issuer_id,
)
from services.decryptor.openpgp.signed_messages import (
    MOST_BYTES,
    SignedMessage,
    in_one_pass,
    read_signed_message,
)
from services.decryptor.spool import Spool
from shared.mail.region import Region, region

#: Signatures beside one text that are looked at.
MAX_SIGNATURES: Final = 16
#: Packets among which they are looked for, and the types of those that say nothing (RFC 9580
#: sections 5.8 and 5.14).
_MAX_PACKETS: Final = 64
_SIGNATURE: Final = 2
_MARK: Final = b"-----BEGIN PGP SIGNATURE-----"
_END: Final = b"-----END PGP SIGNATURE-----"
_SKIPPED: Final = (10, 21)
_OVER_A_TEXT: Final = 1
FOR_WHOM_UNREAD: Final = (
    "For whom the message was signed was not read, as it is long or of an uncommon form: a "
    "recipient may have sent it on."
)
NOT_VERIFIED: Final = "The signature lies in a form that is not verified here."
#: Signatures that Sequoia is asked about: of one key, and of forms that are not known here.
_MOST_OF_A_KEY, _MOST_UNKNOWN = 2, 4


class _Content:
    """A content in the two forms in which it may have been signed: as it is, and with the line
    ends of mail, as a signature over a text always is (RFC 9580 section 5.2.1.2)."""

    def __init__(self, pieces: Callable[[], Iterable[bytes | memoryview]]) -> None:
        self.pieces = pieces
        self._forms = (Digests(pieces), Digests(lambda: canonical_lines(pieces())))

    def digest(self, signature: SignaturePacket, *, canonical: bool) -> bytes | None:
        return self._forms[canonical or signature.kind == _OVER_A_TEXT].of(signature)


def verify_detached(part: Region, armoured: bytes, rings: Rings, spool: Spool) -> PgpSignature:
    """Verifies the signature of a multipart/signed (RFC 3156 section 5) over its first part, or
    those of several people."""
    signatures = _signatures(armoured)
    if not signatures:
        return PgpSignature("invalid", reason="The attached signature is not a signature.")
    names = [name for one, _ in signatures for name in _issuers(one)]
    content = _Content(part.windows)

    def check(ring: SenderKeys) -> PgpSignature:
        for canonical in (False, True):
            asked = _worth_asking(signatures, ring, content, canonical=canonical)
            if not asked:
                continue
            path = _written(part, spool, canonical=canonical)
            bodies = [body for _, body in asked]
            valid: list[Any] = []
            for one, _ in asked:
                with suppress(RuntimeError, ValueError):
                    valid += verify(
                        file=str(path), store=ring_store(ring), signature=one
                    ).valid_sigs
            if valid:
                digest = partial(content.digest, canonical=canonical)
                found = ring.made_by(one.certificate for one in valid)
                return counted(found, ring, bodies, digest, rings.own)
            why = _why_refused(bodies, ring, content, rings.own, canonical=canonical)
            if why is not None:
                return why
        return judge_failure(names, ring)

    found = with_hints(check, rings)
    assert found is not None
    return found


def _worth_asking(
    signatures: Iterable[tuple[Sig, bytes]], ring: SenderKeys, content: _Content, *, canonical: bool
) -> list[tuple[Sig, bytes]]:
    """Those that Sequoia, which digests the content for each, may find right: two of one key, and
    a few whose form is not known here."""
    found: list[tuple[Sig, bytes]] = []
    asked: Counter[str] = Counter()
    for one, body in signatures:
        read = read_signature(body)
        for key in ring.named(_issuers(one)):
            right = read and fits(read, key.body, content.digest(read, canonical=canonical))
            name, most = (key.fingerprint, _MOST_OF_A_KEY) if right else ("", _MOST_UNKNOWN)
            if right is not False and asked[name] < most:
                asked[name] += 1
                found.append((one, body))
                break
    return found


def _why_refused(
    bodies: Iterable[bytes], ring: SenderKeys, content: _Content, own: Set[str], *, canonical: bool
) -> PgpSignature | None:
    """What those signatures are that Sequoia refuses and that are mathematically right; None where
    none is."""
    found: PgpSignature | None = None
    for body in bodies:
        read = read_signature(body)
        if read is None:
            continue
        for key in ring.named(issuer.hex() for issuer in read.issuers):
            if fits(read, key.body, content.digest(read, canonical=canonical)):
                one = refused(read, key, ring, own, content.pieces())
                found = one if found is None or one.signature == "valid" else found
    return found


def _signatures(armoured: bytes) -> list[tuple[Sig, bytes]]:
    """The signatures of a file of them with the bodies of their packets, in its order, up to the
    first packet of another kind.

    Sequoia would unpack compressed packets among them, however deep and without a bound.
    """
    found: list[tuple[Sig, bytes]] = []
    for kind, body in islice(packets_of(octets_of(region(armoured))), _MAX_PACKETS):
        if kind == _SIGNATURE:
            with suppress(RuntimeError, ValueError):  # others may be good
                found.append((Sig.from_bytes(_packet(body)), body))
        elif kind not in _SKIPPED:
            break
    return found[:MAX_SIGNATURES]


def _issuers(one: Sig) -> list[str]:
    return [name for name in (one.issuer_fingerprint, one.issuer_key_id) if name]


def verify_inline(message: bytes, rings: Rings, limit: int) -> PgpSignature:
    """Verifies a text between its own signature lines (RFC 9580 section 7), or a message of packets
    that are not encrypted. `limit` bounds what is unpacked, in octets."""
    if message.startswith(ARMOUR_SIGNED) and not _are_few_signatures(message):
        return PgpSignature("invalid", reason="There are other packets than a few signatures.")
    try:
        is_framed = message.startswith(ARMOUR_SIGNED)
        octets = _with_issuer_ids(message) if is_framed else in_one_pass(message, limit)
        signed = read_signed_message(octets, min(limit, MOST_BYTES))
    except (Malformed, NotOpened):
        octets, signed = message, None

    def check(ring: SenderKeys) -> PgpSignature:
        asked: list[str] = []

        def store(key_ids: list[str]) -> list[Cert]:
            asked.extend(key_ids)
            return list(ring.certificates)

        try:
            with bounded_work(len(octets) + limit):
                result = verify(bytes=octets, store=store)
        except (RuntimeError, ValueError, OSError):  # the last where it is over 25 MiB
            if not asked:
                return PgpSignature("invalid", reason="The signature in the text is damaged.")
            return _refused_message(signed, ring, rings.own) or judge_failure(asked, ring)
        right = ring.made_by(one.certificate for one in result.valid_sigs)
        right = right._replace(content=result.bytes or b"")
        return _counted_in(signed, right, ring, rings.own)

    found = with_hints(check, rings)
    assert found is not None
    return found


def _are_few_signatures(framed: bytes) -> bool:
    """Whether the armour below a signed text holds no more than Sequoia is quick with, which takes
    the square of their number."""
    kinds = [kind for kind, _ in _packets_below(framed)]
    return len(kinds) <= MOST_SIGNATURES and {*kinds} <= {_SIGNATURE, *_SKIPPED}


def _with_issuer_ids(framed: bytes) -> bytes:
    """A signed text whose signatures Sequoia finds the keys of: below a text it looks for them by
    id, and some programs write the fingerprint alone."""
    where = framed.rfind(_MARK)
    bodies = [body for kind, body in _packets_below(framed) if kind == _SIGNATURE]
    named = [with_issuer_id(one) for one in bodies]
    if named == bodies:
        return framed
    lines = base64.encodebytes(b"".join(map(_packet, named)))
    return framed[:where] + _MARK + b"\n\n" + lines + _END


def _packets_below(framed: bytes) -> list[tuple[int, bytes]]:
    armour = region(framed[framed.rfind(_MARK) :])
    return list(islice(packets_of(octets_of(armour)), MOST_SIGNATURES + 1))


def _packet(body: bytes) -> bytes:
    return bytes((0xC0 | _SIGNATURE, 0xFF)) + len(body).to_bytes(4) + body


def for_whom(packets: bytes, right: PgpSignature, rings: Rings, limit: int) -> PgpSignature:
    """What a signature that Sequoia found right counts here, by the packets of its message. `limit`
    bounds what is unpacked, in octets."""
    try:
        signed = read_signed_message(packets, limit)
    except (Malformed, NotOpened):
        signed = None
    return _counted_in(signed, right, rings.known, rings.own)


def _counted_in(
    signed: SignedMessage | None, right: PgpSignature, ring: SenderKeys, own: Set[str]
) -> PgpSignature:
    if signed is not None:
        digest = partial(_content_of(signed).digest, canonical=False)
        return counted(right, ring, signed.signatures, digest, own)
    if right.signature != "valid":
        return right
    if len(right.content) > MOST_BYTES // 2:  # nobody can add to a long text
        return right._replace(reason=FOR_WHOM_UNREAD)
    return right._replace(signature="untrusted", reason=NOT_VERIFIED)


def _content_of(signed: SignedMessage) -> _Content:
    return _Content(lambda: [signed.content])


def _refused_message(
    signed: SignedMessage | None, ring: SenderKeys, own: Set[str]
) -> PgpSignature | None:
    if signed is None:
        return None
    content = _content_of(signed)
    bodies = signed.signatures[:MAX_SIGNATURES]
    why = _why_refused(bodies, ring, content, own, canonical=False)
    return why and why._replace(content=signed.content)


def _written(part: Region, spool: Spool, *, canonical: bool) -> Path:
    file, path = spool.named()
    with file:
        for window in canonical_lines(part.windows()) if canonical else part.windows():
            file.write(window)
    return path
