"""GnuPG's own encrypted packet (type 20, OCB), which GnuPG from 2.3 on writes.

Debian's GnuPG reads it and does not write it: the packets are built here under session keys that
GnuPG chose, and GnuPG opens each of them before Posthouse does.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESOCB3
from pysequoia.packet import PacketPile, Tag

from services.decryptor.cms.errors import NotOpened
from services.decryptor.opening import MailLimits, TrustStore
from services.decryptor.openpgp.recipients import whole_message
from services.decryptor.openpgp.reencryption import reencrypted
from shared.certificates import IdentityIndex, parse_certificate
from shared.mail.region import region
from tests.unit.smime.gnupg import GnuPG
from tests.unit.smime.mails import ENTITY, HEADER, Opener
from tests.unit.smime.test_openpgp import multipart_encrypted

pytestmark = pytest.mark.promise("F3")


@pytest.fixture(scope="module")
def gnupg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GnuPG]:
    gnupg = GnuPG(tmp_path_factory.mktemp("gnupg"))
    gnupg.key("bob@example.org", "rsa2048", "cv25519", "nistp256", "nistp521")
    gnupg("--quick-gen-key", "alice@example.org", "ed25519", "sign,cert", "never")
    yield gnupg
    gnupg.close()


@pytest.fixture
def opener(gnupg: GnuPG, tmp_path: Path) -> Opener:
    parsed = parse_certificate(gnupg.secret("bob@example.org"))
    stored = ("bob", parsed.kind, parsed.certificate, parsed.private_key)
    alice = gnupg("--export", "alice@example.org")
    trust = TrustStore.load(senders=[alice], system=False)
    return Opener(IdentityIndex.load([stored]), trust, tmp_path)


def packet(kind: int, body: bytes, *, partial: bool = False) -> bytes:
    if not partial:
        return bytes((0xC0 | kind, 0xFF)) + len(body).to_bytes(4) + body
    made = bytes((0xC0 | kind,))
    while len(body) > 512:
        made += b"\xe9" + body[:512]
        body = body[512:]
    size = len(body)
    if size < 192:
        return made + bytes((size,)) + body
    return made + ((size - 192) + (192 << 8)).to_bytes(2) + body


def sealed(cipher: int, key: bytes, plain: bytes, chunk: int = 16) -> bytes:
    """The body of an OCB packet (draft-ietf-openpgp-rfc4880bis-10 section 5.16)."""
    head = bytes((1, cipher, 2, chunk))
    start = os.urandom(15)
    context = AESOCB3(key)

    def nonce(number: int) -> bytes:
        return start[:7] + (int.from_bytes(start[7:]) ^ number).to_bytes(8)

    size = 1 << chunk + 6
    pieces = [plain[at : at + size] for at in range(0, len(plain), size)]
    made = b"".join(
        context.encrypt(nonce(i), piece, b"\xd4" + head + i.to_bytes(8))
        for i, piece in enumerate(pieces)
    )
    count = len(pieces)
    ending = b"\xd4" + head + count.to_bytes(8) + len(plain).to_bytes(8)
    return head + start + made + context.encrypt(nonce(count), b"", ending)


def message(gnupg: GnuPG, part: str, inner: bytes, *options: str, **how: object) -> bytes:
    """A message for that part of Bob's key, in GnuPG's own form, that GnuPG itself opens."""
    usual = gnupg(*options, "--encrypt", "-r", f"{part}!", data=b"x")
    said = gnupg("--show-session-key", "--status-fd", "1", "-o", "/dev/null", "-d", data=usual)
    found = re.search(rb"SESSION_KEY (\d+):([0-9A-F]+)", said)
    assert found is not None
    partial = bool(how.pop("partial", False))
    body = sealed(int(found[1]), bytes.fromhex(found[2].decode()), inner, **how)  # type: ignore[arg-type]
    keys = b"".join(bytes(p) for p in PacketPile.from_bytes(usual) if p.tag == Tag.PKESK)
    made = keys + packet(20, body, partial=partial)
    gnupg("-o", "/dev/null", "-d", data=made)
    return made


def mail(made: bytes) -> bytes:
    return HEADER + multipart_encrypted(base64.encodebytes(made), b"base64")


@pytest.mark.parametrize("number", [1, 2, 3, 4], ids=["RSA", "Curve25519", "P-256", "P-521"])
@pytest.mark.parametrize("options", [(), ("--throw-keyids",), ("--cipher-algo", "AES")])
def test_each_kind_of_key(
    number: int, options: tuple[str, ...], gnupg: GnuPG, opener: Opener
) -> None:
    part = gnupg.fingerprints("bob@example.org")[number]
    inner = gnupg("--store", data=ENTITY)
    with opener(mail(message(gnupg, part, inner, *options))) as opened:
        assert opened.content == HEADER + ENTITY, opened.security
        assert opened.security.integrity == "aead"
        assert (opened.security.content_algorithm or "").endswith("OCB")


@pytest.mark.parametrize("size", [0, 1, 64, 65, 128, 5000])
def test_chunks_of_every_number(size: int, gnupg: GnuPG, opener: Opener) -> None:
    part = gnupg.fingerprints("bob@example.org")[2]
    content = b"Content-Type: text/plain\r\n\r\n" + b"x" * size
    inner = gnupg("--store", data=content)
    for partial in (False, True):
        made = message(gnupg, part, inner, chunk=0, partial=partial)
        with opener(mail(made)) as opened:
            assert opened.content == HEADER + content, opened.security


def test_armoured_signed_and_compressed(gnupg: GnuPG, opener: Opener) -> None:
    part = gnupg.fingerprints("bob@example.org")[2]
    inner = gnupg("--sign", "-u", "alice@example.org", data=ENTITY)
    made = message(gnupg, part, inner)
    armoured = gnupg("--enarmor", data=made).replace(b"PGP ARMORED FILE", b"PGP MESSAGE")
    with opener(HEADER + multipart_encrypted(armoured)) as opened:
        assert opened.content == HEADER + ENTITY, opened.security
        assert opened.security.signature == "valid", opened.security.reason


def test_changed_cut_or_reordered_opens_nothing(gnupg: GnuPG, opener: Opener) -> None:
    part = gnupg.fingerprints("bob@example.org")[2]
    made = message(gnupg, part, gnupg("--store", data=ENTITY * 3), chunk=0)
    keys = b"".join(bytes(p) for p in PacketPile.from_bytes(made) if p.tag == Tag.PKESK)
    body = made[len(keys) + 6 :]
    chunks = [body[at : at + 80] for at in range(19, len(body) - 16, 80)]
    wrong = [
        body[:place] + bytes((body[place] ^ 1,)) + body[place + 1 :]
        for place in range(0, len(body), 37)
    ]
    wrong += [
        body[:19] + b"".join(chunks[:-1]) + body[-16:],
        body[:19] + chunks[1] + chunks[0] + b"".join(chunks[2:]) + body[-16:],
        body[:19] + body[-16:],
        body[:-16],
        body[:30],
    ]
    for one in wrong:
        with opener(mail(keys + packet(20, one))) as opened:
            assert opened.content is None, opened.security
            assert opened.security.status in ("failed", "unsupported")
            assert "analysed" not in opened.security.reason


def test_key_behind_a_password(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    gnupg = GnuPG(tmp_path_factory.mktemp("protected"), "hunter2")
    try:
        gnupg.key("safe@example.org", "rsa2048", "cv25519")
        parsed = parse_certificate(gnupg.secret("safe@example.org"), "hunter2")
        stored = ("safe", parsed.kind, parsed.certificate, parsed.private_key)
        opener = Opener(IdentityIndex.load([stored]), TrustStore(), tmp_path)
        for part in gnupg.fingerprints("safe@example.org")[1:]:
            made = message(gnupg, part, gnupg("--store", data=ENTITY))
            with opener(mail(made)) as opened:
                assert opened.content == HEADER + ENTITY, opened.security
    finally:
        gnupg.close()


@pytest.mark.promise("C4")
def test_what_it_unpacks_to_is_bounded(gnupg: GnuPG, opener: Opener) -> None:
    part = gnupg.fingerprints("bob@example.org")[2]
    bomb = gnupg("--sign", "-u", "alice@example.org", data=ENTITY + bytes(3_000_000))
    made = message(gnupg, part, bomb)
    assert len(made) < 100_000
    with opener(mail(made), MailLimits(decompressed_bytes=1_000_000)) as opened:
        assert opened.security.status == "failed"
        assert opened.content is None


@pytest.mark.promise("C3")
@pytest.mark.parametrize("compression", ["zip", "zlib", "none"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_signed_by_gnupg_inside_its_compression(
    compression: str, number: int, gnupg: GnuPG, opener: Opener, tmp_path: Path
) -> None:
    """What GnuPG does unless told otherwise, in the form of RFC 9580."""
    part = gnupg.fingerprints("bob@example.org")[number]
    made = gnupg(
        *("--compress-algo", compression, "--sign", "-u", "alice@example.org"),
        *("--encrypt", "-r", f"{part}!"),
        data=ENTITY,
    )
    with opener(mail(made)) as opened:
        assert opened.content == HEADER + ENTITY, opened.security
        assert opened.security.signature == "valid", opened.security.reason
    nobody = Opener(opener.identities, TrustStore(), tmp_path)
    with nobody(mail(made)) as opened:
        assert opened.content == HEADER + ENTITY
        assert opened.security.signature == "untrusted"


def test_message_cut_between_its_chunks_is_damaged(gnupg: GnuPG, opener: Opener) -> None:
    """The final tag covers the length: what is left would open, and say less than was sent."""
    part = gnupg.fingerprints("bob@example.org")[2]
    made = message(gnupg, part, gnupg("--store", data=ENTITY * 3), chunk=0)
    [key] = opener.identities.openpgp
    subkey = next(one for one in key.subkeys if one.fingerprint == part.lower())
    whole = whole_message(region(made))
    assert reencrypted(whole, key, subkey, 1 << 20)
    with pytest.raises(NotOpened):
        reencrypted(
            whole._replace(data=whole.data[: 19 + 80] + whole.data[-16:]), key, subkey, 1 << 20
        )
