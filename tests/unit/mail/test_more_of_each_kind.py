"""Five more mails at least of each kind that `test_cases` has one of, as programs write them."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.mail.findings import FindingKind
from shared.mail.summary import MailHeaders, read_headers

CASES = Path(__file__).parents[2] / "data" / "mail" / "headers"
EXPECTED = json.loads((CASES / "expected.json").read_text())
AT = "2026-05-19T10:31:00"


def word(label: str, octets: bytes) -> bytes:
    return b"=?%b?B?%b?=" % (label.encode(), base64.b64encode(octets))


def jis(text: str) -> bytes:
    """ISO-2022-JP with the characters that Windows has: each pair of Shift JIS, as JIS counts."""
    pairs = [text[at].encode("cp932") for at in range(len(text))]
    octets = b"\x1b$B"
    for lead, trail in pairs:
        row = (lead - (0x70 if lead < 0xA0 else 0xB0)) * 2
        if trail < 0x9F:
            octets += bytes((row - 1, trail - (0x20 if trail > 0x7F else 0x1F)))
        else:
            octets += bytes((row, trail - 0x7E))
    return octets + b"\x1b(B"


def words(codec: str, texts: str, *labels: str) -> list[tuple[bytes, str]]:
    """Each text under each label."""
    return [
        (word(label, jis(text) if codec == "jis" else text.encode(codec)), text)
        for text in texts.split()
        for label in labels
    ]


def as_read(header: bytes) -> MailHeaders:
    return read_headers(header + b"Message-ID: <1@x.example>\r\n\r\nbody\r\n")


SUBJECTS: dict[str, Sequence[tuple[bytes | str, str]]] = {
    "h1a-iso2022jp-nec": words("jis", "①②③ ㈱㈲㈹ №℡㍻ ㌔㌢㍑ ⅠⅧⅩ 髙﨑 纊鍈", "ISO-2022-JP"),
    "h1b-iso2022jp-ms": words("jis", "①見積 ㈱山田 ℡連絡", "iso-2022-jp-ms", "CP50221", "cp50220"),
    "h1c-iso2022jp-ms-plain": words("jis", "日本 お知らせ", "iso-2022-jp-ms", "x-windows-50221")
    + words("jis", "カタカナ", "windows-50220"),
    "h2a-gb2312-holds-gbk": words("gb18030", "朱镕基 喆鑫 €", "gb2312", "GB_2312-80", "x-gb2312"),
    "h2b-ksc5601-holds-uhc": words("cp949", "뷁 햏쓩", "ks_c_5601-1987", "euc-kr", "KSC5601"),
    "h2c-big5-holds-hkscs": words("big5hkscs", "啲嘅 咗嚟", "big5", "Big5-HKSCS")
    + words("cp950", "裏銹恒 碁嫺", "big5", "cn-big5"),
    "h2d-latin1-holds-cp1252": words("cp1252", "10€ “x” a–b ™ …", "iso-8859-1", "latin1"),
    "h2g-cp-850": words("cp850", "Grüße ñandú", "cp-850", "IBM850", "PC-850")
    + words("cp852", "Příliš", "cp-852")
    + words("cp866", "Счёт", "DOS-866"),
    "h2h-windows-874": words("cp874", "สวัสดี ราคา…", "windows-874", "TIS-620", "iso-8859-11"),
    "h3a-raw-utf8-and-word": [
        ("Grüße =?utf-8?Q?aus?= Köln", "Grüße aus Köln"),
        ("Счёт =?koi8-r?B?1A==?= №5", "Счёт т №5"),
        ("=?iso-8859-1?Q?=FC?= und ü", "ü und ü"),
        ("日本 =?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本 日本"),
        ("=?utf-8?B?w7w=?= €", "ü €"),
    ],
    "h3b-raw-utf8-tag": [
        ("[外部] =?gb2312?B?udjT2g==?=", "[外部] 关于"),
        ("[ВНЕШНЕЕ] Re: =?utf-8?Q?=D0=90?=", "[ВНЕШНЕЕ] Re: А"),
        ("[Externe Absender – prüfen] =?utf-8?Q?a?=", "[Externe Absender – prüfen] a"),
        ("*** Verdächtig *** =?iso-8859-1?Q?=FC?=", "*** Verdächtig *** ü"),
        ("=?utf-8?Q?=C3=BC?= [geprüft]", "ü [geprüft]"),
    ],
    "h3c-word-in-word": [
        ("Stra=?utf-8?B?w58=?=e", "Straße"),
        ("K=?iso-8859-1?Q?=F6?=ln", "Köln"),
        ("(=?utf-8?Q?=C3=BC?=)", "(ü)"),
        ('"=?utf-8?Q?=C3=BC?="', '"ü"'),
        ("a=?utf-8?Q?b?=c=?utf-8?Q?d?=e", "abcde"),
    ],
    "h3d-fwd-no-space": [
        ("AW:=?UTF-8?B?w7w=?=", "AW:ü"),
        ("[list]=?UTF-8?Q?=C3=BC?=", "[list]ü"),
        ("Re:=?gb2312?B?udjT2g==?=", "Re:关于"),
        ("=?UTF-8?Q?=C3=BC?=:a", "ü:a"),
        ("Fwd:=?utf-8?Q?a?==?utf-8?Q?b?=", "Fwd:ab"),
    ],
    "h3e-word-with-spaces": [
        ("=?utf-8?Q?a b c?=", "a b c"),
        ("=?iso-8859-1?Q?Gr=FC=DFe aus K=F6ln?= x", "Grüße aus Köln x"),
        ("=?utf-8?B?w5w gYg==?=", "Ü b"),
        ("=?utf-8?Q?a\r\n b?=", "a b"),
        ("=?windows-1251?Q?=CF=F0 =E8?=", "Пр и"),
    ],
    "h3f-char-split-in-two-words": [
        ("=?utf-8?B?8J+Y?=\r\n =?utf-8?B?gA==?=", "😀"),
        ("=?utf-8?Q?=E2?= =?utf-8?Q?=82?= =?utf-8?Q?=AC?=", "€"),
        ("=?gb2312?B?udg=?= =?GBK?B?0w==?= =?gb2312?B?2g==?=", "关于"),
        ("=?shift_jis?B?gg==?= =?shift_jis?B?oA==?=", "あ"),
        ("=?iso-2022-jp?B?GyRCRnw=?= =?iso-2022-jp?B?S1wbKEI=?=", "日本"),
        ("=?euc-kr?B?sA==?=\r\n\t=?ks_c_5601-1987?B?oQ==?=", "가"),
    ],
    "h3h-bad-base64-then-good": [
        ("=?utf-8?B?!!!?= =?utf-8?B?w7w=?=", "=?utf-8?B?!!!?= ü"),
        ("=?utf-8?B?=?= =?utf-8?B?w7w=?=", "=?utf-8?B?=?= ü"),
        ("=?utf-8?B?w7w?= =?utf-8?B?A?= x", "ü =?utf-8?B?A?= x"),
        ("=?utf-8?B?w7w= =?utf-8?B?w7w=?=", "=?utf-8?B?w7w= ü"),
        ("=?utf-8?B?w7w=w7w=?= x", "üü x"),
    ],
}

AUTHORS: dict[str, Sequence[tuple[str, str, str]]] = {
    "h4a-unquoted-comma": [
        ("Doe, Jane, Dr. <j@x.org>", "Doe, Jane, Dr.", "j@x.org"),
        ("ACME, Inc. <a@x.org>", "ACME, Inc.", "a@x.org"),
        ('"Doe", Jane <j@x.org>', "Doe, Jane", "j@x.org"),
        ("=?utf-8?Q?M=C3=BCller?=, Eva <e@x.org>", "Müller, Eva", "e@x.org"),
        ("Doe,Jane\r\n <j@x.org>", "Doe, Jane", "j@x.org"),
    ],
    "h4b-encoded-comma": [
        ("=?utf-8?Q?M=C3=BCller=2C_Eva?= <e@x.org>", "Müller, Eva", "e@x.org"),
        ("=?utf-8?B?TcO8bGxlciwgRXZh?= <e@x.org>", "Müller, Eva", "e@x.org"),
        ("=?utf-8?Q?M=C3=BCller,_Eva?= <e@x.org>", "Müller, Eva", "e@x.org"),
        ('"=?utf-8?Q?M=C3=BCller=2C_Eva?=" <e@x.org>', "Müller, Eva", "e@x.org"),
        ("=?utf-8?Q?M=C3=BCller=2C?= =?utf-8?Q?_Eva?= <e@x.org>", "Müller, Eva", "e@x.org"),
    ],
    "h5a-at-in-name": [
        ("a@y.org via List <l@x.org>", "a@y.org via List", "l@x.org"),
        ("<l@x.org> a@y.org", "a@y.org", "l@x.org"),
        ("a@y.org<l@x.org>", "a@y.org", "l@x.org"),
        ("'a@y.org' <l@x.org>", "'a@y.org'", "l@x.org"),
        ("=?utf-8?Q?a=40y.org?= <l@x.org>", "a@y.org", "l@x.org"),
    ],
    "h5c-quoted-at": [
        ('"a@y.org" <l@x.org>', "a@y.org", "l@x.org"),
        ('"a@y.org via List" <l@x.org>', "a@y.org via List", "l@x.org"),
        ('"Eva <a@y.org>" <l@x.org>', "Eva <a@y.org>", "l@x.org"),
        ('"Eva (a@y.org)" <l@x.org>', "Eva (a@y.org)", "l@x.org"),
        ('"a@y.org" l@x.org', "a@y.org", "l@x.org"),
    ],
    "h5d-at-alone": [
        ("Eva @ Werk <e@x.org>", "Eva @ Werk", "e@x.org"),
        ('"Eva @ Werk" <e@x.org>', "Eva @ Werk", "e@x.org"),
        ("Eva @Werk <e@x.org>", "Eva @Werk", "e@x.org"),
        ("Eva@ Werk <e@x.org>", "Eva@ Werk", "e@x.org"),
        ("@ <e@x.org>", "@", "e@x.org"),
    ],
    "h5e-brackets-colon": [
        ("Re: offer <s@x.org>", "Re: offer", "s@x.org"),
        ("[EXT] Anna <a@x.org>", "[EXT] Anna", "a@x.org"),
        ("12:30 Club <c@x.org>", "12:30 Club", "c@x.org"),
        ("Anna [a@y.org] <a@x.org>", "Anna [a@y.org]", "a@x.org"),
        ('Shop: "Kasse" <k@x.org>', "Shop: Kasse", "k@x.org"),
    ],
    "h5f-dot-in-name": [
        ("Anna B. C. <a@x.org>", "Anna B. C.", "a@x.org"),
        ("St. Gallen GmbH & Co. KG <a@x.org>", "St. Gallen GmbH & Co. KG", "a@x.org"),
        ("x.org Team <a@x.org>", "x.org Team", "a@x.org"),
        ("J.R. (Bob) Dobbs <a@x.org>", "J.R. Dobbs", "a@x.org"),
        ("... <a@x.org>", "...", "a@x.org"),
    ],
    "h5g-unbalanced-quote": [
        ('Werk" Nord <n@x.org>', "Werk Nord", "n@x.org"),
        ('Werk Nord" <n@x.org>', "Werk Nord", "n@x.org"),
        ('"Eva "Evi" X" <n@x.org>', "Eva Evi X", "n@x.org"),
        ('"Werk, Nord <n@x.org>', "Werk, Nord", "n@x.org"),
        ("Anna (Sales <n@x.org>", "Anna Sales", "n@x.org"),
        ("Anna <n@x.org", "Anna", "n@x.org"),
    ],
    "h5i-space-in-angle": [
        ("Info <info@x.org >", "Info", "info@x.org"),
        ("Info <\tinfo@x.org>", "Info", "info@x.org"),
        ("Info < info @ x . org >", "Info", "info@x.org"),
        ("Info <info@x.org\r\n >", "Info", "info@x.org"),
        ("< info@x.org >", "", "info@x.org"),
    ],
}  # fmt: skip

TO: dict[str, Sequence[tuple[str, list[str]]]] = {
    "h5j-semicolon-list": [
        ("A <a@x.org>; B <b@x.org>;", ["a@x.org", "b@x.org"]),
        ('"A, B" <a@x.org>; "C, D" <c@x.org>', ["a@x.org", "c@x.org"]),
        ("A, B <a@x.org>; C, D <c@x.org>", ["a@x.org", "c@x.org"]),
        ("a@x.org;b@x.org,c@x.org", ["a@x.org", "b@x.org", "c@x.org"]),
        ("a@x.org;;\r\n b@x.org; ", ["a@x.org", "b@x.org"]),
    ],
}

#: Without one address that wrote the mail: what is called its author, and what is said of it.
NO_AUTHOR: dict[str, Sequence[tuple[bytes, str, FindingKind]]] = {
    "h7a-no-from-reply-to": [
        (header, "", FindingKind.MISSING_AUTHOR)
        for header in (
            b"Reply-To: a@x.org\r\n", b"Return-Path: <a@x.org>\r\n", b"Sender: a@x.org\r\n",
            b"Resent-From: a@x.org\r\n", b"X-From: a@x.org\r\n", b"Apparently-From: a@x.org\r\n",
        )
    ],
    "h7b-empty-from": [
        (header + b"Sender: a@x.org\r\n", "", FindingKind.MISSING_AUTHOR)
        for header in (
            b"From:\r\n", b"From: \t\r\n", b"From: <>\r\n", b'From: ""\r\n', b"From: ,\r\n",
            b"From: ()\r\n", b"From: Team:;\r\n", b"From:\r\n \r\n",
        )
    ],
    "h7c-name-only": [
        (b"From: " + name + b"\r\nReturn-Path: <a@x.org>\r\n", "", FindingKind.MISSING_AUTHOR)
        for name in (
            b"MAILER-DAEMON", b"root", b'"Scanner Flur 2"', b"=?utf-8?Q?Scanner?=",
            b"Mail Delivery System <MAILER-DAEMON>", b"Kopierer (2. OG)", b"Eva <eva>",
            b"=?utf-8?Q?Eva_=3Ce=40x.org=3E?=",
        )
    ],
    "h7d-two-from": [
        (b"From: a@x.org\r\nFROM: b@x.org\r\n", "a@x.org", FindingKind.DUPLICATE_FROM),
        (b"From: A <a@x.org>\r\nTo: c@x.org\r\nFrom: a@x.org\r\n", "a@x.org",
         FindingKind.DUPLICATE_FROM),
        (b"From: a@x.org\r\nFrom : b@x.org\r\n", "a@x.org", FindingKind.DUPLICATE_FROM),
        (b"From: a@x.org, b@x.org\r\n", "a@x.org", FindingKind.SEVERAL_AUTHORS),
        (b"From: a@x.org; b@x.org\r\n", "a@x.org", FindingKind.SEVERAL_AUTHORS),
        (b"From: <a@x.org> <b@x.org>\r\n", "a@x.org", FindingKind.SEVERAL_AUTHORS),
    ],
}  # fmt: skip

_DAY = "Tue, 19 May 2026 "
#: The instant is AT, unless another one, or none, is said behind a bar.
DATES: dict[str, Sequence[str]] = {
    "h8a-minus03": [
        _DAY + zone
        for zone in ("07:31:00 -0300 (-03)", "16:01:00 +0530 (+0530)", "07:31:00 -03",
                     "14:31:00 +0400 (+04)", "07:31:00 -0300 (-03:00)")
    ],
    "h8b-gmt-plus": [
        _DAY + zone
        for zone in ("18:31:00 +0800 (GMT+08:00)", "07:31:00 -0300 (GMT-03:00)",
                     "10:31:00 +0000 (GMT+00:00)", "12:31:00 +0200 (UTC+2)",
                     "16:01:00 +0530 (GMT+5:30)")
    ],
    "h8c-local-comment": [
        _DAY + zone
        for zone in ("18:31:00 +0800 (中国标准时间)", "19:31:00 +0900 (대한민국 표준시)",
                     "13:31:00 +0300 (Москва, стандартное время)",
                     "12:31:00 +0200 (Heure d’été d’Europe centrale)",
                     "07:31:00 -0300 (Hora oficial do Brasil)")
    ],
    "h8d-z": [_DAY + time for time in ("10:31:00 Z", "10:31:00Z", "10:31 Z", "10:31:00 z")]
    + ["2026-05-19T10:31:00Z"],
    "h8e-us-order": ["Tue, May 19 2026 12:31:00 +0200", "May 19, 2026 12:31:00 +0200",
                     "Tue, May 19, 2026 12:31:00 +0200", "May 19 2026 10:31 GMT",
                     "Tuesday, May 19, 2026 12:31:00 PM +0200"],
    "h8f-asctime": ["Tue May 19 10:31:00 2026", "Tue May 19 10:31:00 UTC 2026",
                    "Tue May 19 12:31:00 +0200 2026", "Tue May 19 12:31:00 2026 +0200",
                    "Tue May 19 06:31:00 EDT 2026"],
    "h8h-german-month": ["Di, 19. Mai 2026 12:31:00 +0200", "mar., 19 mai 2026 12:31:00 +0200",
                         "Вт, 19 мая 2026 13:31:00 +0300", "火, 19 5月 2026 19:31:00 +0900",
                         "martes, 19 de mayo de 2026 12:31:00 +0200",
                         "Dienstag, 19. Mai 2026 12:31:00 +0200"],
    "h8i-no-sign": [_DAY + zone + " | none"
                    for zone in ("12:31:00 0200", "12:31:00 0100", "12:31 0530", "12:31:00 200",
                                 "12:31:00 02:00")],
    "h8j-colon-zone": [_DAY + zone
                       for zone in ("12:31:00 +02:00", "07:31:00 -03:00", "16:01:00 +05:30",
                                    "10:31:00 +00:00", "07:31:00 -3:00")],
    "h8k-iso": ["2026-05-19T12:31:00+0200", "2026-05-19 12:31:00 +0200", "2026-05-19T10:31Z",
                "2026-05-19T12:31:00.123+02:00", "2026/05/19 12:31:00 +0200"],
    "h8l-no-zone": [_DAY + "10:31:00", "19 May 2026 10:31", "2026-05-19 10:31:00",
                    "19-May-2026 10:31:00", _DAY + "10:31:00 (local)"],
    "h8m-gmt-offset": [_DAY + zone
                       for zone in ("12:31:00 GMT+0200", "07:31:00 GMT-3", "12:31:00 GMT+02:00",
                                    "16:01:00 UTC+05:30", "10:31:00 GMT+00:00")],
    "h8o-edt": [_DAY + zone
                for zone in ("06:31:00 EDT", "05:31:00 EST", "03:31:00 PDT", "12:31:00 CEST",
                             "19:31:00 JST", "13:31:00 MSK")],
    "h8p-crlf-fold": ["Tue, 19 May 2026\r\n\t12:31:00 +0200", "Tue,\r\n 19 May 2026 12:31:00 +0200",
                      "\r\n Tue, 19 May 2026 12:31:00 +0200", _DAY + "12:31:00\r\n +0200",
                      _DAY + "12:31:00 +0200\r\n (CEST)"],
    "h8r-single-digit-hour": [
        f"{_DAY}{hour}:05:00 +0000 | 2026-05-19T0{hour}:05:00" for hour in range(5)
    ],
}  # fmt: skip


def test_there_are_five_of_each() -> None:
    kinds = {**SUBJECTS, **AUTHORS, **TO, **NO_AUTHOR, **DATES}
    assert kinds.keys() == EXPECTED.keys()
    assert {name: len(more) for name, more in kinds.items() if len(set(map(str, more))) < 5} == {}


@pytest.mark.promise("F1")
@pytest.mark.parametrize("kind", SUBJECTS)
def test_subjects(kind: str) -> None:
    for sent, text in SUBJECTS[kind]:
        octets = sent.encode() if isinstance(sent, str) else sent
        assert as_read(b"Subject: " + octets + b"\r\n").subject == text


@pytest.mark.promise("F1")
@pytest.mark.parametrize("kind", AUTHORS)
def test_authors(kind: str) -> None:
    for sent, name, address in AUTHORS[kind]:
        read = as_read(b"From: " + sent.encode() + b"\r\n")
        assert (read.sender_name, read.sender) == (name, address)


@pytest.mark.promise("F1")
@pytest.mark.parametrize("kind", TO)
def test_recipients(kind: str) -> None:
    for sent, addresses in TO[kind]:
        assert list(as_read(b"To: " + sent.encode() + b"\r\n").to) == addresses


@pytest.mark.promise("F1")
@pytest.mark.parametrize("kind", NO_AUTHOR)
def test_no_author_is_invented(kind: str) -> None:
    for header, address, said in NO_AUTHOR[kind]:
        read = as_read(header)
        assert read.sender == address
        assert said in {one.kind for one in read.findings}


@pytest.mark.promise("F1")
@pytest.mark.parametrize("kind", DATES)
def test_dates(kind: str) -> None:
    for said in DATES[kind]:
        sent, _, other = said.partition(" | ")
        at = as_read(b"Date: " + sent.encode() + b"\r\n").date
        instant = datetime.fromisoformat(AT if other in ("", "none") else other)
        assert at == (None if other == "none" else instant.replace(tzinfo=UTC))
