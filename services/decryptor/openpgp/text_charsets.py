"""The character set of a text that an OpenPGP message holds (RFC 9580 section 6.2.2.5)."""

from __future__ import annotations

import codecs
import re

from services.decryptor.layer_entities import GUESSED, is_utf8
from services.decryptor.layer_facts import SignedLayer
from services.decryptor.wide_texts import is_wide
from shared.mail.region import Region
from shared.mail.structure import Entity

_LOOK = 1 << 12
_ARMOUR_CHARSET = re.compile(
    rb"-----BEGIN [^\n]*\n(?:[^\n:]+:[^\n]*\n)*?charset:[ \t]*([a-z0-9_.-]+)\s*\n", re.IGNORECASE
)
_LABEL = re.compile(r"[A-Za-z0-9_:.-]+")


def named_charset(whole: Entity) -> str:
    """OpenPGP texts are UTF-8 unless the mail says otherwise; where the mail's is a wide one, that
    is what its armour was written in."""
    charset = whole.parameters.get("charset", "utf-8")
    if charset.lower() in ("us-ascii", "utf-8") or is_wide(whole) or not _LABEL.fullmatch(charset):
        return "utf-8"
    return charset


def charset_inside(whole: Entity, message: Region, text: Region) -> str:
    """Of the `text` inside a `message` that is the body of `whole`: what the mail says; where that
    is not so, what the armour says; else a guess."""
    charset = named_charset(whole)
    if charset != "utf-8" or is_utf8(text):
        return charset
    return _armour_charset(message) or GUESSED


def covered_charset(named: str, text: Region, layer: SignedLayer) -> str:
    """The character set of a signed text. Whoever changes the one that the mail names changes
    the text, so it counts only where the text is not UTF-8, and then proves nothing."""
    if is_utf8(text):
        return "utf-8"
    layer.limited("ambiguous", "The signature does not cover the character set.")
    return named


def _armour_charset(message: Region) -> str:
    found = _ARMOUR_CHARSET.match(message.copy(_LOOK))
    label = found[1].decode() if found else ""
    try:
        codecs.lookup(label)
    except LookupError:
        return ""
    return label
