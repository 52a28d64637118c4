"""What one OpenPGP mail may have Sequoia do, which has no bounds of its own."""

from __future__ import annotations

import base64
import bz2
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pysequoia import (
    CipherSuite,
    Profile,
    SignatureMode,
    decrypt_file,
    encrypt,
    sign,
    verify,
)

from services.decryptor.openpgp import cleartext, decrypting, reencryption, verifying
from services.decryptor.openpgp.bounded_work import bounded_work
from services.decryptor.openpgp.packets import packets_of
from services.decryptor.openpgp.session_keys import session_key
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from shared.certificates.openpgp_subkeys import framed
from tests.unit.smime.mails import ENTITY, HEADER, Opener
from tests.unit.smime.pgp_packets import certified, made_signature, packet, public_of, sealed_again
from tests.unit.smime.test_openpgp import Person, multipart_encrypted
from tests.unit.smime.test_openpgp_bounds import signed as beside
from tests.unit.smime.test_openpgp_bounds import zipped

pytestmark = pytest.mark.promise("C4")

SIGNER, BOB = "alice@example.org", "bob@example.org"


def test_many_signatures_ask_for_little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sequoia digests the whole text for each."""
    alice, bob = Person(SIGNER), Person(BOB)
    asked = 0

    def counted(**how: Any) -> Any:
        nonlocal asked
        asked += 1
        return verify(**how)

    monkeypatch.setattr(verifying, "verify", counted)
    known = [str(one.public).encode() for one in (alice, bob)]
    opener = Opener(IdentityIndex(()), TrustStore.load(senders=known, system=False), tmp_path)
    made = {
        who: sign(who.secret.signer(), ENTITY, mode=SignatureMode.DETACHED, armor=False)
        for who in (alice, bob)
    }
    wrong = sign(alice.secret.signer(), b"another", mode=SignatureMode.DETACHED, armor=False)
    for signatures, word, most in (
        (wrong * 16, "invalid", 0),
        (made[alice] * 16, "valid", 2),
        (wrong * 15 + made[alice], "valid", 1),
        (made[bob] * 8 + made[alice] * 8, "valid", 4),
        (made[bob] * 16, "mismatch", 2),
    ):
        asked = 0
        with opener(beside(signatures)) as opened:
            assert opened.security.signature == word, opened.security
        assert asked <= most


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    "suite", [CipherSuite.Cv25519, CipherSuite.RSA2k, CipherSuite.MLDSA65_Ed25519]
)
def test_a_message_is_decrypted_once(
    suite: CipherSuite, signed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Sequoia did so once to verify, and once more where nobody had signed."""
    alice, bob = Person(SIGNER), Person(BOB, profile=Profile.RFC9580, cipher_suite=suite)
    asked: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*values: Any, **how: Any) -> Any:
            asked.append(name)
            return function(*values, **how)

        return ask

    monkeypatch.setattr(decrypting, "decrypt_file", counted("Sequoia", decrypt_file))
    monkeypatch.setattr(reencryption, "session_key", counted("here", session_key))
    identities = IdentityIndex.load([bob.stored("bob")])  # type: ignore[list-item]
    trust = TrustStore.load(senders=[bytes(alice.public)], system=False)
    how: dict[str, Any] = {"signer": alice.secret.signer()} if signed else {}
    message = encrypt(ENTITY, [bob.public], **how)
    with Opener(identities, trust, tmp_path)(HEADER + multipart_encrypted(message)) as opened:
        assert opened.content == HEADER + ENTITY
        assert opened.security.signature == ("valid" if signed else "none"), opened.security
    assert asked == ["here"]


def one_pass(issuer: bytes, *, last: bool) -> bytes:
    return packet(4, bytes((3, 0, 10, 27)) + issuer + bytes((last,)))


@pytest.mark.parametrize("wrapped", ["as it is", "zipped", "zipped twice", "signed around", "bz2"])
@pytest.mark.parametrize("form", ["one-pass", "before the text", "encrypted", "in the text"])
def test_a_message_with_many_signatures_is_not_given_to_sequoia(
    form: str, wrapped: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It takes the square of their number: 16,000 of ten kilobytes took it twelve seconds."""
    owner, now, bob = Ed25519PrivateKey.generate(), int(time.time()), Person(BOB)
    key = public_of(owner, now - 1_000)
    issuer = hashlib.sha1(framed(key), usedforsecurity=False).digest()[-8:]
    made = packet(2, made_signature(owner, key, 0, ENTITY, now))
    text = b"Please pay 4711."
    below = packet(2, made_signature(owner, key, 1, text, now, more=b"\x09\x10" + issuer))
    literal = packet(11, b"b\0" + bytes(4) + ENTITY)
    identities = IdentityIndex.load([bob.stored("bob")])  # type: ignore[list-item]
    trust = TrustStore.load(senders=[certified(owner, key, SIGNER.encode())], system=False)
    opener = Opener(identities, trust, tmp_path)
    sealed = encrypt(b"x", [bob.public], armor=False)
    wraps: dict[str, Callable[[bytes], bytes]] = {
        "as it is": bytes,
        "zipped": zipped,
        "zipped twice": lambda packets: zipped(zipped(packets)),
        "signed around": lambda packets: one_pass(issuer, last=True) + zipped(packets) + made,
        "bz2": lambda packets: packet(8, b"\3" + bz2.compress(packets)),
    }
    wrap = wraps[wrapped]
    asked = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*values: Any, **how: Any) -> Any:
            nonlocal asked
            asked += 1
            return function(*values, **how)

        return ask

    monkeypatch.setattr(verifying, "verify", counted(verify))
    monkeypatch.setattr(decrypting, "decrypt_file", counted(decrypt_file))
    for count in (3, 2_000):
        if form == "in the text":
            mail = (
                b"\r\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + text
                + b"\n-----BEGIN PGP SIGNATURE-----\n\n" + base64.encodebytes(below * count)
                + b"-----END PGP SIGNATURE-----\n"
            )  # fmt: skip
        else:
            heads = one_pass(issuer, last=False) * (count - 1) + one_pass(issuer, last=True)
            packets = wrap(heads + literal + made * count)
            if form == "before the text":
                packets = wrap(made * count + literal)
            if form == "encrypted":
                packets = sealed_again(sealed, identities.openpgp[0], packets)
            mail = multipart_encrypted(base64.encodebytes(packets), b"base64")
        asked = 0
        with opener(HEADER + mail) as opened:
            security = opened.security
        if count == 3:
            assert asked
            if wrapped in ("as it is", "zipped") or form == "in the text":
                assert security.signature == "valid", security
            continue
        assert not asked
        assert security.signature == ("none" if form == "encrypted" else "invalid"), security
        assert security.status == ("unsupported" if form == "encrypted" else "none")


def test_packets_behind_a_message_that_say_nothing_are_few(tmp_path: Path) -> None:
    """Sequoia takes the square of their number: 300 kilobytes took it minutes."""
    bob = Person(BOB, profile=Profile.RFC4880)
    opener = Opener(IdentityIndex.load([bob.stored("bob")]), TrustStore(), tmp_path)  # type: ignore[list-item]
    message = encrypt(ENTITY, [bob.public], armor=False)
    for count, status in ((10, "decrypted"), (200_000, "unsupported"), (1_000_000, "unsupported")):
        made = base64.encodebytes(message + packet(10, b"PGP") * count)
        with opener(HEADER + multipart_encrypted(made, b"base64")) as opened:
            assert opened.security.status == status, opened.security


def test_a_packet_of_very_many_pieces_takes_little(tmp_path: Path) -> None:
    """Each octet has a length of its own (RFC 9580 section 4.2.1.4)."""
    bob = Person(BOB, profile=Profile.RFC4880)
    opener = Opener(IdentityIndex.load([bob.stored("bob")]), TrustStore(), tmp_path)  # type: ignore[list-item]
    message = encrypt(ENTITY, [bob.public], armor=False)
    ((_, recipient), *_) = packets_of(message)
    made = packet(1, recipient) + b"\xd2" + b"\xe0\1" * 4_000_000 + b"\0"
    with opener(HEADER + multipart_encrypted(base64.encodebytes(made), b"base64")) as opened:
        assert opened.security.status == "failed", opened.security


def test_the_key_that_a_mail_brings_has_few_packets(tmp_path: Path) -> None:
    """Each self-signature that fits nothing was verified over each user id, by us and by Sequoia,
    for each signature of the mail: ten minutes and more."""
    owner, now = Ed25519PrivateKey.generate(), int(time.time())
    key = public_of(owner, now - 10_000_000)
    certificate = certified(owner, key, SIGNER.encode())
    wrong = packet(2, made_signature(owner, key, 0x13, b"another", now))
    names = b"".join(packet(13, b"%d" % number) for number in range(1_500))
    bombs = (wrong * 200 + names, zipped(zipped(packet(10, b"PGP") * (1 << 20))))
    signatures = b"".join(
        packet(2, made_signature(owner, key, 0, ENTITY, now - number)) for number in range(1, 17)
    )
    opener = Opener(IdentityIndex(()), TrustStore(), tmp_path)
    for more, came in ((b"", True), *((bomb, False) for bomb in bombs)):
        lines = base64.encodebytes(certificate + more).split()
        field = b"Autocrypt: addr=%b; keydata=\r\n " % SIGNER.encode() + b"\r\n ".join(lines)
        with opener(field + b"\r\n" + beside(signatures)) as opened:
            assert opened.security.signature == "untrusted", opened.security
            assert ("came with the mail" in opened.security.reason) == came


_CHILD = """
import sys
import time
from pathlib import Path
from services.decryptor.openpgp import bounded_work
from services.decryptor.opening import TrustStore, open_mail
from shared.certificates import IdentityIndex
bounded_work.MOST_SECONDS = 0.3
raw, folder = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
with open_mail(raw, IdentityIndex(()), TrustStore(), spool_dir=folder) as opened:
    print(opened.security.signature)
"""


def test_sequoia_does_not_work_on_a_message_for_hours(tmp_path: Path) -> None:
    """200 octets would have it; whoever takes that mail is ended, and the mail quarantined
    (test_a_mail_that_kills_its_decryptor_ends_in_quarantine_and_others_go_on)."""
    tree = Path(__file__).parents[3]
    signature = sign(Person(SIGNER).secret.signer(), ENTITY, mode=SignatureMode.INLINE, armor=False)
    for count, code in ((10, 0), (3_000_000, -signal.SIGPROF)):
        bomb = zipped(zipped(signature + packet(10, b"PGP") * count))
        raw = HEADER + multipart_encrypted(base64.encodebytes(bomb), b"base64")
        (tmp_path / "mail").write_bytes(raw)
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, tmp_path / "mail", tmp_path],
            cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr.decode()


def test_a_small_message_has_less_time_than_a_large_one() -> None:
    """While Sequoia works, all other mails of the decryptor wait; a mail is tried five times."""
    found = []
    for octets in (1 << 20, 1 << 24, 157_286_400, 1 << 30):
        with bounded_work(octets):
            found.append(signal.getitimer(signal.ITIMER_PROF)[0])
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0
    small, middle, large, larger = found
    assert 9 < small < 11 < middle < 14 < 29 < large < 31 > larger


_BLANKS = """
from services.decryptor.openpgp.signed_messages import read_signed_message
line = b" " * 400_000 + b"x"
mark = b"-----BEGIN PGP SIGNATURE-----\\n\\n-----END PGP SIGNATURE-----"
framed = b"-----BEGIN PGP SIGNED MESSAGE-----\\n\\n" + line + b" \\t\\r\\n" + mark
assert read_signed_message(framed, 1 << 24).content == line
"""


@pytest.mark.parametrize(
    ("head", "lines", "word"),
    [
        ("", 90, "valid"),
        ("Hash: SHA256\n" * 20, 90, "valid"),
        ("", 150, "invalid"),
        ("Hash: SHA256\n" * 400, 10, "invalid"),
        ("Hash: SHA512" + ",SHA256" * 800 + "\n", 10, "invalid"),
    ],
)
def test_a_signed_text_with_many_lines_is_not_given_to_sequoia(
    head: str, lines: int, word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It takes 190 octets for each line, and for each digest that is named above the text: of the
    longest text, 16 MiB, more than the memory that a decryptor has."""
    alice = Person(SIGNER)
    asked = 0

    def counted(**how: Any) -> Any:
        nonlocal asked
        asked += 1
        return verify(**how)

    monkeypatch.setattr(verifying, "verify", counted)
    monkeypatch.setattr(cleartext, "MOST_LINES", 130)
    text = sign(alice.secret.signer(), b"x\n" * lines, mode=SignatureMode.CLEAR)
    text = text.replace(b"\n", b"\n" + head.encode(), 1)
    known = [str(alice.public).encode()]
    opener = Opener(IdentityIndex(()), TrustStore.load(senders=known, system=False), tmp_path)
    with opener(HEADER.replace(BOB.encode(), SIGNER.encode()) + b"\r\n" + text) as opened:
        assert opened.security.signature == word, opened.security
    assert bool(asked) is (word == "valid")


def test_a_line_of_blanks_is_gone_through_once() -> None:
    """What a text ends its lines with is no part of it. Before anybody verified it."""
    done = subprocess.run(
        [sys.executable, "-c", _BLANKS], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-500:]
