"""Octets and the label of a character set, to text: by what senders mean, not what labels say.

Labels are those of the WHATWG encoding standard, which every mail client follows, and beside them
those that only mails carry. A label names the superset that is really sent under it: gb2312 holds
GB 18030, ks_c_5601-1987 code page 949, iso-8859-1 code page 1252 (WHATWG Encoding, section 4.2;
MS-UCODEREF). No other name reaches a codec of Python: some of those are no character sets, and
some take quadratic time.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import webencodings
from webencodings.labels import LABELS

from shared.mail.findings import FindingKind
from shared.mail.iso_2022 import decode_chinese, decode_japanese, shift_jis

#: Octets of a label that are looked at.
_LABEL_LIMIT = 64
_TOKEN = re.compile(r"[a-z0-9+._-]{1,64}")
#: Octets of a text that are held, to know the signs too that vendors added to a character set.
_CHECKED_AT_ONCE = 1 << 20
_SEPARATORS = re.compile(r"[\s_.:()-]+")
_CODE_PAGE = re.compile(
    r"(?:x|cs)?(?:cp|ibm|dos|windows|win|ms|oem|pc|ansi|ccsid|cswindows|codepage|pc8codepage)?"
    r"0*(\d{3,5})"
)
_ISO_8859 = re.compile(r"(?:x|cs)?(?:iso|isoir)?8859(\d{1,2})(?:(?:19|20)\d\d)?[ie]?")
#: GB 2312 and its supersets, with the year of an edition or the name of a font.
_GB = re.compile(r"gb(?:k|2312|18030).*")
#: What programs leave around a label: a locale (`de_DE.UTF-8`), a quoted-printable equals sign,
#: the parameter's name, another parameter, what to do where a conversion fails (`//TRANSLIT`).
_AROUND_LABEL = re.compile(
    r"(?:=?3d|=)?[\"']?(?:charset=)?[\"']?(?:[a-z]{2}_[a-z]{2}\.)?(.*?)[\"']?"
    r"(?://.*|[;,].*|format=.*)?",
    re.DOTALL,
)

#: Labels without their separators, to a name of this module or of Python: what WHATWG leaves out,
#: and where a mail means more than a page does.
_MAIL_LABELS: dict[str, str] = {
    **dict.fromkeys(("gb2312", "gb231280", "gbk", "xgbk", "cp936", "ms936", "euccn"), "gb18030"),
    **dict.fromkeys(("xeuccn", "chinese", "csgb2312", "gb180302000", "xmacchinesesimp"), "gb18030"),
    **dict.fromkeys(("gb", "cngb", "zhcn"), "gb18030"),
    **dict.fromkeys(("ksc56011987", "ksc5601", "ksc56011989", "ksc560187"), "cp949"),
    **dict.fromkeys(("uhc", "euckr", "xeuckr", "xmackorean", "xwindows949"), "cp949"),
    **dict.fromkeys(("ksx1001", "ksx10011992", "ksx10011998"), "cp949"),
    **dict.fromkeys(("big5", "big5hkscs", "big5hkscs2004", "xxbig5", "csbig5"), "big5"),
    **dict.fromkeys(("cnbig5", "big5eten", "eten", "xmacchinesetrad"), "big5"),
    "zhtw": "big5",
    **dict.fromkeys(("iso2022jp", "iso2022jpms", "csiso2022jp", "iso2022jp1"), "iso-2022-jp"),
    **dict.fromkeys(("iso2022jp2", "iso2022jp3", "iso2022jpext", "iso2022jp2004"), "iso-2022-jp"),
    **dict.fromkeys(("cp50220", "cp50221", "cp50222", "jis", "xjis"), "iso-2022-jp"),
    **dict.fromkeys(("windows50220", "windows50221", "windows50222"), "iso-2022-jp"),
    **dict.fromkeys(("jisencoding", "windowsiso2022jp"), "iso-2022-jp"),
    **dict.fromkeys(("eucjp", "xeucjp", "eucjpms", "cp51932", "eucjpwin", "ujis"), "euc-jp"),
    **dict.fromkeys(("xeuc", "extendedunixcodepackedformatforjapanese"), "euc-jp"),
    **dict.fromkeys(("eucjisx0213", "eucjis2004"), "euc_jis_2004"),
    **dict.fromkeys(
        ("shiftjis", "sjis", "xsjis", "mskanji", "windows31j", "xmacjapanese"), "cp932"
    ),
    **dict.fromkeys(("sjiswin", "mscp932"), "cp932"),
    **dict.fromkeys(("shiftjisx0213", "shiftjis2004"), "shift_jis_2004"),
    **dict.fromkeys(("iso2022cn", "iso2022cnext"), "iso-2022-cn"),
    **dict.fromkeys(("iso2022kr", "csiso2022kr"), "iso2022_kr"),
    **dict.fromkeys(("hzgb2312", "hz"), "hz"),
    **dict.fromkeys(("utf7", "unicode11utf7", "xunicode20utf7", "csunicode11utf7"), "utf-7"),
    **dict.fromkeys(("utf8", "unicode11utf8", "xunicode20utf8", "utf8bom", "cp65001"), "utf-8"),
    **dict.fromkeys(("utf8mb4", "utf8n", "unicode20utf8"), "utf-8"),
    **dict.fromkeys(("utf16", "unicode", "csunicode", "ucs2", "iso10646ucs2"), "utf-16"),
    **dict.fromkeys(("utf32", "ucs4", "iso10646ucs4"), "utf-32"),
    **dict.fromkeys(("ucs2le", "iso10646ucs2le"), "utf-16-le"),
    **dict.fromkeys(("ucs2be", "unicodefffe"), "utf-16-be"),
    **dict.fromkeys(("utf32le", "ucs4le"), "utf-32-le"),
    **dict.fromkeys(("utf32be", "ucs4be"), "utf-32-be"),
    **dict.fromkeys(("tis620", "xtis620", "iso885911", "xmacthai", "windows874"), "cp874"),
    **dict.fromkeys(("thai", "tis6202533", "tis62025331"), "cp874"),
    **dict.fromkeys(("latin1", "l1", "iso88591", "iso885911987", "csisolatin1"), "cp1252"),
    **dict.fromkeys(("macintosh", "xmacroman", "macroman", "mac", "csmacintosh"), "mac-roman"),
    "appleroman": "mac-roman",
    **dict.fromkeys(("xmacce", "xmaccentraleurroman", "xmaccentraleurope"), "mac-latin2"),
    **dict.fromkeys(("xmaccyrillic", "xmacukrainian"), "mac-cyrillic"),
    "xmacgreek": "mac-greek",
    "xmacturkish": "mac-turkish",
    "xmacicelandic": "mac-iceland",
    "xmaccroatian": "mac-croatian",
    "xmacromanian": "mac-romanian",
    "xmacarabic": "mac-arabic",
    "xmacfarsi": "mac-farsi",
    "johab": "johab",
    "koi8": "koi8-r",
    "koi8ru": "koi8-u",
    "koi8t": "koi8-t",
    "kz1048": "kz1048",
    "ptcp154": "ptcp154",
    **dict.fromkeys(("hproman8", "roman8"), "hp-roman8"),
    "pclatin2": "cp852",
    "pcmultilingual850+euro": "cp858",
    "turkish": "cp1254",
    **{f"latin{number}": f"iso-8859-{part}" for number, part in ((7, 13), (8, 14), (9, 15))},
    "latin10": "iso-8859-16",
}
#: These say that nobody knows: the octets decide.
_NO_LABELS = frozenset(
    {"", "ascii", "usascii", "ansix341968", "iso646us", "unknown8bit", "unknown", "xunknown"}
    | {"8bit", "7bit", "default", "defaultcharset", "none", "binary", "charset", "ansi"}
)
_CODE_PAGES = frozenset(
    {437, 720, 737, 775, 850, 852, 855, 856, 857, 858, 860, 861, 862, 863, 864, 865, 866, 869, 874}
    | {932, 949, 950, 1006, 1125, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258}
)
#: Code pages by number that have other names in Python.
_NUMBERED = {936: "gb18030", 20127: "", 20866: "koi8-r", 21866: "koi8-u", 54936: "gb18030"} | {
    51949: "cp949", 51936: "gb18030", 52936: "hz", 65000: "utf-7", 65001: "utf-8",
    50220: "iso-2022-jp", 50221: "iso-2022-jp", 50222: "iso-2022-jp", 50225: "iso2022_kr",
    51932: "euc-jp", 20932: "euc-jp", 1361: "johab", 1200: "utf-16", 10000: "mac-roman",
    1201: "utf-16-be", 12000: "utf-32-le", 12001: "utf-32-be", 20936: "gb18030",
    10007: "mac-cyrillic", 10006: "mac-greek", 10029: "mac-latin2", 10081: "mac-turkish",
} | {28590 + part: f"iso-8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 13, 15)} | {
    28591: "cp1252", 28599: "cp1254", 950: "big5",
} | {  # IBM's numbers, as Notes writes them
    813: "iso-8859-7", 819: "cp1252", 912: "iso-8859-2", 915: "iso-8859-5", 916: "iso-8859-8",
    920: "cp1254", 923: "iso-8859-15", 943: "cp932", 954: "euc-jp", 970: "cp949", 1208: "utf-8",
    1363: "cp949", 1381: "gb18030", 1386: "gb18030", 33722: "euc-jp",
}  # fmt: skip
#: The standard's labels without their separators: `koi8r` means what `koi8-r` does.
_SQUEEZED = {_SEPARATORS.sub("", label): label for label in LABELS}
_ISO_SUPERSETS = {1: "cp1252", 9: "cp1254", 11: "cp874"}

#: Characters of two octets, or kana of one, up to the escape back to ASCII.
_JAPANESE = re.compile(rb"(?:\x1b\$[@B](?:[!-~]{2})*+|\x1b\(I[!-_]*+)++(\x1b\([BJ])?")
#: Their second octets are among those of ASCII.
_WITH_DELIMITERS = ("cp932", "gb18030", "big5", "cp949", "johab", "shift_jis_2004")
_SHIFT_OUT = b"\x1b$"


class Decoded(NamedTuple):
    """Text, and what was doubtful about it: None, `UNKNOWN_CHARSET` or `CHARSET_MISMATCH`.

    The text holds no surrogates; octets that mean nothing are U+FFFD.
    """

    text: str
    doubt: FindingKind | None = None


def decode(octets: bytes, label: str, hint: str = "") -> Decoded:
    """The octets under a label, as a sender wrote it (any case, RFC 2231 language and all).

    Where the label says nothing, `hint` is as of `decode_unlabelled`.
    """
    name = codec_of(label[:_LABEL_LIMIT]) if label else ""
    if name is None:
        return Decoded(decode_unlabelled(octets, hint).text, FindingKind.UNKNOWN_CHARSET)
    if not name:
        return decode_unlabelled(octets, hint)
    text = _strictly(octets, name)
    if text is not None:
        return Decoded(text)
    if name != "utf-8":
        try:
            return Decoded(octets.decode("utf-8"), FindingKind.CHARSET_MISMATCH)
        except UnicodeDecodeError:
            pass
    return Decoded(_loosely(octets, name), FindingKind.CHARSET_MISMATCH)


def decode_strictly(octets: bytes, label: str) -> str | None:
    """The text where every octet has a meaning under a known label, else None."""
    name = codec_of(label[:_LABEL_LIMIT])
    return _strictly(octets, name) if name else None


def true_label(pieces: Iterable[bytes], label: str) -> str:
    """A label, in lower case, under which every octet of a text has a meaning: the sender's where
    that is known, else `us-ascii` or `utf-8`; "" where no label is true for certain.

    It may stand in a parameter without quotes (RFC 9110 section 5.6.2). It is never UTF-7, in which
    signs that a program looks for are hidden.
    """
    said = label.strip().lower()
    name = codec_of(said[:_LABEL_LIMIT])
    if name is None or name == "utf-7" or (name and not _TOKEN.fullmatch(said)):
        return ""
    rest = iter(pieces)
    start = b""
    while len(start) <= _CHECKED_AT_ONCE and (piece := next(rest, b"")):
        start += piece
    if name and len(start) <= _CHECKED_AT_ONCE:
        return "" if _strictly(start, name) is None else said
    is_ascii = True
    try:
        decoder = codecs.getincrementaldecoder(name or "utf-8")("strict")
        for piece in chain((start,), rest):
            is_ascii = is_ascii and piece.isascii()
            decoder.decode(piece)
        decoder.decode(b"", True)
    except (UnicodeError, ValueError, LookupError):  # Python has none of ISO-2022-CN
        return ""
    if name:
        return said
    if not is_ascii:
        return "utf-8"
    return "" if _SHIFT_OUT in start else "us-ascii"


def without_delimiters(octets: bytes, hint: str) -> bytes:
    """Raw octets of a structured field as UTF-8, where characters of their set are made of octets
    that are delimiters in ASCII: Japanese of seven bits, and what `hint` says of those of eight.

    What is none of these, or what has no meaning so, stays as it is.
    """
    if b"\x1b" in octets:
        octets = _JAPANESE.sub(_as_utf_8, octets)
    if not octets.isascii() and codec_of(hint[:_LABEL_LIMIT]) in _WITH_DELIMITERS:
        try:
            octets.decode("utf-8")
        except UnicodeDecodeError:
            text = decode_strictly(octets, hint)
            return octets if text is None else text.encode()
    return octets


def _as_utf_8(match: re.Match[bytes]) -> bytes:
    text = _strictly(match[0], "iso-2022-jp") if match[1] else None
    return match[0] if text is None else text.encode()


def decode_unlabelled(octets: bytes, hint: str = "") -> Decoded:
    """Octets that nothing was said of: UTF-8 (RFC 6532), then what `hint` says, then cp1252.

    `hint` is a label that stands elsewhere in the mail, such as the body's charset.
    """
    if octets.isascii():
        if _SHIFT_OUT in octets:
            text = _strictly(octets, "iso-2022-jp")
            if text is not None:
                return Decoded(text, FindingKind.CHARSET_MISMATCH)
        return Decoded(octets.decode("ascii"))
    try:
        return Decoded(octets.decode("utf-8"))
    except UnicodeDecodeError:
        pass
    name = codec_of(hint[:_LABEL_LIMIT]) if hint else None
    if name and name != "utf-8":
        text = _strictly(octets, name)
        if text is not None:
            return Decoded(text, FindingKind.CHARSET_MISMATCH)
    return Decoded(octets.decode("cp1252", "replace"), FindingKind.CHARSET_MISMATCH)


@lru_cache(maxsize=1024)
def codec_of(label: str) -> str | None:
    """What a label means here: a codec, "" where it says nothing, None where it is unknown."""
    plain = label.strip(" \t\r\n\"'").partition("*")[0].lower()
    name = _named(plain)
    if name is None:
        match = _AROUND_LABEL.fullmatch(plain)
        bare = match[1].strip() if match else plain
        squeezed = _SEPARATORS.sub("", bare)
        # `x-gb2312`, `csWindows31J`, `cn-gb2312`; and `macgreek` for `x-mac-greek`.
        without = squeezed[2:] if squeezed[:2] in ("cs", "cn") else squeezed.removeprefix("x")
        tried = (_named(one) for one in (bare, without, "x" + squeezed) if one)
        name = next((one for one in tried if one is not None), None)
    return name


def _named(plain: str) -> str | None:
    squeezed = _SEPARATORS.sub("", plain)
    if squeezed in _NO_LABELS:
        return ""
    if squeezed in _MAIL_LABELS:
        return _MAIL_LABELS[squeezed]
    if _GB.fullmatch(squeezed):
        return "gb18030"
    part = _ISO_8859.fullmatch(squeezed)
    if part and (number := int(part[1])) in (1, *range(2, 12), *range(13, 17)):
        return _ISO_SUPERSETS.get(number, f"iso-8859-{number}")
    page = _CODE_PAGE.fullmatch(squeezed)
    if page:
        number = int(page[1])
        if number in _NUMBERED:
            return _NUMBERED[number]
        if number in _CODE_PAGES:
            return f"cp{number}"
    known = webencodings.lookup(plain) or webencodings.lookup(_SQUEEZED.get(squeezed, ""))
    if known is None or known.name in ("replacement", "x-user-defined"):
        return None
    return _MAIL_LABELS.get(_SEPARATORS.sub("", known.name), known.codec_info.name)


def _strictly(octets: bytes, name: str) -> str | None:
    try:
        return _WITHOUT_CODEC.get(name, _by_codec(name))(octets, "strict")
    except (UnicodeError, ValueError):
        return None


def _loosely(octets: bytes, name: str) -> str:
    return _WITHOUT_CODEC.get(name, _by_codec(name))(octets, "replace")


@lru_cache(maxsize=128)
def _by_codec(name: str) -> Callable[[bytes, str], str]:
    def decoded(octets: bytes, errors: str) -> str:
        text: str = octets.decode(name, errors)
        # UTF-7 and UTF-16 let halves of surrogate pairs through.
        return text.encode("utf-8", errors).decode("utf-8") if name == "utf-7" else text

    return decoded


def _big5(octets: bytes, errors: str) -> str:
    """Big5 with Hong Kong's supplement, as WHATWG has it, and Microsoft's additions (the euro)."""
    return octets.decode("big5hkscs", _BIG5_ERRORS + errors)


def _euc_jp(octets: bytes, errors: str) -> str:
    return octets.decode("euc_jp", _EUC_JP_ERRORS + errors)


def _utf_16(octets: bytes, errors: str) -> str:
    """By its mark, else little-endian (WHATWG) unless the zeros say otherwise."""
    if octets[:2] in (b"\xff\xfe", b"\xfe\xff"):
        order = "utf-16-le" if octets[0] == 0xFF else "utf-16-be"
        return octets[2:].decode(order, errors)
    big = octets[::2].count(0) > octets[1::2].count(0)
    return octets.decode("utf-16-be" if big else "utf-16-le", errors)


def _utf_32(octets: bytes, errors: str) -> str:
    """By its mark, else as the zeros say."""
    if octets[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return octets.decode("utf-32", errors)
    big = octets[::4].count(0) > octets[3::4].count(0)
    return octets.decode("utf-32-be" if big else "utf-32-le", errors)


_WITHOUT_CODEC: dict[str, Callable[[bytes, str], str]] = {
    "big5": _big5,
    "euc-jp": _euc_jp,
    "utf-16": _utf_16,
    "utf-32": _utf_32,
    "iso-2022-jp": decode_japanese,
    "iso-2022-cn": decode_chinese,
}


def _second_chance(
    reader: Callable[[bytes], str], errors: str
) -> Callable[[UnicodeError], tuple[str, int]]:
    """An error handler: what the codec does not know may be a pair of a vendor's."""

    def handle(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        pair = error.object[error.start : error.start + 2]
        try:
            if len(pair) == 2:
                return reader(pair), error.start + 2
        except UnicodeDecodeError:
            pass
        if errors == "strict":
            raise error
        return "\N{REPLACEMENT CHARACTER}", error.start + 1

    return handle


def _vendor_euc_jp(pair: bytes) -> str:
    if pair[0] < 0xA1 or pair[1] < 0xA1:
        pair.decode("ascii")
    return shift_jis(pair[0] & 0x7F, pair[1] & 0x7F).decode("cp932")


_BIG5_ERRORS = "posthouse-big5-"
_EUC_JP_ERRORS = "posthouse-euc-jp-"
for _errors in ("strict", "replace"):
    codecs.register_error(
        _BIG5_ERRORS + _errors, _second_chance(lambda pair: pair.decode("cp950"), _errors)
    )
    codecs.register_error(_EUC_JP_ERRORS + _errors, _second_chance(_vendor_euc_jp, _errors))
