"""The OpenPGP layers of a mail: what is opened, and what is learned from it."""

from __future__ import annotations

from services.decryptor.cms.errors import Malformed, NoRecipient, NotOpened, Unsupported
from services.decryptor.facts import Facts, SignedLayer
from services.decryptor.openpgp.decrypting import OpenedMessage, decrypt_message
from services.decryptor.openpgp.packets import ARMOUR_MESSAGE, ARMOUR_SIGNED, addressed
from services.decryptor.openpgp.verifying import Keyring, verify_detached, verify_inline
from services.decryptor.spool import Spool
from services.decryptor.transfer import Undecodable, decode
from shared.certificates import OpenPGPKey
from shared.mail.region import Region
from shared.mail.structure import Entity, entity, split_multipart

#: A signed text is verified in memory; longer texts are not written by people.
_MAX_TEXT = 1 << 24
_LOOK = 1 << 12


class OpenPGP:
    """What the layers need: keys, known signers, bounds, and where the facts go."""

    def __init__(
        self,
        keys: tuple[OpenPGPKey, ...],
        ring: Keyring,
        facts: Facts,
        spool: Spool,
        limit: int,
    ) -> None:
        self._keys = keys
        self._ring = ring
        self._facts = facts
        self._spool = spool
        self._limit = limit

    def encrypted(self, whole: Entity) -> Region | None:
        """The entity inside a multipart/encrypted (RFC 3156 section 4); None if not opened."""
        self._facts.encrypted = True
        pair = split_multipart(whole, 3).parts
        if len(pair) != 2:
            self._facts.failed(
                "failed", "The encrypted mail does not have the two parts that it must have."
            )
            return None
        data = entity(pair[1])
        try:
            message = decode(data.body, data.transfer_encoding, self._spool)
        except Undecodable as error:
            self._facts.failed("failed", str(error))
            return None
        opened = self._open(message)
        return opened.content if opened else None

    def inline(self, whole: Entity) -> Region | None:
        """The entity that a text between OpenPGP lines decrypts to; None if there is none.

        Only where the message is the whole body: other text around it could carry the decrypted
        text away, and would be lost without it.
        """
        try:
            body = decode(whole.body, whole.transfer_encoding, self._spool)
        except Undecodable:
            return None
        start, end = _trimmed(body)
        message = Region(body.buffer, start, end)
        beginning = message.copy(_LOOK)
        if beginning.startswith(ARMOUR_SIGNED):
            self._signed_text(message)
            return None
        if ARMOUR_MESSAGE not in beginning:
            return None
        self._facts.encrypted = True
        tail = body.buffer[max(start, end - 64) : end]
        if not beginning.startswith(ARMOUR_MESSAGE) or not tail.endswith(
            b"-----END PGP MESSAGE-----"
        ):
            self._facts.failed("unsupported", "There is other text around the encrypted message.")
            return None
        opened = self._open(message)
        return self._as_text(whole, opened.content) if opened else None

    def signed(self, part: Region, attached: Entity) -> None:
        """Verifies the signature of a multipart/signed over its first part."""
        layer = SignedLayer()
        self._facts.signatures.append(layer)
        try:
            armoured = decode(attached.body, attached.transfer_encoding, self._spool)
        except Undecodable as error:
            layer.broken = str(error)
            return
        layer.openpgp = verify_detached(part, armoured.copy(_MAX_TEXT), self._ring, self._spool)

    def _open(self, message: Region) -> OpenedMessage | None:
        facts = self._facts
        to = addressed(message)
        facts.recipients.extend(f"key id {key_id}" for key_id in to.key_ids)
        if to.anyone:
            facts.recipients.append("a hidden key")
        facts.key_algorithm, facts.content_algorithm = to.key_algorithm, to.content_algorithm
        try:
            opened = decrypt_message(message, to, self._keys, self._ring, self._spool, self._limit)
        except NoRecipient as error:
            facts.failed("no_recipient", str(error))
        except Unsupported as error:
            facts.failed("unsupported", str(error))
        except (NotOpened, Malformed) as error:
            facts.failed("failed", str(error))
        else:
            facts.decrypted(
                opened.key.id, "aead", to.key_algorithm or "?", to.content_algorithm or "?"
            )
            if opened.signature:
                facts.signatures.append(SignedLayer(openpgp=opened.signature))
            return opened
        return None

    def _signed_text(self, message: Region) -> None:
        if len(message) > _MAX_TEXT:
            self._facts.signatures.append(SignedLayer(broken="The signed text is too long."))
            return
        text = message.copy()
        layer = SignedLayer(openpgp=verify_inline(text, self._ring))
        if not text.endswith(b"-----END PGP SIGNATURE-----"):
            layer = SignedLayer(broken="There is other text around what is signed.")
        self._facts.signatures.append(layer)

    def _as_text(self, whole: Entity, content: Region) -> Region:
        """A decrypted text as an entity; OpenPGP texts are UTF-8 unless the mail says otherwise."""
        charset = whole.parameters.get("charset", "utf-8")
        if charset.lower() == "us-ascii" or not charset.isascii() or '"' in charset:
            charset = "utf-8"
        sink = self._spool.sink()
        sink.write(
            f'Content-Type: text/plain; charset="{charset}"\r\n'
            "Content-Transfer-Encoding: 8bit\r\n\r\n".encode()
        )
        for window in content.windows():
            sink.write(window)
        return sink.finish()


def may_have_armour(whole: Entity) -> bool:
    """A cheap look at a text, so that ordinary ones are not decoded in vain."""
    buffer, start, end = whole.body
    if buffer.find(b"-----BEGIN PGP ", start, min(end, start + _LOOK)) >= 0:
        return True
    return whole.transfer_encoding == "base64"


def _trimmed(body: Region) -> tuple[int, int]:
    """The body without the empty lines around it."""
    head = body.copy(_LOOK)
    start = body.start + len(head) - len(head.lstrip())
    tail = body.buffer[max(start, body.end - _LOOK) : body.end]
    return start, body.end - (len(tail) - len(tail.rstrip()))
