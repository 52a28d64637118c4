"""Addresses as people send them; what a display name says is never one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail.addresses import ADDRESS_LIMIT, VALUE_LIMIT, read_addresses
from shared.mail.findings import FindingKind
from tests.rig.ambiguous_addresses import AMBIGUOUS
from tests.rig.time_bound import within_a_second


def pairs(sent: str) -> list[tuple[str, str]]:
    return [(one.name, one.address) for one in read_addresses(sent.encode()).addresses]


def kinds(sent: str) -> set[FindingKind]:
    return {one.kind for one in read_addresses(sent.encode()).findings}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("a@x.org", [("", "a@x.org")]),
        ("<a@x.org>", [("", "a@x.org")]),
        ("Anna <a@x.org>, b@x.org", [("Anna", "a@x.org"), ("", "b@x.org")]),
        ('"Doe, Jane" <j@x.org>', [("Doe, Jane", "j@x.org")]),
        ('"a \\"b\\" c" <j@x.org>', [('a "b" c', "j@x.org")]),
        ("Anna\r\n <a@x.org>,\r\n\tb@x.org", [("Anna", "a@x.org"), ("", "b@x.org")]),
        ("a@[192.0.2.1], <b@[IPv6:::1]>", [("", "a@[192.0.2.1]"), ("", "b@[IPv6:::1]")]),
        # Comments (section 3.2.2): a name where there is no other.
        ("a@x.org (Anna)", [("Anna", "a@x.org")]),
        ("a@x.org (Anna (nested), B)", [("Anna (nested), B", "a@x.org")]),
        ("Dr. A. Meier (Praxis) <m@x.org>", [("Dr. A. Meier", "m@x.org")]),
        ("a(c)@(d)x.org", [("c d", "a@x.org")]),
        ("<a@x.org (work)>", [("", "a@x.org")]),
        # Quoted local parts: the quotes stay where the address needs them.
        ('"joe"@x.org', [("", "joe@x.org")]),
        ('"joe smith"@x.org', [("", '"joe smith"@x.org')]),
        ('"a@b"@x.org', [("", '"a@b"@x.org')]),
        ('<"joe smith"@x.org>', [("", '"joe smith"@x.org')]),
        # Groups (section 3.4).
        ("undisclosed-recipients:;", []),
        ("Team: a@x.org, B <b@x.org>;", [("", "a@x.org"), ("B", "b@x.org")]),
        ("Team: a@x.org;, c@x.org", [("", "a@x.org"), ("", "c@x.org")]),
        ("A: a@x.org; B: b@x.org;", [("", "a@x.org"), ("", "b@x.org")]),
        ('"My Team": a@x.org, b@x.org;', [("", "a@x.org"), ("", "b@x.org")]),
        # Obsolete forms (section 4.4): routes, dots and white space, empty elements.
        ("<@a.org,@b.org:c@d.org>", [("", "c@d.org")]),
        ("Anna <@relay.org:a@x.org>", [("Anna", "a@x.org")]),
        ("a @ x . org", [("", "a@x.org")]),
        ("Info < info@x.org >", [("Info", "info@x.org")]),
        ("Info <info @x.org>", [("Info", "info@x.org")]),
        ("a@x.org,, b@x.org,", [("", "a@x.org"), ("", "b@x.org")]),
        (", a@x.org", [("", "a@x.org")]),
        ("Anna B. C. <a@x.org>", [("Anna B. C.", "a@x.org")]),
        ("a..b.@docomo.ne.jp", [("", "a..b.@docomo.ne.jp")]),
        # Commas that nobody quoted.
        ("Doe, Jane <j@x.org>", [("Doe, Jane", "j@x.org")]),
        ("Doe, Jane, Dr. <j@x.org>", [("Doe, Jane, Dr.", "j@x.org")]),
        ("a@x.org, Doe, Jane <j@x.org>", [("", "a@x.org"), ("Doe, Jane", "j@x.org")]),
        ("Doe, J <j@x.org>, Roe, R <r@x.org>", [("Doe, J", "j@x.org"), ("Roe, R", "r@x.org")]),
        ('"Doe", Jane <j@x.org>', [("Doe, Jane", "j@x.org")]),
        ("root, a@x.org", [("", "a@x.org")]),
        # At signs that nobody quoted.
        ("shop@x.org <noreply@y.org>", [("shop@x.org", "noreply@y.org")]),
        ("Team @ Werk <t@x.org>", [("Team @ Werk", "t@x.org")]),
        ("boss@corp.example via List <l@x.org>", [("boss@corp.example via List", "l@x.org")]),
        ("<l@x.org> boss@corp.example", [("boss@corp.example", "l@x.org")]),
        ("boss@corp.example <>", []),
        ("boss@corp.example<l@x.org>", [("boss@corp.example", "l@x.org")]),
        ("'boss@corp.example' <l@x.org>", [("'boss@corp.example'", "l@x.org")]),
        ('"boss@corp.example" <l@x.org>', [("boss@corp.example", "l@x.org")]),
        ('"boss@corp.example" l@x.org', [("boss@corp.example", "l@x.org")]),
        ('"boss@corp.example"', []),
        # Colons and square brackets in names.
        ("Support: Level 2 [Queue] <s@x.org>", [("Support: Level 2 [Queue]", "s@x.org")]),
        ("Re: offer <s@x.org>", [("Re: offer", "s@x.org")]),
        ("[EXT] Anna <a@x.org>", [("[EXT] Anna", "a@x.org")]),
        ("Anna [a@y.org] <a@x.org>", [("Anna [a@y.org]", "a@x.org")]),
        ("12:30 Club <c@x.org>", [("12:30 Club", "c@x.org")]),
        # Quotes, brackets and parentheses without the other one.
        ('"Werk Nord <n@x.org>', [("Werk Nord", "n@x.org")]),
        ('Werk" Nord <n@x.org>', [("Werk Nord", "n@x.org")]),
        ('"A" <a@x.org>, "B <b@x.org>', [("A", "a@x.org"), ("B", "b@x.org")]),
        ("Anna (Sales <a@x.org>", [("Anna Sales", "a@x.org")]),
        ("Anna <a@x.org, Bob <b@x.org>", [("Anna", "a@x.org"), ("Bob", "b@x.org")]),
        ("Anna <a@x.org", [("Anna", "a@x.org")]),
        ("<<a@x.org>>", [("", "a@x.org")]),
        ("Anna a@x.org>", [("Anna", "a@x.org")]),
        ("a@x>.org", [(".org", "a@x")]),
        ("a@x(.org", [(".org", "a@x")]),
        # Other separators.
        ("a@x.org; b@x.org", [("", "a@x.org"), ("", "b@x.org")]),
        ("A <a@x.org>; B <b@x.org>;", [("A", "a@x.org"), ("B", "b@x.org")]),
        ("a@x.org b@x.org", [("", "a@x.org"), ("", "b@x.org")]),
        ("A <a@x.org> B <b@x.org>", [("A", "a@x.org"), ("B", "b@x.org")]),
        ("a@x.org;b@x.org,c@x.org", [("", "a@x.org"), ("", "b@x.org"), ("", "c@x.org")]),
        ("a@x.org\r\n b@x.org", [("", "a@x.org"), ("", "b@x.org")]),
        # A list in one pair of brackets.
        ("<a@x.org, b@x.org>", [("", "a@x.org"), ("", "b@x.org")]),
        ("<a@x.org;b@x.org;>", [("", "a@x.org"), ("", "b@x.org")]),
        ("A <a@x.org, b@x.org>, c@x.org", [("A", "a@x.org"), ("", "b@x.org"), ("", "c@x.org")]),
        ("A <a@x.org,>", [("A", "a@x.org")]),
        ("<a@x.org, b>", []),
        ("<a@x.org, b@x.org c@x.org>", []),
        ('<"a, b"@x.org>', [("", '"a, b"@x.org')]),
        # Brackets missing.
        ("Anna a@x.org", [("Anna", "a@x.org")]),
        ("Anna Example a@x.org, b@x.org", [("Anna Example", "a@x.org"), ("", "b@x.org")]),
        ('"Anna" a@x.org', [("Anna", "a@x.org")]),
        ("=?utf-8?Q?J=C3=B6rg?= j@x.org", [("Jörg", "j@x.org")]),
        ("a@x.org Anna", [("Anna", "a@x.org")]),
        ("<mailto:a@x.org>", [("", "a@x.org")]),
        # Encoded words are names, whatever they decode to.
        ("=?ISO-8859-1?Q?M=FCller=2C_Eva?= <e@x.org>", [("Müller, Eva", "e@x.org")]),
        ("=?utf-8?Q?M=C3=BCller,_Eva?= <e@x.org>", [("Müller, Eva", "e@x.org")]),
        ('"=?utf-8?Q?J=C3=B6rg?=" <j@x.org>', [("Jörg", "j@x.org")]),
        ("=?utf-8?Q?J=C3=B6?= =?utf-8?Q?rg?= K <j@x.org>", [("Jörg K", "j@x.org")]),
        ("=?utf-8?Q?J=C3=B6rg?=<j@x.org>", [("Jörg", "j@x.org")]),
        ("=?utf-8?Q?boss=40corp.example=2C?= <m@x.org>", [("boss@corp.example,", "m@x.org")]),
        ("=?utf-8?Q?x <boss@corp.example>, ?= <m@x.org>", [("x <boss@corp.example>,", "m@x.org")]),
        ("=?utf-8?B?Ym9zc0Bjb3JwLmV4YW1wbGU=?= <m@x.org>", [("boss@corp.example", "m@x.org")]),
        ("=?utf-8?Q?Anna_=3Ca=40x=2Eorg=3E?=", []),
        ("=?utf-8?Q?a=40x=2Eorg?=", []),
        ("Anna <=?utf-8?Q?a?=@x.org>", []),
        # Raw octets (RFC 6532).
        ("Jörg <jörg@exämple.org>", [("Jörg", "jörg@exämple.org")]),
        ("日本 <a@x.org>", [("日本", "a@x.org")]),
        # No address.
        ("Scanner Flur 2", []),
        ("<>", []),
        ("", []),
        ("<a b@x.org>", []),
        ("<boss@corp.example@evil.example>", []),
        ("a@", []),
        ("@x.org", []),
    ],
)  # fmt: skip
def test_addresses(sent: str, read: list[tuple[str, str]]) -> None:
    assert pairs(sent) == read


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        ("Doe, Jane <j@x.org>", FindingKind.UNQUOTED_NAME),
        ("shop@x.org <noreply@y.org>", FindingKind.UNQUOTED_NAME),
        ("Support: L2 <s@x.org>", FindingKind.UNQUOTED_NAME),
        ('"shop@x.org" <noreply@y.org>', FindingKind.ADDRESS_IN_NAME),
        ("=?utf-8?Q?boss=40corp.example?= <m@x.org>", FindingKind.ADDRESS_IN_NAME),
        ('"Werk Nord <n@x.org>', FindingKind.UNBALANCED_DELIMITER),
        ("Anna (x <n@x.org>", FindingKind.UNBALANCED_DELIMITER),
        ("a@x.org; b@x.org", FindingKind.ODD_SEPARATOR),
        ("a@x.org <b@x.org> <c@x.org>", FindingKind.ODD_SEPARATOR),
        ("<a@x.org, b@x.org>", FindingKind.ODD_SEPARATOR),
        ("Anna a@x.org", FindingKind.MISSING_BRACKETS),
        ("=?utf-8?Q?a=40x=2Eorg?=", FindingKind.WORD_FOR_ADDRESS),
        ("=?utf-8?Q?x <b@x.org>, ?= <m@x.org>", FindingKind.SPECIALS_IN_WORD),
        ("Scanner Flur 2", FindingKind.NAME_WITHOUT_ADDRESS),
        ("<a@b@x.org>", FindingKind.MALFORMED_ADDRESS),
        ("[EXT] Anna <a@x.org>", FindingKind.UNQUOTED_NAME),
        ("a @ x.org", FindingKind.OBSOLETE_ADDRESS),
        ("Anna <a@x.org (work)>", FindingKind.OBSOLETE_ADDRESS),
        ("a..b.@docomo.ne.jp", FindingKind.OBSOLETE_ADDRESS),
        ("a@x..org", FindingKind.OBSOLETE_ADDRESS),
        ("Anna <a@x.org.>", FindingKind.OBSOLETE_ADDRESS),
        ("<@a.org:c@d.org>", FindingKind.SOURCE_ROUTE),
        (", ".join(["a@x.org"] * 101), FindingKind.TOO_MANY_ADDRESSES),
    ],
)
def test_what_others_may_read_differently_is_said(sent: str, kind: FindingKind) -> None:
    assert kind in kinds(sent)
    assert kind in AMBIGUOUS or kind is FindingKind.ADDRESS_IN_NAME


@pytest.mark.parametrize(
    ("codec", "hint", "name"),
    [
        ("iso2022_jp", "", "株式会社山田"),
        ("iso2022_jp", "iso-2022-jp", "山田太郎"),
        ("iso2022_jp", "utf-8", "阿部、「商社」"),
        ("iso2022_jp_ext", "", "ｱﾍﾞ 日本"),
        ("cp932", "shift_jis", "表示能力ソァ"),
        ("cp950", "big5", "功能許蓋"),
        ("gbk", "gb2312", "丂乗俓"),
        ("cp949", "ks_c_5601-1987", "똠햏"),
    ],
)
@pytest.mark.parametrize(
    "form", [b"%b <y@x.org>", b'"%b" <y@x.org>', b"y@x.org (%b)", b"y@x.org %b", b"%b y@x.org"]
)
def test_octets_of_characters_are_no_delimiters(
    form: bytes, codec: str, hint: str, name: str
) -> None:
    sent = form % name.encode(codec)
    read = read_addresses(sent + b", b@x.org", hint)
    assert read.addresses == ((name, "y@x.org"), ("", "b@x.org"))
    assert FindingKind.CHARSET_MISMATCH in {one.kind for one in read.findings}


@pytest.mark.parametrize(
    "sent",
    [b"\x1b$B<<<\x1b(B <a@x>", b"\x1b$B <a@x>", b"\x1b$B<\x1b(B<a@x>", b"\x1b(I<\x1b$B <a@x>"],
)
def test_what_is_no_japanese_stays(sent: bytes) -> None:
    assert "a@x" in {one.address for one in read_addresses(sent).addresses}


@pytest.mark.parametrize(
    "sent",
    [
        "a@x.org", "Anna <a@x.org>", '"Doe, Jane" <j@x.org>', "=?utf-8?Q?J=C3=B6rg?= <j@x.org>",
        "a@x.org (Anna)", "Team: a@x.org;", '"a@x.org" <a@x.org>', "a@x.org, b@x.org,",
    ],
)  # fmt: skip
def test_what_is_plain_has_no_findings(sent: str) -> None:
    assert kinds(sent) == set()


def test_a_long_list_is_read_to_a_bound() -> None:
    sent = ", ".join(f"a{number}@x.org" for number in range(50_000)).encode()
    read = read_addresses(sent)
    assert len(read.addresses) == ADDRESS_LIMIT
    assert read.addresses[99].address == "a99@x.org"


@pytest.mark.parametrize(
    "sent", ["<a@x> " * 300, "<a@x>, " * 99 + "<a@x, b@x>", "<a@x" + ",a@x" * 99 + "> <b@x>"]
)
def test_a_list_without_commas_is_read_to_the_same_bound(sent: str) -> None:
    read = read_addresses(sent.encode())
    assert len(read.addresses) == ADDRESS_LIMIT
    assert FindingKind.TOO_MANY_ADDRESSES in {one.kind for one in read.findings}


def test_no_address_is_cut() -> None:
    """Half an address is somebody else's."""
    assert pairs("a@x" + "y" * 320 + ".org") == []
    assert pairs(f"{'N ' * 40_000}, a@x.example.org") == []
    assert pairs(f"A <a@x.org>, ({'c' * (VALUE_LIMIT - 22)}) b@example.org, c@x.org") == [
        ("A", "a@x.org")
    ]


@pytest.mark.parametrize(
    "unit",
    [
        b"(", b")", b"((", b"(()", b'"', b'"\\', b"<", b">", b"<<", b'<"', b'<"<"', b"<(", b"<(a",
        b",", b";", b":", b"a:", b"a:;", b"@", b"a@x,", b"=?", b"=?a?q?", b"=?a?q? ", b"=?a?q?x?= ",
        b"a ", b"\\", b"a, ", b"a@[", b"@[1]", b"<@a,", b"<a@x>", b"\xff", b"\0", b" \r\n", b"a@x ",
        b'"a"@', b".", b"\x1b$B", b"\x1b(I", b"\x1b$B<<", b"\x83\\",
    ],
)  # fmt: skip
def test_the_work_grows_no_faster_than_the_value(unit: bytes) -> None:
    for start in (b"", b'"', b"<"):
        sent = start + unit * (VALUE_LIMIT // len(unit))
        with within_a_second():
            read_addresses(sent, "shift_jis")


@pytest.mark.parametrize("length", [40, 300, 1900])
@pytest.mark.parametrize("unit", [b".", b"..", b"a.", b'"a".', b"a", b'"."', b".@", b"\xff."])
@pytest.mark.parametrize("ends", [b"<%b>", b"<%b\x18@x>", b"%b\x18", b"<a@%b\x18>", b'<%b"@x>'])
def test_dots_in_an_address_take_no_longer(length: int, unit: bytes, ends: bytes) -> None:
    with within_a_second():
        read_addresses(ends % (unit * (length // len(unit))))


@pytest.mark.parametrize("sent", ["<a{}b@x>", "a@{}b", "a{}@b", "<a@x{}>", "{}a@x, b@x"])
@pytest.mark.parametrize("fill", [" ", "(", "()", ". ", "\t\r\n "])
def test_a_long_stretch_inside_an_address_takes_no_longer(sent: str, fill: str) -> None:
    value = sent.format(fill * ((VALUE_LIMIT - 20) // len(fill))).encode()
    with within_a_second():
        read_addresses(value)


_PIECES = ["a@x.org", "<", ">", "(", ")", '"', ",", ";", ":", " ", "\\", "Anna", "@", "[", "]", "."]
_MORE = [
    "=?utf-8?Q?boss=40corp.example?=",
    "boss@corp.example",
    "ü",
    "\r\n ",
    "=?",
    "?=",
    "mailto:",
]


@given(st.lists(st.sampled_from(_PIECES + _MORE), max_size=30))
def test_an_address_is_always_a_word_of_the_field(pieces: list[str]) -> None:
    sent = "".join(pieces)
    for one in read_addresses(sent.encode()).addresses:
        bare = "".join(one.address.replace('"', "").split())
        squeezed = "".join(sent.replace('"', "").split())
        assert "@" in one.address and (bare in squeezed or "(" in sent), one
        assert not any(char in one.name for char in "\r\n")


@given(st.sampled_from(["{}", '"{}"', "=?utf-8?Q?{}?="]), st.text("ab <>,@.;:()", max_size=20))
def test_the_text_of_a_display_name_is_never_the_address(form: str, text: str) -> None:
    """Whatever stands in a name that is quoted or encoded, the one address is the bracketed one."""
    if form == "{}":
        text = "".join(char for char in text if char not in "<>,;:()")
    elif form.startswith("="):
        text = "".join(f"={ord(char):02X}" for char in text)
    read = read_addresses(f"{form.format(text)} <m@evil.example>".encode())
    assert [one.address for one in read.addresses] == ["m@evil.example"]


@given(st.binary(max_size=300))
def test_no_octets_raise(octets: bytes) -> None:
    for start in (b"", b"Anna <", b'"', b"a@x.org, (", b"=?utf-8?q?"):
        for one in read_addresses(start + octets, "shift_jis").addresses:
            one.name.encode("utf-8")
            one.address.encode("utf-8")
            assert "@" in one.address and "\0" not in one.name + one.address
