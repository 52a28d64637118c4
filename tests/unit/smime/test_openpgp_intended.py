"""Signatures that say for whom they were made (RFC 9580 section 5.2.3.36), and the messages that
one of their recipients encrypts again or sends on: Sequoia opens and verifies each of these."""

from __future__ import annotations

import base64
import hashlib
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pysequoia import CipherSuite, Profile, encrypt

from services.decryptor.openpgp import decrypting
from services.decryptor.openpgp.aead import decrypt_eax
from services.decryptor.openpgp.packets import packets_of
from services.decryptor.openpgp.recipients import whole_message
from services.decryptor.openpgp.reencryption import decrypted
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex, OpenPGPKey, parse_certificate
from shared.certificates.openpgp_subkeys import framed
from shared.mail.region import region
from tests.unit.smime.gnupg import GnuPG
from tests.unit.smime.mails import ENTITY, HEADER, TEXT, Opener
from tests.unit.smime.pgp_packets import (
    certified,
    locked,
    made_signature,
    packet,
    public_of,
    sealed_again,
)
from tests.unit.smime.test_openpgp import Person, multipart_encrypted

pytestmark = pytest.mark.promise("F2")

SIGNER = "alice@example.org"
#: Not `Person.public`: the signatures here are made by hand.
OWNER = Ed25519PrivateKey.generate()
MADE = int(time.time()) - 1_000
PUBLIC = public_of(OWNER, MADE)
ISSUER = hashlib.sha1(framed(PUBLIC), usedforsecurity=False).digest()[-8:]
WORDS = [("nobody", "valid"), ("us", "valid"), ("our subkey", "valid"), ("others", "mismatch"),
         ("others and us", "valid")]  # fmt: skip


@pytest.fixture(scope="module")
def gnupg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GnuPG]:
    gnupg = GnuPG(tmp_path_factory.mktemp("gnupg"))
    gnupg("--quick-gen-key", "bob@example.org", "rsa2048", "encrypt,cert", "never")
    yield gnupg
    gnupg.close()


@pytest.fixture(scope="module")
def people() -> dict[str, Person]:
    """Keys of Sequoia's."""
    new, post_quantum = Profile.RFC9580, CipherSuite.MLDSA65_Ed25519
    return {
        "RFC 9580": Person("bob@example.org"),
        "ML-KEM": Person("bob@example.org", profile=new, cipher_suite=post_quantum),
        "Argon2": Person("bob@example.org", profile=new),
        "password": Person("bob@example.org", profile=new, cipher_suite=CipherSuite.RSA2k),
        "version 4": Person("bob@example.org", profile=Profile.RFC4880),
    }


@pytest.fixture(scope="module")
def identities(gnupg: GnuPG, people: dict[str, Person]) -> IdentityIndex:
    """A key of GnuPG's, to which it encrypts as RFC 4880 has it, and those of Sequoia's, some of
    them behind a password."""
    files: dict[str, tuple[bytes, str | None]] = {
        name: (bytes(one.secret), None) for name, one in people.items()
    }
    files["RFC 4880"] = gnupg("--armor", "--export-secret-keys"), None
    for name, usage in (("Argon2", 253), ("password", 254), ("version 4", 253)):
        files[name] = locked(people[name].secret, "hunter2", usage), "hunter2"
    parsed = {name: parse_certificate(*file) for name, file in files.items()}
    return IdentityIndex.load(
        [(name, one.kind, one.certificate, one.private_key) for name, one in parsed.items()]
    )


@pytest.fixture
def knowing(identities: IdentityIndex, tmp_path: Path) -> Opener:
    known = certified(OWNER, PUBLIC, f"Alice <{SIGNER}>".encode())
    return Opener(identities, TrustStore.load(senders=[known], system=False), tmp_path)


@pytest.fixture(
    scope="module",
    params=["RFC 4880", "RFC 9580", "ML-KEM", "Argon2", "password", "version 4"],
)
def own(request: pytest.FixtureRequest, identities: IdentityIndex) -> OpenPGPKey:
    return next(one for one in identities.openpgp if one.id == request.param)


@pytest.fixture(scope="module")
def sent(gnupg: GnuPG, people: dict[str, Person]) -> dict[str, bytes]:
    """A message to each of the keys, whose content is replaced."""
    made = {name: encrypt(b"x", [one.public], armor=False) for name, one in people.items()}
    made["RFC 4880"] = gnupg("--encrypt", "-r", "bob@example.org", data=b"x")
    return made


def intended(*fingerprints: str) -> bytes:
    made = b""
    for one in fingerprints:
        data = bytes((35, 6 if len(one) == 64 else 4)) + bytes.fromhex(one)
        made += bytes((len(data),)) + data
    return made


def named(name: str, own: OpenPGPKey) -> bytes:
    other = "11" * 20
    return {
        "nobody": intended(),
        "us": intended(own.fingerprint),
        "our subkey": intended(own.subkeys[0].fingerprint),
        "others": intended(other, "22" * 32),
        "others and us": intended(other, own.fingerprint),
    }[name]


def signature(more: bytes, *, kind: int = 0, over: bytes = ENTITY, at: int = 0) -> bytes:
    return made_signature(OWNER, PUBLIC, kind, over, at or int(time.time()), more=more)


def signed(*signatures: bytes, before: bytes = b"") -> bytes:
    """A signed message: the last signature is that of the first one-pass packet."""
    heads = [packet(4, bytes((3, 0, 10, 27)) + ISSUER + b"\0") for _ in signatures[1:]]
    heads.append(packet(4, bytes((3, 0, 10, 27)) + ISSUER + b"\1"))
    literal = packet(11, b"b\0" + bytes(4) + ENTITY)
    return before + b"".join(heads) + literal + b"".join(packet(2, one) for one in signatures)


def zipped(packets: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return packet(8, b"\1" + made.compress(packets) + made.flush())


def in_base64(message: bytes) -> bytes:
    return multipart_encrypted(base64.encodebytes(message), b"base64")


def detached(made: bytes) -> bytes:
    return (
        b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n" + ENTITY
        + b"\r\n--s\r\nContent-Type: application/pgp-signature\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(packet(2, made)) + b"\r\n--s--\r\n"
    )  # fmt: skip


@pytest.mark.parametrize(("name", "word"), WORDS)
@pytest.mark.parametrize(
    "form", ["as it is", "compressed", "before the text", "detached inside", "before a renewal"]
)
def test_a_signature_for_others_is_none_for_us(
    form: str, name: str, word: str, own: OpenPGPKey, sent: dict[str, bytes], knowing: Opener
) -> None:
    # The key has its self-signature from now.
    made = signature(named(name, own), at=MADE + 1 if form == "before a renewal" else 0)
    literal = packet(11, b"b\0" + bytes(4) + ENTITY)
    content = {
        "as it is": signed(made),
        "before a renewal": signed(made),
        "compressed": zipped(signed(made)),
        "before the text": packet(2, made) + literal,
        "detached inside": packet(11, b"b\0" + bytes(4) + detached(made)),
    }[form]
    with knowing(HEADER + in_base64(sealed_again(sent[own.id], own, content))) as opened:
        assert opened.security.status == "decrypted", opened.security
        assert opened.security.signature == word, opened.security
        assert opened.security.signer == SIGNER
        assert isinstance(opened.content, bytes)
        assert TEXT in opened.content
    if word == "mismatch":
        assert "another encrypted message" in opened.security.reason


@pytest.mark.parametrize("form", ["signed", "compressed", "detached", "in the text"])
def test_what_was_for_an_encrypted_message_does_not_count_in_the_clear(
    form: str, own: OpenPGPKey, knowing: Opener
) -> None:
    for name, word in (("nobody", "valid"), ("us", "mismatch"), ("others", "mismatch")):
        more = named(name, own)
        if form == "in the text":
            body = b"Please pay 4711."  # and a signature that names its key by fingerprint alone
            made = base64.encodebytes(packet(2, signature(more, kind=1, over=body)))
            mail = (
                b"\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA512\r\n\r\n" + body
                + b"\r\n-----BEGIN PGP SIGNATURE-----\r\n\r\n" + made
                + b"-----END PGP SIGNATURE-----\r\n"
            )  # fmt: skip
        elif form == "detached":
            mail = detached(signature(more))
        else:
            packets = signed(signature(more))
            mail = in_base64(zipped(packets) if form == "compressed" else packets)
        with knowing(HEADER + mail) as opened:
            assert opened.security.signature == word, (name, opened.security)


def test_nothing_beside_a_signature_changes_for_whom_it_is(
    own: OpenPGPKey, sent: dict[str, bytes], knowing: Opener
) -> None:
    """A recipient can put packets there, but none that fit."""
    others = signature(named("others", own))
    wrong = signature(b"", over=b"another text")
    of_another_kind = bytes((4, 0, 17, 10)) + wrong[4:]
    for content in (
        signed(others, wrong),
        signed(wrong, others),
        signed(others, of_another_kind),
        zipped(signed(others, before=packet(21, bytes(500)))),
        signed(*[others] * 40),
        zipped(zipped(signed(others))),
    ):
        with knowing(HEADER + in_base64(sealed_again(sent[own.id], own, content))) as opened:
            assert opened.security.status == "decrypted", opened.security
            assert opened.security.signature in ("mismatch", "untrusted", "invalid"), (
                opened.security
            )
    both = signed(others, signature(b""))
    with knowing(HEADER + in_base64(sealed_again(sent[own.id], own, both))) as opened:
        assert opened.security.signature == "valid", opened.security


def test_what_cannot_be_looked_into_for_its_length_does_not_count(
    own: OpenPGPKey, sent: dict[str, bytes], knowing: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long text nobody could look, but a short one can be made long."""
    monkeypatch.setattr(decrypting, "MOST_READ", 4096)
    monkeypatch.setattr(decrypting, "_FRAME", 1024)
    for before, word in ((b"", "mismatch"), (packet(21, bytes(8000)), "untrusted")):
        content = signed(signature(named("others", own)), before=before)
        with knowing(HEADER + in_base64(sealed_again(sent[own.id], own, content))) as opened:
            assert opened.security.signature == word, opened.security


def test_a_long_text_says_that_nobody_looked_for_whom_it_was_signed(
    knowing: Opener, people: dict[str, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = Person(SIGNER)
    knowing.trust = TrustStore.load(senders=[bytes(alice.public)], system=False)
    message = encrypt(ENTITY * 20, [people["RFC 9580"].public], signer=alice.secret.signer())
    raw = HEADER + multipart_encrypted(message)
    for most, said in ((1 << 24, False), (4096, True)):
        monkeypatch.setattr(decrypting, "MOST_READ", most)
        with knowing(raw) as opened:
            assert opened.security.signature == "valid", opened.security
            assert (
                "For whom the message was signed was not read" in opened.security.reason
            ) == said


def test_nobody_chooses_a_cipher_by_which_for_whom_was_signed_is_not_read(
    gnupg: GnuPG, knowing: Opener
) -> None:
    """Whoever sends a signed text on can encrypt it as they like."""
    gnupg("--quick-gen-key", SIGNER, "ed25519", "sign,cert", "never")
    knowing.trust = TrustStore.load(senders=[gnupg("--export", SIGNER)], system=False)
    words = {"AES192": "valid", "CAMELLIA128": "valid", "CAMELLIA256": "valid",
             "TWOFISH": "untrusted"}  # fmt: skip
    for cipher, word in words.items():
        how = ("--cipher-algo", cipher, "--force-mdc", "-s", "-u", SIGNER, "-r", "bob@example.org")
        message = gnupg("--armor", "--encrypt", *how, data=ENTITY)
        with knowing(HEADER + multipart_encrypted(message)) as opened:
            assert opened.content == HEADER + ENTITY
            assert opened.security.signature == word, (cipher, opened.security)


def test_a_session_key_of_one_form_opens_no_content_of_the_other(
    own: OpenPGPKey, sent: dict[str, bytes], knowing: Opener
) -> None:
    """RFC 9580 section 10.3.2.1: a key for authenticated encryption is used for nothing weaker."""
    content = packet(11, b"b\0" + bytes(4) + ENTITY)
    for mixed, status in ((False, "decrypted"), (True, "failed")):
        message = sealed_again(sent[own.id], own, content, mixed=mixed)
        with knowing(HEADER + in_base64(message)) as opened:
            assert opened.security.status == status, opened.security
            assert (opened.content is None) == mixed


@pytest.mark.parametrize("profile", [Profile.RFC4880, Profile.RFC9580])
@pytest.mark.parametrize(
    "suite", [CipherSuite.Cv25519, CipherSuite.RSA2k, CipherSuite.P256, CipherSuite.Cv448]
)
def test_the_session_key_of_each_kind_of_key(profile: Profile, suite: CipherSuite) -> None:
    person = Person("bob@example.org", profile=profile, cipher_suite=suite)
    (key,) = IdentityIndex.load([person.stored("key")]).openpgp  # type: ignore[list-item]
    text = b"Please pay 4711." * 300_000  # more than a chunk
    read = whole_message(region(encrypt(text, [person.public], armor=False)))
    assert read.data[0] == 2
    found = [decrypted(read, key, one).packets for one in key.subkeys]
    ((kind, body),) = packets_of(found[0])
    assert (kind, body[6:]) == (11, text)


def test_eax_is_that_of_its_authors() -> None:
    """Bellare, Rogaway and Wagner, "The EAX Mode of Operation" (2004), appendix E."""
    key, nonce = "91945D3F4DCBEE0BF45EF52255F095A4", "BECAF043B0A23D843194BA972C66DEBD"
    sealed = bytes.fromhex("19DD5C4C9331049D0BDAB0277408F67967E5")
    ad = bytes.fromhex("FA3BFD4806EB53FA")
    assert decrypt_eax(bytes.fromhex(key), bytes.fromhex(nonce), sealed, ad).hex() == "f7fb"
    with pytest.raises(InvalidTag):
        decrypt_eax(bytes.fromhex(key), bytes.fromhex(nonce), sealed, ad + b"x")
