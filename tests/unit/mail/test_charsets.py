"""Character sets: what senders mean by a label, not what it says."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail.charsets import (
    _MAIL_LABELS,
    _NUMBERED,
    codec_of,
    decode,
    decode_unlabelled,
    true_label,
)
from shared.mail.findings import FindingKind
from tests.rig.time_bound import within_a_second


@pytest.mark.parametrize(
    ("label", "octets", "text"),
    [
        # Simplified Chinese: GBK and GB 18030 under the name of GB 2312.
        ("gb2312", "喆鑫镕".encode("gb18030"), "喆鑫镕"),
        ("GB2312", "朱镕基".encode("gbk"), "朱镕基"),
        ("gb_2312-80", "€100".encode("gb18030"), "€100"),
        ("x-gbk", "㐂".encode("gb18030"), "㐂"),
        ("cp936", "報價單".encode("gbk"), "報價單"),
        ("euc-cn", "𠮷".encode("gb18030"), "𠮷"),
        ("gb18030-2005", "镕".encode("gbk"), "镕"),
        ("gb2312.gb2312-0", "镕".encode("gbk"), "镕"),
        ("zh_CN.GB2312", "镕".encode("gbk"), "镕"),
        ("cn-gb", "镕".encode("gbk"), "镕"),
        ("x-gb2312", "镕".encode("gbk"), "镕"),
        ("iso-2022-cn", b"\x1b$)A\x0eVPND\x0f x", "中文 x"),
        ("x-hz-gb-2312", b"~{VPND~}", "中文"),
        # Korean: code page 949.
        ("ks_c_5601-1987", "똠방각하".encode("cp949"), "똠방각하"),
        ("euc-kr", "펲시콜라".encode("cp949"), "펲시콜라"),
        ("ks_c_5601", "쓩".encode("cp949"), "쓩"),
        ("uhc", "햏".encode("cp949"), "햏"),
        ("windows-949", "뷁".encode("cp949"), "뷁"),
        ("KS_X_1001", "뷁".encode("cp949"), "뷁"),
        ("ko_KR.eucKR", "뷁".encode("cp949"), "뷁"),
        # Traditional Chinese: ETEN's and Hong Kong's characters, and Microsoft's euro.
        ("big5", b"\xf9\xda", "恒"),
        ("big5", b"\xa3\xe1 100", "€ 100"),
        ("big5", b"\xa3\xe1\xfa\x40", "€𠕇"),
        ("Big5-HKSCS", b"\x87\x40", "䏰"),
        ("cp950", b"\xf9\xd6", "碁"),
        ("x-x-big5", "報價單".encode("big5"), "報價單"),
        ("big5", "裏銹墻粧嫺".encode("cp950"), "裏銹墻粧嫺"),
        ("big5", "啲嘅咗".encode("big5hkscs"), "啲嘅咗"),
        ("zh-TW", "報價單".encode("big5"), "報價單"),
        # Japanese: NEC's row 13, IBM's extensions and half-width kana.
        ("iso-2022-jp", b"\x1b$B-!\x1b(B", "①"),
        ("ISO-2022-JP-MS", b"\x1b$B-j\x1b(J", "㈱"),
        ("cp50221", b"\x1b(I1\x1b(B", "ｱ"),
        ("csISO2022JP", b"\x1b$B|b\x1b(B", "髙"),
        ("iso-2022-jp-1", b"\x1b$(D0!\x1b(B", "丂"),
        ("iso-2022-jp", b"a \x1b$@$3$s\x1b(J b", "a こん b"),
        ("iso-2022-jp-1", "丂丄".encode("iso2022_jp_1"), "丂丄"),
        ("iso-2022-jp-2", "日本 中国语 한국".encode("iso2022_jp_2"), "日本 中国语 한국"),
        ("iso-2022-jp-2", "Ελλάς 日本 café".encode("iso2022_jp_2"), "Ελλάς 日本 café"),
        ("iso-2022-jp-3", "俠客①".encode("iso2022_jp_3"), "俠客①"),
        ("iso-2022-jp-2004", "俱楽部 𠮟る".encode("iso2022_jp_2004"), "俱楽部 𠮟る"),
        ("iso-2022-jp-ext", "ｱｲｳ 丂".encode("iso2022_jp_ext"), "ｱｲｳ 丂"),
        ("x-windows-iso2022jp", b"\x1b$B-j\x1b(B", "㈱"),
        ("shift_jis", b"\x87\x40\x87\x8a", "①㈱"),
        ("csWindows31J", b"\xfb\xfc", "髙"),
        ("sjis-win", b"\x87\x40", "①"),
        ("ibm-943", b"\x87\x40", "①"),
        ("Shift_JIS-2004", "①俱".encode("shift_jis_2004"), "①俱"),
        ("EUC-JISX0213", "日本①".encode("euc_jisx0213"), "日本①"),
        ("Extended_UNIX_Code_Packed_Format_for_Japanese", b"\xc6\xfc", "日"),
        ("x-sjis", b"\xfb\xfc", "髙"),
        ("euc-jp", b"\xad\xa1\xfc\xe2", "①髙"),
        ("windows-31j", b"\x81\x60", "～"),
        # Thai, Western European, and what the first personal computers wrote.
        ("windows-874", b"\xca\xc7\xd1\x85", "สวั…"),
        ("tis-620", b"\xca\x80", "ส€"),
        ("iso-8859-11", b"\xca\xc7", "สว"),
        ("TIS620", b"\x91\x92", "‘’"),
        ("x-mac-thai", b"\xa1", "ก"),
        ("TIS-620-2533", b"\xca\xc7", "สว"),
        ("thai", b"\xca\xc7", "สว"),
        ("x-windows-874", b"\xca\x80", "ส€"),
        ("iso-8859-1", b"\x80 \x93x\x94", "€ “x”"),
        ("latin1", b"\x85", "…"),
        ("ISO_8859-1:1987", b"\x99", "™"),
        ("iso88591", b"\x96", "–"),
        ("windows-1252", b"\x9e", "ž"),
        ("iso-8859-9", b"\x80\xfd", "€ı"),
        ("iso-8859-15", b"\xa4", "€"),
        ("iso-8859-8-i", b"\xf9\xec\xe5\xed", "שלום"),
        ("x-mac-roman", b"\x8a\xdb", "ä€"),
        ("macintosh", b"\x9f", "ü"),
        ("x-mac-ce", b"\x8e", "é"),
        ("x-mac-cyrillic", b"\x8f\xe0", "Па"),
        ("x-mac-greek", b"\xb0", "Α"),
        ("macgreek", b"\xb0", "Α"),
        ("MacCyrillic", b"\x8f\xe0", "Па"),
        ("apple-roman", b"\x8a", "ä"),
        ("x-macintosh", b"\x8a", "ä"),
        ("latin-9", b"\xa4", "€"),
        ("latin7", b"\xe0", "ą"),
        ("ISO-8859-7:2003", b"\xa4", "€"),
        ("x-mac-japanese", b"\x83\x41", "ア"),
        ("cp-850", b"\x81\xe1", "üß"),
        ("ibm850", b"\x84", "ä"),
        ("850", b"\x84", "ä"),
        ("PC-850", b"\x84", "ä"),
        ("IBM00858", b"\x84\xd5", "ä€"),
        ("csPC8CodePage437", b"\x9c", "£"),
        ("ibm-819", b"\xe4", "ä"),
        ("ANSI-1251", b"\xcf", "П"),
        ("DOS-866", b"\x8f", "П"),
        ("cp 437", b"\x9c", "£"),
        ("x-cp1251", b"\xcf\xf0", "Пр"),
        ("win-1250", b"\x9a", "š"),
        ("cp1252", b"\x80", "€"),
        ("koi8-ru", b"\xa4", "є"),
        ("koi8r", b"\xf4", "Т"),
        ("KOI8U", b"\xa4", "є"),
        ("windows1257", b"\xe0", "ą"),
        ("cs_iso_latin_5", b"\xfd", "ı"),
        ("utf8", "ü".encode(), "ü"),
        ("unicode-1-1-utf-7", b"+AOQ-", "ä"),
        ("utf-8*de", "ü".encode(), "ü"),
        ('"utf-8"', "ü".encode(), "ü"),
        # What programs leave around a label, and in it.
        ("windows-1251//TRANSLIT", b"\xcf", "П"),
        ("charset=windows-1251", b"\xcf", "П"),
        ("3Dwindows-1251", b"\xcf", "П"),
        ('=3D"windows-1251"', b"\xcf", "П"),
        ("windows-1251; format=flowed", b"\xcf", "П"),
        ("ru_RU.KOI8-R", b"\xf4", "Т"),
        ("utf-16", b"\xff\xfea\x00", "a"),
        ("utf-16", b"\x00a\x00b", "ab"),
        ("utf-32", b"\xff\xfe\x00\x00a\x00\x00\x00", "a"),
        ("utf-32", b"\x00\x00\x00a", "a"),
        ("ucs-4", b"a\x00\x00\x00", "a"),
        ("ucs-2le", b"a\x00", "a"),
        ("cp1201", b"\x00a", "a"),
        ("UTF-32BE", b"\x00\x00\x00a", "a"),
        ("hz-gb-2312", b"~{VPND~}", "中文"),
        ("iso-2022-kr", b"\x1b$)C\x0e0!\x0f", "가"),
    ],
)
def test_labels_mean_what_senders_mean(label: str, octets: bytes, text: str) -> None:
    assert decode(octets, label) == (text, None)


@pytest.mark.parametrize(
    ("label", "octets", "text"),
    [
        ("gb2312", "10 € net".encode(), "10 € net"),
        ("iso-2022-jp", "こん".encode("cp932"), "こん"),
        ("us-ascii", "Grüße".encode(), "Grüße"),
        ("unknown-8bit", "Grüße".encode("cp1252"), "Grüße"),
        ("no-such", "Grüße".encode(), "Grüße"),
        ("big5", "Grüße".encode(), "Grüße"),
        ("utf-8", b"Gr\xc3\xbc\xc3", "Grü\ufffd"),
    ],
)
def test_octets_win_where_the_label_cannot_be_right(label: str, octets: bytes, text: str) -> None:
    assert decode(octets, label).text == text


@pytest.mark.parametrize(
    ("octets", "hint", "text"),
    [
        ("Счёт".encode(), "windows-1251", "Счёт"),
        ("Счёт".encode("cp1251"), "windows-1251", "Счёт"),
        ("Счёт".encode("koi8-r"), "koi8-r", "Счёт"),
        ("お知らせ".encode("cp932"), "shift_jis", "お知らせ"),
        ("关于".encode("gbk"), "gb2312", "关于"),
        ("Prix 10 €".encode("cp1252"), "", "Prix 10 €"),
        ("Prix 10 €".encode("cp1252"), "utf-8", "Prix 10 €"),
        (b"\x1b$B$3$s\x1b(B", "", "こん"),
    ],
)
def test_raw_octets_are_utf_8_then_what_the_body_is(octets: bytes, hint: str, text: str) -> None:
    assert decode_unlabelled(octets, hint).text == text


@pytest.mark.parametrize("octets", [b"+2AA-", b"a+2AA-b", b"+3AA-"])
def test_half_a_character_is_no_text(octets: bytes) -> None:
    decode(octets, "utf-7").text.encode("utf-8")


def test_what_was_guessed_is_said() -> None:
    assert decode("ü".encode("cp1252"), "no-such").doubt is FindingKind.UNKNOWN_CHARSET
    assert decode(b"\xff", "utf-8").doubt is FindingKind.CHARSET_MISMATCH
    assert decode_unlabelled(b"\xfc").doubt is FindingKind.CHARSET_MISMATCH
    assert decode_unlabelled("ü".encode()).doubt is None


@pytest.mark.parametrize(
    "label",
    ["rot13", "zlib", "base64", "hex", "bz2", "idna", "punycode", "unicode_escape", "raw_unicode"
     "_escape", "undefined", "mbcs", "string-escape", "utf_8_sig\0", "x-user-defined"],
)  # fmt: skip
def test_a_label_never_reaches_a_codec_that_is_no_character_set(label: str) -> None:
    assert codec_of(label) is None
    with within_a_second():
        assert decode(b"x" * 200_000, label) == ("x" * 200_000, FindingKind.UNKNOWN_CHARSET)


def test_every_name_is_a_codec() -> None:
    ours = {"", "big5", "euc-jp", "utf-16", "utf-32", "iso-2022-jp", "iso-2022-cn"}
    pages = [f"ibm-{number}" for number in _NUMBERED]
    for label in (*_MAIL_LABELS, *pages, "cp850", "iso-8859-16", "x-mac-farsi", "cp1125"):
        name = codec_of(label)
        assert name in ours or codecs.lookup(name or "none")


@pytest.mark.parametrize("label", ["iso-2022-cn", "iso-2022-jp", "big5", "utf-32"])
def test_a_long_text_has_a_label_or_none(label: str) -> None:
    assert true_label([b"abcd" * 400_000], label) in (label, "")


_LABELS = ["big5", "euc-jp", "utf-16", "iso-2022-jp", "utf-7", "gb18030", "hz", "iso-2022-kr"]


@given(st.binary(max_size=300), st.one_of(st.sampled_from(_LABELS), st.text(max_size=20)))
def test_no_octets_raise_and_no_surrogates_come_out(octets: bytes, label: str) -> None:
    decode(octets, label).text.encode("utf-8")
    for escape in (b"$B", b"$(D", b"$(O", b"$(P", b"$(Q", b"$A", b"$(C", b".F\x1bN", b"N"):
        decode(b"\x1b" + escape + octets, "iso-2022-jp").text.encode("utf-8")
    for shift in (b"$)A\x0e", b"$)G\x0e", b"\x0e"):
        decode(b"\x1b" + shift + octets, "iso-2022-cn").text.encode("utf-8")
    decode_unlabelled(octets, label).text.encode("utf-8")
