"""Signatures that are mathematically right and that Sequoia refuses: made before their key was
renewed, when it had expired, by SHA-1; beside what GnuPG says of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pysequoia import Cert
from pysequoia.packet import PacketPile, Tag

from services.decryptor.openpgp import renewed_keys
from services.decryptor.openpgp.signature_packets import fits, read_signature
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex, parse_certificate
from shared.certificates.openpgp_subkeys import framed
from tests.unit.smime.gnupg import GnuPG
from tests.unit.smime.mails import ENTITY, HEADER, TEXT, Opener
from tests.unit.smime.pgp_packets import certified, made_signature, packet, public_of
from tests.unit.smime.test_openpgp import multipart_encrypted
from tests.unit.smime.test_openpgp_revoked import revoke_key

pytestmark = pytest.mark.promise("F3")

SIGNER, BOB = "alice@example.org", "bob@example.org"
MADE, SIGNED, EXPIRED, EXTENDED = (
    "20240101T000000", "20240301T000000", "20250601T000000", "20250701T000000",
)  # fmt: skip
TEXTUAL = ENTITY.replace(TEXT, b"")


@pytest.fixture
def gnupg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GnuPG]:
    gnupg = GnuPG(tmp_path_factory.mktemp("gnupg"))
    gnupg("--quick-gen-key", f"Alice <{SIGNER}>", "ed25519", "sign,cert", "1y", at=MADE)
    gnupg("--quick-gen-key", BOB, "rsa2048", "encrypt,cert", "never", at=MADE)
    yield gnupg
    gnupg.close()


def detached(gnupg: GnuPG, *options: str, at: str) -> bytes:
    signature = gnupg("--armor", "--detach-sign", "-u", SIGNER, *options, data=ENTITY, at=at)
    return (
        b'Content-Type: multipart/signed; protocol="application/pgp-signature"; boundary=s\r\n\r\n'
        b"--s\r\n" + ENTITY + b"\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n"
        + signature + b"\r\n--s--\r\n"
    )  # fmt: skip


def in_the_text(gnupg: GnuPG, *options: str, at: str) -> bytes:
    lines = TEXT + b"trailing \t \r\n- dash\r\n"
    return TEXTUAL + gnupg("--clearsign", "-u", SIGNER, *options, data=lines, at=at)


def signed(gnupg: GnuPG, *options: str, at: str) -> bytes:
    made = gnupg("--armor", "--sign", "-u", SIGNER, *options, data=ENTITY, at=at)
    return multipart_encrypted(made)


def encrypted(gnupg: GnuPG, *options: str, at: str) -> bytes:
    to = ("--sign", "-u", SIGNER, "--encrypt", "-r", BOB)
    return multipart_encrypted(gnupg("--armor", *to, *options, data=ENTITY, at=at))


def uncompressed(gnupg: GnuPG, *options: str, at: str) -> bytes:
    return encrypted(gnupg, "-z0", *options, at=at)


FORMS: Mapping[str, Callable[..., bytes]] = {
    "detached": detached,
    "detached text": lambda gnupg, *options, at: detached(gnupg, "--textmode", *options, at=at),
    "in the text": in_the_text,
    "signed": signed,
    "encrypted": encrypted,
    "encrypted, not compressed": uncompressed,
}


def opener(gnupg: GnuPG, folder: Path, *more: bytes) -> Opener:
    """Of Bob, who knows Alice's key as it is now."""
    parsed = parse_certificate(gnupg.secret(BOB))
    stored = ("bob", parsed.kind, parsed.certificate, parsed.private_key)
    known = [gnupg("--export", SIGNER), *more]
    return Opener(
        IdentityIndex.load([stored]), TrustStore.load(senders=known, system=False), folder
    )


def extend(gnupg: GnuPG) -> None:
    gnupg("--quick-set-expire", gnupg.fingerprints(SIGNER)[0], "9y", at=EXTENDED)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("by", ["key", "subkey"])
def test_what_was_signed_before_a_key_was_extended_counts(
    by: str, form: str, gnupg: GnuPG, tmp_path: Path
) -> None:
    """GnuPG exports the newest self-signature alone."""
    if by == "subkey":
        gnupg("--quick-add-key", gnupg.fingerprints(SIGNER)[0], "ed25519", "sign", "never", at=MADE)
    raw = HEADER + FORMS[form](gnupg, at=SIGNED)
    with opener(gnupg, tmp_path)(raw) as opened:
        assert (opened.security.signature, opened.security.reason) == ("valid", "")
    extend(gnupg)
    opens = opener(gnupg, tmp_path)
    with opens(raw) as opened:
        assert opened.security.signature == "valid", opened.security
        assert opened.security.signer == SIGNER
        assert "renewed" in opened.security.reason
        assert isinstance(opened.content, bytes)
        assert TEXT[:20] in opened.content
    changed = raw.replace(b"aus K", b"aus k", 1)
    if changed != raw:
        with opens(changed) as opened:
            assert opened.security.signature == "invalid", opened.security
    if form == "detached":
        (signature,) = [one for one in raw.split(b"--s\r\n") if b"PGP SIG" in one]
        armour = signature[signature.index(b"-----BEGIN") : signature.rindex(b"\r\n--s--")]
        (tmp_path / "signature").write_bytes(armour)
        (tmp_path / "text").write_bytes(ENTITY)
        gnupg("--verify", str(tmp_path / "signature"), str(tmp_path / "text"))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_right_and_does_not_count_is_not_called_invalid(
    form: str, gnupg: GnuPG, tmp_path: Path
) -> None:
    by_sha1 = HEADER + FORMS[form](gnupg, "--digest-algo", "SHA1", at=SIGNED)
    before = gnupg("--export", SIGNER)
    extend(gnupg)
    late = HEADER + FORMS[form](gnupg, at="20250801T000000")
    opens = opener(gnupg, tmp_path)
    with opens(late) as opened:
        assert (opened.security.signature, opened.security.reason) == ("valid", "")
    for raw, known, words in ((by_sha1, None, "SHA-1"), (late, before, "had expired")):
        if known is not None:
            opens.trust = TrustStore.load(senders=[known], system=False)
        with opens(raw) as opened:
            assert opened.security.signature == "untrusted", opened.security
            assert opened.security.signer == SIGNER
            assert words in opened.security.reason


def test_a_renewed_key_that_is_revoked_is_revoked(gnupg: GnuPG, tmp_path: Path) -> None:
    raw = HEADER + detached(gnupg, at=SIGNED)
    extend(gnupg)
    revoke_key(gnupg)
    with opener(gnupg, tmp_path)(raw) as opened:
        assert opened.security.signature == "revoked", opened.security


def by_hand(signature: bytes, author: str) -> bytes:
    return HEADER.replace(SIGNER.encode(), author.encode()) + (
        b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n" + ENTITY
        + b"\r\n--s\r\nContent-Type: application/pgp-signature\r\n"
        b"Content-Transfer-Encoding: binary\r\n\r\n" + packet(2, signature) + b"\r\n--s--\r\n"
    )  # fmt: skip


DAY = 86_400
NOTATION = b"\x0d\x94" + bytes(4) + b"\0\1\0\3xyes"  # critical, and nobody knows it


@pytest.mark.parametrize(
    ("day", "kind", "more", "flags", "key_days", "why"),
    [
        (-90, 0, b"", 3, 0, ""),
        (-90, 1, b"", 3, 0, ""),
        (-90, 0, b"", 3, 120, ""),
        (-110, 0, b"", 3, 0, "before its key"),
        (3, 0, b"", 3, 0, "still to come"),
        (-90, 2, b"", 3, 0, "not good for signing"),
        (-90, 0, NOTATION, 3, 0, "subpacket 20"),
        (-90, 0, b"\5\3" + (DAY).to_bytes(4), 3, 0, "was to last until"),
        (-90, 0, b"", 1, 0, "not good for signing"),
        (-40, 0, b"", 3, 50, "not good for signing"),
    ],
    ids=["usual", "a text", "a key with an end", "before the key was made", "tomorrow",
         "of another type", "a critical notation", "no longer valid", "a key that does not sign",
         "an expired key"],
)  # fmt: skip
def test_what_a_renewed_key_needs(
    day: int, kind: int, more: bytes, flags: int, key_days: int, why: str,
    gnupg: GnuPG, tmp_path: Path,
) -> None:  # fmt: skip
    """Made 100 days ago, its self-signature now."""
    owner, now = Ed25519PrivateKey.generate(), int(time.time())
    key = public_of(owner, now - 100 * DAY)
    end = bytes((5, 9)) + (key_days * DAY).to_bytes(4) if key_days else b""
    certificate = certified(owner, key, b"Mallory <mallory@evil.example>", flags=flags, more=end)
    text = ENTITY if kind == 0 else ENTITY.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    signature = made_signature(owner, key, kind, text, now + day * DAY, more=more)
    with opener(gnupg, tmp_path, certificate)(by_hand(signature, "mallory@evil.example")) as opened:
        assert opened.security.signature == ("untrusted" if why else "valid"), opened.security
        assert (why or "was renewed since it signed") in opened.security.reason


@pytest.mark.parametrize(
    ("by", "word"), [(10, "valid"), (3, "untrusted"), (2, "untrusted"), (1, "invalid")]
)
def test_the_same_digests_prove_nothing_as_in_smime(
    by: int, word: str, gnupg: GnuPG, tmp_path: Path
) -> None:
    owner, now = Ed25519PrivateKey.generate(), int(time.time())
    key = public_of(owner, now - DAY)
    certificate = certified(owner, key, b"Mallory <mallory@evil.example>")
    signature = made_signature(owner, key, 0, ENTITY, now, by=by)
    with opener(gnupg, tmp_path, certificate)(by_hand(signature, "mallory@evil.example")) as opened:
        assert opened.security.signature == word, opened.security
        assert opened.security.reason == "" or "signature uses" in opened.security.reason


def test_the_self_signatures_that_are_tried_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 6,000 pairs of a self-signature that fits nothing and a user id."""
    tried = 0

    def counted(*of: Any) -> bool | None:
        nonlocal tried
        tried += 1
        return fits(*of)

    monkeypatch.setattr(renewed_keys, "fits", counted)
    owner, now = Ed25519PrivateKey.generate(), int(time.time())
    key = public_of(owner, now - 100 * DAY)
    good = certified(owner, key, b"Alice <alice@example.org>")
    wrong = [
        packet(2, made_signature(owner, key, 0x13, b"another", now + number))
        for number in range(1, 61)
    ]
    names = b"".join(packet(13, b"%d" % number) for number in range(99))
    signature = read_signature(made_signature(owner, key, 0, ENTITY, now - 90 * DAY))
    assert signature is not None
    for more, counts in ((names, True), (wrong[0] + names, True), (b"".join(wrong) + names, False)):
        tried = 0
        certificate = Cert.from_bytes(good + more)
        found = renewed_keys.is_renewed_since(signature, certificate, certificate.fingerprint)
        assert (found, tried <= 600) == (counts, True)


@pytest.mark.parametrize("answered", [True, False])
def test_nobody_makes_anothers_key_a_part_of_their_own(
    answered: bool, gnupg: GnuPG, tmp_path: Path
) -> None:
    """A subkey that signs answers the key that binds it (RFC 9580 section 5.2.1.9)."""
    alice = Ed25519PrivateKey.generate()
    mallory = Ed25519PrivateKey.generate()
    at = int(time.time()) - 90 * DAY
    key, subkey = public_of(mallory, at - DAY), public_of(alice, at - DAY)
    both = framed(key) + framed(subkey)
    back = made_signature(alice, subkey, 0x19, both, int(time.time()))
    binding = made_signature(
        mallory, key, 0x18, both, int(time.time()), flags=2, embedded=back if answered else b""
    )
    certificate = certified(mallory, key, b"Mallory <mallory@evil.example>") + (
        packet(14, subkey) + packet(2, binding)
    )
    raw = by_hand(made_signature(alice, subkey, 0, ENTITY, at), "mallory@evil.example")
    with opener(gnupg, tmp_path, certificate)(raw) as opened:
        word = "valid" if answered else "untrusted"
        assert opened.security.signature == word, opened.security


def test_what_gnupg_writes_is_what_was_expected(gnupg: GnuPG) -> None:
    """One self-signature remains of two."""
    extend(gnupg)
    packets = list(PacketPile.from_bytes(gnupg("--export", SIGNER)))
    assert [one.tag == Tag.Signature for one in packets] == [False, False, True]
