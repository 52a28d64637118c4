"""Addresses to compare, whose domains are written as people do, or as DNS does."""

from __future__ import annotations

from unicodedata import normalize

_A_LABEL = "xn--"
#: RFC 1035 section 2.3.4.
_LONGEST_LABEL = 63


def comparable(address: str) -> str:
    """An address, or `@` and a domain, in lower case, with its A-labels as U-labels (RFC 5890).

    Nothing becomes ASCII by it: the Kelvin sign is no k, and an A-label that stands for ASCII, or
    for what is no U-label, stays what it is.
    """
    if address.isascii() and _A_LABEL not in address:
        return address
    local, at, domain = address.rpartition("@")
    return _lowered(local) + at + ".".join(map(_label, domain.split(".")))


def _label(label: str) -> str:
    if not label.startswith(_A_LABEL) or len(label) > _LONGEST_LABEL:
        return _lowered(label)
    try:
        found = label.removeprefix(_A_LABEL).encode("ascii").decode("punycode")
    except (ValueError, OverflowError):
        return label
    # Written as nobody else reads it: Python takes two forms for one text, DNS has two names.
    if found.isascii() or label != _A_LABEL + found.encode("punycode").decode():
        return label
    return label if found != _lowered(found) else found


def _lowered(text: str) -> str:
    """In lower case and composed (RFC 5198 section 3), but for texts of which a part would become
    ASCII by that."""
    if text.isascii():
        return text.lower()
    if any(_becomes_ascii(char) for char in text):
        return text
    # Each by itself: UTS 46 knows no final sigma.
    return normalize("NFC", "".join(map(str.lower, text)))


def _becomes_ascii(char: str) -> bool:
    return not char.isascii() and (char.lower().isascii() or normalize("NFC", char).isascii())
