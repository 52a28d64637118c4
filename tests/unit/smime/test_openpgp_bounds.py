"""What OpenPGP mails may ask for: memory, octets in an event, tries; and large ones that open."""

from __future__ import annotations

import base64
import bz2
import os
import zlib
from pathlib import Path

import pytest
from pysequoia import Profile, SignatureMode, encrypt, sign

from services.decryptor.limits import MailLimits
from services.decryptor.openpgp.packets import packets_of
from services.decryptor.openpgp.signature_packets import read_signature
from services.decryptor.openpgp.signed_messages import in_one_pass
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from tests.unit.smime.mails import ENTITY, HEADER, Opener
from tests.unit.smime.test_openpgp import Person, multipart_encrypted
from tests.unit.smime.test_openpgp_forms import packet

pytestmark = pytest.mark.promise("C4")
MARKER = packet(10, b"PGP")
ALICE, BOB = Person("alice@example.org"), Person("bob@example.org", profile=Profile.RFC4880)
#: More than Sequoia's buffer of 25 MiB.
LARGE = b"Content-Type: application/octet-stream\r\n\r\n" + os.urandom(1 << 16) * 420


@pytest.fixture
def knowing(tmp_path: Path) -> Opener:
    trust = TrustStore.load(senders=[bytes(ALICE.public)], system=False)
    stored = BOB.stored("bob")
    return Opener(IdentityIndex.load([stored]), trust, tmp_path)  # type: ignore[list-item]


def zipped(octets: bytes) -> bytes:
    """A packet of compressed data (RFC 9580 section 5.6)."""
    deflate = zlib.compressobj(9, wbits=-15)
    return packet(8, b"\1" + deflate.compress(octets) + deflate.flush())


def peak() -> int:
    """The most memory that this process had since `forget_peak`, in octets."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def signed(signature: bytes) -> bytes:
    return (
        HEADER + b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n" + ENTITY
        + b"\r\n--s\r\nContent-Type: application/pgp-signature\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(signature) + b"\r\n--s--\r\n"
    )  # fmt: skip


def test_a_signature_beside_a_text_is_not_unpacked(knowing: Opener) -> None:
    """109 octets of it asked for a gigabyte."""
    good = sign(ALICE.secret.signer(), ENTITY, mode=SignatureMode.DETACHED, armor=False)
    bomb = zipped(zipped(MARKER * (1 << 20)))
    assert len(bomb) < 200
    for signature, word in ((bomb, "invalid"), (good + bomb, "valid"), (bomb + good, "invalid")):
        before = forget_peak()
        with knowing(signed(signature)) as opened:
            assert opened.security.signature == word, opened.security
        assert peak() - before < 100_000_000


def test_packets_beside_a_signature_that_say_nothing_are_passed_over(knowing: Opener) -> None:
    """Markers, padding, and a signature of a version that is not known (RFC 9580 section 4.3)."""
    good = sign(ALICE.secret.signer(), ENTITY, mode=SignatureMode.DETACHED, armor=False)
    for before in (MARKER, packet(21, b"nothing"), packet(2, b"\x7f" + bytes(40))):
        with knowing(signed(before + good)) as opened:
            assert opened.security.signature == "valid", opened.security
    with knowing(signed(MARKER * 1_000_000)) as opened:
        assert opened.security.signature == "invalid"


def test_a_large_message_is_opened_whoever_signed_it(knowing: Opener) -> None:
    """The binding raises other errors for them: a keyless mail broke a batch off."""
    stranger = Person("stranger@example.org").secret.signer()
    messages = {
        "none": encrypt(LARGE, [BOB.public], armor=False),
        "untrusted": sign(stranger, LARGE, mode=SignatureMode.INLINE, armor=False),
    }
    for verdict, message in messages.items():
        with knowing(HEADER + multipart_encrypted(message, b"binary")) as opened:
            assert opened.security.signature == verdict, opened.security
            assert opened.security.encrypted == (verdict == "none")
            assert isinstance(opened.content, Path)
            assert opened.content.stat().st_size > len(LARGE)


def test_a_small_message_that_unpacks_to_a_large_one_is_refused(knowing: Opener) -> None:
    stranger = Person("stranger@example.org").secret.signer()
    large = b"\r\n" + bytes(27 << 20)
    message = zipped(sign(stranger, large, mode=SignatureMode.INLINE, armor=False))
    assert len(message) < 100_000
    raw = HEADER + multipart_encrypted(base64.encodebytes(message), b"base64")
    with knowing(raw) as opened:
        assert opened.security.signature == "invalid", opened.security
        assert "unpacks to more" in opened.security.reason
        assert not opened.security.encrypted
        assert opened.content is None
    with knowing(raw, MailLimits(ratio=10_000)) as opened:
        assert opened.security.signature == "untrusted", opened.security


def test_the_subpackets_of_a_signature_take_little_memory(knowing: Opener) -> None:
    """Version 6 has 4 octets for their length: 8 MB of empty ones took 400 MB (Sequoia reads none
    over 64 KiB)."""
    areas = ((1 << 23).to_bytes(4) + b"\1\0" * (1 << 22), bytes(4))
    literal = packet(11, b"b\0" + bytes(4) + ENTITY)
    for hashed, unsigned in (areas, areas[::-1]):
        body = b"\6\0\x1b\x0a" + hashed + unsigned + b"ab" + b"\x20" + bytes(32 + 64)
        for message in (packet(2, body) + literal, zipped(packet(2, body) + literal)):
            before = forget_peak()
            with knowing(in_base64(message), MailLimits(ratio=100_000)) as opened:
                assert opened.security.signature == "invalid", opened.security
            assert peak() - before < 150_000_000


def test_the_subpackets_and_issuers_of_a_signature_are_few() -> None:
    """Those of 16 signatures are read for each form of a text, and each key named is tried."""

    def made(area: bytes) -> bytes:
        return b"\4\0\x1b\x0a" + 2 * (len(area).to_bytes(2) + area) + b"ab" + bytes(64)

    intended = b"\x16\x23\4" + bytes(20)
    assert read_signature(made(intended * 2_000)) is not None
    assert read_signature(made(b"\1\0" * 3_000)) is None
    read = read_signature(made(b"".join(b"\x09\x10" + bytes([one] * 8) for one in range(200))))
    assert read is not None
    assert read.issuers[0] == bytes(8)
    assert len(read.issuers) == 4


def test_what_bzip2_unpacks_to_is_bounded(knowing: Opener) -> None:
    """The binding does not know it: it is unpacked here, and lies in memory several times over."""
    large = packet(11, b"b\0" + bytes(4 + (80 << 20)))
    good = sign(ALICE.secret.signer(), b"\r\n", mode=SignatureMode.DETACHED, armor=False)
    message = packet(8, b"\3" + bz2.compress(good + large, 1))
    before = forget_peak()
    with knowing(in_base64(message), MailLimits(ratio=1_000_000)) as opened:
        assert "unpacks to more than 67108864" in opened.security.reason, opened.security
    assert peak() - before < 150_000_000


@pytest.mark.parametrize("content", [b"B", b"Bonjour", b"\x88", b"\xc2", b""])
def test_what_only_looks_like_a_signature_is_damage_of_its_part(
    content: bytes, knowing: Opener
) -> None:
    """Compressed, and no packet or half of one: the whole mail could not be analysed."""
    assert in_one_pass(content, 1 << 20) == content
    with knowing(in_base64(zipped(content))) as opened:
        assert opened.security.signature in ("none", "invalid"), opened.security
        assert "analysed" not in opened.security.reason


def in_base64(message: bytes) -> bytes:
    return HEADER + multipart_encrypted(base64.encodebytes(message), b"base64")


def test_the_recipients_of_an_event_are_bounded(knowing: Opener) -> None:
    """A mail of two megabytes made an event of four."""
    message = encrypt(ENTITY, [BOB.public], armor=False)
    others = b"".join(
        packet(1, b"\3" + number.to_bytes(8) + b"\x12" + bytes(3)) for number in range(1, 150_000)
    )
    with knowing(in_base64(others + message)) as opened:
        assert opened.security.status == "decrypted", opened.security.reason
        assert len(opened.security.recipients) == 2_000
        assert "150000 recipients" in opened.security.reason
    others = packet(1, b"\3" + bytes(8) + b"\1" + bytes(3)) * 150_000
    with knowing(in_base64(others + message)) as opened:
        assert opened.security.status == "decrypted", "those of another algorithm are not tried"


def test_hidden_recipients_do_not_keep_out_who_is_named(knowing: Opener) -> None:
    message = encrypt(ENTITY, [BOB.public], armor=False)
    ((_, sealed), *_) = packets_of(message)
    own = packet(1, sealed)
    rest = message[message.index(sealed) + len(sealed) :]
    # Of version 6 (RFC 9580 section 5.1.2), without the name of the key.
    hidden = packet(1, b"\6\0" + sealed[2 + sealed[1] : -8] + bytes(8)) * 100
    armoured = b"-----BEGIN PGP MESSAGE-----\n\n%b-----END PGP MESSAGE-----\n"
    for made in (own + hidden, hidden + own):
        with knowing(in_base64(made + rest)) as opened:
            assert opened.security.status == "decrypted", opened.security
            assert opened.content == HEADER + ENTITY
        lines = armoured % base64.encodebytes(made + rest)
        with knowing(HEADER + multipart_encrypted(lines)) as opened:
            assert opened.security.status == "decrypted", opened.security
    wrong = packet(1, sealed[:-8] + bytes(8))
    for made in (hidden, wrong * 100 + own, wrong + hidden):
        with knowing(in_base64(made + rest)) as opened:
            assert opened.security.status in ("unsupported", "failed"), opened.security
