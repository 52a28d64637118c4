"""Signatures in front of their text, without one-pass packets, as programs of before 1998 wrote
them (RFC 9580 section 10.3); beside what GnuPG says of them. And many signatures of one text."""

from __future__ import annotations

import base64
import bz2
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.decryptor.openpgp.packets import packets_of
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex, parse_certificate
from tests.unit.smime.gnupg import GnuPG
from tests.unit.smime.mails import ENTITY, HEADER, TEXT, Opener
from tests.unit.smime.pgp_packets import packet
from tests.unit.smime.test_openpgp import multipart_encrypted

pytestmark = pytest.mark.promise("F3")

SIGNER, BOB = "alice@example.org", "bob@example.org"
_SIGNATURE, _LITERAL = 2, 11


@pytest.fixture(scope="module")
def gnupg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GnuPG]:
    gnupg = GnuPG(tmp_path_factory.mktemp("gnupg"))
    gnupg("--quick-gen-key", SIGNER, "ed25519", "sign,cert", "never")
    gnupg.key(BOB, "cv25519")
    yield gnupg
    gnupg.close()


@pytest.fixture
def opener(gnupg: GnuPG, tmp_path: Path) -> Opener:
    parsed = parse_certificate(gnupg.secret(BOB))
    stored = ("bob", parsed.kind, parsed.certificate, parsed.private_key)
    trust = TrustStore.load(senders=[gnupg("--export", SIGNER)], system=False)
    return Opener(IdentityIndex.load([stored]), trust, tmp_path)


def signed_before(gnupg: GnuPG, text: bytes = ENTITY) -> tuple[bytes, bytes]:
    """The packets of a signature and of what it signs."""
    found = dict(packets_of(gnupg("-z0", "--sign", "-u", SIGNER, data=text)))
    return packet(_SIGNATURE, found[_SIGNATURE]), packet(_LITERAL, found[_LITERAL])


def zipped(packets: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return packet(8, b"\1" + deflate.compress(packets) + deflate.flush())


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda packets: packets,
    "ZIP": zipped,
    "ZLIB": lambda packets: packet(8, b"\2" + zlib.compress(packets)),
    "BZip2": lambda packets: packet(8, b"\3" + bz2.compress(packets)),
}


def in_base64(message: bytes) -> bytes:
    return HEADER + multipart_encrypted(base64.encodebytes(message), b"base64")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_signature_in_front_of_its_text(
    encrypted: bool, compression: str, gnupg: GnuPG, opener: Opener
) -> None:
    signature, literal = signed_before(gnupg)
    message = COMPRESSIONS[compression](signature + literal)
    changed = COMPRESSIONS[compression](signature + literal.replace(b"aus K", b"aus k", 1))
    gnupg("--verify", data=message)
    for packets, word in ((message, "valid"), (changed, "invalid")):
        made = packets
        if encrypted:
            made = gnupg("--no-literal", "-z0", "--encrypt", "-r", BOB, data=packets)
        with opener(in_base64(made)) as opened:
            assert opened.security.signature == word, opened.security
            assert opened.security.status == ("decrypted" if encrypted else "none")
            if word == "valid":
                assert isinstance(opened.content, bytes)
                assert TEXT in opened.content


def test_what_is_in_front_of_another_text_signs_nothing(gnupg: GnuPG, opener: Opener) -> None:
    signature, literal = signed_before(gnupg)
    other = packet(_LITERAL, b"b\0\0\0\0\0" + ENTITY + b"Pay Mallory\r\n")
    for packets in (
        signature + literal + other,
        signature + other + literal,
        signature + other,
        other + signature + literal,
        signature + zipped(literal),
        signature + signature + other,
        signature,
        signature * 100,
    ):
        with opener(in_base64(packets)) as opened:
            assert opened.security.signature != "valid", opened.security
    with opener(in_base64(signature + signature + literal)) as opened:
        assert opened.security.signature == "valid", opened.security


def test_a_second_message_is_not_dropped(gnupg: GnuPG, opener: Opener) -> None:
    """Sequoia reads the first of several, GnuPG refuses them (`multiple plaintexts seen`)."""
    to_bob = ("--encrypt", "-r", BOB)
    first = gnupg("--sign", "-u", SIGNER, *to_bob, data=ENTITY)
    second = gnupg(*to_bob, data=b"Content-Type: text/plain\r\n\r\nPay Mallory\r\n")
    signature, literal = signed_before(gnupg)
    says_nothing = packet(10, b"PGP") + packet(21, b"filling")
    for message in (first, says_nothing + first + says_nothing):
        with opener(in_base64(message)) as opened:
            assert opened.security.signature == "valid", opened.security
    armour = b"-----BEGIN PGP MESSAGE-----\n\n%b-----END PGP MESSAGE-----\n"
    for message in (first + second, second + first, first + literal, first + first):
        with pytest.raises(AssertionError, match="failed"):
            gnupg("--decrypt", data=message)
        lines = armour % base64.encodebytes(message)
        for raw in (in_base64(message), HEADER + multipart_encrypted(lines)):
            with opener(raw) as opened:
                assert opened.security.status == "unsupported", opened.security
                assert "Several" in opened.security.reason
                assert opened.content is None
    for message in (signature + literal) * 2, zipped(signature + literal) * 2:
        with opener(in_base64(message)) as opened:
            assert opened.security.signature == "invalid", opened.security
