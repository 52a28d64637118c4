"""What docs/threat-model.md promises of a verdict, where no other test says it."""

from __future__ import annotations

import re

import pytest

from services.decryptor.opening import MailLimits
from shared.mail.fields import read_fields
from shared.mail.summary import read_headers
from tests.unit.smime.mails import (
    ENTITY,
    HEADER,
    TEXT,
    Opener,
    body,
    encrypt,
    mail,
    multipart_signed,
    pkcs7_entity,
    sign,
)
from tests.unit.smime.pki import Holder, Pki
from tests.unit.smime.test_openpgp import Person
from tests.unit.smime.test_openpgp import multipart_signed as pgp_signed

pytestmark = pytest.mark.promise("F2")
FROM = b"From: Alice Example <alice@example.org>"


@pytest.mark.parametrize(
    "author",
    [
        b"alice@example.org",
        b"<alice@example.org>",
        b'"Example, Alice" <alice@example.org>',
        b"Alice (Sales) Example <ALICE@example.org>",
        b"=?utf-8?q?Ali=C3=A7e?= <alice@example.org>",
        b'"alice@example.org" <alice@example.org>',
        b"alice@example.org <alice@example.org>",
        b"\"'alice@example.org'\" <alice@example.org>",
        b"Alice\r\n Example <alice@example.org>",
        "Alice Größe <alice@example.org>".encode(),
        # Joiners where their scripts have them, a place behind an at sign, a mark nobody sees.
        "Alice 👩\u200d💻 <alice@example.org>".encode(),
        '"👨\u200d👩\u200d👧\u200d👦 Familie" <alice@example.org>'.encode(),
        b"=?utf-8?q?=F0=9F=91=A9=E2=80=8D=F0=9F=92=BB?= <alice@example.org>",
        "علی\u200cرضا <alice@example.org>".encode(),
        '"क्\u200dष" <alice@example.org>'.encode(),
        b'"Alice @ Example" <alice@example.org>',
        b'"Dr. A. Example @ Sales & Co" <alice@example.org>',
        b"=?utf-8?q?Alice_=40_Example?= <alice@example.org>",
        '"Алиса @ Пример" <alice@example.org>'.encode(),
        '"山田 @ 営業部" <alice@example.org>'.encode(),
        b"=?utf-8?b?77u/QWxpY2U=?= <alice@example.org>",
        # A gateway that says it again.
        b"alice@example.org\r\nMIME-Version: 1.0",
        b"alice@example.org\r\nX-Gateway: a\r\nMime-Version:1.0 ",
    ],
)
def test_event_and_page_and_raw_show_the_author_who_signed(
    author: bytes, opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    header = HEADER.replace(FROM, b"From: " + author)
    with opener(header + multipart_signed(alice.cert, alice.key)) as opened:
        assert opened.security.signature == "valid", opened.security.reason
        assert opened.security.signer == "alice@example.org"
        assert isinstance(opened.content, bytes)
        shown = read_headers(opened.content.partition(b"\r\n\r\n")[0])
        assert shown.sender.lower() == "alice@example.org"
        assert read_headers(header).sender == shown.sender
        assert len(read_fields(opened.content).all("from")) == 1


@pytest.mark.parametrize(
    ("author", "verdict"),
    [
        ('"boss @ corp.example" <alice@example.org>', "mismatch"),
        ('"boss@ corp" <alice@example.org>', "mismatch"),
        ('"boss @corp" <alice@example.org>', "mismatch"),
        ('"boss@corp" <alice@example.org>', "mismatch"),
        ('"boss @ corp。example" <alice@example.org>', "mismatch"),
        ('"boss @ corp\u2024example" <alice@example.org>', "mismatch"),
        ('"boss @ corpꞏexample" <alice@example.org>', "mismatch"),
        ('"boss @ corp٠example" <alice@example.org>', "mismatch"),
        ('"boss @ corp (dot) example" <alice@example.org>', "mismatch"),
        ('"boss @ a @ b" <alice@example.org>', "mismatch"),
        ('"boss @ corp, boss@corp.example" <alice@example.org>', "mismatch"),
        ('"boss＠corp" <alice@example.org>', "mismatch"),
        ("Alice @ Example <alice@example.org>", "ambiguous"),
        ('"boss\u200d@\u200dcorp.example" <alice@example.org>', "mismatch"),
        ('"Al\u200dice" <alice@example.org>', "ambiguous"),
        ('"Ali\u200dç" <alice@example.org>', "ambiguous"),
        ('"\u200dAlice" <alice@example.org>', "ambiguous"),
        ('"👩\u202e💻" <alice@example.org>', "ambiguous"),
        ('"👩\u200b💻" <alice@example.org>', "ambiguous"),
        ("Ä <älice@exa\u200dmple.org>", "ambiguous"),
        ("alice@example.org\r\nMIME-Version: 1.1", "ambiguous"),
        ("alice@example.org\r\nMIME-Version: 1.0 (x)", "ambiguous"),
        ("alice@example.org\r\nFrom: alice@example.org", "ambiguous"),
        ("alice@example.org\r\nSubject: one\r\nSubject: one", "ambiguous"),
    ],
)
def test_what_looks_like_them_is_not_valid(
    author: str, verdict: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    header = HEADER.replace(FROM, b"From: " + author.encode())
    with opener(header + multipart_signed(alice.cert, alice.key)) as opened:
        assert opened.security.signature == verdict, opened.security.reason


@pytest.mark.parametrize("name", [b"Subject", b"To", b"Date", b"Reply-To", b"Sender"])
def test_the_outer_subject_is_not_covered(
    name: bytes, opener: Opener, holders: dict[str, Holder]
) -> None:
    """Whoever carries a signed mail can write another subject on it, or where an answer goes."""
    alice = holders["alice"]
    values = {b"Date": (b"Thu, 1 Jan 2026 10:00:00 +0100", b"Fri, 2 Jan 2026 10:00:00 +0100")}
    inside, outside = values.get(name, (b"alice@example.org", b"mallory@example.net"))
    others = re.sub(rb"(?m)^%s:.*\r\n" % name, b"", HEADER)
    header = b"%s: %s\r\n" % (name, outside) + others
    signed = multipart_signed(alice.cert, alice.key)
    with opener(header + signed) as opened:
        assert opened.security.signature == "valid"
    field = b"%s: %s\r\n" % (name, inside)
    protected = multipart_signed(alice.cert, alice.key, entity=field + ENTITY)
    with opener(header + protected) as opened:
        assert opened.security.signature == "valid"
        assert isinstance(opened.content, bytes)
        assert field in opened.content
        assert outside not in opened.content


def test_layers_tell_who_signed_what(opener: Opener, holders: dict[str, Holder]) -> None:
    alice, gateway = holders["alice"], holders["stranger"]
    inner = pkcs7_entity(sign(alice.cert, alice.key), "signed-data")
    sealed = pkcs7_entity(encrypt("-aes-256-gcm", holders["p256"].cert, data=inner))
    with opener(HEADER + multipart_signed(gateway.cert, gateway.key, entity=sealed)) as opened:
        assert [tuple(one) for one in opened.security.layers] == [
            ("signature", "smime", "partial", "stranger@example.org", "ciphertext"),
            ("encryption", "smime", "decrypted", None, None),
            ("signature", "smime", "valid", "alice@example.org", "content"),
        ]
        assert opened.security.signature == "valid"


@pytest.mark.parametrize("detached", [True, False])
def test_a_signature_around_a_ciphertext_proves_nothing(
    detached: bool, opener: Opener, holders: dict[str, Holder]
) -> None:
    """Whoever takes another's ciphertext and signs around it has not written it."""
    alice = holders["alice"]
    sealed = pkcs7_entity(encrypt("-aes-256-gcm", holders["p256"].cert))
    wrapped = (
        multipart_signed(alice.cert, alice.key, entity=sealed)
        if detached
        else pkcs7_entity(sign(alice.cert, alice.key, data=sealed), "signed-data")
    )
    with opener(HEADER + wrapped) as opened:
        assert body(opened) == TEXT
        assert opened.security.status == "decrypted"
        assert opened.security.signature == "partial"
        assert "encrypted form" in opened.security.reason


@pytest.mark.parametrize(
    "preamble",
    [
        b"",
        b"This is a cryptographically signed message in MIME format.",
        b"This is an S/MIME signed message",
        b"This is an OpenPGP/MIME signed message (RFC 4880 and 3156)",
        b"This is a multi-part message in MIME format.",
        b"This is a multipart message in MIME format.",
        b"This is a multi-part message in MIME format...\r\n",
        b"This message is in MIME format and has been PGP signed.\r\n",
        b"  This message is in MIME format.  The first part should be readable text,\r\n"
        b"  while the remaining parts are likely unreadable without MIME-aware tools.\r\n",
        b"> This message is in MIME format. Since your mail reader does not understand\r\n"
        b"this format, some or all of this message may not be legible.\r\n",
        b"This is a MIME message. If you are reading this text, you may want to \r\n"
        b"consider changing to a mail reader or gateway that understands how to \r\n"
        b"properly handle MIME multipart messages.\r\n",
        b"Dies ist eine mehrteilige Nachricht im MIME-Format.\r\n",
        b"C'est un message de format MIME en plusieurs parties.\r\n",
        b"Este es un mensaje de varias partes en formato MIME.\r\n",
    ],
)
def test_what_programs_write_before_the_parts_harms_nothing(
    preamble: bytes, opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    made = multipart_signed(alice.cert, alice.key)
    with opener(HEADER + made.replace(b"This is a signed message.", preamble)) as opened:
        assert opened.security.signature == "valid", opened.security.reason
        assert opened.content == HEADER + ENTITY


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        (b"This is a signed message.", b"Please pay to Mallory.", "partial"),
        (b"This is a signed message.", b"This is a signed message. Pay!", "partial"),
        (b"This is a signed message.", b"This message is in MIME format. Pay!", "partial"),
        (b"This is a signed message.", b"This is a MIME message. If you pay, pay me.", "partial"),
        (b"--b1--\r\n", b"--b1--\r\nPlease pay to Mallory.\r\n", "partial"),
        (b"--b1--\r\n", b"--b1--tail\r\n", "ambiguous"),
        (b"\r\n--b1--\r\n", b"", "ambiguous"),
        (b'boundary="b1"', b'boundary="b1"; boundary="b2"', "ambiguous"),
        (b'boundary="b1"', b"boundary*=us-ascii''b1", "ambiguous"),
        (b'boundary="b1"', b'boundary="b1"\r\nContent-Type: text/plain', "ambiguous"),
        (b'boundary="b1"', b'boundary="b1"\r\nX: y\rContent-Type: text/plain', "ambiguous"),
        (b"name=smime.p7s", b"name=smime.p7s\r\nContent-Type: text/plain", "ambiguous"),
    ],
)
def test_a_mail_that_can_be_read_otherwise_is_handed_out_as_it_came(
    before: bytes, after: bytes, word: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    made = multipart_signed(alice.cert, alice.key)
    assert before in made
    with opener(HEADER + made.replace(before, after, 1)) as opened:
        assert opened.security.signature == word, opened.security.reason
        assert opened.security.signer == "alice@example.org"
        assert opened.content is None or word == "ambiguous"


def in_the_form(form: str, signed: bytes) -> bytes:
    """A signed entity in a mail that shows more, or that can be read in two ways."""
    footer = b"Content-Type: text/plain\r\n\r\n-- \r\nsent by a list\r\n"
    return HEADER + {
        "whole": signed,
        "above a footer": b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n"
        + signed + b"\r\n--m\r\n" + footer + b"--m--\r\n",
        "text before it": signed.replace(b"\r\n\r\n--b1", b"\r\n\r\nPay!\r\n--b1", 1),
        "two boundaries": signed.replace(b'"b1"', b'"b1"; boundary="b2"', 1),
    }[form]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "vouched"),
    [
        ("whole", "valid"),
        ("above a footer", "partial"),
        ("text before it", "partial"),
        ("two boundaries", "ambiguous"),
        ("around a ciphertext", "partial"),
    ],
)
def test_no_signature_of_whom_nobody_vouches_for_is_called_right(
    form: str, vouched: str, pki: Pki, opener: Opener, holders: dict[str, Holder], alice: Person
) -> None:
    """Anybody writes another's address into a certificate of their own."""
    who, inside = holders["alice"], ENTITY
    forger = pki.holder("forger", who.private, email="alice@example.org", self_signed=True)
    if form == "around a ciphertext":
        inside = pkcs7_entity(encrypt("-aes256", holders["rsa"].cert))
    unknown = pgp_signed(alice, inside).replace(b"boundary=s", b'boundary="b1"')
    unknown = unknown.replace(b"--s", b"--b1")
    made = {
        "vouched": multipart_signed(who.cert, who.key, entity=inside),
        "self-signed": multipart_signed(forger.cert, forger.key, entity=inside),
        "unknown": unknown,
        "unknown and changed": unknown.replace(b"--b1\r\nContent-T", b"--b1\r\nContent-t", 1),
    }
    assert len({*made.values()}) == 4
    words = {}
    for name, signed in made.items():
        with opener(in_the_form(form.replace("around a ciphertext", "whole"), signed)) as opened:
            words[name] = opened.security.signature
            unchecked = "nobody could check" in opened.security.reason
            assert unchecked == name.startswith("unknown"), opened.security
    assert words == {**dict.fromkeys(made, "untrusted"), "vouched": vouched}


@pytest.mark.parametrize(
    "content",
    [
        b"Content-Type: text/plain; charset=utf-7\r\n\r\n+AGEAYg-\r\n",
        b"Content-Type: text/plain; charset=no-such\r\n\r\nHello\r\n",
        b"Content-Type: text/plain\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n",
        b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xfc\xdfe\r\n",
        b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\n\x93Hello\x94\r\n",
        b"Content-Type: text/plain\r\n\r\none\rtwo\r\n",
        b"Content-Type: text/plain\r\n\r\none\0two\r\n",
        b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n<b>one</b>\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64 (x)\r\n\r\nUGF5\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\nUG!F5\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-own\r\n\r\nHello\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\na= \r\nb\r\n",
        b"Content-Transfer-Encoding: quoted-printable \r\n\r\na=20b\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: BASE64 \r\n\r\nUGF5\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding:\r\n base64\r\n\r\nUGF5\r\n",
        b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nFrom: x@y.example\r\n\r\n"
        b"one\r\n--b--\r\n",
        b"Content-Type: text/plain; charset=(x)utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n",
        b"Content-Type: text/plain; charset='utf-8'\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n",
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xef\xbb\xbfHello\r\n",
        b"Content-Type: text/plain; charset=shift_jis\r\n\r\nPay \\100\r\n",
        b"Content-Type: text/plain; charset=johab\r\n\r\nPay \\100\r\n",
        b"Content-Type: text/plain; charset=big5\r\n\r\n\xa1\x45\r\n",
        b"Content-Type: text/plain; charset=gb2312\r\n\r\n\xa1\xaa\r\n",
        b"Content-Type: text/plain; charset=euc-jp\r\n\r\n\xa1\xc1\r\n",
        b"Content-Type: text/plain; charset=windows-1252\r\n\r\n\x93Hello\x94\r\n",
        b"Content-Type: text/plain; charset=cp437\r\n\r\nGr\x81\xe1e\r\n",
        b"Content-Type: text/plain; charset=iso-2022-jp-2\r\n\r\n\x1b$(CAv:R\x1b(B\r\n",
        b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$B\r\n\x1b(BPay\r\n",
        b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\nPay\x1b(J\x1b(B\r\n",
        b"Content-Type: text/plain; charset=gb18030\r\n\r\n\xa6\xd9\r\n",
        b"Content-Type: text/plain; charset=gb18030\r\n\r\n\x81\x35\xf4\x37\r\n",
        b"Content-Type: text/plain; charset=euc-jp\r\n\r\n\x8f\xa2\xb7\r\n",
        b"Content-Type: text/plain; charset*0=iso-8859; charset*1=-1\r\n\r\nGr\xfc\xdfe\r\n",
        b"Content-Type: text/plain; x=; charset=koi8-r\r\n\r\n\xf0\r\n",
        b"Content-Type: text/plain; x/y=z; charset=koi8-r\r\n\r\n\xf0\r\n",
        b'Content-Type: text/plain; x="\\"; charset=koi8-r\r\n\r\n\xf0\r\n',
        b'Content-Type: text/plain; x=y"; charset=koi8-r\r\n\r\n\xf0\r\n',
        b"Content-Type: text/plain; name=; charset=koi8-r\r\n\r\n\xf0\r\n",
        b'Content-Type: text/plain; name=y"; charset=koi8-r\r\n\r\n\xf0\r\n',
        b"Content-Type: text/plain; x=; "
        + b"".join(b"%03d=a; %03d=a; " % (n, n) for n in range(60))
        + b"charset=koi8-r\r\n\r\n\xf0\r\n",
        b"Content-Type: text/plain\r\nContent-Disposition: form-data; name=a\r\n\r\nHello\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n"
        b"Content-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n"
        b"From: x@y.example\r\n\r\ntwo\r\n--b--\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n"
        b"Content-Type: message/delivery-status\r\n\r\ntwo: three\r\n--b--\r\n",
    ],
)
def test_a_text_that_readers_decode_otherwise_is_ambiguous(
    content: bytes, opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    with opener(mail(sign(alice.cert, alice.key, data=content), "signed-data")) as opened:
        assert opened.security.signature == "ambiguous", opened.security.reason
        assert opened.security.reason


@pytest.mark.parametrize(
    "content",
    [
        "Content-Type: text/plain; charset=windows-1252\r\n\r\nGrüße\r\n".encode("cp1252"),
        "Content-Type: text/plain; charset=windows-1251\r\n\r\n«Плати»\r\n".encode("cp1251"),
        "Content-Type: text/plain; charset=utf8\r\n\r\nGrüße 支付\r\n".encode(),
        "Content-Type: text/plain; charset=cp1252\r\n\r\nGrüße\r\n".encode("cp1252"),
        "Content-Type: text/plain; charset=latin1\r\n\r\nGrüße\r\n".encode("latin-1"),
        "Content-Type: text/plain; charset=ISO8859-15\r\n\r\n5 €\r\n".encode("iso8859-15"),
        "Content-Type: text/plain; charset=iso_8859-1\r\n\r\nGrüße\r\n".encode("latin-1"),
        "Content-Type: text/plain; charset=shift_jis\r\n\r\n支払う 100\r\n".encode("cp932"),
        "Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n支払う\r\n".encode("iso-2022-jp"),
        b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$B;YJ'\x1b(J 9 \x1b$@$&\x1b(B",
        b"Content-Type: text/plain; name=a b.txt; charset=koi8-r\r\n\r\n\xf0\r\n",
        b"Content-Type: text/plain; charset=koi8-r\r\nContent-Disposition: inline; filename="
        b"\r\n\r\n\xf0\r\n",
        "Content-Type: text/plain; charset=gb18030\r\n\r\n付款給 €100\r\n".encode("gb18030"),
        "Content-Type: text/plain; charset=euc-jp\r\n\r\n支払う ~100\r\n".encode("euc-jp"),
        b"Content-Type: text/plain\r\nContent-Disposition: INLINE; filename=a.txt\r\n\r\nHello\r\n",
        "Content-Type: text/plain; charset=gb2312\r\n\r\n付款给 100\r\n".encode("gb2312"),
        "Content-Type: text/plain; charset=big5\r\n\r\n付款 100\r\n".encode("big5"),
        "Content-Type: text/plain; charset=euc-kr\r\n\r\n지불 100\r\n".encode("euc-kr"),
        b"Content-Type: text/plain; charset=utf-8\r\n\r\nC:\\100 ~ (x)\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n"
        b"Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n"
        b"From: x@y.example\r\n\r\ntwo\r\n--b--\r\n",
        b"Content-Type: text/plain\r\n\r\nC:\\100 ~\r\n",
    ],
)
def test_a_text_that_all_readers_show_alike_is_valid(
    content: bytes, opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    with opener(mail(sign(alice.cert, alice.key, data=content), "signed-data")) as opened:
        assert opened.security.signature == "valid", opened.security.reason


def test_deep_and_wide_mails_are_read_within_bounds(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    """Layers, parts and depth are counted; what lies beyond is never called valid."""
    alice = holders["alice"]
    wide = (
        b"Content-Type: multipart/mixed; boundary=w\r\n\r\n"
        + b"--w\r\n\r\nx\r\n" * 2000
        + b"--w--\r\n"
    )
    deep = b"Content-Type: message/rfc822\r\n\r\n" * 100 + b"\r\nx\r\n"
    for content in (wide, deep):
        with opener(HEADER + multipart_signed(alice.cert, alice.key, entity=content)) as opened:
            assert opened.security.signature == "ambiguous", opened.security.reason
    nested = ENTITY
    for _ in range(12):
        nested = pkcs7_entity(sign(alice.cert, alice.key, data=nested), "signed-data")
    with opener(HEADER + nested, MailLimits(nesting=8)) as opened:
        assert opened.security.signature == "ambiguous", opened.security.reason
        assert opened.content is None
