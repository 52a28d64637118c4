"""Where OpenPGP may lie in a mail: in which kinds of entities, and what kind of message it is."""

from __future__ import annotations

import re

from services.decryptor.markup_armour import MarkedUp, armours_in
from services.decryptor.openpgp.packets import ARMOUR_MESSAGE, ARMOUR_SIGNED, joined, packet_at
from services.decryptor.openpgp.recipients import addressed, is_session_key
from services.decryptor.spool import Spool
from services.decryptor.transfer_encodings import Undecodable
from services.decryptor.wide_texts import decoded_text, is_wide
from shared.mail.parts import entity_file_name
from shared.mail.region import Region, region
from shared.mail.structure import Entity
from shared.mail.transfer_encodings import decode_start

_LOOK = 1 << 12
#: Where a message lies in the lines of the body, and not in a multipart.
#: But for text/plain, types from before PGP/MIME (RFC 1991's time; Mutt's `traditional`).
_OF_MESSAGES = (
    "application/pgp",
    "application/pgp-encrypted",
    "application/pgp-message",
    "application/x-pgp",
    "application/x-pgp-encrypted",
    "application/x-pgp-message",
)
_TEXTS = ("text/plain", *_OF_MESSAGES)
_ENDINGS = (".asc", ".pgp", ".gpg")
#: In its first line, without the hyphens: KMail writes the first one as `=2D`.
ARMOUR_MARK = b"BEGIN PGP "
_FIRST_LINE = 1 << 8
#: First lines that are looked at in one text.
_MOST_LINES = 16
#: A line of base64 behind header lines, as only programs write it: what is damaged is encrypted.
_LONG_LINE = re.compile(rb"[^\n]*\n(?:[^\n:]*:[^\n]*\n|[ \t>|]*\r?\n)*+[ \t>|]*[A-Za-z0-9+/]{40}")
_SIGNED_LINE = re.compile(rb"(?:^|(?<=\r))" + re.escape(ARMOUR_SIGNED), re.MULTILINE)
#: Octets of an armour in a text that are looked at for what it is.
_LONGEST_LOOK = 1 << 17
_REMADE = b"-----BEGIN PGP MESSAGE-----\n\n%b\n"
#: Octets of a file without a name that show what it is: some recipients, then encrypted data.
_LOOK_PACKETS = 1 << 14
_FILLING = (10, 21)
#: The first octets of encrypted data by the type of its packet (RFC 9580 section 5.13). In that
#: without integrity nothing tells it from other octets.
_WITHOUT_INTEGRITY = 9
_VERSIONS = {18: (b"\1", b"\2"), 20: (b"\1",)}


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
    """Whether an entity is called as files of OpenPGP are, which need not be in an armour; without
    a name, whether it is a message by what it begins with."""
    if whole.media_type != "application/octet-stream":
        return False
    if _is_called_so(whole):
        return True
    if entity_file_name(whole):
        return False
    return _begins_with_packets(whole) or begins_with_armour(whole)


def may_be_binary(whole: Entity) -> bool:
    """Whether an entity is of a kind that messages without an armour are sent in."""
    return whole.media_type in _OF_MESSAGES or is_file(whole)


def _is_called_so(whole: Entity) -> bool:
    disposition = whole.header.value("content-disposition").decode("latin-1")
    names = [whole.parameters.get("name", "")]
    # As it is written: encoded, cut or quoted as few parsers read it, the ending stands there.
    names += [piece for piece in disposition.lower().split(";") if "name" in piece]
    return any(name.lower().rstrip("\"'?= \t\r\n").endswith(_ENDINGS) for name in names)


def _begins_with_packets(whole: Entity) -> bool:
    """Whether the body begins as an encrypted message does, with what only such a one has: copies
    of the session key (RFC 9580 section 5.1) for algorithms that there are, then encrypted data."""
    buffer, start, end = whole.body
    head = Region(buffer, start, min(end, start + 2 * _LOOK_PACKETS))
    data = decode_start(head, whole.transfer_encoding, _LOOK_PACKETS)
    position = copies = 0
    for_keys = False
    while packet := packet_at(data, position):
        kind, body, behind = packet
        if kind in (1, 3):
            if not is_session_key(kind, body):
                return False
            copies += 1
            for_keys = for_keys or kind == 1
        elif kind == _WITHOUT_INTEGRITY:
            return for_keys
        elif kind in _VERSIONS:
            return copies > 0 and joined(data, position, body)[:1] in _VERSIONS[kind]
        elif kind not in _FILLING:
            return False
        position = behind
    return copies > 0 and position >= len(data) == _LOOK_PACKETS


def may_have_armour(whole: Entity, *, everywhere: bool = True) -> bool:
    """A cheap look at a text, so that ordinary ones are not decoded in vain.

    Unless `everywhere`, at its beginning only: where the message is all of the text, it is there.
    """
    if not may_be_armoured(whole):
        return False
    buffer, start, end = whole.body
    if whole.transfer_encoding == "base64" or is_wide(whole) or may_be_binary(whole):
        return True
    if not everywhere:
        end = min(end, start + _LOOK)
    return buffer.find(ARMOUR_MARK, start, end) >= 0


def kind_of_text(whole: Entity, spool: Spool) -> str:
    """`encryption` or `signature` where OpenPGP lies somewhere in a text; else ""."""
    try:
        text = decoded_text(whole, spool)
    except Undecodable:
        return ""
    found = kind_of_lines(text)
    if not found and is_other_text(whole):
        found = "encryption" if any(map(_is_message, armours_in(text))) else ""
    if found:
        return found
    if is_binary(whole, text):
        return "encryption"
    return "signature" if has_signed_text(whole, text) else ""


def has_signed_text(whole: Entity, text: Region) -> bool:
    """Whether a signed text begins somewhere in the `text` of an entity, in a plain one at the
    beginning of a line: a reply quotes one behind `> `, and signs nothing with it."""
    buffer, start, end = text
    if is_other_text(whole):
        return buffer.find(ARMOUR_SIGNED, start, end) >= 0
    return _SIGNED_LINE.search(buffer, start, end) is not None


def kind_of_lines(text: Region) -> str:
    """`encryption` or `signature` where an armour of a message lies in a text; "" where there is
    none, or only its first line: people write about it."""
    buffer, position, end = text
    found = ""
    for _ in range(_MOST_LINES):
        position = buffer.find(ARMOUR_MESSAGE, position, end)
        if position < 0:
            break
        armour = Region(buffer, position, min(end, position + _LONGEST_LOOK))
        to = addressed(armour)
        if to.is_encrypted or (not to.is_plain and _LONG_LINE.match(armour.copy(_LOOK))):
            return "encryption"
        found = "signature" if to.is_plain else found
        position += len(ARMOUR_MESSAGE)
    return found


def _is_message(found: MarkedUp) -> bool:
    """Whether what lies in markup is an encrypted message of OpenPGP."""
    return found.is_openpgp and addressed(region(_REMADE % found.base64)).is_encrypted


def is_binary(whole: Entity, body: Region) -> bool:
    """Whether a file holds an encrypted message without an armour (`gpg --encrypt FILE`)."""
    if body.copy(1) < b"\x80" or not may_be_binary(whole):
        return False
    to = addressed(body)
    return to.is_encrypted and (bool(to.kind) or to.endless)
