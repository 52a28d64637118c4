"""The OpenPGP layers of a mail: what is opened, and what is learned from it."""

from __future__ import annotations

import codecs
import re

from services.decryptor.author import ambiguity
from services.decryptor.cms.errors import Malformed, NoRecipient, NotOpened, Unsupported
from services.decryptor.coverage import mime_doubt
from services.decryptor.decoding_ambiguity import text_doubt, transfer_doubt
from services.decryptor.layer_entities import entity_of, has_header, is_guessed, text_entity
from services.decryptor.layer_facts import Facts, SignedLayer
from services.decryptor.limits import MailLimits
from services.decryptor.openpgp.armour import (
    armour_within,
    has_armour_line,
    has_only_base64,
    has_text_around,
)
from services.decryptor.openpgp.autocrypt import keys_of
from services.decryptor.openpgp.cleartext import (
    has_few_lines,
    has_more_text,
    is_not_escaped,
    message_within,
    signed_text,
)
from services.decryptor.openpgp.decrypting import OpenedMessage, decrypt_message, read_plain
from services.decryptor.openpgp.intended_recipients import fingerprints_of
from services.decryptor.openpgp.packets import (
    ARMOUR_MESSAGE,
    ARMOUR_SIGNED,
    octets_of,
    why_not_one_message,
)
from services.decryptor.openpgp.recipients import addressed
from services.decryptor.openpgp.recognising import (
    has_signed_text,
    is_binary,
    is_file,
    kind_of_lines,
)
from services.decryptor.openpgp.reencryption import MAX_BYTES
from services.decryptor.openpgp.sender_keys import Rings, SenderKeys
from services.decryptor.openpgp.text_charsets import (
    charset_inside,
    covered_charset,
    named_charset,
)
from services.decryptor.openpgp.verifying import verify_detached, verify_inline
from services.decryptor.spool import Spool
from services.decryptor.transfer_encodings import Undecodable, decode
from services.decryptor.wide_texts import decoded_text, is_wide
from shared.certificates import OpenPGPKey
from shared.mail.fields import HeaderBlock
from shared.mail.region import Region, region
from shared.mail.structure import Entity, entity, split_multipart

#: A signed text is verified in memory; longer texts are not written by people.
_MAX_TEXT = 1 << 24
_LOOK = 1 << 12
#: Recipients that the event and the ledger have; as many as those of S/MIME may be.
_LISTED = 2_000
_ARMOUR_END = b"-----END PGP MESSAGE-----"
_SEVERAL = "Several encrypted messages lie in one part."
_TEXT_AROUND = "There is other text around what is signed."
_NOT_ESCAPED = (
    "The text was signed with NotDashEscaped, a form of GnuPG's own that is not verified here: ask "
    "the author to sign without --not-dash-escaped."
)
_DAMAGED = "The signed message is damaged."
_TEXT_AROUND_ENCRYPTED = "There is other text around the encrypted message."
_MORE_TEXT = "There is text beside the signed message: see the original."
_TEXT_IN_ARMOUR = "There is text among the lines of the message: see the original."
_SHOWN = "The message lies in a part that is shown."
#: All that the first part of a multipart/encrypted holds (RFC 3156 section 4).
_VERSION = re.compile(rb"\s*Version:\s*1\s*", re.IGNORECASE)


class OpenPGP:
    """What the layers need: keys, known signers, bounds, and where the facts go."""

    def __init__(
        self,
        keys: tuple[OpenPGPKey, ...],
        ring: SenderKeys,
        header: HeaderBlock,
        facts: Facts,
        spool: Spool,
        limits: MailLimits,
    ) -> None:
        """`header` is that of the mail, which may bring the sender's key along."""
        self._keys = keys
        self._ring = ring
        self._header = header
        self._facts = facts
        self._spool = spool
        self._limits = limits

    @property
    def _rings(self) -> Rings:
        hints = SenderKeys(keys_of(self._header), is_vouched=False)
        return Rings(self._ring, hints, self._facts.openers)

    def encrypted(self, whole: Entity) -> Region | None:
        """The content of a multipart/encrypted (RFC 3156 section 4); None if not opened."""
        pair = split_multipart(whole, 3).parts
        if len(pair) == 2:
            return self.message(entity(pair[1]), entity(pair[0]))
        self._facts.encryption("openpgp")
        self._facts.failed(
            "failed", "The encrypted mail does not have the two parts that it must have."
        )
        return None

    def message(self, data: Entity, version: Entity) -> Region | None:
        """The content of an OpenPGP message that is a part of its own, behind the one that says
        its `version`; None if not opened."""
        try:
            part = decode(data.body, data.transfer_encoding, self._spool)
        except Undecodable as error:
            self._facts.encryption("openpgp")
            self._facts.failed("failed", str(error))
            return None
        buffer, start, end = message = part
        begin = buffer.find(ARMOUR_MESSAGE, start, end)
        stop = buffer.find(_ARMOUR_END, max(begin, start), end)
        if begin >= 0 and buffer.find(ARMOUR_MESSAGE, begin + 1, end) >= 0:
            # Only the first would be read.
            self._facts.encryption("openpgp")
            self._facts.failed("unsupported", _SEVERAL)
            return None
        if begin >= 0 and stop >= 0:
            # Sequoia takes what stands before an armour for packets where it is not ASCII.
            message = Region(buffer, begin, stop + len(_ARMOUR_END))
        around = begin >= 0 and stop >= 0 and has_text_around(part, begin, message.end)
        more = around or not self._says_version_only(version)
        if more:
            self._facts.more_outside("partial", _MORE_TEXT)
        self._look_at_lines(data, message, armoured=begin >= 0)
        self._doubt(version, ambiguity(version.header))
        opened = self._open(message)
        if opened and more and opened.key is not None:
            self._facts.remark("There is text around the encrypted message: see the original.")
        return opened.content if opened else None

    def _says_version_only(self, version: Entity) -> bool:
        """Whether the part before the message has nothing that a reader shows."""
        if version.media_type != "application/pgp-encrypted" or len(version.body) > _LOOK:
            return False
        try:
            said = decode(version.body, version.transfer_encoding, self._spool)
        except Undecodable:
            return False
        return bool(_VERSION.fullmatch(said.copy()))

    def _look_at_lines(self, whole: Entity, message: Region, *, armoured: bool) -> None:
        """Limits the signatures in a message where the lines around it may say something, too."""
        begin = message.start + len(ARMOUR_MESSAGE)
        if not whole.media_type.startswith(("text/", "multipart/", "message/")):
            pass  # a file, whose lines no reader shows
        elif not armoured:
            # Packets of padding hold whatever somebody writes into them.
            self._facts.more_outside("partial", _SHOWN)
        elif not has_only_base64(Region(message.buffer, begin, message.end - len(_ARMOUR_END))):
            self._facts.more_outside("partial", _TEXT_IN_ARMOUR)
        # The character set does not matter: under none is an armour a text.
        shown = whole.media_type.startswith("text/")
        self._doubt(whole, transfer_doubt(whole) if shown else "")

    def _doubt(self, whole: Entity, other: str) -> None:
        doubt = mime_doubt(whole) or other
        if doubt:
            reason = f"Not every reader reads the text alike: {doubt}."
            self._facts.more_outside("ambiguous", reason)

    def inline(self, whole: Entity) -> Entity | None:
        """The text that a text between OpenPGP lines holds; None if there is none.

        Only where the message is the whole body: other text around it could carry the decrypted
        text away, and would be lost without it.
        """
        try:
            body = decoded_text(whole, self._spool)
        except Undecodable:
            return None
        if is_wide(whole) and kind_of_lines(body) != "encryption":
            return None  # signatures are over octets, which these are not
        message = _trimmed(body)
        beginning = message.copy(_LOOK)
        if beginning.startswith(ARMOUR_SIGNED):
            return self._signed_text(whole, message)
        buffer, start, end = message
        where = buffer.find(ARMOUR_MESSAGE, start, end)
        if where < 0 and has_signed_text(whole, message):
            self._signed_beside_text(message)
            return None
        if where < 0:
            if not is_binary(whole, body):
                return None
            message = body  # whose first and last octets are no white space
        elif where > start or buffer.find(_ARMOUR_END, start, end) != end - len(_ARMOUR_END):
            kind = kind_of_lines(message)
            if kind == "signature":
                if has_armour_line(message):
                    self._signed_beside_text(message)
            elif kind:
                self._facts.encryption("openpgp")
                self._facts.failed("unsupported", _TEXT_AROUND_ENCRYPTED)
            return None
        self._look_at_lines(whole, message, armoured=where >= 0)
        opened = self._open(message)
        if opened is None:
            return None
        if whole.media_type != "text/plain" and (is_file(whole) or has_header(opened.content)):
            return self._file(opened.content)
        layer = self._facts.layers[-1] if self._facts.layers else None
        charset = charset_inside(whole, message, opened.content)
        if opened.signature is not None and isinstance(layer, SignedLayer):
            charset = covered_charset(charset, opened.content, layer)
        return text_entity(opened.content, charset)

    def _signed_beside_text(self, text: Region) -> None:
        """A signature around a part of a text: that of the mail where nothing else is signed."""
        covered = self._facts.is_covered
        layer = self._facts.signature(SignedLayer("openpgp"))
        self._signed_within(layer, text.copy() if len(text) <= _MAX_TEXT else b"")
        if covered:
            layer.forwarded = True
            layer.limited("partial", _TEXT_AROUND)

    def _signed_within(self, layer: SignedLayer, text: bytes) -> None:
        """Verifies a message with other text around it, which stays as it is."""
        message, armour = message_within(text), armour_within(text)
        if (message is None) == (armour is None):
            layer.broken = _TEXT_AROUND
            return
        if message is not None:
            layer.openpgp = verify_inline(message, self._rings, len(message))
        elif armour is not None:
            self._read_plain(layer, armour)
        layer.limited("partial", _TEXT_AROUND)

    def _file(self, content: Region) -> Entity:
        """What a message that is no text of a mail holds: an entity, or a file of any kind."""
        layer = self._facts.layers[-1] if self._facts.layers else None
        inner = entity_of(content, signed=isinstance(layer, SignedLayer))
        if isinstance(layer, SignedLayer) and is_guessed(inner, content):
            layer.limited("ambiguous", "The signature does not cover the character set.")
        return inner

    def signed(self, part: Region, attached: Entity) -> SignedLayer:
        """Verifies the signature of a multipart/signed over its first part."""
        layer = self._facts.signature(SignedLayer("openpgp"))
        try:
            armoured = decode(attached.body, attached.transfer_encoding, self._spool)
        except Undecodable as error:
            layer.broken = str(error)
            return layer
        layer.openpgp = verify_detached(part, armoured.copy(_MAX_TEXT), self._rings, self._spool)
        return layer

    def _open(self, message: Region) -> OpenedMessage | None:
        """What the message holds, be it encrypted, or only signed; None if not opened."""
        facts = self._facts
        to = addressed(message)
        if to.is_plain:
            return self._open_plain(message)
        facts.encryption("openpgp")
        if not to.is_encrypted:
            facts.failed("failed", "There is no OpenPGP message where one should be.")
            return None
        names = list(dict.fromkeys(to.key_ids))
        facts.recipients.extend(f"key id {name}" for name in names[:_LISTED])
        if len(names) > _LISTED:
            facts.remark(f"Of {len(names)} recipients the first {_LISTED} are listed.")
        if to.anyone:
            facts.recipients.append("a hidden key")
        if to.password:
            facts.recipients.append("a password")
        facts.key_algorithm, facts.content_algorithm = to.key_algorithm, to.form.algorithm
        why = why_not_one_message(octets_of(message)) if len(message) <= MAX_BYTES else ""
        if why:
            facts.failed("unsupported", why)
            return None
        try:
            limit = self._limits.unpacked(len(message))
            opened = decrypt_message(message, to, self._keys, self._rings, self._spool, limit)
        except NoRecipient as error:
            facts.failed("no_recipient", str(error))
        except Unsupported as error:
            facts.failed("unsupported", str(error))
        except (NotOpened, Malformed) as error:
            facts.failed("failed", str(error))
        else:
            assert opened.key is not None
            facts.openers |= fingerprints_of(opened.key)
            facts.decrypted(
                opened.key.id, "aead", to.key_algorithm or "?", to.form.algorithm or "?"
            )
            if opened.signature:
                facts.signature(SignedLayer("openpgp", openpgp=opened.signature))
            return opened
        return None

    def _open_plain(self, message: Region) -> OpenedMessage | None:
        """What a message that is signed and not encrypted (`gpg --sign`) holds; None where it is
        not signed, or cannot be read: it stays as it came."""
        layer = SignedLayer("openpgp")
        opened = self._read_plain(layer, message)
        if opened is not None or layer.broken:
            self._facts.signature(layer)
        return opened

    def _read_plain(self, layer: SignedLayer, message: Region) -> OpenedMessage | None:
        """The same; what is learned of its signature is in `layer`."""
        try:
            limit = self._limits.unpacked(len(message))
            opened = read_plain(message, self._rings, self._spool, limit)
        except NotOpened:
            layer.broken = _DAMAGED
        except (Malformed, Unsupported) as error:
            layer.broken = str(error)
        else:
            layer.openpgp = opened.signature
            return opened if opened.signature else None
        return None

    def _signed_text(self, whole: Entity, message: Region) -> Entity | None:
        """The text without its signature lines, where all of it was signed."""
        layer = self._facts.signature(SignedLayer("openpgp"))
        if len(message) > _MAX_TEXT:
            layer.broken = "The signed text is too long."
            return None
        framed = message.copy()
        if not has_few_lines(framed):
            layer.broken = "The signed text has too many lines."
            return None
        layer.openpgp = verify_inline(framed, self._rings, len(framed))
        text = signed_text(framed)
        if text is None:
            if is_not_escaped(framed):
                layer.broken = _NOT_ESCAPED
            else:
                self._signed_within(layer, framed)
            return None
        if not layer.is_right:
            return None
        charset = covered_charset(named_charset(whole), region(text), layer)
        if has_more_text(framed):
            layer.limited("partial", "There is text among the lines of the signature.")
        if whole.parameters.get("delsp", "").lower() == "yes":
            layer.limited("ambiguous", "The signature does not cover how lines are joined.")
        doubt = mime_doubt(whole) or text_doubt(whole, self._spool)
        if doubt:
            layer.limited("ambiguous", f"Not every reader reads the text alike: {doubt}.")
        return text_entity(region(text), charset)


def _trimmed(body: Region) -> Region:
    """The body without the empty lines around it, and without a mark of UTF-8 before a message."""
    head = body.copy(_LOOK)
    start = body.start + len(head) - len(head.lstrip())
    if head.startswith(codecs.BOM_UTF8 + ARMOUR_MESSAGE):
        start += len(codecs.BOM_UTF8)
    tail = body.buffer[max(start, body.end - _LOOK) : body.end]
    return Region(body.buffer, start, body.end - (len(tail) - len(tail.rstrip())))
