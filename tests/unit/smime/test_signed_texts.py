"""A text that somebody signed, in a mail of another form than the one that they signed it for."""

from __future__ import annotations

from functools import partial

import pytest
from pysequoia import SignatureMode, encrypt
from pysequoia import sign as pgp_sign

from shared.mail.facts import read_facts
from shared.mail.region import region
from tests.unit.smime.mails import (
    HEADER,
    TEXT,
    Opener,
    body,
    mail,
    multipart_signed,
    pkcs7_entity,
    sign,
)
from tests.unit.smime.mails import encrypt as cms_encrypt
from tests.unit.smime.pki import Holder
from tests.unit.smime.test_openpgp import Person, multipart_encrypted
from tests.unit.smime.test_openpgp import multipart_signed as pgp_multipart_signed

pytestmark = pytest.mark.promise("F2")
#: Where these are a header, no reader shows their first line as a text.
TEXTS = [
    b"Note: I do not agree to what follows.\r\n\r\nWe pay 4711.\r\n",
    b"Comments: I do not agree to what follows.\r\n\r\nWe pay 4711.\r\n",
    b"Subject: I do not agree to\r\n what follows.\r\n\r\nWe pay 4711.\r\n",
    b"X-Note: I do not agree.\r\nReceived: none.\r\n\r\nWe pay 4711.\r\n",
    b"From: alice@example.org\r\nDate: 1 Jan 2026\r\n\r\nWe pay 4711.\r\n",
]
ONE_OF_TEXTS = pytest.mark.parametrize("text", TEXTS)


@ONE_OF_TEXTS
def test_the_first_lines_of_a_signed_text_are_no_header(
    text: bytes,
    opener: Opener,
    holders: dict[str, Holder],
    alice: Person,
    bob: Person,
    knowing: Opener,
) -> None:
    who = holders["alice"]
    opaque = sign(who.cert, who.key, data=text)
    sealed = cms_encrypt(holders["rsa"].cert, data=pkcs7_entity(opaque, "signed-data"))
    for raw in (mail(opaque, "signed-data"), mail(sealed)):
        with opener(raw) as opened:
            assert opened.security.signature == "valid", opened.security
            assert body(opened) == text
    signer = alice.secret.signer()
    made = encrypt(text, [bob.public], signer=signer)
    file = b"Content-Type: application/octet-stream; name=a.asc\r\n\r\n"
    signed = pgp_sign(signer, text, mode=SignatureMode.INLINE)
    for entity in (multipart_encrypted(made), file + made, file + signed):
        with knowing(HEADER + entity) as opened:
            assert opened.security.signature == "valid", opened.security
            assert body(opened) == text


@ONE_OF_TEXTS
def test_a_part_that_may_be_a_signed_text_is_ambiguous(
    text: bytes, opener: Opener, holders: dict[str, Holder], alice: Person, knowing: Opener
) -> None:
    """Every reader takes these lines of the part for a header: it is one, or was a text."""
    who = holders["alice"]
    lines = pgp_sign(alice.secret.signer(), text.replace(b"\r", b""), mode=SignatureMode.CLEAR)
    assert b"-----BEGIN PGP SIGNATURE-----" in lines
    # As an attacker has it: the signature alone, which is one over a text (type 0x01).
    moved = pgp_multipart_signed(alice, text).partition(b"-----BEGIN PGP SIGNATURE-----")[0]
    moved += b"-----BEGIN" + lines.rpartition(b"-----BEGIN")[2] + b"\r\n--s--\r\n"
    for opened_by, entity in (
        (opener, multipart_signed(who.cert, who.key, entity=text)),
        (knowing, pgp_multipart_signed(alice, text)),
        (knowing, moved),
    ):
        with opened_by(HEADER + entity) as opened:
            assert opened.security.signature == "ambiguous", opened.security
            assert "first lines of a text" in opened.security.reason
            assert opened.content is None


@pytest.mark.parametrize(
    ("part", "finding"),
    [
        (b"Content-Type: application/ms-tnef; name=winmail.dat\r\n\r\nnone", "unreadable-tnef"),
        (
            b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD!RA",
            "damaged-transfer-encoding",
        ),
    ],
)
def test_a_file_that_cannot_be_read_leaves_a_signature_valid(
    part: bytes, finding: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    who = holders["alice"]
    head = b"Content-Type: multipart/mixed; boundary=b2\r\n\r\n"
    entity = head + b"--b2\r\n\r\nHello\r\n--b2\r\n" + part + b"\r\n--b2--\r\n"
    with opener(HEADER + multipart_signed(who.cert, who.key, entity=entity)) as opened:
        assert opened.security.signature == "valid", opened.security
        assert isinstance(opened.content, bytes)
        found = read_facts(region(opened.content), trusted=(), text_limit=0).findings
        assert [str(one.kind) for one in found] == [finding]


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Content-Type: text/plain; charset=utf-8\r\n",
        b"Subject: Invoice\r\nContent-Type: text/plain; charset=utf-8\r\n",
        b'X-Note: y\r\nContent-Type: text/plain; charset=utf-8; protected-headers="v1"\r\n',
    ],
)
def test_a_part_without_a_header_or_with_one_of_mime_is_none(
    header: bytes, opener: Opener, holders: dict[str, Holder], alice: Person, knowing: Opener
) -> None:
    who = holders["alice"]
    text = TEXT if header else b"Hello\r\n"
    entity = header + b"\r\n" + text
    for opened_by, made in (
        (opener, partial(multipart_signed, who.cert, who.key, entity=entity)),
        (knowing, partial(pgp_multipart_signed, alice, entity)),
    ):
        with opened_by(HEADER + made()) as opened:
            assert opened.security.signature == "valid", opened.security
            assert body(opened) == text


def test_a_signed_mail_that_was_sent_on_stays_valid(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    """Whoever got it encrypts it again, for somebody for whom its author never wrote it."""
    alice = holders["alice"]
    signed = pkcs7_entity(sign(alice.cert, alice.key), "signed-data")
    sealed = cms_encrypt(holders["rsa"].cert, data=signed)
    header = HEADER.replace(b"To: bob@example.org", b"To: carol@example.org")
    with opener(mail(sealed, header=header)) as opened:
        assert opened.security.signature == "valid", opened.security
        assert [tuple(one) for one in opened.security.layers] == [
            ("encryption", "smime", "decrypted", None, None),
            ("signature", "smime", "valid", "alice@example.org", "content"),
        ]
