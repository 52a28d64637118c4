"""Signers whose OpenPGP key, subkey or user id was revoked, by GnuPG (RFC 9580 section 5.2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from tests.unit.smime.gnupg import GnuPG
from tests.unit.smime.mails import ENTITY, HEADER, TEXT, Opener
from tests.unit.smime.test_openpgp import Person, multipart_encrypted

pytestmark = pytest.mark.promise("F3")

SIGNER = "alice@example.org"
BEFORE = "20250101T000000"


@pytest.fixture(scope="module")
def bob() -> Person:
    return Person("bob@example.org")


@pytest.fixture
def gnupg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GnuPG]:
    gnupg = GnuPG(tmp_path_factory.mktemp("gnupg"))
    gnupg("--quick-gen-key", f"Alice <{SIGNER}>", "ed25519", "sign,cert", "never", at=BEFORE)
    yield gnupg
    gnupg.close()


def detached(gnupg: GnuPG, bob: Person) -> bytes:
    signature = gnupg("--armor", "--detach-sign", data=ENTITY)
    return (
        b'Content-Type: multipart/signed; protocol="application/pgp-signature"; boundary=s\r\n\r\n'
        b"--s\r\n" + ENTITY + b"\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n"
        + signature + b"\r\n--s--\r\n"
    )  # fmt: skip


def in_the_text(gnupg: GnuPG, bob: Person) -> bytes:
    return ENTITY.replace(TEXT, gnupg("--clearsign", data=TEXT))


def encrypted(gnupg: GnuPG, bob: Person) -> bytes:
    gnupg("--import", data=str(bob.public).encode())
    return multipart_encrypted(
        gnupg("--armor", "--sign", "-u", SIGNER, "--encrypt", "-r", "bob@example.org", data=ENTITY)
    )


FORMS: Mapping[str, Callable[[GnuPG, Person], bytes]] = {
    "detached": detached,
    "in the text": in_the_text,
    "encrypted": encrypted,
}


def opener(gnupg: GnuPG, bob: Person, folder: Path) -> Opener:
    """Of Bob, who knows Alice's key as it is now."""
    trust = TrustStore.load(senders=[gnupg("--armor", "--export", SIGNER)], system=False)
    return Opener(IdentityIndex.load([bob.stored("bob")]), trust, folder)  # type: ignore[list-item]


def revoke_key(gnupg: GnuPG) -> None:
    """With the certificate that GnuPG makes beside each key."""
    file = gnupg.home / "openpgp-revocs.d" / f"{gnupg.fingerprints(SIGNER)[0]}.rev"
    gnupg("--import", data=file.read_bytes().replace(b"\n:-----BEGIN", b"\n-----BEGIN"))
    assert b"pub:r:" in gnupg("--list-keys", "--with-colons", SIGNER)


def revoke_subkey(gnupg: GnuPG) -> None:
    gnupg(
        "--command-fd", "0", "--edit-key", SIGNER, data=b"key 1\nrevkey\ny\n1\n\ny\nsave\n"
    )  # fmt: skip
    assert b"\nsub:r:" in gnupg("--list-keys", "--with-colons", SIGNER)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("part", ["key", "subkey"])
def test_a_revoked_signer_is_named_and_never_valid(
    form: str, part: str, gnupg: GnuPG, bob: Person, tmp_path: Path
) -> None:
    if part == "subkey":
        fingerprint = gnupg.fingerprints(SIGNER)[0]
        gnupg("--quick-add-key", fingerprint, "ed25519", "sign", "never", at=BEFORE)
    raw = HEADER + FORMS[form](gnupg, bob)
    with opener(gnupg, bob, tmp_path)(raw) as opened:
        assert opened.security.signature == "valid", opened.security
    (revoke_key if part == "key" else revoke_subkey)(gnupg)
    opens = opener(gnupg, bob, tmp_path)
    with opens(raw) as opened:
        assert opened.security.signature == "revoked", opened.security
        assert opened.security.signer == SIGNER
        assert "is revoked" in opened.security.reason
    if form == "detached":
        changed = raw.replace(b"aus K", b"aus k", 1)
        with opens(changed) as opened:
            assert opened.security.signature == "invalid", "changed, whoever revoked what"


def test_a_revoked_user_id_is_no_author(gnupg: GnuPG, bob: Person, tmp_path: Path) -> None:
    fingerprint = gnupg.fingerprints(SIGNER)[0]
    other = "Alice <alice@elsewhere.example>"
    gnupg("--quick-add-uid", fingerprint, other, at=BEFORE)
    raw = HEADER.replace(SIGNER.encode(), b"alice@elsewhere.example") + detached(gnupg, bob)
    with opener(gnupg, bob, tmp_path)(raw) as opened:
        assert opened.security.signature == "valid", opened.security
    gnupg("--quick-revoke-uid", fingerprint, other)
    with opener(gnupg, bob, tmp_path)(raw) as opened:
        assert opened.security.signature == "mismatch", opened.security
