"""The usual form of a FETCH response is read as what takes any form reads it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mailbox.imap import flags, message_attributes
from shared.mailbox.imap.message_attributes import parse_date
from shared.mailbox.imap.session import Untagged

DATES = st.from_regex(
    rb"\A[ 0-3]?[0-9]-(Jan|feb|DEC|Dec|Foo)-[0-9]{4} [0-2][0-9]:[0-6][0-9]:[0-6][0-9] "
    rb"[+-][0-2][0-9][0-6][0-9]\Z"
)
ITEMS = {
    b"UID": st.integers(1, 1 << 32).map(lambda uid: b"UID %d" % uid),
    b"SIZE": st.integers(0, 1 << 40).map(lambda size: b"RFC822.SIZE %d" % size),
    b"DATE": DATES.map(lambda date: b'INTERNALDATE "' + date + b'"'),
    b"FLAGS": st.sampled_from([b"", b"\\Seen", b"\\seen $x", b"\\Recent \\SEEN", b"UID"]).map(
        lambda names: b"FLAGS (" + names + b")"
    ),
    b"MODSEQ": st.just(b"MODSEQ (12)"),
}


@st.composite
def responses(draw: st.DrawFn) -> Untagged:
    names = draw(st.lists(st.sampled_from(sorted(ITEMS)), max_size=5))
    items = [draw(ITEMS[name]) for name in draw(st.permutations(sorted(ITEMS)))[: len(names)]]
    kept = draw(st.sampled_from([items, [draw(ITEMS[name]) for name in names]]))
    end = draw(st.sampled_from([b")", b") ", b"", b"))"]))
    return Untagged(7, b"FETCH", (b"(" + b" ".join(kept) + end,))


@given(responses())
def test_attributes(line: Untagged) -> None:
    assert message_attributes._parse(line) == message_attributes._parse_any(line)


@given(st.one_of(DATES, st.binary(max_size=30)))
def test_dates(text: bytes) -> None:
    assert parse_date(text) == message_attributes._parse_any_date(text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (b"17-Jul-1996 02:44:25 -0700", datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)),
        (b" 1-DEC-2026 00:15:00 +0130", datetime(2026, 11, 30, 22, 45, tzinfo=UTC)),
        (b"1-Dec-2026 00:00:60 +0000", datetime(2026, 12, 1, 0, 0, 59, tzinfo=UTC)),
        (b"01-Dec-2026 10:11:12", None),
        (b"01-Dec-2026 10:11:12      ", None),
        (b"31-Feb-2026 10:11:12 +0000", None),
    ],
)
def test_dates_by_their_meaning(text: bytes, at: datetime | None) -> None:
    assert parse_date(text) == at


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        (b"(UID 5 FLAGS (\\Seen $Junk))", (5, {b"\\seen", b"$junk"})),
        (b"(FLAGS () UID 5)", (5, set())),
        (b"(UID 5 FLAGS (\\Seen) MODSEQ (77))", (5, {b"\\seen"})),
        (b"(MODSEQ (77) UID 5 FLAGS (\\Seen))", (5, {b"\\seen"})),
        (b"(FLAGS (\\Seen))", None),
        (b"(UID 5)", None),
    ],
)
def test_flags(rest: bytes, told: tuple[int, set[bytes]] | None) -> None:
    found = flags.flags_of(Untagged(1, b"FETCH", (rest,)))
    assert (found and (found[0], set(found[1]))) == told
