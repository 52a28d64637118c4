"""Every part of an OpenPGP key opens what was encrypted for it, whatever its age (RFC 9580)."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pysequoia import CipherSuite, Profile, Tsk, encrypt

from services.decryptor.opening import TrustStore
from services.decryptor.openpgp.packet_body import PacketBody
from services.decryptor.openpgp.secret_parts import _stretched
from shared.certificates import IdentityIndex, parse_certificate
from shared.certificates.openpgp_keys import secret_packet
from shared.errors import InvalidInput
from tests.unit.smime.gnupg import GnuPG
from tests.unit.smime.mails import ENTITY, HEADER, Opener
from tests.unit.smime.pgp_packets import locked, packet
from tests.unit.smime.test_openpgp import Person, multipart_encrypted

pytestmark = pytest.mark.promise("C2")

CASES = Path(__file__).parent / "cases" / "decrypt"
OLD = "20150101T000000"
LATER = "20150601T000000"


@pytest.fixture(scope="module")
def gnupg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GnuPG]:
    gnupg = GnuPG(tmp_path_factory.mktemp("gnupg"))
    yield gnupg
    gnupg.close()


def opener(secret: bytes, folder: Path, password: str | None = None) -> Opener:
    parsed = parse_certificate(secret, password)
    stored = ("key", parsed.kind, parsed.certificate, parsed.private_key)
    return Opener(IdentityIndex.load([stored]), TrustStore(), folder)


def assert_opens(opener: Opener, message: bytes) -> None:
    with opener(HEADER + multipart_encrypted(message)) as opened:
        assert opened.security.status == "decrypted", opened.security
        assert opened.content == HEADER + ENTITY


def test_mail_to_an_older_subkey(tmp_path: Path) -> None:
    opens = opener((CASES / "pgp-two-subkeys.asc").read_bytes(), tmp_path)
    with opens((CASES / "pgp-older-subkey.eml").read_bytes()) as opened:
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(b"\r\n\r\nto the first subkey\r\n")


@pytest.mark.parametrize(
    "subkeys", [("rsa2048", "rsa2048"), ("cv25519", "cv25519", "rsa3072"), ("nistp384", "nistp521")]
)
def test_each_subkey(subkeys: tuple[str, ...], gnupg: GnuPG, tmp_path: Path) -> None:
    name = "-".join(subkeys)
    gnupg.key(f"{name}@example.org", *subkeys)
    opens = opener(gnupg.secret(f"{name}@example.org"), tmp_path)
    parts = gnupg.fingerprints(f"{name}@example.org")[1:]
    assert len(parts) == len(subkeys)
    for part in parts:
        assert_opens(opens, gnupg.encrypt(ENTITY, part))
        assert_opens(opens, gnupg.encrypt(ENTITY, part, "--throw-keyids"))


def test_primary_key_that_encrypts_beside_a_subkey(gnupg: GnuPG, tmp_path: Path) -> None:
    gnupg("--quick-gen-key", "both@example.org", "rsa2048", "sign,cert,encrypt", "never")
    primary = gnupg.fingerprints("both@example.org")[0]
    gnupg("--quick-add-key", primary, "cv25519", "encrypt", "never")
    opens = opener(gnupg.secret("both@example.org"), tmp_path)
    for part in gnupg.fingerprints("both@example.org"):
        assert_opens(opens, gnupg.encrypt(ENTITY, part))


def test_key_in_whatever_file_it_came_in(gnupg: GnuPG, tmp_path: Path) -> None:
    gnupg.key("filed@example.org", "cv25519")
    secret = gnupg.secret("filed@example.org")
    public = gnupg("--armor", "--export", "filed@example.org")
    message = gnupg.encrypt(ENTITY, gnupg.fingerprints("filed@example.org")[1])
    for file in (
        public + secret,
        secret + public,
        b"\xef\xbb\xbf" + secret,
        b"My key:\r\n\r\n" + secret.replace(b"\n", b"\r\n") + b"\r\nGreetings\r\n",
        gnupg("--export-secret-keys", "filed@example.org"),
    ):
        assert_opens(opener(file, tmp_path), message)
    with pytest.raises(InvalidInput, match="no private key"):
        parse_certificate(public)


def test_primary_key_that_stays_elsewhere(gnupg: GnuPG, tmp_path: Path) -> None:
    gnupg.key("offline@example.org", "cv25519", "rsa2048")
    opens = opener(gnupg.secret("offline@example.org", subkeys=True), tmp_path)
    for part in gnupg.fingerprints("offline@example.org")[1:]:
        assert_opens(opens, gnupg.encrypt(ENTITY, part))


def test_expired_key_with_sha1_signatures(gnupg: GnuPG, tmp_path: Path) -> None:
    """Policy is for signing and verifying, not for reading one's own mail."""
    gnupg.key("old@example.org", "rsa2048", "nistp256", at=OLD, expire="1y")
    parsed = parse_certificate(gnupg.secret("old@example.org"))
    assert parsed.emails == ("old@example.org",)
    assert parsed.not_before.isoformat().startswith("2015-01-01")
    assert parsed.not_after is not None
    assert parsed.not_after.year in (2015, 2016)
    opens = opener(gnupg.secret("old@example.org"), tmp_path)
    for part in gnupg.fingerprints("old@example.org")[1:]:
        assert_opens(opens, gnupg.encrypt(ENTITY, part, at=LATER))


def test_sha1_signatures_without_end(gnupg: GnuPG, tmp_path: Path) -> None:
    gnupg.key("sha1@example.org", "cv25519", at=OLD)
    parsed = parse_certificate(gnupg.secret("sha1@example.org"))
    assert (parsed.emails, parsed.not_after) == (("sha1@example.org",), None)
    opens = opener(gnupg.secret("sha1@example.org"), tmp_path)
    assert_opens(opens, gnupg.encrypt(ENTITY, gnupg.fingerprints("sha1@example.org")[1], at=LATER))


def test_revoked_subkey(gnupg: GnuPG, tmp_path: Path) -> None:
    primary = gnupg.key("revoked@example.org", "rsa2048", "rsa2048")
    part = gnupg.fingerprints("revoked@example.org")[1]
    message = gnupg.encrypt(ENTITY, part)
    gnupg(
        "--command-fd", "0", "--edit-key", primary,
        data=b"key 1\nrevkey\ny\n0\n\ny\nsave\n",
    )  # fmt: skip
    assert b"\nsub:r:" in gnupg("--list-keys", "--with-colons", "revoked@example.org")
    assert_opens(opener(gnupg.secret("revoked@example.org"), tmp_path), message)


def test_parts_behind_a_password(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    gnupg = GnuPG(tmp_path_factory.mktemp("protected"), "hunter2")
    try:
        gnupg.key("safe@example.org", "rsa2048", "cv25519")
        secret = gnupg.secret("safe@example.org")
        for wrong in (None, "wrong"):
            with pytest.raises(InvalidInput) as caught:
                parse_certificate(secret, wrong)
            assert caught.value.field == "password"
        opens = opener(secret, tmp_path, "hunter2")
        for part in gnupg.fingerprints("safe@example.org")[1:]:
            assert_opens(opens, gnupg.encrypt(ENTITY, part))
    finally:
        gnupg.close()


@pytest.mark.parametrize("profile", [Profile.RFC4880, Profile.RFC9580])
@pytest.mark.parametrize("suite", [CipherSuite.Cv25519, CipherSuite.Cv448, CipherSuite.P256])
def test_keys_of_another_implementation(
    profile: Profile, suite: CipherSuite, tmp_path: Path
) -> None:
    secret = Tsk.generate("b <b@example.org>", profile=profile, cipher_suite=suite)
    message = encrypt(ENTITY, [secret.extract_certificate()])
    assert_opens(opener(str(secret).encode(), tmp_path), message)


def test_post_quantum_key(tmp_path: Path) -> None:
    """ML-KEM-768 with X25519, in a key of version 6."""
    secret = Tsk.generate(
        "b <b@example.org>", profile=Profile.RFC9580, cipher_suite=CipherSuite.MLDSA65_Ed25519
    )
    message = encrypt(ENTITY, [secret.extract_certificate()])
    assert_opens(opener(str(secret).encode(), tmp_path), message)


@pytest.mark.parametrize("size", [5, 16, 40])
def test_a_session_key_of_no_cipher_opens_nothing(size: int, tmp_path: Path) -> None:
    """Beside another copy of the session key, which opens the mail all the same."""
    bob = Person("bob@example.org", cipher_suite=CipherSuite.RSA2k)
    identities = IdentityIndex.load([bob.stored("bob")])  # type: ignore[list-item]
    (key,) = identities.openpgp
    subkey = key.subkeys[0]
    octets = PacketBody(secret_packet(key, subkey.fingerprint).body)
    octets.take(6)  # version, time, algorithm
    n, e = (int.from_bytes(octets.mpi()) for _ in range(2))
    session = os.urandom(size)
    plain = b"\0" + session + (sum(session) & 0xFFFF).to_bytes(2)
    sealed = rsa.RSAPublicNumbers(e, n).public_key().encrypt(plain, padding.PKCS1v15())
    mpi = int.from_bytes(sealed).bit_length().to_bytes(2) + sealed.lstrip(b"\0")
    copy = packet(1, b"\3" + bytes.fromhex(subkey.key_id) + b"\1" + mpi)
    opens = Opener(identities, TrustStore(), tmp_path)
    damaged = multipart_encrypted(
        base64.encodebytes(copy + packet(18, b"\1" + bytes(60))), b"base64"
    )
    with opens(HEADER + damaged) as opened:
        reason = opened.security.reason
        assert reason and "could not be analysed" not in reason, opened.security
    whole = copy + encrypt(ENTITY, [bob.public], armor=False)
    with opens(HEADER + multipart_encrypted(base64.encodebytes(whole), b"base64")) as opened:
        assert opened.security.status == "decrypted", opened.security


def test_key_that_only_signs_is_refused(gnupg: GnuPG) -> None:
    gnupg.key("signs@example.org")
    with pytest.raises(InvalidInput, match="no part that can decrypt"):
        parse_certificate(gnupg.secret("signs@example.org"))


def test_a_key_behind_an_empty_password(tmp_path: Path) -> None:
    """Which is another thing than none (RFC 9580 section 3.7), and looks the same to people."""
    bob = Person("bob@example.org")
    file = locked(bob.secret, "", 254)
    for password in (None, ""):
        assert_opens(opener(file, tmp_path, password), encrypt(ENTITY, [bob.public]))
    with pytest.raises(InvalidInput, match="does not open") as caught:
        parse_certificate(file, "another")
    assert caught.value.field == "password"
    # The simplest form has neither a salt nor anything else to repeat.
    assert _stretched(PacketBody(b"\0\x08"), b"", 32) == hashlib.sha256(b"").digest()


def test_several_keys_in_one_file_are_named() -> None:
    one, other = Person("one@example.org"), Person("other@example.org")
    for file in (bytes(one.secret) + bytes(other.secret), f"{one.secret}\n{other.secret}".encode()):
        with pytest.raises(InvalidInput, match="2 keys in this file") as caught:
            parse_certificate(file)
        for who in (one, other):
            assert who.public.fingerprint in str(caught.value)
        assert "one@example.org" in str(caught.value)
        assert "gpg --export-secret-keys" in (caught.value.hint or "")


def test_a_message_is_no_damaged_key() -> None:
    message = encrypt(ENTITY, [Person("bob@example.org").public])
    with pytest.raises(InvalidInput, match="no private key"):
        parse_certificate(message)


@pytest.mark.parametrize("version", [2, 3, 5, 7])
def test_a_key_of_another_version_is_named(version: int) -> None:
    """What such a key holds is not read, so its first octets will do."""
    body = bytes((version,)) + bytes(4) + b"\x16" + (51).to_bytes(4) + bytes(120)
    file = packet(5, body) + packet(13, b"Bob <bob@example.org>")
    with pytest.raises(InvalidInput, match=f"version {version}.*: Bob <bob@example.org>") as caught:
        parse_certificate(file)
    assert "4 and 6" in (caught.value.hint or "")
