"""What a signature does not cover: the label of a text, what stands beside it, another's octets."""

from __future__ import annotations

import pytest
from asn1crypto import cms
from pysequoia import SignatureMode, encrypt
from pysequoia import sign as pgp_sign

from tests.unit.smime.mails import (
    ENTITY,
    HEADER,
    TEXT,
    Opener,
    body,
    mail,
    multipart_signed,
    sign,
)
from tests.unit.smime.pki import Holder
from tests.unit.smime.test_openpgp import Person, multipart_encrypted

pytestmark = pytest.mark.promise("F2")


@pytest.mark.parametrize("label", ["utf-8", "koi8-r", "windows-1251", "utf-7", "gb18030", "x"])
def test_a_signed_text_in_utf8_is_that_whatever_the_header_says(
    label: str, alice: Person, bob: Person, knowing: Opener
) -> None:
    """The header lies outside of encryption and signature: whoever writes another label into it
    would write another text."""
    made = encrypt(TEXT, [bob.public], signer=alice.secret.signer())
    kind = f"Content-Type: text/plain; charset={label}\r\n\r\n".encode()
    with knowing(HEADER + kind + made) as opened:
        assert opened.security.signature == "valid", opened.security
        assert isinstance(opened.content, bytes)
        assert b'charset="utf-8"' in opened.content
        assert body(opened) == TEXT


@pytest.mark.parametrize("label", ["windows-1251", "koi8-r"])
def test_a_signed_text_in_another_set_proves_nothing(
    label: str, alice: Person, bob: Person, knowing: Opener
) -> None:
    octets = "Плати 100\r\n".encode("windows-1251")
    made = encrypt(octets, [bob.public], signer=alice.secret.signer())
    kind = f"Content-Type: text/plain; charset={label}\r\n\r\n".encode()
    with knowing(HEADER + kind + made) as opened:
        assert opened.security.signature == "ambiguous", opened.security
        assert "character set" in opened.security.reason
        assert body(opened) == octets


def test_a_label_that_was_guessed_is_no_part_of_what_was_signed(
    alice: Person, bob: Person, knowing: Opener, opener: Opener, holders: dict[str, Holder]
) -> None:
    """Without header fields nothing says what the octets above 127 are."""
    octets = "Плати 100, Grüße\r\n".encode("windows-1251", "replace")
    sealed = multipart_encrypted(encrypt(octets, [bob.public], signer=alice.secret.signer()))
    with knowing(HEADER + sealed) as opened:
        assert opened.security.signature == "ambiguous", opened.security
        assert body(opened) == octets
    who = holders["alice"]
    for text, word in ((octets, "ambiguous"), (TEXT, "valid")):
        with opener(mail(sign(who.cert, who.key, data=text), "signed-data")) as opened:
            assert opened.security.signature == word, opened.security
            assert body(opened) == text


def test_signed_attributes_are_no_content(opener: Opener, holders: dict[str, Holder]) -> None:
    """A signature with attributes covers those, and fits a message whose content they are."""
    who = holders["alice"]
    made = cms.ContentInfo.load(sign(who.cert, who.key))
    signer = made["content"]["signer_infos"][0]
    attributes = b"\x31" + signer["signed_attrs"].dump()[1:]
    signer["signed_attrs"] = None
    held = made["content"]["encap_content_info"]
    held["content"] = type(held["content"])(attributes)
    with opener(mail(made.dump(force=True), "signed-data")) as opened:
        assert opened.security.signature == "invalid", opened.security
    # A text may begin with the same octet.
    text = b"1\r\n" + TEXT
    with opener(mail(sign(who.cert, who.key, "-noattr", data=text), "signed-data")) as opened:
        assert opened.security.signature == "valid", opened.security


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("Version: GnuPG v1.4.12 (GNU/Linux)", "valid"),
        ("Version: GnuPG v2\nComment: GPGTools - https://gpgtools.org", "valid"),
        ("Comment: Using GnuPG with Mozilla - http://enigmail.mozdev.org/", "valid"),
        ("Version: OpenPGP.js v4.10.10\nComment: https://openpgpjs.org", "valid"),
        ("Version: ProtonMail\nCharset: utf-8", "valid"),
        ("Version: BCPG v@RELEASE_NAME@", "valid"),
        ("Version: BCPG C# v1.8.5.0", "valid"),
        ("Version: 2.6.3ia", "valid"),
        ("Version: PGP 6.5.8ckt\nMessageID: 3q2+7wAAAAAAAAAAAAAAAAAAAAAAAAAA", "valid"),
        ("Version: PGP 5.0i\nCharset: noconv", "valid"),
        ("Version: GnuPG/MacGPG2 v2.0.18 (Darwin)", "valid"),
        ("Version: GnuPG v2.1.0-beta3 (MingW32)\nCharset: windows-1252", "valid"),
        ("Version: rnp 0.12.0", "valid"),
        ("Version: OpenPGP.js v.1.20130825\nComment: http://openpgpjs.org", "valid"),
        ("Version: Crypt::OpenPGP 1.06", "valid"),
        ("Version: ", "valid"),
        ("Comment: please pay to another account", "partial"),
        ("Version: Please.pay.Mallory 1000EUR (to/DE1234)", "partial"),
        ("Version: GnuPG v1.pay", "partial"),
        ("Version: GnuPG v2 (to/DE1234)", "partial"),
        ("Version: GnuPG v2\nVersion: GnuPG v1\nVersion: PGP 1000", "partial"),
        ("MessageID: PleasePayMallory1000EURtoDE12345678901", "partial"),
        ("Hash: PAY-1000", "partial"),
        ("Version: GnuPG v2 (please pay to another account)", "partial"),
        ("Comment: https://evil.example/pay", "partial"),
    ],
)
def test_text_among_the_lines_of_a_signature(
    line: str, word: str, alice: Person, knowing: Opener
) -> None:
    made = pgp_sign(alice.secret.signer(), b"Pay 4711.\n", mode=SignatureMode.CLEAR)
    mark = b"-----BEGIN PGP SIGNATURE-----\n"
    assert mark in made
    with knowing(HEADER + b"\r\n" + made.replace(mark, mark + line.encode() + b"\n")) as opened:
        assert opened.security.signature == word, opened.security


@pytest.mark.parametrize(
    "kind", ["multipart/mixed; boundary=x", "message/rfc822", "message/delivery-status", "text/x-y"]
)
def test_a_signature_in_a_part_that_is_shown(
    kind: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    who = holders["alice"]
    named = f"{kind}\r\nContent-Disposition: inline; filename=smime.p7s"
    made = multipart_signed(who.cert, who.key).replace(
        b"application/pkcs7-signature; name=smime.p7s", named.encode()
    )
    with opener(HEADER + made) as opened:
        assert opened.security.signature == "partial", opened.security


@pytest.mark.parametrize(
    ("part", "word"),
    [
        ("Content-Type: text/plain\r\n\r\n \r\n", "valid"),
        ("Content-Type: text/plain; charset=utf-16-be\r\n\r\n    \r\n", "partial"),
        ('Content-Type: text/plain; name="Pay to Mallory.txt"\r\n\r\n', "partial"),
        ("Content-Disposition: attachment; filename=Pay.txt\r\n\r\n", "partial"),
    ],
)
def test_an_empty_text_beside_is_empty_for_everybody(
    part: str, word: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    who = holders["alice"]
    mixed = (
        b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + part.encode()
        + b"\r\n--m\r\n" + multipart_signed(who.cert, who.key) + b"\r\n--m--\r\n"
    )  # fmt: skip
    with opener(HEADER + mixed) as opened:
        assert opened.security.signature == word, opened.security


def test_of_two_signers_the_author_counts_whatever_the_other_is_worth(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    """RFC 5652 section 5: one right signature of a signer is that signer's signature."""
    alice, other = holders["alice"], holders["stranger"]
    right = cms.ContentInfo.load(sign(alice.cert, alice.key))
    wrong = cms.ContentInfo.load(sign(other.cert, other.key, data=b"Another text\r\n"))
    for name in ("signer_infos", "certificates"):
        right["content"][name].append(wrong["content"][name][0])
    made = right.dump(force=True)
    with opener(mail(made, "signed-data")) as opened:
        assert (opened.security.signature, opened.security.signer) == ("valid", "alice@example.org")
    from_other = HEADER.replace(b"alice@example.org", b"stranger@example.org")
    with opener(mail(made, "signed-data", from_other)) as opened:
        assert opened.security.signature != "valid"
        assert ENTITY in (opened.content or b"")  # type: ignore[operator]
