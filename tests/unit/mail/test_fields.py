"""Header fields: their names, values and places, and what others may read differently."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.mail.fields import (
    HEADER_LIMIT,
    KnownNames,
    Names,
    _findings,
    plain_fields,
    read_fields,
    split_header,
    unfold,
)
from shared.mail.findings import FindingKind
from shared.mail.region import region


def kinds(block: bytes) -> list[str]:
    return [str(one.kind) for one in read_fields(block).findings]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_fields_have_names_values_and_places(end: bytes) -> None:
    block = b"From: a@x" + end + b"SUBJECT:one" + end + b"\ttwo" + end + b"X-Empty:" + end
    read = read_fields(block)
    assert [one.name for one in read.fields] == ["from", "subject", "x-empty"]
    assert b"".join(block[one.start : one.end] for one in read.fields) == block
    assert read.value("subject") == b"one\ttwo"
    subject = read.first("subject")
    assert subject is not None and subject.value == b"one" + end + b"\ttwo"
    assert read.first("to") is None and read.value("to") == b""
    assert read.findings == ()


@pytest.mark.parametrize(
    ("whole", "header", "body"),
    [
        (b"A: b\r\n\r\nbody", b"A: b\r\n", b"body"),
        (b"A: b\n\nbody\r\n\r\nmore", b"A: b\n", b"body\r\n\r\nmore"),
        (b"A: b\n\r\nbody\n\n", b"A: b\n", b"body\n\n"),
        (b"A: b\r\n\nbody", b"A: b\r\n", b"body"),
        (b"\r\nbody", b"", b"body"),
        (b"\nbody", b"", b"body"),
        (b"A: b", b"A: b", b""),
        (b"A: b\r\r\n\r\nbody", b"A: b\r\r\n", b"body"),
        (b"", b"", b""),
    ],
)
def test_the_first_empty_line_ends_the_header(whole: bytes, header: bytes, body: bytes) -> None:
    block, start = split_header(region(whole))
    assert (block.octets, whole[start:]) == (header, body)
    assert read_fields(whole).octets == header


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        (b"Subject: x\rFrom: b@y\r\nFrom: a@x\r\n", FindingKind.BARE_CR),
        (b"From: a@x\r\r\n", FindingKind.BARE_CR),
        (b"From: a@x\0\r\n", FindingKind.NUL),
        (b"From: a@x\x0b\r\n", FindingKind.CONTROL_CHARACTER),
        (b"From: a@x\x0cFrom: b@y\r\n", FindingKind.CONTROL_CHARACTER),
        (b"From: a@x\r\nfrom: b@y\r\n", FindingKind.DUPLICATE_FROM),
        (b"Content-Type: a/b\nCONTENT-TYPE: c/d\n", FindingKind.DUPLICATE_CONTENT_TYPE),
        (b"Subject: a\r\nSubject: b\r\n", FindingKind.DUPLICATE_FIELD),
        (b"From: a@x\r\nno field\r\n", FindingKind.MALFORMED_FIELD),
        (b"From a@x Sat Nov 28\r\nFrom: a@x\r\n", FindingKind.MALFORMED_FIELD),
        (b" folded: at the start\r\nFrom: a@x\r\n", FindingKind.MALFORMED_FIELD),
        ("Frоm: a@x\r\n".encode(), FindingKind.MALFORMED_FIELD),
        (b": no name\r\n", FindingKind.MALFORMED_FIELD),
        (b"From : a@x\r\n", FindingKind.SPACE_BEFORE_COLON),
        (b"From: a@x\r\n \r\nTo: b@y\r\n", FindingKind.BLANK_FOLDED_LINE),
        (b"From: a@x\r\n\t", FindingKind.BLANK_FOLDED_LINE),
        (b"X: y\r\n" * (HEADER_LIMIT // 6 + 1), FindingKind.HEADER_TOO_LONG),
    ],
)
def test_what_others_read_differently_is_found(block: bytes, kind: FindingKind) -> None:
    assert kind in kinds(block)


def test_fields_that_may_repeat_are_no_finding() -> None:
    assert kinds(b"Received: a\r\nReceived: b\r\nX-A: \xff\r\nComments: c\r\nComments: d\r\n") == []


def test_a_bare_cr_ends_no_line_here() -> None:
    read = read_fields(b"Subject: x\rFrom: evil@x\r\nFrom: a@x\r\n")
    assert [one.value for one in read.all("from")] == [b" a@x"]


def test_no_header_takes_the_square_of_its_length() -> None:
    blocks = [
        b"a" * HEADER_LIMIT,
        b"\n " * (HEADER_LIMIT // 2),
        b"a:\r" * (HEADER_LIMIT // 3),
        b"a" + b" " * (HEADER_LIMIT - 1),
        b"a\n" * (HEADER_LIMIT // 2),
        b"\n" + b" " * (HEADER_LIMIT - 1),
    ]
    for block in blocks:
        assert read_fields(b"X: y\n" + block).findings is not None


PIECES = st.sampled_from(
    [b"From", b"from", b"To", b"Subject", b"Content-Type", b"CONTENT-X", b"content-",
     b"Mime-Version", b"MIME-Version-2", b"X-From", b"Received", b":", b" :", b"\t:", b" ", b"\t",
     b"a@x", b"\r\n", b"\n", b"\r", b"\r\n ", b"\n\t", b"\0", b"\x01", b"\x80", b"\xff"]
)  # fmt: skip
BLOCKS = st.lists(PIECES | st.binary(max_size=3), max_size=60).map(b"".join)
WANTED = Names("content-", "mime-version", "from", "subject")


@given(BLOCKS)
@example(b" From: a@x\r\nFrom: b@x")
@example(b"From: a@x\r")
def test_fields_that_are_selected_are_those_among_all(block: bytes) -> None:
    read = read_fields(block)
    wanted = [
        one
        for one in read.fields
        if one.name in ("mime-version", "from", "subject") or one.name.startswith("content-")
    ]
    assert list(read.select(WANTED)) == wanted


ASKED = ("from", "subject", "content-type")


@pytest.mark.parametrize("names", [KnownNames(ASKED), KnownNames(ASKED, among=WANTED)])
@given(BLOCKS)
@example(b"From : a@x\r\nfrom: b@x\nContent-Type: a/b\r\n c\r\n")
@example(b"From: a@x\r")
def test_values_are_those_of_the_fields(names: KnownNames, block: bytes) -> None:
    said = read_fields(block).values(names)
    for name in ASKED:
        assert list(said.get(name, ())) == [one.value for one in read_fields(block).all(name)]
    ordered = [one for one in read_fields(block).in_order(names) if one[0] in ASKED]
    fields = read_fields(block).fields
    assert ordered == [(one.name, one.value) for one in fields if one.name in ASKED]


@given(BLOCKS)
@example(b" From: a@x\r\nFrom : b@x\r\n")
@example(b"From: a@x\r\nFROM: b@x\r\n")
@example(b"Subject: a\r\n \r\n b\r\n")
@example(b"Subject: a\r\nno field\r\n")
@example(b"Subject: a\r")
def test_a_block_that_is_plain_has_no_finding(block: bytes) -> None:
    read = read_fields(block)
    if plain_fields(read.octets) is not None:
        assert _findings(read, too_long=False) == []


def test_an_ordinary_block_is_plain() -> None:
    block = b"Received: a\r\n\tb\r\nReceived: c\r\nFrom: a@x\r\nSubject: b\r\n"
    assert plain_fields(block) == {"from": b" a@x\r", "subject": b" b\r"}


@given(BLOCKS)
@example(b"Subject: a\r\n \r\n\tb\n\tc\n d\r \r\r\n e\r\n")
@example(b"Subject:\n\t\r\n \r\n")
@example(b"Subject: a\r\n \n \n\t\r\n b\n")
def test_a_line_end_before_white_space_is_none_of_a_value(block: bytes) -> None:
    """RFC 5322 section 2.2.3."""
    for one in read_fields(block).fields:
        told = re.sub(rb"\r?\n(?=[ \t])", b"", one.value).strip(b" \t\r\n")
        assert unfold(one.value) == told
