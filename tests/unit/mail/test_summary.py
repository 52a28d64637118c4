"""The header fields that people search by, however a sender wrote them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.fields import HEADER_LIMIT, HeaderBlock, plain_fields, read_fields
from shared.mail.findings import FindingKind
from shared.mail.message_ids import read_message_ids
from shared.mail.summary import (
    MailHeaders,
    findings_from_json,
    findings_to_json,
    header_digest,
    header_octets,
    is_telling,
    of_any,
    read_headers,
    summarise,
)
from tests.rig.time_bound import within_a_second

MAILS = sorted(
    path
    for folder in (
        Path(__file__).parents[2] / "data",
        Path(__file__).parents[1] / "smime" / "cases",
    )
    for path in folder.rglob("*.eml")
)
_PIECES = (
    b"", b"\r", b"\n", b"\r\n", b"\r\n ", b"\n\t", b"\r\n \r\n", b" ", b"\0", b"\x1b$B", b"\x7f",
    b":", b" :", b"=?", b"=?utf-8?q?a?=", b"=?utf-8?b?!?=", b'"', b"<", b">", b"@", b"(", b",",
    b";", b"\xfc", "ü".encode(), b"b@x", b"From: ", b"To: a@x, B <b@x>\r\n", b"Cc: c@x\n", b"cc:",
    b"Subject:", b"DATE: Mon, 01 Jun 2026 12:30:05 +0200\r\n", b"+9999", b"24", b"X-A: 1\n",
    b"Message-ID: <1@x>\r\n", b"Content-Type: text/plain\r\n",
)  # fmt: skip
_BLOCK = (
    b"From: Anna Maier <a@x.example>\r\nTo: b@x, C <c@x>\r\nSubject: Hello\r\n there\r\n"
    b"Date: Mon, 01 Jun 2026 12:30:05 +0200\r\nMessage-ID: <1@x>\r\n"
    b"Received: one\r\nReceived: two\r\n"
)


def _agree(block: HeaderBlock) -> None:
    again = HeaderBlock(block.octets, too_long=block.is_too_long, charset_hint=block.charset_hint)
    assert summarise(block) == of_any(again)


@pytest.mark.promise("H3")
@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"a@example.org", ("a@example.org",)),
        (b"<a@example.org>", ("a@example.org",)),
        (b"Anna <a@example.org>, b@example.org", ("a@example.org", "b@example.org")),
        (b'"Last, First" <a@example.org>', ("a@example.org",)),
        (b"a@example.org (a comment), Team: b@example.org;", ("a@example.org", "b@example.org")),
        (
            b"=?utf-8?q?J=C3=B6rg?= <j@example.org>,\r\n\tb@example.org",
            ("j@example.org", "b@example.org"),
        ),
        (b"undisclosed-recipients:;", ()),
    ],
)
def test_addresses(written: bytes, read: tuple[str, ...]) -> None:
    assert read_headers(b"To: " + written + b"\r\n").to == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"Mon, 01 Jun 2026 12:30:05 +0200", datetime(2026, 6, 1, 10, 30, 5, tzinfo=UTC)),
        (b"1 Jun 2026 10:30:05 -0130 (CET)", datetime(2026, 6, 1, 12, 0, 5, tzinfo=UTC)),
        (b"Mon, 1 Jun 26 10:30 GMT", datetime(2026, 6, 1, 10, 30, tzinfo=UTC)),
        (b"Mon, 31 Feb 2026 10:30:05 +0000", None),
        (b"yesterday", None),
        (b"01 Jun 9999 23:59:59 -9959", None),
    ],
)
def test_dates(written: bytes, read: datetime | None) -> None:
    assert read_headers(b"Date: " + written + b"\r\n").date == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"plain", "plain"),
        (b"=?iso-8859-1?q?Gr=FC=DFe?= aus =?utf-8?b?S8O2bG4=?=", "Grüße aus Köln"),
        ("Grüße".encode(), "Grüße"),
        ("Grüße".encode("latin-1"), "Grüße"),
        (b"folded\r\n over\r\n\tlines", "folded over lines"),
        (b"=?no-such-charset?q?abc?=", "abc"),
        (b"nul\x00 and bell\x07", "nul  and bell"),
    ],
)
def test_subjects(written: bytes, read: str) -> None:
    assert read_headers(b"Subject: " + written + b"\r\n").subject == read


def test_the_first_of_each_field_counts() -> None:
    block = b"Subject: first\r\nsubject: second\r\nMessage-Id: <1@x>\r\nMESSAGE-ID: <2@x>\r\n"
    headers = read_headers(block)
    assert (headers.subject, headers.message_id) == ("first", "<1@x>")


def test_the_block_ends_at_the_empty_line() -> None:
    assert header_octets(b"A: 1\r\nB: 2\r\n\r\nC: 3\r\n") == b"A: 1\r\nB: 2\r\n"
    assert header_octets(b"A: 1\n\nbody") == b"A: 1\n"
    assert header_octets(b"\r\nbody") == b""


def test_line_ends_do_not_change_the_digest() -> None:
    assert header_digest(b"A: 1\r\nB: 2") == header_digest(b"A: 1\nB: 2\n")
    assert header_digest(b"A: 1\r\nB: 2") != header_digest(b"A: 1\r\nB: 3")


@pytest.mark.promise("I9")
@pytest.mark.parametrize(
    "kept",
    [
        # As mailutils 3.15 and c-client write them, in whatever place.
        b"A: 1\r\nB: 2\r\nX-IMAPbase:           1795975146                    4\r\nX-UID: 1\r\n"
        b"Status: DOR\r\n\r\n",
        b"X-IMAP: 1795975146 0000000004\nStatus: RO\nX-Status: A\nX-Keywords: one\n two\n"
        b"A: 1\nB: 2\n",
        b"A: 1\nX-UIDL: 0011223344\nB: 2\n",
        b"A: 1\nB: 2\nX-Keywords:",
    ],
)
def test_a_mail_is_known_again_whatever_its_server_notes_in_it(kept: bytes) -> None:
    assert header_digest(kept) == header_digest(b"A: 1\r\nB: 2\r\n")


def test_fields_of_the_sender_tell_mails_apart_whatever_they_are_called() -> None:
    plain = header_digest(b"A: 1\r\nB: 2\r\n")
    for field in (b"X-Status-Code: 1", b"Old-Status: x", b" Status: folded", b"X-UIDs: 7"):
        assert header_digest(b"A: 1\r\nB: 2\r\n" + field + b"\r\n") != plain


@pytest.mark.parametrize(
    ("block", "telling"),
    [
        (b"From: alarm@plant.example\r\nSubject: Alarm\r\n", False),
        (b"", False),
        (b"Message-ID: \r\nReceived:\r\n \r\nDate:\r\n", False),
        (b"Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n", False),
        (b"Subject: a\r\nmessage-id:\r\n <1@x>\r\n", True),
        (b"Received: from plant by mx\n", True),
        (b"X-Received: by mx\r\nSubject: Date: today\r\n", False),
    ],
)
def test_what_a_device_writes_into_all_of_its_mails_tells_none(block: bytes, telling: bool) -> None:
    assert is_telling(block) is telling


@given(st.binary(max_size=2000))
def test_no_octets_raise(octets: bytes) -> None:
    for start in (b"", b"From: ", b"Subject: =?utf-8?b?", b"Date: ", b"To: "):
        headers = read_headers(header_octets(start + octets))
        for text in (headers.subject, headers.sender, *headers.to, headers.message_id):
            text.encode("utf-8")
            assert "\x00" not in text


@pytest.mark.parametrize(
    ("block", "sender", "name"),
    [
        (b"Subject: x\r\n", "", ""),
        (b"Reply-To: antwort@example.org\r\nReturn-Path: <b@example.org>\r\n", "", ""),
        (b"From: \r\nSender: s@example.org\r\n", "", ""),
        (b"From: Scanner Flur 2\r\n", "", "Scanner Flur 2"),
        (b"From: <>\r\n", "", ""),
        (b"From: =?utf-8?Q?boss=40corp=2Eexample?=\r\n", "", "boss@corp.example"),
        (b'From: "boss@corp.example"\r\n', "", "boss@corp.example"),
        (b"From: MAILER-DAEMON\r\n", "", "MAILER-DAEMON"),
    ],
)
def test_a_mail_without_an_author_has_none(block: bytes, sender: str, name: str) -> None:
    read = read_headers(block)
    assert (read.sender, read.sender_name) == (sender, name)
    assert FindingKind.MISSING_AUTHOR in {one.kind for one in read.findings}


@pytest.mark.parametrize(
    ("block", "kinds"),
    [
        (b"From: eins@x\r\nFrom: zwei@x\r\n", {FindingKind.DUPLICATE_FROM}),
        (b"From: a@x\r\nSubject: 1\r\nSubject: 2\r\n", {FindingKind.DUPLICATE_FIELD}),
        (
            b"From: a@x\rFrom: b@x\r\n",
            {
                FindingKind.BARE_CR,
                FindingKind.SEVERAL_AUTHORS,
                FindingKind.UNQUOTED_NAME,
                FindingKind.ODD_SEPARATOR,
            },
        ),
        (b"From: a@x, b@x\r\n", {FindingKind.SEVERAL_AUTHORS}),
        (b"From: a@x\r\nno field\r\n", {FindingKind.MALFORMED_FIELD}),
        (
            b"From: a@x\r\nTo: shop@y <b@x>\r\n",
            {FindingKind.UNQUOTED_NAME, FindingKind.ADDRESS_IN_NAME},
        ),
        (b"From: a@x\r\nDate: yesterday\r\n", {FindingKind.UNREADABLE_DATE}),
        (b"From: a@x\r\nSubject: =?utf-8?B?!?=\r\n", {FindingKind.MALFORMED_WORD}),
        (b"From: a@x\r\n" + b"X: y\r\n" * 50_000, {FindingKind.HEADER_TOO_LONG}),
    ],
)
def test_what_was_ambiguous_is_said(block: bytes, kinds: set[FindingKind]) -> None:
    read = read_headers(block)
    assert {one.kind for one in read.findings} == kinds
    assert findings_from_json(findings_to_json(read.findings)) == read.findings


def test_an_id_is_no_longer_than_an_index_takes() -> None:
    for wide in ("日", "ö", "a", "𝄞"):
        mail = f"Message-ID: <{wide * 3000}@x>\r\n\r\n".encode()
        assert 990 < len(read_headers(mail).message_id.encode()) <= 998
        assert read_message_ids(f"<{wide * 240}@x>".encode()) == (f"<{wide * 240}@x>",)
        assert read_message_ids(f"<{wide * 1000}@x>".encode()) == ()
    # Nor is it looked for from each of the letters of a word.
    assert read_message_ids(b"x" * 600 + b"@b c@d, e@f") == ("<c@d>", "<e@f>")


def test_names_stand_beside_their_addresses() -> None:
    read = read_headers(
        b"From: Anna <a@x>\r\nTo: B <b@x>, c@x\r\nTo: =?utf-8?Q?D=C3=B6?= <d@x>\r\nCc: e@x\r\n"
    )
    assert (read.sender_name, read.sender) == ("Anna", "a@x")
    assert dict(zip(read.to, read.to_names, strict=True)) == {"b@x": "B", "c@x": "", "d@x": "Dö"}
    assert (read.cc, read.cc_names) == (("e@x",), ("",))
    assert MailHeaders.from_json(read.to_json(), read) == read


def test_raw_octets_are_those_of_the_body() -> None:
    block = b"Subject: \xcf\xf0\r\nContent-Type: text/plain; charset=windows-1251\r\n"
    assert read_headers(block).subject == "Пр"


@pytest.mark.parametrize(
    "line",
    [
        *(b"From: a@x\r\n", b"To: a@x, b@x\r\n", b"X\r\n", b":\r\n", b"\r", b" \n"),
        b"Subject: =?\r\n",
        # Beginnings of words that have no end, as many as a field may have.
        *(b"To: " + b"=?a?q?x" * 4000 + end for end in (b"\r\n", b"?=\r\n")),
    ],
    ids=lambda line: repr(line[:12]),
)
def test_the_work_grows_no_faster_than_the_header(line: bytes) -> None:
    with within_a_second():
        read = read_headers(line * (HEADER_LIMIT // len(line)))
    assert len(read.findings) <= 50


def test_what_nearly_all_mails_say_is_read_the_short_way() -> None:
    assert plain_fields(_BLOCK) is not None
    read = read_headers(_BLOCK)
    assert (read.sender, read.sender_name, read.subject) == (
        "a@x.example", "Anna Maier", "Hello there",
    )  # fmt: skip
    assert read == of_any(read_fields(_BLOCK))


@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.name)
def test_the_short_way_and_the_long_one_agree_on_every_mail(path: Path) -> None:
    _agree(read_fields(path.read_bytes()))


@settings(deadline=None, max_examples=600)
@given(
    start=st.sampled_from([_BLOCK, *(path.read_bytes()[:4000] for path in MAILS)]),
    random=st.randoms(use_true_random=False),
)
def test_the_short_way_and_the_long_one_agree_on_mutilated_mails(
    start: bytes, random: Random
) -> None:
    mail = bytearray(read_fields(start).octets)
    for _ in range(random.randrange(1, 5)):
        at = random.randrange(len(mail) + 1)
        mail[at : at + random.randrange(3)] = random.choice(_PIECES)
    _agree(read_fields(bytes(mail)))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([*_PIECES, *_BLOCK.splitlines(keepends=True)]), max_size=12))
def test_the_short_way_and_the_long_one_agree_on_what_is_put_together(pieces: list[bytes]) -> None:
    _agree(read_fields(b"".join(pieces)))
