"""The header fields that people search by, however a sender wrote them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.headers import header_block, header_digest, read_headers


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
    assert header_block(b"A: 1\r\nB: 2\r\n\r\nC: 3\r\n") == b"A: 1\r\nB: 2"
    assert header_block(b"A: 1\n\nbody") == b"A: 1"
    assert header_block(b"\r\nbody") == b""


def test_line_ends_do_not_change_the_digest() -> None:
    assert header_digest(b"A: 1\r\nB: 2") == header_digest(b"A: 1\nB: 2\n")
    assert header_digest(b"A: 1\r\nB: 2") != header_digest(b"A: 1\r\nB: 3")


@given(st.binary(max_size=2000))
def test_no_octets_raise(octets: bytes) -> None:
    for start in (b"", b"From: ", b"Subject: =?utf-8?b?", b"Date: ", b"To: "):
        headers = read_headers(header_block(start + octets))
        for text in (headers.subject, headers.sender, *headers.to, headers.message_id):
            text.encode("utf-8")
            assert "\x00" not in text
