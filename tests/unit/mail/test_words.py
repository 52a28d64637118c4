"""Encoded words as people send them (RFC 2047), and what lies beside them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail.encoded_words import read_text
from shared.mail.findings import FindingKind
from tests.rig.time_bound import within_a_second


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("plain", "plain"),
        ("Grüße", "Grüße"),
        ("folded\r\n over\r\n\tlines", "folded over lines"),
        ("nul\x00 and bell\x07", "nul  and bell"),
        # White space between words is none of the text; that beside other text is (section 6.2).
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?a?=\r\n  =?iso-8859-1?q?=E4?=", "aä"),
        ("x =?utf-8?q?a?= y", "x a y"),
        ("=?utf-8?Q?a_b?=", "a b"),
        ("=?iso-8859-1?q?Gr=FC=DFe?= aus =?utf-8?b?S8O2bG4=?=", "Grüße aus Köln"),
        # Words inside other text, without white space.
        ("Stra=?utf-8?B?w58=?=e", "Straße"),
        ("(=?utf-8?Q?=C3=BC?=)", "(ü)"),
        ('"=?utf-8?Q?=C3=BC?="', '"ü"'),
        ("AW:=?UTF-8?B?w7w=?=", "AW:ü"),
        ("=?utf-8?Q?a?==?utf-8?Q?b?=", "ab"),
        # Raw octets beside words.
        ("Счёт =?UTF-8?Q?f=C3=BCr?= Москва", "Счёт für Москва"),
        ("[外部] =?gb2312?B?udjT2g==?=", "[外部] 关于"),
        ("=?utf-8?Q?ü?=", "ü"),
        ("=?iso-8859-1?Q?=FC?= ü", "ü ü"),
        ("日本 =?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本 日本"),
        # White space and other signs in words.
        ("=?UTF-8?Q?Gr=C3=BC=C3=9Fe aus K=C3=B6ln?=", "Grüße aus Köln"),
        ("=?utf-8?B?w5w gYg==?=", "Ü b"),
        ("=?utf-8?Q?a\r\n b?=", "a b"),
        ("=?utf-8?Q?=C3=9Cber=\r\n _alle=\r\n\t_Berge?=", "Über alle Berge"),
        ("=?utf-8?Q?=C3=\n =9C=3D=\r\n x?=", "Ü=x"),
        ("=?utf-8?B?8J-YgA==?=", "😀"),
        ("=?utf-8?B?w5_Dnw?=", "ßß"),
        ("=?utf-8?Q?what?huh?=", "what?huh"),
        ("=?utf-8?Q?100%=?=", "100%="),
        ("=?utf-8?Q?=C3=BC?=", "ü"),
        ("=?utf-8?Q??=", ""),
        # Characters split over words, in both encodings.
        ("=?UTF-8?B?ww==?=\r\n =?UTF-8?B?nGJlcg==?=", "Über"),
        ("=?UTF-8?Q?=C3?= =?UTF-8?Q?=9Cber?=", "Über"),
        ("=?UTF-8?Q?=C3?= =?utf-8?B?nGJlcg==?=", "Über"),
        ("=?gb2312?B?udg=?= =?gb2312?B?0w==?= =?gb2312?B?2g==?=", "关于"),
        ("=?utf-8?B?8J+Y?= =?utf-8?B?gA==?=", "😀"),
        ("=?shift_jis?B?gg==?= =?shift_jis?B?oA==?=", "あ"),
        # The same charset by other names, and a text between escape sequences that was cut.
        ("=?gb2312?B?udi4?= =?GBK?B?8w==?=", "关阁"),
        ("=?GB18030?B?udg=?= =?gb2312?B?0w==?= =?gbk?B?2g==?=", "关于"),
        ("=?utf8?Q?=C3?= =?UTF-8?Q?=9C?=", "Ü"),
        ("=?iso-2022-jp?B?GyRCRnw=?= =?iso-2022-jp?B?S1wbKEI=?=", "日本"),
        (
            "=?ISO-2022-JP?B?GyRCOCtAUT1xJE4=?=\r\n =?ISO-2022-JP?B?JDQwTU1q?="
            " =?iso-2022-jp?B?GyhCIDI=?=",
            "見積書のご依頼 2",
        ),
        ("=?iso-2022-jp?B?GyRCRnwbKEI=?= =?iso-2022-jp?B?GyRCS1wbKEI=?= x", "日本 x"),
        # Languages, quotes, padding.
        ("=?utf-8*de?Q?=C3=BC?=", "ü"),
        ("=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"),
        ("=?utf-8*de-CH?B?w7w=?=", "ü"),
        ("=?iso-8859-1*?Q?=FC?=", "ü"),
        ("=?UTF-8*?B?w7w?=", "ü"),
        ("=?utf-8?B?w7w?=", "ü"),
        ("=?utf-8?B?w7w=w7w=?=", "üü"),
        ("=?utf-8?b?w7w=====?=", "ü"),
        # Nobody sees a byte order mark.
        ("=?utf-8?B?77u/SGFsbG8=?=", "Hallo"),
        ("Re: =?utf-16le?B?//5hAA==?= b", "Re: a b"),
        ("\ufeffHallo", "Hallo"),
        # What is no word stays.
        ("=?utf-8?B?!!!?= x", "=?utf-8?B?!!!?= x"),
        ("=?utf-8?B?=?= =?utf-8?B?w7w=?=", "=?utf-8?B?=?= ü"),
        ("=?utf-8?B?A?= b", "=?utf-8?B?A?= b"),
        ("=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        ("=?utf-8?Q?abc", "=?utf-8?Q?abc"),
        ("=?utf-8?Q?a =?utf-8?Q?b?=", "=?utf-8?Q?a b"),
        ("=??Q?abc?=", "=??Q?abc?="),
        ("1 =? 2 ?= 3", "1 =? 2 ?= 3"),
        ("=?no-such-charset?q?abc?=", "abc"),
        # Decoded once: what comes out is text.
        ("=?utf-8?Q?=3D=3Futf-8=3FQ=3Fa=3F=3D?=", "=?utf-8?Q?a?="),
    ],
)
def test_texts(sent: str, text: str) -> None:
    assert read_text(sent.encode()).text == text


@pytest.mark.parametrize(
    ("sent", "hint", "text"),
    [
        ("关于".encode("gbk") + b" =?gb2312?B?sai82w==?=", "", "关于 报价"),
        (b"=?gb2312?B?sai82w==?= " + "关于".encode("gbk"), "iso-8859-1", "报价 关于"),
        ("Счёт".encode("cp1251") + b" =?windows-1251?Q?=CF?=", "", "Счёт П"),
        ("Счёт".encode("koi8-r") + b" =?koi8-r?Q?=F4?= =?utf-8?Q?=E2=82=AC?=", "", "Счёт Т€"),
        ("견적".encode("cp949") + b" =?us-ascii?Q?a?= =?euc-kr?B?sN8=?=", "", "견적 a견"),
        ("Счёт".encode() + b" =?windows-1251?Q?=CF?=", "", "Счёт П"),
        ("Grüße".encode("cp1252") + b" =?utf-8?Q?=C3=BC?=", "", "Grüße ü"),
        # The charset of the body is that of words that name none, or one that nobody knows.
        (b"=?unknown-8bit?B?" + base64.b64encode("关于".encode("gbk")) + b"?=", "gb2312", "关于"),
        (b"=?us-ascii?B?" + base64.b64encode("Счёт".encode("cp1251")) + b"?=", "cp1251", "Счёт"),
        (b"=?x-unknown?Q?=F3?=", "koi8-r", "С"),
        (b"=?no-such?Q?=F3?=", "koi8-r", "С"),
        (b"=?unknown-8bit?Q?=C3=BC?=", "koi8-r", "ü"),
    ],
)
def test_octets_without_a_charset_have_that_beside_them(sent: bytes, hint: str, text: str) -> None:
    assert read_text(sent, hint).text == text


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"=?utf-8?B?!!!?=", FindingKind.MALFORMED_WORD),
        (b"=?utf-8?Q?abc", FindingKind.MALFORMED_WORD),
        (b"=?utf-8?Q?=FF?=", FindingKind.CHARSET_MISMATCH),
        (b"=?no-such?Q?a?=", FindingKind.UNKNOWN_CHARSET),
        (b"Gr\xfc\xdfe", FindingKind.CHARSET_MISMATCH),
    ],
)
def test_what_was_doubtful_is_said(sent: bytes, kind: FindingKind) -> None:
    assert [one.kind for one in read_text(b"ok " + sent).findings] == [kind]


def test_the_octets_of_a_bad_word_do_not_hurt_the_others() -> None:
    assert read_text(b"=?utf-8?Q?=FF?= =?utf-8?Q?=C3=BC?= x").text == "\ufffdü x"


@given(st.text(max_size=60), st.sampled_from(["utf-8", "utf-16", "gb18030"]), st.booleans())
def test_what_is_encoded_comes_back(text: str, charset: str, quoted: bool) -> None:
    text = "".join(char for char in text if char.isprintable()).strip()
    octets = text.encode(charset)
    encoded = b"".join(b"=%02X" % octet for octet in octets) if quoted else base64.b64encode(octets)
    word = b"=?%b?%b?%b?=" % (charset.encode(), b"Q" if quoted else b"B", encoded)
    assert read_text(word).text == text


@given(st.binary(max_size=400))
def test_no_octets_raise(octets: bytes) -> None:
    for start in (b"", b"=?utf-8?b?", b"=?utf-7?q?", b"=?iso-2022-jp?q?=1B$B"):
        text = read_text(start + octets + b"?=").text
        text.encode("utf-8")
        assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text)


@pytest.mark.parametrize(
    "unit",
    [
        b"=?", b"=?a?q?", b"=?a?q? ", b"=?utf-8?B?ww==?= ", b"?=", b"=?utf-8?q?=C3?=", b"=",
        b"\x1b$B", b"=?utf-8?B?", b" \r\n", b"=?iso-2022-jp?q?=1B$B?= ",
    ],
)  # fmt: skip
def test_the_work_grows_no_faster_than_the_value(unit: bytes) -> None:
    with within_a_second():
        read_text(unit * (256 * 1024 // len(unit)))
