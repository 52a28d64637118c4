"""The headers between the mail's own and what is signed: nobody signed them, and a line of them
that is no field is where some readers begin the text.

That a reader which nobody here wrote shows the text of each is part of the test.
"""

from __future__ import annotations

import email
import email.policy

import pytest
from pysequoia import SignatureMode, encrypt
from pysequoia import sign as pgp_sign

from tests.unit.smime.mails import ENTITY, HEADER, Opener, multipart_signed, pkcs7_entity, sign
from tests.unit.smime.mails import encrypt as seal
from tests.unit.smime.pki import Holder
from tests.unit.smime.test_openpgp import Person
from tests.unit.smime.test_openpgp_outside import OCTETS, PLAIN, VERSION, multipart

pytestmark = pytest.mark.promise("F2")

LINES = [b"Pay Mallory 1000\r\n", b"Pay Mallory : now\r\n"]
EMPTY = [
    b"Pay Mallory 1000",
    b"Pay Mallory 1000: now\r\n",
    b"Pay Mallory : now\r\n\r\n",
    b"Content-Type: text/plain\r\nPay Mallory 1000\r\n\r\n",
    b"Content-Type: text/plain\r\nX: a\r\rPay Mallory\r\n\r\n",
]


def shown(raw: bytes) -> str:
    read = email.message_from_bytes(raw, policy=email.policy.default)
    return "".join(
        str(one.get_payload()) for one in read.walk() if one.get_content_type() == "text/plain"
    )


#: Python's `email` counts its slashes, or cuts at the semicolon, and takes the type for a text.
COMMENTS = [(b"", b" (a/b)"), (b"(a/b) ", b""), (b"(;) ", b"")]


@pytest.fixture(scope="module")
def smime(holders: dict[str, Holder]) -> dict[str, bytes]:
    a = holders["alice"]
    opaque = pkcs7_entity(sign(a.cert, a.key), "signed-data")
    return {
        "opaque": opaque,
        "detached": multipart_signed(a.cert, a.key),
        "signed and encrypted": pkcs7_entity(
            seal(holders["rsa"].cert, data=opaque), "enveloped-data"
        ),
    }


@pytest.fixture(scope="module")
def openpgp(alice: Person, bob: Person) -> dict[str, bytes]:
    sealed = encrypt(ENTITY, [bob.public], signer=alice.secret.signer())
    signer = alice.secret.signer()
    return {
        "encrypted": multipart(VERSION, OCTETS + sealed)
        .replace(b"=e", b"=p")
        .replace(b"--e", b"--p"),
        "armour": PLAIN + sealed,
        "clear text": PLAIN + pgp_sign(signer, b"Honest text.\r\n", mode=SignatureMode.CLEAR),
    }


KINDS = ["opaque", "detached", "signed and encrypted"]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_line_that_is_no_field_before_what_is_signed(
    kind: str, line: bytes, smime: dict[str, bytes], opener: Opener
) -> None:
    with opener(HEADER + multipart(smime[kind], kind=b"mixed")) as opened:
        assert opened.security.signature == "valid", opened.security
    raw = HEADER + multipart(line + smime[kind], kind=b"mixed")
    assert "Mallory" in shown(raw)
    with opener(raw) as opened:
        assert opened.security.signature == "ambiguous", opened.security


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("kind", ["encrypted", "armour", "clear text"])
def test_the_same_with_openpgp(
    kind: str, line: bytes, openpgp: dict[str, bytes], knowing: Opener
) -> None:
    with knowing(HEADER + multipart(openpgp[kind], kind=b"mixed")) as opened:
        assert opened.security.signature == "valid", opened.security
    raw = HEADER + multipart(line + openpgp[kind], kind=b"mixed")
    assert "Mallory" in shown(raw)
    with knowing(raw) as opened:
        assert opened.security.signature == "ambiguous", opened.security


@pytest.mark.parametrize("line", LINES)
def test_a_line_before_the_data_of_a_multipart_encrypted(
    line: bytes, alice: Person, bob: Person, knowing: Opener
) -> None:
    sealed = encrypt(ENTITY, [bob.public], signer=alice.secret.signer())
    raw = HEADER + multipart(VERSION, line + OCTETS + sealed)
    assert "Mallory" in shown(raw)
    with knowing(raw) as opened:
        assert opened.security.signature == "ambiguous", opened.security


@pytest.mark.parametrize("part", EMPTY)
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_is_not_empty_where_some_readers_show_its_header(
    kind: str, part: bytes, smime: dict[str, bytes], opener: Opener
) -> None:
    empty = b"Content-Type: text/plain\r\n\r\n\r\n"
    with opener(HEADER + multipart(empty, smime[kind], kind=b"mixed")) as opened:
        assert opened.security.signature == "valid", opened.security
    raw = HEADER + multipart(part, smime[kind], kind=b"mixed")
    assert "Mallory" in shown(raw)
    with opener(raw) as opened:
        assert opened.security.signature != "valid", opened.security


def test_two_content_types_before_what_is_signed(smime: dict[str, bytes], opener: Opener) -> None:
    twice = smime["opaque"].replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\n\r\n", 1)
    with opener(HEADER + multipart(twice, kind=b"mixed")) as opened:
        assert opened.security.signature == "ambiguous", opened.security


BASE64 = b"Content-Transfer-Encoding: base64\r\n"
HIDDEN = b"\r\n: Pay Mallory\r\n"


@pytest.fixture(scope="module")
def hiding(
    smime: dict[str, bytes], openpgp: dict[str, bytes], alice: Person
) -> dict[str, tuple[bytes, bytes]]:
    """Entities with a text that no reader shows, and the type for which none shows it."""
    opaque = smime["opaque"].replace(BASE64, b"") + HIDDEN
    signed, part = smime["detached"].rsplit(b"Content-Type: ", 1)
    base64, end = part.replace(BASE64, b"").rsplit(b"\r\n--", 1)
    lines = pgp_sign(alice.secret.signer(), ENTITY, mode=SignatureMode.DETACHED)
    signature = b"Content-Type: application/pgp-signature\r\n\r\nPay Mallory\r\n" + lines
    begin = b"-----BEGIN PGP MESSAGE-----\n"
    return {
        "opaque": (opaque, b"application/pkcs7-mime"),
        "opaque in a multipart": (multipart(opaque, kind=b"mixed"), b"application/pkcs7-mime"),
        "signature": (
            signed + b"Content-Type: " + base64 + HIDDEN + b"\r\n--" + end,
            b"application/pkcs7-signature",
        ),
        "header of the signature": (
            signed + b"X: Pay Mallory\r\nContent-Type: " + part,
            b"multipart/signed",
        ),
        "OpenPGP signature": (
            multipart(ENTITY, signature, kind=b"signed"), b"application/pgp-signature"
        ),
        "OpenPGP message": (
            openpgp["encrypted"].replace(begin, begin + b"Comment: Pay Mallory\n"),
            b"application/octet-stream",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("comment", COMMENTS, ids=["behind", "before", "semicolon"])
@pytest.mark.parametrize(
    "name",
    ["opaque", "opaque in a multipart", "signature", "header of the signature",
     "OpenPGP signature", "OpenPGP message"],
)  # fmt: skip
def test_a_comment_makes_a_text_of_a_file(
    name: str,
    comment: tuple[bytes, bytes],
    hiding: dict[str, tuple[bytes, bytes]],
    opener: Opener,
    knowing: Opener,
) -> None:
    entity, kind = hiding[name]
    opened_by = knowing if "OpenPGP" in name else opener
    assert "Mallory" not in shown(HEADER + entity)
    with opened_by(HEADER + entity) as opened:
        assert opened.security.signature == "valid", opened.security
    raw = HEADER + entity.replace(b" " + kind, b" " + comment[0] + kind + comment[1], 1)
    assert "Mallory" in shown(raw)
    with opened_by(raw) as opened:
        assert opened.security.signature == "ambiguous", opened.security
