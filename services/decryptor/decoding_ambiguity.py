"""Whether every reader decodes a text alike: its transfer encoding, its character set.

Where a label lies or octets are damaged each reader helps in a way of its own. All of them show
the same only of what is exactly what its labels say.
"""

from __future__ import annotations

import re
from functools import lru_cache

from services.decryptor.spool import Spool
from services.decryptor.transfer_encodings import Undecodable, decode
from shared.mail.charsets import codec_of
from shared.mail.region import Region
from shared.mail.structure import PART_FIELDS, Entity

#: A longer text is not read for this, and not vouched for.
_LONGEST = 1 << 24
_CODED = ("base64", "quoted-printable")
_PRINTABLE = bytes(range(32, 127))
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=\r\n\t ]|=[\r\n\t ]*[A-Za-z0-9+/]")
_NOT_QUOTED = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n|\Z)")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_BIG5 = ("cp950", "big5hkscs")
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
#: Characters that every table gives to others: nobody says what they are.
_PRIVATE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]")
#: RFC 1468: readers differ on characters that no escape sequence ends, and on two of these with
#: nothing between them.
_SHIFTED = re.compile(rb"(?:[^\x1b]|\x1b\$[@B](?:[!-~]{2})++\x1b\([BJ](?!\x1b))*+")
#: JIS X 0212 has a tilde, which most read as a wide one.
_JIS_TILDE = b"\x8f\xa2\xb7"
_JIS = "\N{WAVE DASH}\N{DOUBLE VERTICAL LINE}\N{MINUS SIGN}¢£¬¥\N{OVERLINE}"
#: What later versions of GB 18030 gave another place.
_GB_18030 = "".join(map(chr, (0x1E3F, *range(0x9FB4, 0x9FBC), *range(0xFE10, 0xFE1A))))
_OF_1252 = bytes({*range(0x80, 0xA0)} - {0x81, 0x8D, 0x8F, 0x90, 0x9D}).decode("cp1252")
_PARTS = (*range(1, 12), 13, 14, 15)
#: The labels under which all readers show the same, but for these characters: found by giving them
#: every character of every set. In 2026 Node's decoder of windows-1252 shows control characters
#: where that set differs from iso-8859-1.
ALIKE = {
    **dict.fromkeys(("utf-8", "utf8", "us-ascii", "koi8-r", "koi8-u", "tis-620", "gbk"), ""),
    "gb18030": _GB_18030,
    **dict.fromkeys((f"iso{dash}8859-{part}" for dash in ("-", "") for part in _PARTS), ""),
    **dict.fromkeys((f"iso_8859-{part}" for part in (*range(1, 10), 15)), ""),
    **dict.fromkeys(("latin1", "latin2"), ""),
    **{f"{kind}125{part}": "" for kind in ("windows-", "cp") for part in (0, 1, 3, 4, 5, 6, 7, 8)},
    **dict.fromkeys(("windows-1252", "cp1252"), _OF_1252),
    "gb2312": "\N{KATAKANA MIDDLE DOT}\N{HORIZONTAL BAR}",
    "big5": "",
    "euc-jp": _JIS,
    "iso-2022-jp": _JIS,
    "shift_jis": _JIS + "\\~",
    "euc-kr": "€®",
    "ks_c_5601-1987": "€®",
}


def text_doubt(whole: Entity, spool: Spool) -> str:
    """The word for what readers differ on in a text; empty where they agree, or for no text."""
    if not whole.media_type.startswith("text/"):
        return ""
    doubt = transfer_doubt(whole)
    if doubt:
        return doubt
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
    if _CONTROL.search(text):
        return "control-character"
    said = whole.header.value("content-type").lower()
    if b"(" in said:
        return "comment"  # some take it for a part of the parameter that it stands before
    if b"charset*" in said:
        return "encoded-charset"  # few know the forms of RFC 2231 for it
    if text.startswith(_MARK):
        return "byte-order-mark"
    return "" if is_shown_alike(text, label, octets) else "rare-charset"


def transfer_doubt(whole: Entity) -> str:
    """The word for why readers may take other octets from the transfer encoding of a text; empty
    where they agree."""
    if len(whole.body) > _LONGEST:
        return "long-text"
    if whole.transfer_encoding in _CODED and not _is_plainly_said(whole):
        return "odd-transfer-encoding"
    if whole.transfer_encoding == "base64" and _found(_NOT_BASE64, whole.body):
        return "damaged-base64"
    if whole.transfer_encoding == "quoted-printable" and _found(_NOT_QUOTED, whole.body):
        return "damaged-quoted-printable"
    return ""


def _is_plainly_said(whole: Entity) -> bool:
    """Python's `email` knows no name of an encoding that is folded or has a blank behind it."""
    (said, *_) = whole.header.values(PART_FIELDS)["content-transfer-encoding"]
    return said.lstrip(b" \t").lower() == whole.transfer_encoding.encode()


def is_shown_alike(text: str, label: str, octets: bytes) -> bool:
    """Whether readers show these octets under that label as this text."""
    if label not in ALIKE:
        # Readers that do not know the label take the octets for ASCII, if they can.
        return octets.isascii() and not any(octet in octets for octet in b"\\~\x1b")
    if label == "big5" and any(octets.decode(name, "replace") != text for name in _BIG5):
        return False
    if label == "iso-2022-jp" and not _SHIFTED.fullmatch(octets):
        return False
    if label == "euc-jp" and _JIS_TILDE in octets:
        return False
    if label != "utf-8" and _PRIVATE.search(text):
        return False
    return not ALIKE[label] or set(ALIKE[label]).isdisjoint(text)


def _found(pattern: re.Pattern[bytes], part: Region) -> bool:
    return pattern.search(part.buffer, part.start, part.end) is not None


@lru_cache(maxsize=256)
def _is_known(label: str) -> bool:
    """Whether a character set is known here and writes ASCII as ASCII: not UTF-7 or UTF-16, and no
    codec of Python's that is none, as `idna`, which takes a second for a megabyte. `codec_of` has
    no codec for US-ASCII, whose octets decide: that is not unknown."""
    try:
        return codec_of(label) is not None and _PRINTABLE.decode(label) == _PRINTABLE.decode(
            "ascii"
        )
    except (LookupError, UnicodeError, ValueError):
        return False
