"""Character sets that escape sequences choose (ISO/IEC 2022): those of Japan and China.

They are read as they are sent: JIS X 0208 with its vendors' characters (row 13, the IBM extensions,
half-width kana) under whatever label, and the sets of ISO-2022-JP-1, -2, -3 and -2004 (RFC 1468,
RFC 1554, RFC 2237, JIS X 0213). All are decoded in one pass; `errors` is `strict`, which raises
UnicodeError or ValueError, or `replace`.
"""

from __future__ import annotations

import re
from typing import Final

_ESCAPE: Final = re.compile(
    rb"\x1b(\([BJIH]|\$[@AB]|\$\([@ABCDOPQ]|\.[AF]|N[\x20-\x7f])", re.DOTALL
)
#: Of sets with two octets a character: the codec that has each with the eighth bit, and what comes
#: before it there.
_TWO_OCTETS: Final = {
    b"$A": ("gb18030", b""),
    b"$(A": ("gb18030", b""),
    b"$(C": ("cp949", b""),
    b"$(D": ("euc_jp", b"\x8f"),
    b"$(O": ("euc_jisx0213", b""),
    b"$(P": ("euc_jis_2004", b"\x8f"),
    b"$(Q": ("euc_jis_2004", b""),
}
#: The right halves that a single shift takes one character of.
_RIGHT_HALVES: Final = {b".A": "iso-8859-1", b".F": "iso-8859-7"}
_SHIFT: Final = re.compile(rb"(\x1b\$[)*+][A-M]|[\x0e\x0f])")


def decode_japanese(octets: bytes, errors: str) -> str:
    """ISO-2022-JP and what goes beyond it."""
    text: list[str] = []
    pieces = _ESCAPE.split(octets)
    designated, right_half = b"(B", ""
    for escape, piece in zip((b"(B", *pieces[1::2]), pieces[::2], strict=True):
        if escape in _RIGHT_HALVES:
            right_half = _RIGHT_HALVES[escape]
        elif escape[:1] == b"N":
            text.append(bytes((escape[1] | 0x80,)).decode(right_half or "ascii", errors))
        else:
            designated = escape
        if not piece:
            continue
        if designated in (b"(B", b"(J", b"(H"):
            if not piece.isascii() or (errors == "strict" and b"\x1b" in piece):
                # Eight bits among seven: what such senders mean is Shift JIS.
                text.append(piece.decode("cp932", errors))
            else:
                text.append(piece.decode("ascii"))
        elif designated == b"(I":
            text.append(bytes(octet | 0x80 for octet in piece).decode("cp932", errors))
        elif len(piece) % 2 and errors == "strict":
            raise ValueError("half a character")
        elif designated in _TWO_OCTETS:
            text.append(_with_eighth_bit(piece, *_TWO_OCTETS[designated], errors))
        else:
            text.append(_from_jis(piece, errors))
    return "".join(text)


def decode_chinese(octets: bytes, errors: str) -> str:
    """ISO-2022-CN (RFC 1922) as far as it is GB 2312: no codec here has the planes of CNS 11643."""
    text: list[str] = []
    known = shifted = False
    pieces = _SHIFT.split(octets)
    for shift, piece in zip((b"", *pieces[1::2]), pieces[::2], strict=True):
        if shift in (b"\x0e", b"\x0f"):
            shifted = shift == b"\x0e"
        elif shift:
            known = shift == b"\x1b$)A"
        if not piece:
            continue
        if not shifted:
            text.append(piece.decode("ascii", errors))
        elif known:
            text.append(_with_eighth_bit(piece, "gb18030", b"", errors))
        elif errors == "strict":
            raise ValueError("a plane of CNS 11643")
        else:
            text.append("\N{REPLACEMENT CHARACTER}" * ((len(piece) + 1) // 2))
    return "".join(text)


def shift_jis(row: int, cell: int) -> bytes:
    """One character of JIS X 0208, from its seven-bit form to that of Shift JIS."""
    if not (0x21 <= row <= 0x7E and 0x21 <= cell <= 0x7E):
        return b"\xff\xff" if row > 0x20 else bytes((row & 0x7F, cell & 0x7F))
    lead = (row + 1) // 2 + (0x70 if row < 0x5F else 0xB0)
    if row % 2 == 0:
        return bytes((lead, cell + 0x7E))
    return bytes((lead, cell + (0x20 if cell >= 0x60 else 0x1F)))


def _with_eighth_bit(piece: bytes, codec: str, before: bytes, errors: str) -> str:
    high = bytes(octet | 0x80 if octet > 0x20 else octet for octet in piece)
    if before:
        high = b"".join([before + high[at : at + 2] for at in range(0, len(high), 2)])
    return high.decode(codec, errors)


def _from_jis(piece: bytes, errors: str) -> str:
    """A line end inside means that the escape back is missing."""
    pairs = (shift_jis(piece[at], piece[at + 1]) for at in range(0, len(piece) - 1, 2))
    return b"".join(pairs).decode("cp932", errors)
