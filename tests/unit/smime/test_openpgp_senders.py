"""OpenPGP signers: known to the administrator, hinted at by the mail (Autocrypt), or unknown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from pysequoia import Cert, SignatureMode, encrypt, sign
from pysequoia.packet import PacketPile, Tag

from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from tests.unit.smime.mails import ENTITY, HEADER, TEXT, Opener
from tests.unit.smime.test_openpgp import Person, multipart_encrypted, multipart_signed

pytestmark = pytest.mark.promise("F3")


@pytest.fixture(scope="module")
def bob() -> Person:
    return Person("bob@example.org")


@pytest.fixture(scope="module")
def alice() -> Person:
    return Person("alice@example.org")


@pytest.fixture
def nobody_known(bob: Person, tmp_path: Path) -> Opener:
    return Opener(IdentityIndex.load([bob.stored("bob")]), TrustStore(), tmp_path)  # type: ignore[list-item]


def autocrypt(key: Cert, address: str = "alice@example.org") -> bytes:
    data = base64.encodebytes(bytes(key)).replace(b"\n", b"\r\n ").rstrip()
    return (
        f"Autocrypt: addr={address}; prefer-encrypt=mutual; keydata=\r\n ".encode() + data + b"\r\n"
    )


def signed_mails(alice: Person, bob: Person) -> dict[str, bytes]:
    """A signed mail of each form, and a text in it that can be changed."""
    signer = alice.secret.signer()
    return {
        "detached": multipart_signed(alice),
        "in the text": b"\r\n" + sign(signer, TEXT, mode=SignatureMode.CLEAR),
        "encrypted": multipart_encrypted(encrypt(ENTITY, [bob.public], signer=signer)),
    }


@pytest.mark.parametrize("form", ["detached", "in the text", "encrypted"])
def test_autocrypt_is_a_hint_and_no_trust(
    form: str, alice: Person, bob: Person, nobody_known: Opener
) -> None:
    raw = HEADER + autocrypt(alice.public) + signed_mails(alice, bob)[form]
    with nobody_known(raw) as opened:
        assert opened.security.signature == "untrusted", opened.security
        assert "Autocrypt" in opened.security.reason
        assert alice.public.fingerprint in opened.security.reason


@pytest.mark.parametrize("form", ["detached", "in the text"])
def test_wrong_by_the_key_that_the_mail_brings_is_invalid(
    form: str, alice: Person, bob: Person, nobody_known: Opener
) -> None:
    changed = signed_mails(alice, bob)[form].replace(b"aus K", b"aus k", 1)
    with nobody_known(HEADER + autocrypt(alice.public) + changed) as opened:
        assert opened.security.signature == "invalid", opened.security
    with nobody_known(HEADER + changed) as opened:
        assert opened.security.signature == "untrusted", "nothing to check it with"


def test_autocrypt_beside_a_known_key_changes_nothing(
    alice: Person, bob: Person, tmp_path: Path
) -> None:
    trust = TrustStore.load(senders=[bytes(alice.public)], system=False)
    opener = Opener(IdentityIndex(), trust, tmp_path)
    with opener(HEADER + autocrypt(bob.public) + multipart_signed(alice)) as opened:
        assert opened.security.signature == "valid", opened.security.reason
    with opener(HEADER + autocrypt(bob.public) + multipart_signed(bob)) as opened:
        assert opened.security.signature == "untrusted"


@pytest.mark.parametrize(
    "field",
    [
        b"Autocrypt: addr=a@b\r\n",
        b"Autocrypt: addr=a@b; keydata=////\r\n",
        b"Autocrypt: addr=a@b; keydata=" + b"A" * 70_000 + b"\r\n",
        b"Autocrypt: keydata=!\r\nAutocrypt: keydata=!\r\n",
    ],
)
def test_damaged_autocrypt_is_none(field: bytes, alice: Person, nobody_known: Opener) -> None:
    with nobody_known(HEADER + field + multipart_signed(alice)) as opened:
        assert opened.security.signature == "untrusted"
        assert "not known" in opened.security.reason


def test_two_autocrypt_fields_are_none(alice: Person, bob: Person, nobody_known: Opener) -> None:
    fields = autocrypt(alice.public) + autocrypt(bob.public)
    with nobody_known(HEADER + fields + multipart_signed(alice)) as opened:
        assert opened.security.signature == "untrusted"
        assert "Autocrypt" not in opened.security.reason


def session_packets(bob: Person) -> bytes:
    """What names the recipients at the beginning of a message for Bob."""
    message = encrypt(ENTITY, [bob.public], armor=False)
    return b"".join(bytes(p) for p in PacketPile.from_bytes(message) if p.tag == Tag.PKESK)


def packet(kind: int, body: bytes) -> bytes:
    return bytes((0xC0 | kind, 0xFF)) + len(body).to_bytes(4) + body


@pytest.mark.promise("C4")
@pytest.mark.parametrize(
    ("data", "word"),
    [
        (packet(20, b"\x01\x0a\x02\x10" + bytes(15) + bytes(80)), "Twofish-OCB"),
        (packet(20, b"\x01\x07\x01\x10" + bytes(16) + bytes(80)), "AES-128-EAX"),
        (packet(9, bytes(90)), "EFAIL"),
    ],
    ids=["GnuPG with Twofish", "GnuPG EAX", "without integrity"],
)
def test_forms_that_are_not_opened_are_named(
    data: bytes, word: str, bob: Person, alice: Person, nobody_known: Opener, tmp_path: Path
) -> None:
    message = base64.encodebytes(session_packets(bob) + data)
    with nobody_known(HEADER + multipart_encrypted(message, b"base64")) as opened:
        assert opened.security.status == "unsupported", opened.security
        assert word in opened.security.reason
        assert opened.content is None
    elsewhere = Opener(IdentityIndex.load([alice.stored("a")]), TrustStore(), tmp_path)  # type: ignore[list-item]
    with elsewhere(HEADER + multipart_encrypted(message, b"base64")) as opened:
        assert opened.security.status == "no_recipient"


@pytest.mark.promise("C4")
@pytest.mark.parametrize("version", [4, 5, 6])
def test_password_of_every_version_is_named(version: int, nobody_known: Opener) -> None:
    key = packet(3, bytes((version, 9, 2, 3, 8)) + bytes(60))
    message = base64.encodebytes(key + packet(20, b"\x01\x09\x02\x10" + bytes(95)))
    with nobody_known(HEADER + multipart_encrypted(message, b"base64")) as opened:
        assert opened.security.status == "unsupported"
        assert "password" in opened.security.reason
        assert opened.security.recipients == ("a password",)
