"""What in a mail as it is handed out is still encrypted, or signed for itself.

Such parts stay as they are: a text that was decrypted among others could be carried away by them
(EFAIL), and a signature covers its own part only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from services.decryptor.armoured_cms import is_encryption, lines_in, lines_of, may_have_lines
from services.decryptor.cms_layers import CMS, is_pkcs7
from services.decryptor.coverage import parts_beside, texts_outside_parts
from services.decryptor.layer_facts import Facts
from services.decryptor.markup_armour import armours_in
from services.decryptor.openpgp.recognising import (
    begins_with_armour,
    is_other_text,
    kind_of_lines,
    kind_of_text,
    may_have_armour,
)
from services.decryptor.spool import Spool
from services.decryptor.tnef_files import is_tnef, messages_in
from services.decryptor.transfer_encodings import Undecodable, decode
from services.decryptor.wide_texts import decoded_text, is_wide
from shared.mail.structure import MESSAGE_TYPES, Entity, Part, entity, read_entity
from shared.mail_security import Format

_BESIDE: Final = "A part of the mail is encrypted; it is not opened, since other parts lie beside."
_FORWARDED: Final = "The forwarded mail is encrypted; it is not opened, as it is another mail."
_TNEF: Final = "The winmail.dat (TNEF) holds an encrypted message, which is not opened there."
_IN_HTML: Final = "The HTML text holds an encrypted message, which is not opened there."
_IN_TEXT: Final = "A text of another kind holds an encrypted message, which is not opened there."
_OUTSIDE: Final = "Outside of the parts of the mail lies an encrypted message, which is not opened."
#: Messages whose transfer encoding hides them: so many of a mail are decoded.
_MOST_ENCODED: Final = 4
_HIDING: Final = ("base64", "quoted-printable")

#: Signed, or encrypted in that format.
Kind = Literal["", "signature"] | Format


class OtherParts:
    """Looks at the parts of one mail; what is encrypted is said to `facts`."""

    def __init__(self, facts: Facts, cms: CMS, spool: Spool) -> None:
        self._facts = facts
        self._cms = cms
        self._spool = spool
        self._encoded_left = _MOST_ENCODED

    def report(self, inner: Entity) -> Iterator[tuple[Part, bool]]:
        """Gives back what is signed for itself, and whether it lies in a forwarded message."""
        reason = _BESIDE
        if is_other_text(inner):
            self._report(inner, _IN_HTML if inner.media_type == "text/html" else _IN_TEXT)
            return
        if is_tnef(inner):
            self._report(inner, _TNEF)
            return
        encrypted = False
        if inner.media_type in MESSAGE_TYPES:
            reason = _FORWARDED
            encrypted = self._report(inner, reason)
        elif not inner.media_type.startswith("multipart/"):
            return
        # One of each kind is looked at; a signature of the mail itself makes others unnecessary.
        signed = {False: self._facts.signed, True: False}
        tree = read_entity(inner)
        for part, forwarded in parts_beside(tree):
            found = self._kind_of(part.entity)
            if found == "signature":
                if not signed[forwarded]:
                    signed[forwarded] = True
                    yield part, forwarded
            elif found and not encrypted:
                encrypted = True
                self._named(found, _TNEF if is_tnef(part.entity) else reason)
        if not encrypted:
            self._report_outside_parts(tree)

    def _report(self, whole: Entity, reason: str) -> bool:
        found = self._kind_of(whole)
        if found in ("", "signature"):
            return False
        self._named(found, reason)
        return True

    def _report_outside_parts(self, tree: Part) -> None:
        """Says where a message lies before the first part of a multipart or behind its last one."""
        for text in texts_outside_parts(tree):
            if lines_of(text) is not None:
                self._named("smime", _OUTSIDE)
                return
            if kind_of_lines(text) == "encryption":
                self._named("openpgp", _OUTSIDE)
                return

    def _named(self, found: Kind, reason: str) -> None:
        """Says that something is encrypted which is not opened."""
        if self._facts.encrypted:
            self._facts.remark(reason)
            return
        self._facts.encryption("smime" if found == "smime" else "openpgp")
        self._facts.failed("unsupported", reason)

    def _kind_of(self, part: Entity) -> Kind:
        if part.media_type in ("multipart/encrypted", "application/pgp-encrypted"):
            return "openpgp"
        if part.media_type == "multipart/signed":
            return "signature"
        if is_pkcs7(part):
            found = self._cms.kind_of(part)
            return "smime" if found == "encryption" else "signature" if found else ""
        if self._has_lines_of_cms(part):
            return "smime"
        if may_have_armour(part) or is_other_text(part) or begins_with_armour(part):
            found = kind_of_text(part, self._spool)
            return "openpgp" if found == "encryption" else "signature" if found else ""
        if part.media_type in MESSAGE_TYPES:
            return self._kind_of_encoded(part)
        if is_tnef(part):
            return _encryption_of(map(self._kind_of, messages_in(part)))
        return ""

    def _has_lines_of_cms(self, part: Entity) -> bool:
        if not part.media_type.startswith("text/"):
            return False
        if not is_other_text(part):
            return may_have_lines(part) and lines_in(part, self._spool) is not None
        buffer, start, end = part.body
        hides = part.transfer_encoding == "base64" or is_wide(part)
        if not hides and buffer.find(b"BEGIN", start, end) < 0:
            return False
        try:
            text = decoded_text(part, self._spool)
        except Undecodable:
            return False
        return any(not one.is_openpgp and is_encryption(one.base64) for one in armours_in(text))

    def _kind_of_encoded(self, part: Entity) -> Kind:
        """The kind of a message in the mail whose transfer encoding hides it, which is forbidden
        (RFC 2046 section 5.2.1); the parts of all others are looked at where they lie."""
        if part.transfer_encoding not in _HIDING or not self._encoded_left:
            return ""
        self._encoded_left -= 1
        try:
            mail = entity(decode(part.body, part.transfer_encoding, self._spool))
        except Undecodable:
            return ""
        inside = (mail, *(one.entity for one, _ in parts_beside(read_entity(mail))))
        return _encryption_of(map(self._kind_of, inside))


def _encryption_of(kinds: Iterator[Kind]) -> Kind:
    return next((kind for kind in kinds if kind in ("smime", "openpgp")), "")
