"""Peeling a mail: encrypted in signed in encrypted, until what is left can be read.

Each layer is a whole entity or nothing: a decrypted part is never put among other parts of a
multipart, where those could carry its text away (EFAIL). What does not open stays as it came.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from services.decryptor.author import ambiguity
from services.decryptor.cms import oids
from services.decryptor.cms.ber import Reader, reader_at
from services.decryptor.cms.compressed import decompress
from services.decryptor.cms.content import content_info
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
from services.decryptor.cms.keys import key_algorithm_name
from services.decryptor.cms.signed import SignedData, read_signed
from services.decryptor.cms.verify import Content, load_certificates, verify
from services.decryptor.content import entity_of, looks_readable
from services.decryptor.coverage import doubt_about, limit_of, parts_beside, telling_parts
from services.decryptor.facts import CompressedLayer, Facts, SignedLayer
from services.decryptor.limits import Limits
from services.decryptor.openpgp.layers import OpenPGP, kind_of_text, may_have_armour
from services.decryptor.spool import Spool
from services.decryptor.transfer import Undecodable, decode
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from shared.mail.fields import HeaderBlock
from shared.mail.region import Region, made
from shared.mail.structure import Entity, Part, entity, split_multipart
from shared.security import Status

_PKCS7 = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_PKCS7_SIGNATURE = ("application/pkcs7-signature", "application/x-pkcs7-signature")
_CMS_TYPES = (
    oids.ENVELOPED_DATA,
    oids.AUTH_ENVELOPED_DATA,
    oids.SIGNED_DATA,
    oids.COMPRESSED_DATA,
)


def is_pkcs7(whole: Entity) -> bool:
    """Whether the entity is a CMS body (RFC 8551 section 3.9: gateways lose its media type)."""
    if whole.media_type in _PKCS7:
        return True
    if whole.media_type != "application/octet-stream":
        return False
    name = whole.parameters.get("name", "").lower()
    disposition = whole.header.value("content-disposition").lower()
    return name.endswith(".p7m") or b".p7m" in disposition


class _Ready(NamedTuple):
    """What was read of an encrypted entity before any key was used, None where it is not usual."""

    whole: Entity
    body: Region
    envelope: Envelope | None
    fitting: Fitting | None


_NO_HEADER = HeaderBlock(b"")


_BESIDE: Final = "A part of the mail is encrypted; it is not opened, since other parts lie beside."
_FORWARDED: Final = "The forwarded mail is encrypted; it is not opened, as it is another mail."
_IN_HTML: Final = "The HTML text holds an encrypted message, which is not opened there."


class Peeler:
    """Opens the layers of one mail; what it learns is in `facts`.

    `read` and `unwrap` may be called before `peel`, which then goes on from there.
    """

    def __init__(
        self, identities: IdentityIndex, trust: TrustStore, limits: Limits, spool: Spool
    ) -> None:
        self.facts = Facts()
        #: The innermost entity that encryption or a signature covers: its header is protected.
        self.payload: Entity | None = None
        #: Every such entity, from the outermost on.
        self.covered: list[Entity] = []
        self._identities = identities
        self._limits = limits
        self._trust = trust
        self._spool = spool
        self._ready: _Ready | None = None
        self._first_key: bytes | None = None
        self._header = _NO_HEADER

    def read(self, whole: Entity) -> None:
        """Finds out who can open the mail. What is wrong with it comes up again in `peel`."""
        if not is_pkcs7(whole):
            return
        envelope = keys = None
        try:
            body = decode(whole.body, whole.transfer_encoding, self._spool)
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

    @property
    def _openpgp(self) -> OpenPGP:
        return OpenPGP(
            self._identities.openpgp,
            self._trust.keyring,
            self._header,
            self.facts,
            self._spool,
            self._limits,
        )

    def peel(self, whole: Entity, depth: int = 0) -> Entity:
        """The innermost readable entity; `whole` itself where there was nothing to open."""
        if depth > self._limits.nesting:
            self.facts.failed("failed", "The mail is nested too deeply.")
            return whole
        if not depth:
            self._header = whole.header
        if is_pkcs7(whole):
            return self._pkcs7(whole, depth)
        if whole.media_type == "multipart/signed":
            return self._multipart_signed(whole, depth)
        if whole.media_type.startswith("multipart/"):
            return self._multipart(whole, depth)
        if may_have_armour(whole, everywhere=depth == 0):
            text = self._openpgp.inline(whole)
            return whole if text is None else self._within(text, depth)
        return whole

    def _inner(self, content: Region, depth: int) -> Entity:
        """What a layer held, and what is inside that."""
        return self._within(entity_of(content), depth)

    def _within(self, whole: Entity, depth: int) -> Entity:
        self._covers(whole)
        return self.peel(whole, depth + 1)

    def _covers(self, whole: Entity) -> None:
        self.payload = whole
        self.covered.append(whole)

    def _multipart(self, whole: Entity, depth: int) -> Entity:
        """A multipart that holds nothing but one encrypted or signed entity is that entity.

        Exchange, Google and Proton deliver the two parts of PGP/MIME in a multipart/mixed, with
        an empty text before them.
        """
        multipart = split_multipart(whole)
        before = len(self.facts.layers)
        opened = whole
        parts = [entity(one) for one in telling_parts(multipart)[:3]]
        if whole.media_type == "multipart/encrypted":
            content = self._openpgp.encrypted(whole)
            opened = whole if content is None else self._inner(content, depth)
        elif len(parts) == 2 and parts[0].media_type == "application/pgp-encrypted":
            content = self._openpgp.message(parts[1])
            opened = whole if content is None else self._inner(content, depth)
        elif len(parts) == 1:
            inner = self.peel(parts[0], depth + 1)
            opened = whole if inner is parts[0] else inner
        limit = limit_of(whole, multipart)
        for layer in self.facts.layers[before:]:
            if limit is not None and isinstance(layer, SignedLayer):
                layer.limited(*limit)
        return opened

    def _pkcs7(self, whole: Entity, depth: int) -> Entity:
        ready, self._ready = self._ready, None
        try:
            if ready is not None and ready.whole is whole:
                body, envelope, keys = ready.body, ready.envelope, ready.fitting
            else:
                body = decode(whole.body, whole.transfer_encoding, self._spool)
                envelope, keys = usual_envelope(body), None
            if envelope is not None:
                return self._enveloped(whole, envelope, depth, keys)
            content_type, content = content_info(body)
        except (Undecodable, Malformed) as error:
            return self._broken(whole, str(error))
        return self._cms(whole, body, content_type, content, depth)

    def _cms(
        self, whole: Entity, body: Region, content_type: bytes, content: Reader, depth: int
    ) -> Entity:
        if depth > self._limits.nesting:
            self.facts.failed("failed", "The mail is nested too deeply.")
            return whole
        if content_type in (oids.ENVELOPED_DATA, oids.AUTH_ENVELOPED_DATA):
            authenticated = content_type == oids.AUTH_ENVELOPED_DATA
            try:
                envelope = any_envelope(body, content, authenticated=authenticated)
            except Malformed as error:
                self.facts.encryption("smime")
                self.facts.failed("failed", str(error))
                return whole
            return self._enveloped(whole, envelope, depth)
        if content_type == oids.SIGNED_DATA:
            return self._signed(whole, body, content, depth)
        if content_type == oids.COMPRESSED_DATA:
            return self._compressed(whole, body, content, depth)
        if content_type in oids.OTHER_ENCRYPTIONS:
            self.facts.encryption("smime")
        self.facts.failed(
            "unsupported", f"The content type {oids.dotted(content_type)} is not supported."
        )
        return whole

    def _content(self, whole: Entity, content_type: bytes, content: Region, depth: int) -> Entity:
        """The content of a layer: an entity, or directly another CMS structure."""
        if content_type in _CMS_TYPES:
            reader = reader_at(content.buffer, content.start, content.end)
            return self._cms(whole, content, content_type, reader, depth + 1)
        return self._inner(content, depth)

    def _enveloped(
        self, whole: Entity, envelope: Envelope, depth: int, keys: Fitting | None = None
    ) -> Entity:
        facts = self.facts
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
        return whole

    def _compressed(self, whole: Entity, body: Region, content: Reader, depth: int) -> Entity:
        if any(isinstance(layer, CompressedLayer) for layer in self.facts.layers):
            self.facts.failed("failed", "The mail holds compressed data in compressed data.")
            return whole
        self.facts.layers.append(CompressedLayer())
        limit = self._limits.unpacked(len(body))
        try:
            content_type, unpacked = decompress(body, content, self._spool, limit)
        except Unsupported as error:
            self.facts.failed("unsupported", str(error))
        except Malformed as error:
            self.facts.failed("failed", str(error))
        else:
            return self._content(whole, content_type, unpacked, depth)
        return whole

    def _signed(self, whole: Entity, body: Region, content: Reader, depth: int) -> Entity:
        layer = SignedLayer()
        try:
            signed = read_signed(body, content, self._spool)
        except Malformed as error:
            layer.broken = str(error)
            self.facts.signature(layer)
            return whole
        if not signed.signers and signed.content is None:
            return whole  # certs-only (RFC 8551 section 3.8): keys for somebody, not a mail
        self.facts.signature(layer)
        if signed.content is None:
            layer.broken = "The signature came without what it signs."
            return whole
        self._verify(layer, signed, Content(signed.content, text=False))
        return self._content(whole, signed.content_type, signed.content, depth)

    def _multipart_signed(self, whole: Entity, depth: int) -> Entity:
        """The signed part alone, where it is what was signed, or where something opened inside.

        Otherwise the mail stays as it came: what lies around the signed part is not lost.
        """
        signature = self._signed_part(whole)
        if signature is None:
            return whole
        layer, signed = signature
        if signed is None:
            return whole
        self._covers(signed)
        inner = self.peel(signed, depth + 1)
        if inner is not signed or (layer.is_right and layer.limit is None):
            return inner
        return whole

    def _signed_part(self, whole: Entity) -> tuple[SignedLayer, Entity | None] | None:
        """The signature of a multipart/signed (RFC 1847) and the part that it lies beside.

        None where it is a signature of another kind.
        """
        multipart = split_multipart(whole, 3)
        if len(multipart.parts) != 2:
            layer = self.facts.signature(SignedLayer())
            layer.broken = "The signed mail does not have the two parts that it must have."
            return layer, None
        part = multipart.parts[0]
        signed, attached = entity(part), entity(multipart.parts[1])
        if attached.media_type == "application/pgp-signature":
            layer = self._openpgp.signed(part, attached)
        elif attached.media_type in (*_PKCS7_SIGNATURE, *_PKCS7) or _names_signature(attached):
            layer = self._detached(part, attached)
        else:
            return None
        limit = limit_of(whole, multipart)
        if limit is not None:
            layer.limited(*limit)
        doubt = doubt_about(attached.findings) or ambiguity(attached.header)
        if doubt:
            layer.limited("ambiguous", f"The part of the signature is ambiguous: {doubt}.")
        if attached.media_type.startswith("text/"):
            layer.limited("partial", "The signature lies in a part that shows as a text.")
        return layer, signed

    def _detached(self, part: Region, attached: Entity) -> SignedLayer:
        layer = self.facts.signature(SignedLayer())
        try:
            body = decode(attached.body, attached.transfer_encoding, self._spool)
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

    def look_beside(self, inner: Entity) -> None:
        """Says what in the mail as it is handed out is still encrypted, or signed for itself.

        Such parts stay as they are: a text that was decrypted among others could be carried away
        by them (EFAIL), and a signature covers its own part only.
        """
        if self.facts.encrypted and self.facts.status != "decrypted":
            return
        reason = _BESIDE
        if inner.media_type == "text/html":
            if kind_of_text(inner, self._spool) == "encryption":
                self._encrypted_beside(inner, _IN_HTML)
            return
        if inner.media_type == "message/rfc822":
            reason = _FORWARDED
        elif not inner.media_type.startswith("multipart/"):
            return
        signed = encrypted = False
        for part, forwarded in parts_beside(inner):
            found = self._kind_of(part.entity)
            if found == "encryption" and not encrypted:
                encrypted = True
                self._encrypted_beside(part.entity, reason)
            elif found == "signature" and not signed and not forwarded and not self.facts.signed:
                signed = True
                self._signed_beside(part)

    def _kind_of(self, part: Entity) -> str:
        if part.media_type in ("multipart/encrypted", "application/pgp-encrypted"):
            return "encryption"
        if part.media_type == "multipart/signed":
            return "signature"
        if is_pkcs7(part):
            return self._kind_of_pkcs7(part)
        if may_have_armour(part) or part.media_type == "text/html":
            return kind_of_text(part, self._spool)
        return ""

    def _kind_of_pkcs7(self, part: Entity) -> str:
        try:
            content_type, _ = content_info(decode(part.body, part.transfer_encoding, self._spool))
        except (Undecodable, Malformed):
            kind = part.parameters.get("smime-type", "").lower()
            return "encryption" if "enveloped" in kind or not kind else ""
        if content_type in (oids.ENVELOPED_DATA, oids.AUTH_ENVELOPED_DATA):
            return "encryption"
        return "signature" if content_type == oids.SIGNED_DATA else ""

    def _encrypted_beside(self, part: Entity, reason: str) -> None:
        if self.facts.encrypted:
            self.facts.remark(reason)
            return
        self.facts.encryption("smime" if is_pkcs7(part) else "openpgp")
        self.facts.failed("unsupported", reason)

    def _signed_beside(self, part: Part) -> None:
        before = len(self.facts.layers)
        read = part.entity
        if read.media_type == "multipart/signed":
            self._signed_part(read)
        elif is_pkcs7(read):
            self._opaque(read)
        else:
            self._openpgp.inline(read)
        for layer in self.facts.layers[before:]:
            if isinstance(layer, SignedLayer):
                layer.limit = ("partial", "Only a part of the mail is signed.")

    def _opaque(self, whole: Entity) -> None:
        layer = SignedLayer()
        try:
            body = decode(whole.body, whole.transfer_encoding, self._spool)
            signed = read_signed(body, content_info(body).content, self._spool)
        except (Undecodable, Malformed) as error:
            layer.broken = str(error)
        else:
            if signed.content is None:
                return
            self._verify(layer, signed, Content(signed.content, text=False))
        self.facts.signature(layer)

    def _verify(self, layer: SignedLayer, signed: SignedData, content: Content) -> None:
        layer.certificates = load_certificates(signed.certificates)
        layer.verified = verify(signed, content, self._trust.senders)

    def _broken(self, whole: Entity, reason: str) -> Entity:
        """A body that says it is CMS and is not."""
        kind = whole.parameters.get("smime-type", "").lower()
        if kind == "signed-data":
            self.facts.signature(SignedLayer(broken=reason))
            return whole
        if "enveloped" in kind or not kind:
            self.facts.encryption("smime")
        self.facts.failed("failed", reason)
        return whole


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


def _names_signature(attached: Entity) -> bool:
    return b".p7s" in attached.header.value("content-disposition").lower()
