"""The layers of a mail: encrypted in signed in encrypted, until what is left can be read.

Each layer is a whole entity or nothing: a decrypted part is never put among other parts of a
multipart, where those could carry its text away (EFAIL). What does not open stays as it came.
"""

from __future__ import annotations

from typing import Final

from services.decryptor.armoured_cms import lines_in, may_have_lines
from services.decryptor.cms_layers import CMS, is_pkcs7, may_be_signature
from services.decryptor.coverage import (
    ambiguous,
    comment_doubt,
    entity_doubt,
    limit_of,
    limit_of_headers,
    parts_with_text,
)
from services.decryptor.layer_entities import entity_of, is_guessed, may_be_text
from services.decryptor.layer_facts import Facts, SignedLayer
from services.decryptor.limits import MailLimits
from services.decryptor.opened_headers import may_be_forwarded, payload_of
from services.decryptor.openpgp.layers import OpenPGP
from services.decryptor.openpgp.recognising import may_have_armour
from services.decryptor.other_parts import OtherParts
from services.decryptor.spool import Spool
from services.decryptor.trust import TrustStore
from services.decryptor.wide_texts import decoded_text, is_wide
from shared.certificates import IdentityIndex
from shared.mail.fields import HeaderBlock
from shared.mail.region import Region
from shared.mail.structure import Entity, Part, entity, split_multipart

_NO_HEADER = HeaderBlock(b"")

#: Kinds of parts that readers show, or look into.
_SHOWN: Final = ("text/", "multipart/", "message/")
_SIGNED_INSIDE: Final = "A forwarded mail in this one is signed, which says nothing of this one."
_MAY_BE_TEXT: Final = "The header of the signed part may be the first lines of a text."
_MAY_BE_FORWARDED: Final = "The signed mail holds another one, which may be a forwarded one."
_TEXT_AROUND: Final = "There is other text around the encrypted message."


class LayerReader:
    """Opens the layers of one mail; what it learns is in `facts`.

    `read` and `unwrap` may be called before `open_layers`, which then goes on from there.
    """

    def __init__(
        self, identities: IdentityIndex, trust: TrustStore, limits: MailLimits, spool: Spool
    ) -> None:
        self.facts = Facts()
        #: The innermost entity that encryption or a signature covers: its header is protected.
        self.payload: Entity | None = None
        #: Every such entity, from the outermost on.
        self.covered: list[Entity] = []
        #: The mail that was wrapped for the sake of its header; None where there is none.
        self.wrapped: Entity | None = None
        self._identities = identities
        self._cms = CMS(identities, trust, self.facts, spool, limits)
        self._limits = limits
        self._trust = trust
        self._spool = spool
        self._outer: Entity | None = None

    def read(self, whole: Entity) -> None:
        """Finds out who can open the mail; `open_layers` raises what is wrong with it."""
        self._cms.read(whole)

    def unwrap(self) -> None:
        """The private key operation, where `read` found one to be done."""
        self._cms.unwrap()

    @property
    def _openpgp(self) -> OpenPGP:
        return OpenPGP(
            self._identities.openpgp,
            self._trust.keyring,
            self._outer.header if self._outer else _NO_HEADER,
            self.facts,
            self._spool,
            self._limits,
        )

    def open_layers(self, whole: Entity, depth: int = 0) -> Entity:
        """The innermost readable entity; `whole` itself where there was nothing to open."""
        if depth > self._limits.nesting:
            self.facts.failed("failed", "The mail is nested too deeply.")
            self._limit_signatures("Not all that lies inside what was signed was looked at.")
            return whole
        if self._outer is None:
            self._outer = whole
        if is_pkcs7(whole):
            if doubt := comment_doubt(whole):
                self.facts.more_outside(*ambiguous(doubt))
            inner = self._cms.open(whole, depth)
            return whole if inner is None else self._inner(inner.content, inner.depth)
        if whole.media_type == "multipart/signed":
            return self._multipart_signed(whole, depth)
        if whole.media_type.startswith("multipart/"):
            return self._multipart(whole, depth)
        if self.payload is whole and self.wrapped is None:
            # A layer covers all of it; what is merely forwarded is another mail.
            mail = payload_of(whole, self._outer)
            if mail is not whole:
                self.wrapped = mail
                if may_be_forwarded(whole, mail):
                    self._limit_signatures(_MAY_BE_FORWARDED)
                return self._within(mail, depth)
        if may_have_armour(whole, everywhere=depth == 0):
            text = self._openpgp.inline(whole)
            if text is not None:
                return self._within(text, depth)
        if whole.media_type == "text/plain":
            return self._lines_of_cms(whole, depth)
        return whole

    def _lines_of_cms(self, whole: Entity, depth: int) -> Entity:
        """What the lines of PEM hold that are all of a text; beside other text they are named."""
        lines = lines_in(whole, self._spool) if may_have_lines(whole) else None
        if lines is None:
            return whole
        if not lines.is_all:
            self.facts.encryption("smime")
            self.facts.failed("unsupported", _TEXT_AROUND)
            return whole
        text = whole
        if is_wide(whole):
            body = decoded_text(whole, self._spool)
            text = whole._replace(body=body, transfer_encoding="8bit")
        inner = self._cms.open(text, depth)
        return whole if inner is None else self._inner(inner.content, inner.depth)

    def _inner(self, content: Region, depth: int) -> Entity:
        """What a layer held, and what is inside that."""
        last = self.facts.layers[-1] if self.facts.layers else None
        whole = entity_of(content, signed=isinstance(last, SignedLayer))
        if is_guessed(whole, content):
            self._limit_signatures("The signed text does not say its character set.")
        return self._within(whole, depth)

    def _limit_signatures(self, reason: str) -> None:
        """Those that were found up to here are ambiguous."""
        for layer in self.facts.layers:
            if isinstance(layer, SignedLayer):
                layer.limited("ambiguous", reason)

    def _within(self, whole: Entity, depth: int) -> Entity:
        self._covers(whole)
        return self.open_layers(whole, depth + 1)

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
        parts = [entity(one) for one in parts_with_text(multipart)[:3]]
        if whole.media_type == "multipart/encrypted":
            content = self._openpgp.encrypted(whole)
            opened = whole if content is None else self._inner(content, depth)
        elif len(parts) == 2 and parts[0].media_type == "application/pgp-encrypted":
            content = self._openpgp.message(parts[1], parts[0])
            opened = whole if content is None else self._inner(content, depth)
        elif len(parts) == 1:
            inner = self.open_layers(parts[0], depth + 1)
            opened = whole if inner is parts[0] else inner
        signed = [one for one in self.facts.layers[before:] if isinstance(one, SignedLayer)]
        limit = (limit_of(whole, multipart) or limit_of_headers(multipart)) if signed else None
        for layer in signed:
            if limit is not None:
                layer.limited(*limit)
        return opened

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
        if may_be_text(signed.header):
            layer.limited("ambiguous", _MAY_BE_TEXT)
        if layer.limit is not None:
            self.facts.more_outside(*layer.limit)
        inner = self.open_layers(signed, depth + 1)
        is_opened = inner is not signed and inner is not self.wrapped
        if is_opened or (layer.is_right and layer.limit is None):
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
        elif may_be_signature(attached):
            layer = self._cms.detached(part, attached)
        else:
            return None
        limit = limit_of(whole, multipart)
        if limit is not None:
            layer.limited(*limit)
        if attached.media_type.startswith(_SHOWN):
            layer.limited("partial", "The signature lies in a part that is shown.")
        doubt = entity_doubt(attached)
        if doubt:
            layer.limited("ambiguous", f"The part of the signature is ambiguous: {doubt}.")
        return layer, signed

    def report_other_parts(self, inner: Entity) -> None:
        """Says what in the mail as it is handed out is still encrypted, or signed for itself."""
        if self.facts.encrypted and self.facts.status != "decrypted":
            return
        if inner.media_type == "multipart/encrypted" and self.facts.signed:
            return  # what was to be encrypted is only signed, and did not open
        others = OtherParts(self.facts, self._cms, self._spool)
        for part, forwarded in others.report(inner):
            self._signed_beside(part, forwarded=forwarded)

    def _signed_beside(self, part: Part, *, forwarded: bool) -> None:
        before = len(self.facts.layers)
        read = part.entity
        if read.media_type == "multipart/signed":
            self._signed_part(read)
        elif is_pkcs7(read):
            self._cms.opaque(read)
        else:
            self._openpgp.inline(read)
        for layer in self.facts.layers[before:]:
            if isinstance(layer, SignedLayer):
                layer.limit = ("partial", "Only a part of the mail is signed.")
                layer.forwarded = forwarded
        if forwarded:
            self.facts.remark(_SIGNED_INSIDE)
