"""Message identifiers of a field (RFC 5322 section 3.6.4), as tolerant as senders write them.

What stands between angle brackets is one, whatever stands around it (RFC 822 allowed phrases in
In-Reply-To: `Your message of Monday <1@a.example>`); where a value has no brackets at all, each
word with an at sign is.
"""

from __future__ import annotations

import re
from typing import Final

from shared.mail import charsets
from shared.mail.encoded_words import clean
from shared.mail.fields import unfold

#: Octets of a field that are read, identifiers that are kept, octets of one without its brackets.
VALUE_LIMIT: Final = 1 << 16
MOST: Final = 100
_LONGEST: Final = 996
_BRACKETED: Final = re.compile(rb"<([^<>]{1,1000})>")
#: One and nothing else, as nearly every sender writes it.
_ONE: Final = re.compile(rb"[ \t]*(<[!-;=?-~]{1,%d}>)[ \t]*\r?" % _LONGEST)
#: From the beginning of a word only, so that each octet of a long one is looked at once.
_BARE: Final = re.compile(rb"(?<![^\s<>,;\"])[^\s<>,;\"]{1,498}@[^\s<>,;\"]{1,498}")
_SPACE: Final = re.compile(r"\s+")


def read_message_ids(value: bytes) -> tuple[str, ...]:
    """The identifiers, each with its brackets, in their order, none twice.

    Of more than `MOST` the first one (the root of the thread) and the last ones are kept.
    """
    if not value:
        return ()
    if one := _ONE.fullmatch(value):
        return (one[1].decode("ascii"),)
    line = unfold(value[:VALUE_LIMIT])
    found = _BRACKETED.findall(line) or (() if b"<" in line else _BARE.findall(line))
    # A fold inside an identifier is white space that is none of its own.
    texts = [_text(one) for one in found]
    unique = list(dict.fromkeys([f"<{text}>" for text in texts if text and _fits(text)]))
    if len(unique) > MOST:
        unique = [unique[0], *unique[1 - MOST :]]
    return tuple(unique)


def _fits(text: str) -> bool:
    return len(text) <= _LONGEST and (text.isascii() or len(text.encode()) <= _LONGEST)


def _text(octets: bytes) -> str:
    if octets.isascii():
        text = octets.decode("ascii")
        if text.isprintable() and " " not in text:
            return text
    return _SPACE.sub("", clean(charsets.decode_unlabelled(octets).text))
