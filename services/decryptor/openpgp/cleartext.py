"""A text between its own signature lines (RFC 9580 section 7), read as narrowly as it is written.

Whatever is not exactly one such message could be text that nobody signed.
"""

from __future__ import annotations

import re

from services.decryptor.openpgp.armour import has_only_base64
from shared.mail.region import Region

#: The names of RFC 9580 section 9.5: other words there could be read as a part of the text.
_HASH = rb"(?:MD5|SHA1|RIPEMD160|SHA(?:224|256|384|512)|SHA3-(?:256|512))"
_BEGIN = re.compile(
    rb"-----BEGIN PGP SIGNED MESSAGE-----[ \t]*\r?\n"
    rb"(?:Hash:[ \t]*%b(?:,[ \t]*%b)*[ \t]*\r?\n)*[ \t]*\r?\n" % (_HASH, _HASH)
)
_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"
_END = b"-----END PGP SIGNATURE-----"
#: Lines of a text that say where a message begins and ends; others are quoted or escaped.
_BEGINS = re.compile(rb"^-----BEGIN PGP SIGNED MESSAGE-----", re.MULTILINE)
_ENDS = re.compile(rb"^-----END PGP SIGNATURE-----", re.MULTILINE)
_NOT_ESCAPED = re.compile(
    rb"-----BEGIN PGP SIGNED MESSAGE-----[ \t]*\r?\n(?:Hash:[^\n]*\n)*NotDashEscaped:"
)
#: Lines of a text, and octets above it up to its empty line. Sequoia and the expressions here take
#: some 190 octets of memory for each; as many lines of 32 octets are the longest text.
MOST_LINES = 500_000
_LONGEST_HEAD = 1 << 12
_HEAD_END = re.compile(rb"\n[ \t\r]*+\n")
_BARE_DASH = re.compile(rb"^-(?! )", re.MULTILINE)


def signed_text(message: bytes) -> bytes | None:
    """The text of the message without its framework; None where it is anything else than that.

    `message` has no white space around it.
    """
    begin = _BEGIN.match(message) if has_few_lines(message) else None
    if begin is None:
        return None
    signature = message.find(b"\n" + _SIGNATURE, begin.end() - 1)
    if signature < 0 or not message.endswith(_END):
        return None
    armour = message[signature + 1 + len(_SIGNATURE) : -len(_END)]
    if b"-----" in armour:
        return None
    text = message[begin.end() : max(begin.end(), signature)]
    text = text[:-1] if text.endswith(b"\r") else text
    if _BARE_DASH.search(text):
        return None
    return (b"\n" + text).replace(b"\n- ", b"\n")[1:]


def has_few_lines(message: bytes) -> bool:
    """Whether a message has no more lines, and above its text no more, than people write."""
    return message.count(b"\n") <= MOST_LINES and bool(_HEAD_END.search(message, 0, _LONGEST_HEAD))


def is_not_escaped(message: bytes) -> bool:
    """Whether the lines of the message are not escaped, as no RFC has it (gpg --not-dash-escaped).

    Where its text ends cannot be told from a line of the text.
    """
    return _NOT_ESCAPED.match(message) is not None


def message_within(text: bytes) -> bytes | None:
    """The message that lies in a text with other lines around it, such as the footer of a list.

    None where there is none that `signed_text` takes, or where lines of several messages are.
    """
    begins, ends = list(_BEGINS.finditer(text)), list(_ENDS.finditer(text))
    if len(begins) != 1 or len(ends) != 1:
        return None
    message = text[begins[0].start() : ends[0].end()]
    return None if signed_text(message) is None else message


def has_more_text(message: bytes) -> bool:
    """Whether there is a text among the lines of the signature, which readers show as well.

    `message` is one that `signed_text` takes.
    """
    start = message.rfind(_SIGNATURE) + len(_SIGNATURE)
    return not has_only_base64(Region(message, start, len(message) - len(_END)))
