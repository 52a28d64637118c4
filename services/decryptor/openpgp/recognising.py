"""Where OpenPGP may lie in a mail: in which kinds of entities, and what kind of message it is."""

from __future__ import annotations

from services.decryptor.openpgp.packets import ARMOUR_MESSAGE, ARMOUR_SIGNED
from services.decryptor.openpgp.recipients import addressed
from services.decryptor.spool import Spool
from services.decryptor.transfer_encodings import Undecodable, decode
from shared.mail.region import Region
from shared.mail.structure import Entity
from shared.mail.transfer_encodings import decode_start

_LOOK = 1 << 12
#: Where a message lies in the lines of the body, and not in a multipart.
_TEXTS = ("text/plain", "application/pgp", "application/pgp-encrypted")
_ENDINGS = (".asc", ".pgp", ".gpg")
#: In its first line, without the hyphens: KMail writes the first one as `=2D`.
ARMOUR_MARK = b"BEGIN PGP "
_FIRST_LINE = 1 << 8


def may_be_armoured(whole: Entity) -> bool:
    """Whether an entity is of a kind that OpenPGP messages are sent in."""
    return whole.media_type in _TEXTS or is_file(whole)


def is_other_text(whole: Entity) -> bool:
    """Whether an entity is a text in which no program sends messages, and anybody may paste one."""
    return whole.media_type.startswith("text/") and whole.media_type != "text/plain"


def begins_with_armour(whole: Entity) -> bool:
    """Whether an entity of whatever kind is a message in its armour: names and types get lost."""
    if whole.media_type.startswith(("multipart/", "message/")):
        return False
    buffer, start, end = whole.body
    head = Region(buffer, start, min(end, start + _LOOK))
    beginning = decode_start(head, whole.transfer_encoding, _FIRST_LINE)
    return beginning.lstrip().startswith((ARMOUR_MESSAGE, ARMOUR_SIGNED))


def is_file(whole: Entity) -> bool:
    """Whether an entity is called as files of OpenPGP are, which need not be in an armour."""
    if whole.media_type != "application/octet-stream":
        return False
    disposition = whole.header.value("content-disposition").decode("latin-1")
    names = [whole.parameters.get("name", "")]
    # As it is written: encoded, cut or quoted as few parsers read it, the ending stands there.
    names += [piece for piece in disposition.lower().split(";") if "name" in piece]
    return any(name.lower().rstrip("\"'?= \t\r\n").endswith(_ENDINGS) for name in names)


def may_have_armour(whole: Entity, *, everywhere: bool = True) -> bool:
    """A cheap look at a text, so that ordinary ones are not decoded in vain.

    Unless `everywhere`, at its beginning only: where the message is all of the text, it is there.
    """
    if not may_be_armoured(whole):
        return False
    buffer, start, end = whole.body
    if whole.transfer_encoding == "base64" or is_file(whole):
        return True
    if not everywhere:
        end = min(end, start + _LOOK)
    return buffer.find(ARMOUR_MARK, start, end) >= 0


def kind_of_text(whole: Entity, spool: Spool) -> str:
    """`encryption` or `signature` where OpenPGP lies somewhere in a text; else ""."""
    try:
        buffer, start, end = decode(whole.body, whole.transfer_encoding, spool)
    except Undecodable:
        return ""
    where = buffer.find(ARMOUR_MESSAGE, start, end)
    if where >= 0:
        return "signature" if addressed(Region(buffer, where, end)).is_plain else "encryption"
    if is_binary(whole, Region(buffer, start, end)):
        return "encryption"
    return "signature" if buffer.find(ARMOUR_SIGNED, start, end) >= 0 else ""


def is_binary(whole: Entity, body: Region) -> bool:
    """Whether a file holds an encrypted message without an armour (`gpg --encrypt FILE`)."""
    if not is_file(whole) or body.copy(1) < b"\x80":
        return False
    to = addressed(body)
    return to.is_encrypted and (bool(to.kind) or to.endless)
