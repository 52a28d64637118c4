"""A mail that lies in another one, and that somebody signed: forwarded, or wrapped for the sake of
its header (RFC 8551 section 3.1)."""

from __future__ import annotations

import pytest

from shared.mail_security import Layer
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
from tests.unit.smime.test_openpgp import Person
from tests.unit.smime.test_openpgp import multipart_signed as pgp_signed

pytestmark = pytest.mark.promise("F2")

ALICE = "alice@example.org"
DAVE = HEADER.replace(b"Alice Example <alice@", b"Dave <dave@").replace(b"4711", b"9")
PART = Layer("signature", "smime", "partial", ALICE, "part")


def forwarded(entity: bytes, parameter: bytes = b"", header: bytes = HEADER) -> bytes:
    return b"Content-Type: message/rfc822" + parameter + b"\r\n\r\n" + header + entity


def between_others(multipart: bytes) -> bytes:
    """The same with another boundary, and not with another signature: base64 may have its name."""
    return multipart.replace(b'"b1"', b'"b2"').replace(b"--b1", b"--b2")


def beside(one: bytes) -> bytes:
    return (
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nSee below.\r\n--x\r\n"
        + one + b"\r\n--x--\r\n"
    )  # fmt: skip


@pytest.mark.parametrize("place", ["alone", "beside a text", "encrypted", "encrypted beside"])
@pytest.mark.parametrize("kind", ["detached", "opaque"])
def test_a_signature_of_a_forwarded_mail_is_named_and_is_none_of_this_one(
    kind: str, place: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    signed = (
        multipart_signed(alice.cert, alice.key)
        if kind == "detached"
        else pkcs7_entity(sign(alice.cert, alice.key), "signed-data")
    )
    content = forwarded(signed) if "beside" not in place else beside(forwarded(signed))
    if place.startswith("encrypted"):
        raw = mail(encrypt("-aes256", holders["rsa"].cert, data=content), header=DAVE)
    else:
        raw = DAVE + content
    with opener(raw) as opened:
        security = opened.security
        assert (security.signature, security.signer) == ("none", None), security
        assert security.layers[-1] == PART
        assert security.status == ("decrypted" if place.startswith("encrypted") else "none")
        assert "says nothing of this one" in security.reason
        if place.startswith("encrypted"):
            assert isinstance(opened.content, bytes)
            assert signed in opened.content
        else:
            assert opened.content is None


def test_whoever_forwards_is_not_blamed_for_what_was_changed_before(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    changed = multipart_signed(alice.cert, alice.key).replace(TEXT[:20], b"x", 1)
    with opener(DAVE + beside(forwarded(changed))) as opened:
        assert opened.security.signature == "none"
        assert [one.verdict for one in opened.security.layers] == ["invalid"]


def test_the_author_who_forwards_a_signed_mail_keeps_the_own_signature(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    inner = between_others(multipart_signed(alice.cert, alice.key))
    outer = multipart_signed(alice.cert, alice.key, entity=beside(forwarded(inner, header=DAVE)))
    with opener(HEADER + outer) as opened:
        assert opened.security.signature == "valid", opened.security
        assert [one.covers for one in opened.security.layers] == ["content", "part"]


def test_a_forwarded_mail_that_openpgp_signed_is_named(knowing: Opener, alice: Person) -> None:
    with knowing(DAVE + forwarded(pgp_signed(alice))) as opened:
        assert opened.security.signature == "none"
        assert opened.security.layers == (PART._replace(format="openpgp"),)


@pytest.mark.parametrize("parameter", [b"", b"; forwarded=no"])
def test_a_mail_that_was_wrapped_for_its_header_is_read_on(
    parameter: bytes, opener: Opener, holders: dict[str, Holder]
) -> None:
    """It is this mail: its signature counts, and its subject, for the author of both headers."""
    alice = holders["alice"]
    wrapped = forwarded(
        multipart_signed(alice.cert, alice.key), parameter, HEADER.replace(b"4711", b"9")
    )
    raw = mail(encrypt("-aes256", holders["rsa"].cert, data=wrapped))
    with opener(raw) as opened:
        assert opened.security.signature == "valid", opened.security
        assert opened.security.signer == ALICE
        assert [one.kind for one in opened.security.layers] == ["encryption", "signature"]
        assert opened.headers is not None and opened.headers.subject == "Invoice 9"
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(ENTITY)
        assert b"multipart/signed" not in opened.content


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize(
    ("parameter", "field", "word"),
    [
        (b"", b"", "valid"),
        (b"", b"Received: from mx.example.net by mx.example.org\r\n", "ambiguous"),
        (b"", b"Return-Path: <mallory@example.net>\r\n", "ambiguous"),
        (b"; forwarded=no", b"Received: from a by b\r\n", "valid"),
    ],
)
def test_a_mail_in_the_own_name_that_somebody_got_and_sends_on(
    parameter: bytes, field: bytes, word: str, opaque: bool, opener: Opener,
    holders: dict[str, Holder],
) -> None:  # fmt: skip
    """Alice sends on what was forged in her name, alone and signed: that is no text of hers."""
    alice = holders["alice"]
    inner = field + HEADER.partition(b"\r\n")[2]
    entity = forwarded(ENTITY, parameter, inner)
    made = (
        pkcs7_entity(sign(alice.cert, alice.key, data=entity), "signed-data")
        if opaque
        else multipart_signed(alice.cert, alice.key, entity=entity)
    )
    with opener(HEADER + made) as opened:
        assert opened.security.signature == word, opened.security


@pytest.mark.parametrize(
    ("outside", "inside", "word"),
    [(DAVE, HEADER, "mismatch"), (DAVE, DAVE, "mismatch"), (HEADER, DAVE, "mismatch")],
)
def test_a_wrapped_mail_of_somebody_else_is_never_valid(
    outside: bytes, inside: bytes, word: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    signed = multipart_signed(alice.cert, alice.key)
    wrapped = forwarded(signed, b"; forwarded=no", inside)
    raw = mail(encrypt("-aes256", holders["rsa"].cert, data=wrapped), header=outside)
    with opener(raw) as opened:
        assert opened.security.signature == word, opened.security


def test_what_lies_around_a_broken_signature_in_a_wrapped_mail_is_not_lost(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    broken = multipart_signed(alice.cert, alice.key).replace(b"--b1--", b"--b1--\r\nAnd more.")
    raw = mail(encrypt("-aes256", holders["rsa"].cert, data=forwarded(broken)))
    with opener(raw) as opened:
        assert opened.security.signature == "partial", opened.security
        assert isinstance(opened.content, bytes)
        assert b"And more." in opened.content
        assert TEXT in opened.content
    # The same around both.
    inner = forwarded(between_others(broken))
    outer = multipart_signed(alice.cert, alice.key, entity=inner)
    around = outer.replace(b"This is a signed message.", b"Pay at once.", 1)
    with opener(HEADER + around) as opened:
        assert opened.security.signature == "partial", opened.security
        assert opened.content is None, "it stays as it came"
