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
