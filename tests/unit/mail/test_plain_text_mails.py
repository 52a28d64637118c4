"""Mails that are one plain text have the facts that the readers of every other mail find."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.bodies import read_body
from shared.mail.facts import FACT_FIELDS, MailFacts, read_facts
from shared.mail.parts import leaves
from shared.mail.plain_text_mails import read_plain_text
from shared.mail.region import region
from shared.mail.structure import entity, read_structure

pytestmark = pytest.mark.promise("F4")

_BITS = (
    b"Hello\r\n", b"\n", b"\r", b" ", b" \r\n", b"\0", b"\x0b", b"\x7f", "Grüße".encode(),
    b"\xc2\x85", b"\xc2\xa0", b"\xef\xbb\xbf", "日本".encode(), b"\xff", b"\xe2\x82",
)  # fmt: skip
_TYPES = (
    b"text/plain; charset=utf-8", b'text/plain; charset="UTF-8"', b"TEXT/PLAIN;charset=us-ascii",
    b"text/plain", b"text/plain; charset=iso-8859-1", b"text/plain; charset=utf-8; name=a.txt",
    b"text/plain; charset=utf-8; charset=utf-8", b"text/html; charset=utf-8", b"text", b"",
    b"text/plain; charset=utf-8; format=flowed",
)  # fmt: skip
_ENCODINGS = (
    b"7bit", b"8BIT", b"8bit (as it is)", b"binary", b"base64", b"quoted-printable", b"x-odd", b"",
)  # fmt: skip
_VALUES = (
    b"<1@a.example>", b"<a@b.example>", b"Ann <a+tag@b.example>, c@d.example", b"<>", b"Yes",
    b"< MAILER-DAEMON > (of a@b.example)", b"MAILER-DAEMON@b.example", b"bulk", b"a.list.example",
    b"mx.example; spf=pass smtp.mailfrom=b.example", b"Yes, score=9", b"Auto-Replied",
)  # fmt: skip


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(_BITS), max_size=8).map(b"".join),
    st.sampled_from(_TYPES[:3] * 6 + _TYPES),
    st.sampled_from(_ENCODINGS[:2] * 6 + _ENCODINGS),
    st.sampled_from((0, 1, 7, 30, 16384)),
)
def test_part_text_and_findings_are_those_of_the_tree(
    text: bytes, kind: bytes, encoding: bytes, limit: int
) -> None:
    raw = b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (kind, encoding, text)
    read = entity(region(raw), names=FACT_FIELDS)
    plain = read_plain_text(read, read.header.values(FACT_FIELDS), limit)
    if plain is not None:
        root = read_structure(region(raw))
        parts = [one.facts for one in leaves(root)]
        part, body, findings = plain
        assert (parts, read_body(root, limit), root.all_findings) == ([part], body, findings)


@pytest.mark.parametrize("kind", _TYPES[:3])
@pytest.mark.parametrize("encoding", (b"7bit", b" 8BIT "))
def test_an_ordinary_text_is_one(kind: bytes, encoding: bytes) -> None:
    raw = b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\nHello\r\n" % (kind, encoding)
    read = entity(region(raw), names=FACT_FIELDS)
    plain = read_plain_text(read, read.header.values(FACT_FIELDS), 100)
    assert plain is not None
    _, body, findings = plain
    assert (body.text, findings) == ("Hello", ())


@pytest.mark.parametrize("value", _VALUES)
def test_each_field_says_of_a_text_what_it_says_of_other_parts(value: bytes) -> None:
    """None of the fields that facts are read from is passed over where the mail is a text."""
    for name in sorted(FACT_FIELDS.wanted):
        if name.startswith("content-") and name != "content-class":
            continue
        for author in (b"", b"From: Ann <a@b.example>\r\nMessage-ID: <7@b.example>\r\n"):
            head = author + b"%b: %b\r\nContent-Type: text/plain; charset=utf-8\r\n"
            told = _facts(head % (name.encode(), value))
            # This field alone makes it a mail that is read as every other.
            wanted = _facts(head % (name.encode(), value) + b"Content-Disposition: inline\r\n")
            (part,) = wanted.parts
            wanted = wanted._replace(parts=(part._replace(disposition=""),))
            assert told == wanted, name


def _facts(head: bytes) -> MailFacts:
    raw = head + b"\r\nHello\r\n"
    return read_facts(region(raw), trusted=("mx.example",), text_limit=100)
