"""Header fields that leave nothing open mean here what they mean to other readers.

`HEADER_EXAMPLES=20000` in the environment makes it a long run. Where readers differ, either the
field carries a finding, or the reason stands in this file:

- postal-mime shows one author, the first.
- Quotes around a local part that needs none, or that others leave out, are compared without.
- Python's `email` shows undecoded octets in an address that is not ASCII, and none of a From with
  two groups; neither is generated.
- White space between two words of a name is one space or several.
- GMime ends the text of neighbouring words at the first padding of their base64.
- mailparser gives the time of its own run for a date that it cannot read.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.mail.findings import FindingKind
from shared.mail.summary import MailHeaders, read_headers
from tests.rig.ambiguous_addresses import AMBIGUOUS
from tests.servers.readers import ForeignReaders, Seen

pytestmark = pytest.mark.promise("F1")
QUICK = settings(
    deadline=None,
    max_examples=int(os.environ.get("HEADER_EXAMPLES", "150")),
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def readers() -> Iterator[ForeignReaders]:
    with ForeignReaders() as started:
        yield started


def mail(field: str, value: str) -> bytes:
    head = "" if field == "From" else "From: a@x.example\r\n"
    return f"{head}{field}: {value}\r\nContent-Type: text/plain\r\n\r\nx\r\n".encode()


def read(readers: ForeignReaders, field: str, value: str) -> tuple[MailHeaders, dict[str, Seen]]:
    whole = mail(field, value)
    return read_headers(whole), dict(readers.read(whole))


ADDRESSES = st.sampled_from(
    ["boss@corp.example", "mallory@evil.example", "a.b+c@sub.example.org", "x_1@localhost"]
)
TEXTS = st.text("ab<>,@.;:()\\\"' öß日", min_size=1, max_size=12).map(str.strip).filter(bool)


def as_word(text: str, *, quoted: bool) -> str:
    octets = text.encode()
    if quoted:
        return "=?utf-8?Q?" + "".join(f"={octet:02X}" for octet in octets) + "?="
    return f"=?utf-8?B?{base64.b64encode(octets).decode()}?="


def as_quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


#: Names that RFC 5322 and RFC 2047 allow, whatever they say.
NAMES = st.one_of(
    st.sampled_from(["Anna", "Anna B. Example", "Zoë", "=?iso-8859-1?Q?M=FCller=2C_Eva?="]),
    TEXTS.filter(str.isascii).map(as_quoted),
    TEXTS.map(lambda text: as_word(text, quoted=True)),
    TEXTS.map(lambda text: as_word(text, quoted=False)),
    ADDRESSES.map(as_quoted),
    ADDRESSES.map(lambda text: as_word(text, quoted=True)),
)
MAILBOXES = st.one_of(
    ADDRESSES,
    ADDRESSES.map("<{}>".format),
    st.tuples(NAMES, ADDRESSES).map(lambda pair: f"{pair[0]} <{pair[1]}>"),
    ADDRESSES.map("{} (a comment)".format),
)
#: And what people make of them.
ODD = st.lists(
    st.one_of(
        MAILBOXES,
        NAMES,
        st.sampled_from(["<", ">", "(", ")", '"', ",", ";", ":", "@", "[", "]", " ", "\r\n ", "."]),
        st.sampled_from([" via List ", "Doe, Jane", "[EXT] ", "=?utf-8?Q?x <boss@corp.example>?="]),
    ),
    min_size=1,
    max_size=6,
).map("".join)


def plain(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(address.replace('"', "").lower() for address in addresses)


def disagreeing(ours: tuple[str, ...], seen: dict[str, Seen], field: str) -> dict[str, object]:
    expected = plain(ours)
    found: dict[str, object] = {}
    for name, one in seen.items():
        theirs = plain(one.authors if field == "From" else one.to)
        wanted = expected[:1] if name == "postal-mime" and field == "From" else expected
        if theirs != wanted:
            found[name] = one.error or theirs
    return found


@QUICK
@given(mailbox=MAILBOXES)
def test_an_author_who_is_said_plainly_is_the_same_to_all(
    mailbox: str, readers: ForeignReaders
) -> None:
    ours, seen = read(readers, "From", mailbox)
    assert not {one.kind for one in ours.findings} & AMBIGUOUS
    assert not disagreeing((ours.sender,), seen, "From")


@QUICK
@given(
    mailboxes=st.lists(MAILBOXES, min_size=1, max_size=4),
    separator=st.sampled_from([", ", ",\r\n\t"]),
)
def test_recipients_who_are_said_plainly_are_the_same_to_all(
    mailboxes: list[str], separator: str, readers: ForeignReaders
) -> None:
    ours, seen = read(readers, "To", separator.join(mailboxes))
    assert len(ours.to) == len(mailboxes)
    assert not disagreeing(ours.to, seen, "To")


@QUICK
@given(value=ODD)
def test_whatever_is_read_differently_is_a_finding(value: str, readers: ForeignReaders) -> None:
    ours, seen = read(readers, "From", value)
    kinds = {one.kind for one in ours.findings}
    if kinds & (AMBIGUOUS | {FindingKind.MISSING_AUTHOR, FindingKind.SEVERAL_AUTHORS}):
        return
    assert not disagreeing((ours.sender,), seen, "From"), kinds


@QUICK
@given(
    name=st.one_of(
        NAMES, st.text("ab @.[]'öß", min_size=1, max_size=20).filter(lambda t: t.strip())
    ),
    address=ADDRESSES,
)
def test_the_sender_is_never_the_text_of_a_display_name(
    name: str, address: str, readers: ForeignReaders
) -> None:
    ours, seen = read(readers, "From", f"{name} <{address}>")
    assert ours.sender == address
    if not {one.kind for one in ours.findings} & AMBIGUOUS:
        assert not disagreeing((address,), seen, "From")


@QUICK
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=4),
    kinds=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_subjects_are_the_same_to_all(
    texts: list[str], kinds: list[bool], readers: ForeignReaders
) -> None:
    words = [as_word(text, quoted=kind) for text, kind in zip(texts, kinds, strict=False)]
    ours, seen = read(readers, "Subject", "\r\n ".join(words))
    assert ours.subject.split() == "".join(texts).split()
    assert {
        name: one.subject
        for name, one in seen.items()
        if one.subject.split() != ours.subject.split() and (name != "gmime" or len(words) == 1)
    } == {}


@QUICK
@given(
    at=st.datetimes(datetime(1975, 1, 1), datetime(2060, 1, 1)),
    minutes=st.integers(-11 * 4, 13 * 4).map(lambda quarter: quarter * 15),
    comment=st.sampled_from(["", " (CEST)", " (a \\) b)"]),
)
def test_instants_are_the_same_to_all(
    at: datetime, minutes: int, comment: str, readers: ForeignReaders
) -> None:
    sign = "-" if minutes < 0 else "+"
    zone = f"{sign}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    value = f"{at:%a, %d %b %Y %H:%M:%S} {zone}{comment}"
    ours, seen = read(readers, "Date", value)
    expected = at.replace(microsecond=0, tzinfo=UTC) - timedelta(minutes=minutes)
    assert ours.date == expected
    for name, one in seen.items():
        if "\\" in comment and name in ("mailparser", "postal-mime"):
            continue  # JavaScript's Date knows no escapes in a comment
        assert one.date is not None and one.date.astimezone(UTC) == expected, name
