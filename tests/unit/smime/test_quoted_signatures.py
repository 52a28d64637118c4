"""A text with OpenPGP's lines in it that another signature covers, or that quotes such lines."""

from __future__ import annotations

import pytest
from pysequoia import SignatureMode, sign

from tests.unit.smime.mails import HEADER, Opener, body, multipart_signed
from tests.unit.smime.pki import Holder
from tests.unit.smime.test_openpgp import Person

pytestmark = pytest.mark.promise("F2")
PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n\r\n"


def signed_text(who: Person, text: bytes) -> bytes:
    return sign(who.secret.signer(), text, mode=SignatureMode.CLEAR).strip() + b"\n"


def quoted(text: bytes) -> bytes:
    lines = text.strip().replace(b"\n", b"\n> ").replace(b"> \n", b">\n")
    return b"On Monday you wrote:\n> " + lines + b"\nI agree.\n"


def test_a_signed_text_may_hold_another_one(alice: Person, knowing: Opener) -> None:
    """Its lines are escaped (RFC 9580 section 7.1), or stand behind a mark of a reply."""
    inner = signed_text(alice, b"Pay 4711\n- dashed\n")
    twice = signed_text(alice, inner)
    for text, shown in (
        (inner, b"Pay 4711\n- dashed\n"),
        (twice, b"Pay 4711\n- dashed\n"),
        (quoted(inner), quoted(inner)),
        (b"See:\n" + inner + b"\nBye\n", b"See:\n" + inner + b"\nBye\n"),
    ):
        raw = HEADER + PLAIN + signed_text(alice, text)
        with knowing(raw) as opened:
            assert opened.security.signature == "valid", opened.security
            assert body(opened).strip() == shown.strip()
        with knowing(raw.replace(b"4711", b"4712")) as opened:
            assert opened.security.signature == "invalid"


def test_the_author_of_all_of_a_text_counts(alice: Person, knowing: Opener) -> None:
    """Whoever signs around another's signed text has not that one's word for what they add."""
    stranger = Person("alice@example.org")
    theirs = b"EVIL\n\n" + signed_text(alice, b"Pay 4711\n")
    with knowing(HEADER + PLAIN + signed_text(stranger, theirs)) as opened:
        assert opened.security.signature == "untrusted", opened.security
    with knowing(HEADER + PLAIN + theirs) as opened:
        assert opened.security.signature == "partial", opened.security
    end = b"\n-----END PGP SIGNATURE-----\n"
    for text in (theirs + end, signed_text(alice, b"Pay 4711\n") + b"EVIL" + end):
        with knowing(HEADER + PLAIN + text) as opened:
            assert opened.security.signature == "invalid", opened.security


def test_what_is_quoted_in_a_signed_mail_does_not_lower_its_verdict(
    opener: Opener, holders: dict[str, Holder], alice: Person
) -> None:
    who = holders["alice"]
    inner = signed_text(alice, b"Pay 4711\n")
    for text, layers in (
        (quoted(inner), [("valid", "content")]),
        (b"See:\n" + inner + b"\nBye\n", [("valid", "content"), ("untrusted", "part")]),
    ):
        entity = PLAIN + text.replace(b"\n", b"\r\n")
        with opener(HEADER + multipart_signed(who.cert, who.key, entity=entity)) as opened:
            assert opened.security.signature == "valid", opened.security
            assert [(one.verdict, one.covers) for one in opened.security.layers] == layers


def test_a_reply_that_quotes_a_signed_text_is_not_signed(alice: Person, knowing: Opener) -> None:
    raw = HEADER + PLAIN + quoted(signed_text(alice, b"Pay 4711\n"))
    with knowing(raw) as opened:
        assert opened.security.signature == "none", opened.security
        assert not opened.security.layers
