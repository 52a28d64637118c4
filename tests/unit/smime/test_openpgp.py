"""OpenPGP mails: the same rows as S/MIME, with uploaded secret keys."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pysequoia import Cert, Profile, SignatureMode, Tsk, encrypt, sign

from services.decryptor.opening import MailLimits, TrustStore
from shared.certificates import IdentityIndex, parse_certificate
from shared.errors import InvalidInput
from tests.unit.smime.mails import ENTITY, HEADER, TEXT, Opener


class Person:
    def __init__(self, email: str, **how: object) -> None:
        self.secret = Tsk.generate(f"Somebody <{email}>", **how)  # type: ignore[arg-type]
        self.public = self.secret.extract_certificate()

    def stored(self, id: str) -> tuple[str, str, bytes, bytes]:
        parsed = parse_certificate(str(self.secret).encode())
        return id, parsed.kind, parsed.certificate, parsed.private_key


@pytest.fixture(scope="module")
def bob() -> Person:
    return Person("bob@example.org")


@pytest.fixture(scope="module")
def alice() -> Person:
    return Person("alice@example.org")


@pytest.fixture(scope="module")
def stranger() -> Person:
    return Person("stranger@example.org")


@pytest.fixture
def pgp(bob: Person, alice: Person, tmp_path: Path) -> Opener:
    identities = IdentityIndex.load([bob.stored("bob")])  # type: ignore[list-item]
    trust = TrustStore.load(senders=[str(alice.public).encode()], system=False)
    return Opener(identities, trust, tmp_path)


def multipart_encrypted(message: bytes, encoding: bytes = b"7bit") -> bytes:
    return (
        b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";'
        b" boundary=e\r\n\r\n"
        b"--e\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
        b"--e\r\nContent-Type: application/octet-stream; name=encrypted.asc\r\n"
        b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + message + b"\r\n--e--\r\n"
    )


def multipart_signed(person: Person, entity: bytes = ENTITY) -> bytes:
    signature = sign(person.secret.signer(), entity, mode=SignatureMode.DETACHED)
    return (
        b'Content-Type: multipart/signed; protocol="application/pgp-signature"; boundary=s\r\n\r\n'
        b"--s\r\n" + entity + b"\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n"
        + signature + b"\r\n--s--\r\n"
    )  # fmt: skip


@pytest.mark.promise("C2")
@pytest.mark.parametrize("profile", [Profile.RFC4880, Profile.RFC9580])
@pytest.mark.parametrize("armoured", [True, False])
def test_pgp_mime(profile: Profile, armoured: bool, tmp_path: Path) -> None:
    person = Person("bob@example.org", profile=profile)
    identities = IdentityIndex.load([person.stored("key-1")])  # type: ignore[list-item]
    message = encrypt(ENTITY, [person.public], armor=armoured)
    raw = HEADER + (
        multipart_encrypted(message)
        if armoured
        else multipart_encrypted(base64.encodebytes(message), b"base64")
    )
    with Opener(identities, TrustStore(), tmp_path)(raw) as opened:
        security = opened.security
        assert opened.content == HEADER + ENTITY, security
        assert (security.status, security.integrity) == ("decrypted", "aead")
        assert security.certificate == "key-1"
        assert security.signature == "none"
        assert len(security.recipients) == 1
        assert security.recipients[0].startswith("key id ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise("C3")
def test_signed_and_encrypted(pgp: Opener, alice: Person, stranger: Person, bob: Person) -> None:
    for who, expected in ((alice, "valid"), (stranger, "untrusted"), (bob, "mismatch")):
        if who is bob:
            pgp.trust = TrustStore.load(senders=[str(bob.public).encode()], system=False)
        message = encrypt(ENTITY, [bob.public], signer=who.secret.signer())
        with pgp(HEADER + multipart_encrypted(message)) as opened:
            assert opened.content == HEADER + ENTITY
            assert opened.security.signature == expected, opened.security.reason
    with pgp(HEADER + multipart_encrypted(encrypt(multipart_signed(bob), [bob.public]))) as opened:
        assert opened.security.signature == "mismatch"
        assert opened.security.signer == "bob@example.org"
        assert "not the sender" in opened.security.reason


@pytest.mark.promise("C3")
def test_detached_signature(pgp: Opener, alice: Person, stranger: Person) -> None:
    raw = HEADER + multipart_signed(alice)
    with pgp(raw) as opened:
        assert opened.content == HEADER + ENTITY
        assert opened.security.signature == "valid", opened.security.reason
        assert opened.security.signer == "alice@example.org"
    with pgp(raw.replace(b"\r\n", b"\n")) as opened:
        assert opened.security.signature == "valid", opened.security.reason
    with pgp(raw.replace(b"aus K", b"aus k", 1)) as opened:
        assert opened.security.signature == "invalid"
        # Whom the layer names is a claim here, as of S/MIME.
        assert opened.security.signer == "alice@example.org"
        assert [one.signer for one in opened.security.layers] == ["alice@example.org"]
    with pgp(HEADER + multipart_signed(stranger)) as opened:
        assert opened.security.signature == "untrusted"
        assert "not known" in opened.security.reason


@pytest.mark.promise("C2")
def test_between_lines_of_a_text(pgp: Opener, bob: Person) -> None:
    message = encrypt(TEXT, [bob.public]).replace(b"\n", b"\r\n")
    with pgp(HEADER + b"Content-Type: text/plain\r\n\r\n\r\n" + message) as opened:
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(TEXT)
        assert b'charset="utf-8"' in opened.content
        assert opened.security.status == "decrypted"
    for raw in (b"Look:\r\n" + message, message + b"-- \r\nsent by a list\r\n"):
        with pgp(HEADER + b"Content-Type: text/plain\r\n\r\n" + raw) as opened:
            assert opened.content is None
            assert opened.security.status == "unsupported"
            assert opened.security.encrypted


@pytest.mark.promise("C3")
def test_signed_text(pgp: Opener, alice: Person) -> None:
    text = sign(alice.secret.signer(), b"Good morning\n", mode=SignatureMode.CLEAR)
    with pgp(HEADER + b"\r\n" + text) as opened:
        assert opened.security.signature == "valid", opened.security.reason
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(b"8bit\r\n\r\nGood morning\n")
    with pgp(HEADER + b"\r\n" + text.replace(b"morning", b"evening")) as opened:
        assert opened.security.signature == "invalid"
    with pgp(HEADER + b"\r\n" + text + b"and one more thing") as opened:
        assert opened.security.signature == "partial"


@pytest.mark.promise("C4")
def test_for_somebody_else(pgp: Opener, stranger: Person) -> None:
    with pgp(HEADER + multipart_encrypted(encrypt(ENTITY, [stranger.public]))) as opened:
        assert opened.content is None
        assert opened.security.status == "no_recipient"
        assert opened.security.encrypted
        assert len(opened.security.recipients) == 1
    with pgp(HEADER + multipart_encrypted(encrypt(ENTITY, passwords=["x"]))) as opened:
        assert opened.security.status == "unsupported"


@pytest.mark.promise("C4")
def test_damage_is_a_fact(pgp: Opener, bob: Person) -> None:
    message = encrypt(ENTITY, [bob.public], armor=False)
    for place in range(0, len(message), 23):
        damaged = bytearray(message)
        damaged[place] ^= 4
        encoded = base64.encodebytes(bytes(damaged))
        with pgp(HEADER + multipart_encrypted(encoded, b"base64")) as opened:
            assert opened.content in (None, HEADER + ENTITY)
            assert opened.content or opened.security.reason
            assert "analysed" not in opened.security.reason
    for length in range(0, len(message), 61):
        encoded = base64.encodebytes(message[:length])
        with pgp(HEADER + multipart_encrypted(encoded, b"base64")) as opened:
            assert opened.content is None


@pytest.mark.promise("C4")
def test_unpacked_size_is_limited(pgp: Opener, bob: Person) -> None:
    message = encrypt(ENTITY + b"\0" * 3_000_000, [bob.public])
    with pgp(
        HEADER + multipart_encrypted(message), MailLimits(decompressed_bytes=1_000_000)
    ) as opened:
        assert opened.security.status == "failed"
        assert "1000000" in opened.security.reason
        assert opened.content is None
    with pgp(HEADER + multipart_encrypted(message)) as opened:
        assert opened.security.status == "decrypted"


class TestGnuPG:
    """Messages and keys of the other implementation that people use."""

    @pytest.fixture(scope="class")
    @classmethod
    def home(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        folder = tmp_path_factory.mktemp("gnupg")
        folder.chmod(0o700)
        cls.run(
            folder, "--quick-gen-key", "Bob <bob@example.org>", "rsa2048", "sign,encrypt", "never"
        )
        yield folder
        subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False)
        shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def run(home: Path, *arguments: str, data: bytes = b"") -> bytes:
        done = subprocess.run(
            ["gpg", "--homedir", str(home), "--batch", "--pinentry-mode", "loopback",
             "--passphrase", "hunter2", "--trust-model", "always", *arguments],
            input=data, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    @pytest.mark.promise("C1")
    def test_protected_key(self, home: Path, tmp_path: Path) -> None:
        secret = self.run(home, "--export-secret-keys", "--armor", "bob@example.org")
        with pytest.raises(InvalidInput) as caught:
            parse_certificate(secret)
        assert caught.value.field == "password"
        with pytest.raises(InvalidInput) as caught:
            parse_certificate(secret, "wrong")
        assert caught.value.field == "password"
        parsed = parse_certificate(secret, "hunter2")
        assert parsed.kind == "openpgp"
        assert parsed.emails == ("bob@example.org",)
        assert "RSA" in parsed.key_type
        identities = IdentityIndex.load([("id", "openpgp", parsed.certificate, parsed.private_key)])
        for extra in ((), ("--throw-keyids",)):
            message = self.run(home, "--encrypt", "--armor", "-r", "bob@example.org", *extra,
                               data=ENTITY)  # fmt: skip
            with Opener(identities, TrustStore(), tmp_path)(
                HEADER + multipart_encrypted(message)
            ) as opened:
                assert opened.content == HEADER + ENTITY, opened.security

    @pytest.mark.promise("C1")
    def test_public_key_is_refused(self, home: Path) -> None:
        for arguments in (("--armor",), ()):
            with pytest.raises(InvalidInput, match="no private key"):
                parse_certificate(self.run(home, "--export", *arguments))


def test_keys_split(alice: Person, bob: Person) -> None:
    both = bytes(alice.secret) + bytes(bob.secret)
    with pytest.raises(InvalidInput, match="There are 2 keys in this file"):
        parse_certificate(both)
    assert len(Cert.split_bytes(both)) == 2
