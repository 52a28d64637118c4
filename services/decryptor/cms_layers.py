"""The CMS layers of a mail (S/MIME): what is opened, and what is learned from it."""

from __future__ import annotations

import binascii
import quopri
import re
from typing import Final, NamedTuple

from services.decryptor.armoured_cms import begins_with_encryption
from services.decryptor.cms import oids
from services.decryptor.cms.ber import Reader, reader_at
from services.decryptor.cms.compressed import decompress
from services.decryptor.cms.content import content_info
from services.decryptor.cms.content_keys import key_algorithm_name
from services.decryptor.cms.enveloped import (
    Envelope,
    Fitting,
    any_envelope,
    fitting,
    open_envelope,
    usual_envelope,
)
from services.decryptor.cms.errors import (
    CmsError,
    Malformed,
    NoRecipient,
    NotOpened,
    Unsupported,
)
from services.decryptor.cms.signed import SignedData, read_signed
from services.decryptor.cms.verify import Content, load_certificates, verify
from services.decryptor.cms_bodies import structure_of
from services.decryptor.layer_entities import looks_readable
from services.decryptor.layer_facts import CompressedLayer, Facts, SignedLayer
from services.decryptor.limits import MailLimits
from services.decryptor.spool import Spool
from services.decryptor.transfer_encodings import Undecodable
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from shared.mail.parts import entity_file_name
from shared.mail.region import Region, made
from shared.mail.structure import Entity
from shared.mail_security import Status

#: The last one is that of RFC 7193.
_PKCS7 = ("application/pkcs7-mime", "application/x-pkcs7-mime", "application/cms")
_PKCS7_SIGNATURE = ("application/pkcs7-signature", "application/x-pkcs7-signature")
_CMS_TYPES = (
    oids.ENVELOPED_DATA,
    oids.AUTH_ENVELOPED_DATA,
    oids.SIGNED_DATA,
    oids.COMPRESSED_DATA,
)
#: Types that stand for those in mails; what they hold tells whether it is a CMS body.
_OTHER_PKCS7: Final = re.compile(r"application/(?:octet-stream|(?:x-)?(?:pkcs7|smime))\Z")
#: Types of files of PEM, of whatever kind.
_PEM: Final = ("application/x-pem-file", "application/pem", "application/x-pem")
#: How a ContentInfo begins (RFC 5652 section 3): a sequence of any length, and its type.
_BEGUN: Final = rb"0(?:[\x00-\x80]|\x81.|\x82..|\x83.{3}|\x84.{4})\x06.(?:%b)"
_CONTENT_INFO: Final = re.compile(_BEGUN % b"|".join(map(re.escape, _CMS_TYPES)), re.DOTALL)
_ENCRYPTED: Final = re.compile(
    _BEGUN % b"|".join(map(re.escape, (oids.ENVELOPED_DATA, oids.AUTH_ENVELOPED_DATA))), re.DOTALL
)


class Inner(NamedTuple):
    """What a layer held, and how deep it lay."""

    content: Region
    depth: int


def is_pkcs7(whole: Entity) -> bool:
    """Whether the entity is a CMS body (RFC 8551 section 3.9: gateways lose its media type): by its
    type, its name, or what it begins with; under another name, only what is encrypted."""
    if whole.media_type in _PKCS7:
        return True
    if not _OTHER_PKCS7.match(whole.media_type):
        return whole.media_type in _PEM and begins_with_encryption(whole)
    if b".p7m" in whole.header.value("content-disposition").lower():
        return True
    name = entity_file_name(whole).lower()
    return (
        name.endswith(".p7m")
        or _begins_with(_ENCRYPTED if name else _CONTENT_INFO, whole)
        or begins_with_encryption(whole)
    )


def _begins_with(structure: re.Pattern[bytes], whole: Entity) -> bool:
    begun = whole.body.copy(200)
    if whole.transfer_encoding == "quoted-printable":
        begun = quopri.decodestring(begun)
    elif whole.transfer_encoding == "base64":
        characters = begun.translate(None, b" \t\r\n")
        try:
            begun = binascii.a2b_base64(characters[: len(characters) // 4 * 4])
        except binascii.Error:
            return False
    return structure.match(begun) is not None


def may_be_signature(attached: Entity) -> bool:
    """Whether the second part of a multipart/signed is a CMS signature, by its type or its name."""
    return (
        attached.media_type in (*_PKCS7_SIGNATURE, *_PKCS7)
        or b".p7s" in attached.header.value("content-disposition").lower()
    )


class _Ready(NamedTuple):
    """What was read of an encrypted entity before any key was used, None where it is not usual."""

    whole: Entity
    body: Region
    envelope: Envelope | None
    fitting: Fitting | None


class CMS:
    """What the layers need: keys, known signers, bounds, and where the facts go.

    `read` and `unwrap` may be called before `open`, which then goes on from there.
    """

    def __init__(
        self,
        identities: IdentityIndex,
        trust: TrustStore,
        facts: Facts,
        spool: Spool,
        limits: MailLimits,
    ) -> None:
        self._identities = identities
        self._trust = trust
        self._facts = facts
        self._spool = spool
        self._limits = limits
        self._ready: _Ready | None = None
        self._first_key: bytes | None = None

    def read(self, whole: Entity) -> None:
        """Finds out who can open the mail; `open_layers` raises what is wrong with it."""
        if not is_pkcs7(whole):
            return
        envelope = keys = None
        try:
            body = structure_of(whole.body, whole.transfer_encoding, self._spool)
            envelope = usual_envelope(body)
            if envelope is not None:
                keys = fitting(envelope, self._identities)
        except Undecodable:
            return
        except CmsError:
            pass
        self._ready = made(_Ready, (whole, body, envelope, keys))

    def unwrap(self) -> None:
        """The private key operation, where `read` found one to be done."""
        if self._ready is not None and self._ready.fitting is not None:
            try:
                self._first_key = self._ready.fitting.unwrap()
            except CmsError:
                pass

    def open(self, whole: Entity, depth: int) -> Inner | None:
        """What the innermost structure holds; None where it stays as it came."""
        ready, self._ready = self._ready, None
        try:
            if ready is not None and ready.whole is whole:
                body, envelope, keys = ready.body, ready.envelope, ready.fitting
            else:
                body = structure_of(whole.body, whole.transfer_encoding, self._spool)
                envelope, keys = usual_envelope(body), None
            if envelope is not None:
                return self._enveloped(whole, envelope, depth, keys)
            content_type, content = content_info(body)
        except (Undecodable, Malformed) as error:
            return self._broken(whole, str(error))
        return self._cms(whole, body, content_type, content, depth)

    def _cms(
        self, whole: Entity, body: Region, content_type: bytes, content: Reader, depth: int
    ) -> Inner | None:
        if depth > self._limits.nesting:
            self._facts.failed("failed", "The mail is nested too deeply.")
            return None
        if content_type in (oids.ENVELOPED_DATA, oids.AUTH_ENVELOPED_DATA):
            authenticated = content_type == oids.AUTH_ENVELOPED_DATA
            try:
                envelope = any_envelope(body, content, authenticated=authenticated)
            except Malformed as error:
                self._facts.encryption("smime")
                self._facts.failed("failed", str(error))
                return None
            return self._enveloped(whole, envelope, depth)
        if content_type == oids.SIGNED_DATA:
            return self._signed(whole, body, content, depth)
        if content_type == oids.COMPRESSED_DATA:
            return self._compressed(whole, body, content, depth)
        if content_type in oids.OTHER_ENCRYPTIONS:
            self._facts.encryption("smime")
        self._facts.failed(
            "unsupported", f"The content type {oids.dotted(content_type)} is not supported."
        )
        return None

    def _content(
        self, whole: Entity, content_type: bytes, content: Region, depth: int
    ) -> Inner | None:
        """The content of a structure: an entity, or directly another structure."""
        if content_type in _CMS_TYPES:
            reader = reader_at(content.buffer, content.start, content.end)
            return self._cms(whole, content, content_type, reader, depth + 1)
        return Inner(content, depth)

    def _enveloped(
        self, whole: Entity, envelope: Envelope, depth: int, keys: Fitting | None = None
    ) -> Inner | None:
        facts = self._facts
        first_key = self._first_key if keys is not None else None
        facts.encryption("smime")
        facts.recipients += [str(one) for one in envelope.recipients]
        facts.content_algorithm = cipher = envelope.cipher
        if envelope.recipients:
            facts.key_algorithm = key_algorithm_name(envelope.recipients[0])
        status: Status
        try:
            if keys is None:
                keys = fitting(envelope, self._identities)
            opened = open_envelope(envelope, keys, self._spool, _plausible, first_key=first_key)
        except NoRecipient as error:
            status, reason = "no_recipient", str(error)
        except Unsupported as error:
            status, reason = "unsupported", str(error)
        except (NotOpened, Malformed) as error:
            status, reason = "failed", str(error)
        else:
            facts.decrypted(opened.identity.id, opened.integrity, opened.key_algorithm, cipher)
            return self._content(whole, opened.content_type, opened.content, depth)
        facts.failed(status, reason)
        return None

    def _compressed(self, whole: Entity, body: Region, content: Reader, depth: int) -> Inner | None:
        if any(isinstance(layer, CompressedLayer) for layer in self._facts.layers):
            self._facts.failed("failed", "The mail holds compressed data in compressed data.")
            return None
        self._facts.layers.append(CompressedLayer())
        limit = self._limits.unpacked(len(body))
        try:
            content_type, unpacked = decompress(body, content, self._spool, limit)
        except Unsupported as error:
            self._facts.failed("unsupported", str(error))
        except Malformed as error:
            self._facts.failed("failed", str(error))
        else:
            return self._content(whole, content_type, unpacked, depth)
        return None

    def _signed(self, whole: Entity, body: Region, content: Reader, depth: int) -> Inner | None:
        layer = SignedLayer()
        try:
            signed = read_signed(body, content, self._spool)
        except Malformed as error:
            layer.broken = str(error)
            self._facts.signature(layer)
            return None
        if not signed.signers and signed.content is None:
            return None  # certs-only (RFC 8551 section 3.8): keys for somebody, not a mail
        self._facts.signature(layer)
        if signed.content is None:
            layer.broken = "The signature came without what it signs."
            return None
        self._verify(layer, signed, Content(signed.content, text=False))
        return self._content(whole, signed.content_type, signed.content, depth)

    def detached(self, part: Region, attached: Entity) -> SignedLayer:
        """The signature that lies beside what it signs (RFC 8551 section 3.5.3)."""
        layer = self._facts.signature(SignedLayer())
        try:
            body = structure_of(attached.body, attached.transfer_encoding, self._spool)
            content_type, content = content_info(body)
            if content_type != oids.SIGNED_DATA:
                raise Malformed("The attached signature is not a signature.")
            signed = read_signed(body, content, self._spool)
            if signed.content is not None and not _is_same(signed.content, part):
                raise Malformed("The attached signature brings a content of its own.")
            self._verify(layer, signed, Content(part, text=True))
        except (Undecodable, Malformed) as error:
            layer.broken = str(error)
        return layer

    def opaque(self, whole: Entity) -> None:
        """A signature that holds what it signs, in a part of a mail; the part stays."""
        layer = SignedLayer()
        try:
            body = structure_of(whole.body, whole.transfer_encoding, self._spool)
            signed = read_signed(body, content_info(body).content, self._spool)
        except (Undecodable, Malformed) as error:
            layer.broken = str(error)
        else:
            if signed.content is None:
                return
            self._verify(layer, signed, Content(signed.content, text=False))
        self._facts.signature(layer)

    def kind_of(self, part: Entity) -> str:
        """What a CMS part is: `encryption`, `signature`, or neither (empty)."""
        try:
            content_type, _ = content_info(
                structure_of(part.body, part.transfer_encoding, self._spool)
            )
        except (Undecodable, Malformed):
            kind = part.parameters.get("smime-type", "").lower()
            return "encryption" if "enveloped" in kind or not kind else ""
        if content_type in (oids.ENVELOPED_DATA, oids.AUTH_ENVELOPED_DATA):
            return "encryption"
        return "signature" if content_type == oids.SIGNED_DATA else ""

    def _verify(self, layer: SignedLayer, signed: SignedData, content: Content) -> None:
        layer.certificates = load_certificates(signed.certificates)
        layer.verified = verify(signed, content, [*layer.certificates, *self._trust.senders])

    def _broken(self, whole: Entity, reason: str) -> Inner | None:
        """A body that says it is CMS and is not."""
        kind = whole.parameters.get("smime-type", "").lower()
        if kind == "signed-data":
            self._facts.signature(SignedLayer(broken=reason))
            return None
        if "enveloped" in kind or not kind:
            self._facts.encryption("smime")
        self._facts.failed("failed", reason)
        return None


def _plausible(content_type: bytes, content: Region) -> bool:
    """Whether a decrypted content starts as its type does."""
    if content_type in _CMS_TYPES:
        return content.copy(1) == b"\x30"
    return looks_readable(content)


def _is_same(one: Region, other: Region) -> bool:
    """Whether a content that a detached signature repeats is the one beside it, or empty."""
    if not len(one):
        return True
    return len(one) == len(other) and all(
        bytes(mine) == bytes(theirs)
        for mine, theirs in zip(one.windows(), other.windows(), strict=True)
    )
