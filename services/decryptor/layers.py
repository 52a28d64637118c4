"""Peeling a mail: encrypted in signed in encrypted, until what is left can be read.

Each layer is a whole entity or nothing: a decrypted part is never put among other parts of a
multipart, where those could carry its text away (EFAIL). What does not open stays as it came.
"""

from __future__ import annotations

import re
from typing import NamedTuple

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
from services.decryptor.facts import Facts, SignedLayer
from services.decryptor.limits import Limits
from services.decryptor.openpgp.layers import OpenPGP, may_have_armour
from services.decryptor.spool import Spool
from services.decryptor.transfer import Undecodable, decode
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from shared.mail.region import Region, made
from shared.mail.structure import Entity, entity, split_multipart
from shared.security import Status

_PKCS7 = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_PKCS7_SIGNATURE = ("application/pkcs7-signature", "application/x-pkcs7-signature")
#: How an entity begins: with a header field, or with an empty line.
_START = re.compile(rb"\r?\n|[\x21-\x39\x3b-\x7e]+[ \t]*:")
_LONGEST_NAME = 256
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
        self._identities = identities
        self._limits = limits
        self._trust = trust
        self._spool = spool
        self._ready: _Ready | None = None
        self._first_key: bytes | None = None

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
            self.facts,
            self._spool,
            self._limits.decompressed_bytes,
        )

    def peel(self, whole: Entity, depth: int = 0) -> Entity:
        """The innermost readable entity; `whole` itself where there was nothing to open."""
        if depth > self._limits.nesting:
            self.facts.failed("failed", "The mail is nested too deeply.")
            return whole
        if is_pkcs7(whole):
            return self._pkcs7(whole, depth)
        if whole.media_type == "multipart/signed":
            return self._multipart_signed(whole, depth)
        if whole.media_type == "multipart/encrypted":
            content = self._openpgp.encrypted(whole)
            return whole if content is None else self._inner(content, depth)
        if whole.media_type == "text/plain" and may_have_armour(whole):
            content = self._openpgp.inline(whole)
            return whole if content is None else self._inner(content, depth)
        return whole

    def _inner(self, content: Region, depth: int) -> Entity:
        """What a layer held, and what is inside that."""
        whole = entity(content)
        self.payload = whole
        return self.peel(whole, depth + 1)

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
                self.facts.encrypted = True
                self.facts.failed("failed", str(error))
                return whole
            return self._enveloped(whole, envelope, depth)
        if content_type == oids.SIGNED_DATA:
            return self._signed(whole, body, content, depth)
        if content_type == oids.COMPRESSED_DATA:
            return self._compressed(whole, body, content, depth)
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
        facts.encrypted = True
        facts.recipients += [str(one.identifier) for one in envelope.recipients]
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
        try:
            content_type, unpacked = decompress(
                body, content, self._spool, self._limits.decompressed_bytes
            )
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
            self.facts.signatures.append(layer)
            return whole
        if not signed.signers and signed.content is None:
            return whole  # certs-only (RFC 8551 section 3.8): keys for somebody, not a mail
        self.facts.signatures.append(layer)
        if signed.content is None:
            layer.broken = "The signature came without what it signs."
            return whole
        self._verify(layer, signed, Content(signed.content, text=False))
        return self._content(whole, signed.content_type, signed.content, depth)

    def _multipart_signed(self, whole: Entity, depth: int) -> Entity:
        pair = split_multipart(whole, 3).parts
        layer = SignedLayer()
        if len(pair) != 2:
            layer.broken = "The signed mail does not have the two parts that it must have."
            self.facts.signatures.append(layer)
            return whole
        attached = entity(pair[1])
        before = entity(pair[0])
        if attached.media_type == "application/pgp-signature":
            self.payload = before
            self._openpgp.signed(pair[0], attached)
            return self._inside(whole, before, depth)
        if attached.media_type not in _PKCS7_SIGNATURE and not (
            attached.media_type in _PKCS7 or b".p7s" in attached.header.value("content-disposition")
        ):
            return whole
        self.facts.signatures.append(layer)
        try:
            body = decode(attached.body, attached.transfer_encoding, self._spool)
            content_type, content = content_info(body)
            if content_type != oids.SIGNED_DATA:
                raise Malformed("The attached signature is not a signature.")
            self._verify(
                layer, read_signed(body, content, self._spool), Content(pair[0], text=True)
            )
        except (Undecodable, Malformed) as error:
            layer.broken = str(error)
        self.payload = before
        return self._inside(whole, before, depth)

    def _inside(self, whole: Entity, signed: Entity, depth: int) -> Entity:
        """What the signed part of a multipart/signed holds.

        Where nothing inside had to be opened, the mail stays readable as it is, proof included.
        """
        inner = self.peel(signed, depth + 1)
        return whole if inner is signed else inner

    def _verify(self, layer: SignedLayer, signed: SignedData, content: Content) -> None:
        layer.certificates = load_certificates(signed.certificates)
        layer.verified = verify(signed, content, layer.certificates)

    def _broken(self, whole: Entity, reason: str) -> Entity:
        """A body that says it is CMS and is not."""
        kind = whole.parameters.get("smime-type", "").lower()
        if kind == "signed-data":
            self.facts.signatures.append(SignedLayer(broken=reason))
        else:
            self.facts.encrypted = "enveloped" in kind or not kind
            self.facts.failed("failed", reason)
        return whole


def _plausible(content_type: bytes, content: Region) -> bool:
    """Whether a decrypted content starts as its type does."""
    if content_type in _CMS_TYPES:
        return content.copy(1) == b"\x30"
    buffer, start, end = content
    return _START.match(buffer, start, min(end, start + _LONGEST_NAME)) is not None
