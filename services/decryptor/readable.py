"""Whether every reader decodes a text alike: its transfer encoding, its character set.

Where a label lies or octets are damaged each reader helps in a way of its own. All of them show
the same only of what is exactly what its labels say.
"""

from __future__ import annotations

import re
from functools import lru_cache

from services.decryptor.spool import Spool
from services.decryptor.transfer import Undecodable, decode
from shared.mail.region import Region
from shared.mail.structure import Entity

#: A longer text is not read for this, and not vouched for.
_LONGEST = 1 << 24
_PRINTABLE = bytes(range(32, 127))
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=\r\n\t ]|=[\r\n\t ]*[A-Za-z0-9+/]")
_NOT_QUOTED = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*\r?\n|[ \t]*\Z)")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")


def text_doubt(whole: Entity, spool: Spool) -> str:
    """The word for what readers differ on in a text; empty where they agree, or for no text."""
    if not whole.media_type.startswith("text/"):
        return ""
    if len(whole.body) > _LONGEST:
        return "long-text"
    if whole.transfer_encoding == "base64" and _found(_NOT_BASE64, whole.body):
        return "damaged-base64"
    if whole.transfer_encoding == "quoted-printable" and _found(_NOT_QUOTED, whole.body):
        return "damaged-quoted-printable"
    try:
        octets = decode(whole.body, whole.transfer_encoding, spool).copy()
    except Undecodable:
        return "damaged-base64"
    label = whole.parameters.get("charset", "us-ascii").strip().lower()
    if not _is_known(label):
        return "unknown-charset"
    try:
        text = octets.decode(label)
    except (UnicodeError, ValueError):
        return "wrong-charset"
    return "control-character" if _CONTROL.search(text) else ""


def _found(pattern: re.Pattern[bytes], part: Region) -> bool:
    return pattern.search(part.buffer, part.start, part.end) is not None


@lru_cache(maxsize=256)
def _is_known(label: str) -> bool:
    """Whether a character set is known here and writes ASCII as ASCII: not UTF-7 or UTF-16."""
    try:
        return _PRINTABLE.decode(label) == _PRINTABLE.decode("ascii")
    except (LookupError, UnicodeError, ValueError):
        return False
