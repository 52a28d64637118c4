"""What of a part cannot be read is told as a finding about that part; of what can be, nothing."""

from __future__ import annotations

import base64
import random

import pytest

from services.admin.pages.mail_content import SHOWN_OCTETS, read
from shared.mail.facts import read_facts
from shared.mail.region import WINDOW, region
from shared.mail.transfer_encodings import measured
from tests.rig.tnef_writer import attachment, body, contents, file, message, stream

pytestmark = pytest.mark.promise("F4")

PACKED = stream(file(b"A.TXT", b"first", "a.txt"), file(b"B.TXT", b"second", "b.txt"))
SIGNS = base64.encodebytes(bytes(range(256))).replace(b"\n", b"\r\n")


def mail(part: bytes) -> bytes:
    """A text and, as part 2, `part`."""
    return (
        b"From: ann@example.org\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello\r\n"
        b"--b\r\n" + part + b"\r\n--b--\r\n"
    )


def encoded(octets: bytes, encoding: str = "base64") -> bytes:
    head = f"Content-Type: application/pdf\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + octets


def tnef(octets: bytes) -> bytes:
    head = b"Content-Type: application/ms-tnef; name=winmail.dat\r\n"
    return head + b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(octets)


def found(raw: bytes) -> list[tuple[str, str]]:
    """The findings, as (kind, detail), of the event and of the page alike."""
    findings = read_facts(region(raw), trusted=(), text_limit=1000).findings
    assert read([raw]).findings == findings
    return [(str(one.kind), one.detail) for one in findings]


@pytest.mark.parametrize(
    ("octets", "encoding"),
    [
        (SIGNS, "base64"),
        (b"", "base64"),
        (b"QQ==", "base64"),
        (b"\r\n QUI=\t\r\n\r\n", "base64"),
        (b"caf=C3=A9 =\r\nand so on=3d = \t\r\n.", "quoted-printable"),
        (b"100% = x", "8bit"),
    ],
)
def test_what_is_encoded_as_it_should_be_is_no_finding(octets: bytes, encoding: str) -> None:
    assert found(mail(encoded(octets, encoding))) == []


@pytest.mark.parametrize(
    ("octets", "encoding"),
    [
        (b"!!!!not base64 ####\r\nAAA", "base64"),
        (SIGNS[:41], "base64"),
        (SIGNS[:43], "base64"),
        (SIGNS + b"-- \r\nfooter of a list", "base64"),
        (b"QQ==\r\nQQ==" + b"\r\nQUJD", "base64"),
        (b"QQ===", "base64"),
        (b"a=zz", "quoted-printable"),
        (b"a =4", "quoted-printable"),
        (b"<a href=x>", "quoted-printable"),
    ],
)
def test_a_damaged_transfer_encoding(octets: bytes, encoding: str) -> None:
    assert found(mail(encoded(octets, encoding))) == [("damaged-transfer-encoding", "part 2")]


@pytest.mark.parametrize("behind", [0, 1, 2, 3])
def test_damage_is_seen_wherever_it_stands_in_a_large_part(behind: int) -> None:
    """The window ends within the padding, before it and behind it."""
    signs = base64.b64encode(random.Random(4).randbytes((WINDOW - 4) // 4 * 3 + 1))
    whole = b"\r\n" * behind + signs
    assert not measured(region(whole), "base64").is_damaged
    assert not measured(region(whole + b"\r\n" * WINDOW), "base64").is_damaged
    assert measured(region(whole + b"\r\n" * WINDOW + b"x"), "base64").is_damaged
    assert measured(region(whole[:-1]), "base64").is_damaged
    assert measured(region(b"*" + whole), "base64").is_damaged


def test_a_winmail_dat_that_breaks_off_or_is_none() -> None:
    assert found(mail(tnef(PACKED))) == []
    assert found(mail(tnef(stream(message(b"m", PACKED))))) == []
    for octets in (PACKED[:-1], PACKED[:80], PACKED + b"x", b"no TNEF at all", b""):
        assert found(mail(tnef(octets))) == [("unreadable-tnef", "part 2")]
    broken = stream(message(b"m", PACKED[:-30]))
    assert found(mail(tnef(broken))) == [("unreadable-tnef", "part 2")]


def test_every_place_at_which_a_winmail_dat_can_break_off() -> None:
    silent = set()
    for end in range(len(PACKED)):
        raw = mail(tnef(PACKED[:end]))
        facts = read_facts(region(raw), trusted=(), text_limit=0)
        kinds = {str(one.kind) for one in facts.findings}
        assert kinds in ({"unreadable-tnef"}, set())
        if not kinds:
            silent.add(end)
    # Nothing tells that an attachment is missing behind the message or a whole attachment; and
    # there are writers whose attachments have no properties.
    without_properties = attachment(title=b"A.TXT", data=b"first")
    with_them = file(b"A.TXT", b"first", "a.txt")
    assert silent == {len(stream(*one)) for one in ([], [without_properties], [with_them])}


def test_what_a_whole_winmail_dat_needs() -> None:
    head = stream()[: -len(contents())]
    begun, titled = attachment(), attachment(title=b"A.TXT")
    old = attachment(title=b"A.TXT", data=b"x")
    by_reference = attachment(properties=True)
    for octets in (head + body(b"x"), head + old, head + old + old, stream(by_reference)):
        assert found(mail(tnef(octets))) == []
    for octets in (
        head,
        head + begun,
        stream(begun),
        stream(titled),
        stream(attachment(data=b"x")),
        stream(old, titled),
        stream(file(b"B.TXT", b"x"), old),
    ):
        assert found(mail(tnef(octets))) == [("unreadable-tnef", "part 2")]


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "text/csv"])
def test_an_unknown_charset_of_a_text(kind: str) -> None:
    head = f"Content-Type: {kind}; charset="
    assert found(mail(f"{head}klingon\r\n\r\nx".encode())) == [("unknown-charset", "part 2")]
    assert found(f"{head}klingon\r\n\r\nx".encode()) == [("unknown-charset", "part 1")]
    for known in ("utf-8", "US-ASCII", "iso-8859-15", "unknown-8bit", '""'):
        assert found(mail(f"{head}{known}\r\n\r\nx".encode())) == []


def test_a_page_does_not_call_broken_what_it_shows_no_more_of() -> None:
    whole = mail(tnef(stream(file(b"A.BIN", bytes(SHOWN_OCTETS)))))
    kinds = {str(one.kind) for one in read([whole]).findings}
    assert "unreadable-tnef" not in kinds
    assert read_facts(region(whole), trusted=(), text_limit=0).findings == ()
