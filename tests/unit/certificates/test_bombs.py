"""A key file that asks for work or memory without an end is refused, and holds nobody up."""

from __future__ import annotations

import base64
import re
import resource
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asn1crypto import core, keys, pem
from asn1crypto import pkcs12 as asn1
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pysequoia import Tsk
from pysequoia.packet import Packet, PacketPile, Tag

from cli.declared import trust
from shared import bounded_process
from shared.certificates import parse_upload
from shared.certificates.senders import parse_sender_upload
from shared.errors import InvalidInput, TryAgain
from shared.microsoft_certificates import pem_of
from tests.unit.certificates.test_uploads import pkcs12
from tests.unit.smime.pgp_packets import certified, packet, public_of
from tests.unit.smime.pki import Holder, Pki, rsa_key
from tests.unit.smime.test_openpgp_bounds import zipped

pytestmark = pytest.mark.promise("C1")
#: Iterations that take from 15 s to two minutes; OpenSSL counts eight times as many.
MOST = 1 << 28
ROOT = Path(__file__).parents[3]
#: They take what work a file asks for.
UNBOUNDED = re.compile(r"\b(?:parse_certificate|parse_openpgp|parse_senders)\b")
#: Numbers of packets (RFC 9580 section 5).
PACKETS = ((Tag.SecretKey, 5), (Tag.SecretSubkey, 7), (Tag.Signature, 2), (Tag.UserID, 13))


@pytest.fixture(scope="module")
def bob(tmp_path_factory: pytest.TempPathFactory) -> Holder:
    return Pki(tmp_path_factory.mktemp("pki")).holder("bob", rsa_key(), email="bob@example.org")


@pytest.fixture(autouse=True)
def a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_process, "_PROCESSOR_S", 1)


def mac_of_pkcs12(bob: Holder) -> bytes:
    whole = asn1.Pfx.load(pkcs12(bob))
    whole["mac_data"]["iterations"] = MOST
    return bytes(whole.dump(force=True))


def key_of_pkcs12(bob: Holder) -> bytes:
    """The iterations of the key alone, with a MAC that is right as there is none."""
    whole = asn1.Pfx.load(pkcs12(bob, "-nomac", "-certpbe", "NONE"))
    contents = whole.authenticated_safe
    for content in contents:
        bags = asn1.SafeContents.load(content["content"].native)
        for bag in bags:
            if bag["bag_id"].native == "pkcs8_shrouded_key_bag":
                scheme = bag["bag_value"]["encryption_algorithm"]["parameters"]
                scheme["key_derivation_func"]["parameters"]["iteration_count"] = MOST
        content["content"] = core.OctetString(bags.dump(force=True))
    whole["auth_safe"]["content"] = core.OctetString(contents.dump(force=True))
    return bytes(whole.dump(force=True))


def pbkdf2_of_pem(bob: Holder) -> bytes:
    found = _protected(bob)
    scheme = found["encryption_algorithm"]["parameters"]["key_derivation_func"]
    scheme["parameters"]["iteration_count"] = MOST
    return _armoured(bob, found.dump(force=True))


def scrypt_of_pem(bob: Holder) -> bytes:
    """A gigabyte (RFC 7914 section 7.1), as OpenSSL writes its parameters."""
    found = _protected(bob)
    numbers = b"".join(core.Integer(one).dump() for one in (1 << 20, 8, 1))
    parameters = _sequence(core.OctetString(b"saltsalt").dump() + numbers)
    scrypt = _sequence(core.ObjectIdentifier("1.3.6.1.4.1.11591.4.11").dump() + parameters)
    cipher = found["encryption_algorithm"]["parameters"]["encryption_scheme"].dump()
    algorithm = core.ObjectIdentifier("1.2.840.113549.1.5.13").dump() + _sequence(scrypt + cipher)
    whole = _sequence(_sequence(algorithm) + found["encrypted_data"].dump())
    return _armoured(bob, whole)


def argon2_of_openpgp(_: Holder) -> bytes:
    """A gigabyte, three times (RFC 9580 section 3.7.1.4)."""
    secret = Tsk.generate("Bob <bob@example.org>")
    public = PacketPile.from_bytes(bytes(secret.extract_certificate()))
    bodies = {packet.fingerprint: packet.body for packet in public if packet.fingerprint}
    return b"".join(_behind_argon2(one, bodies) for one in PacketPile.from_bytes(bytes(secret)))


def _behind_argon2(packet: Packet, public: dict[str, bytes]) -> bytes:
    number = next(number for tag, number in PACKETS if tag == packet.tag)
    body = packet.body
    if packet.fingerprint in public:
        how = bytes((253, 9, 2, 4)) + bytes(16) + bytes((3, 4, 20))  # AES-256, OCB
        body = public[packet.fingerprint] + how + bytes(15 + 50)
    return bytes((0xC0 | number, 0xFF)) + len(body).to_bytes(4) + body


def _protected(bob: Holder) -> keys.EncryptedPrivateKeyInfo:
    written = bob.private.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    return keys.EncryptedPrivateKeyInfo.load(written)


def _armoured(bob: Holder, protected: bytes) -> bytes:
    return bytes(pem.armor("ENCRYPTED PRIVATE KEY", protected)) + bob.cert.read_bytes()


def _sequence(inside: bytes) -> bytes:
    return bytes(core.Sequence(contents=inside).dump())


@pytest.mark.parametrize(
    "bomb", [mac_of_pkcs12, key_of_pkcs12, pbkdf2_of_pem, scrypt_of_pem, argon2_of_openpgp]
)
def test_a_key_file_takes_bounded_work_and_memory(
    bob: Holder, bomb: Callable[[Holder], bytes]
) -> None:
    data = bomb(bob)
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(InvalidInput) as caught:
        parse_upload(data, "secret")
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 1  # whoever waits for it has the processor
    assert after.ru_maxrss - before.ru_maxrss < 100 << 10  # KiB
    if bomb is not argon2_of_openpgp:  # Sequoia takes memory that it does not get for noise
        assert "more work or memory than its password is worth" in str(caught.value)
        assert caught.value.field == "file"


def test_so_does_a_client_certificate(bob: Holder) -> None:
    text = "secret:" + base64.b64encode(mac_of_pkcs12(bob)).decode()
    with pytest.raises(InvalidInput, match="more work or memory") as caught:
        pem_of(text)
    assert caught.value.field == "client_certificate"


def test_so_does_the_key_of_a_sender() -> None:
    """Sequoia takes the square of its user ids, for each mail as well, and unpacks what is packed
    in it."""
    owner, now = Ed25519PrivateKey.generate(), int(time.time())
    honest = certified(owner, public_of(owner, now), b"Alice <alice@example.org>")
    names = [packet(13, b"%d" % number) for number in range(20_000)]
    with pytest.raises(InvalidInput, match="more than 200 user ids") as caught:
        parse_sender_upload(honest + b"".join(names))
    assert caught.value.field == "file"
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(InvalidInput, match="more work or memory than a key is worth"):
        parse_sender_upload(honest + zipped(zipped(packet(10, b"PGP") * (1 << 20))))
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 1  # whoever waits for it has the processor
    (sender,) = parse_sender_upload(honest + b"".join(names[:150]))
    assert sender.emails == ("alice@example.org",)


def test_whoever_reads_a_file_reads_it_in_bounds() -> None:
    """Pages, API and commands, and `posthouse apply`, which reads the files itself."""
    inside = ROOT / "shared" / "certificates"
    sources = [one for top in ("cli", "services", "shared") for one in (ROOT / top).rglob("*.py")]
    unbounded = [
        str(one.relative_to(ROOT))
        for one in sources
        if inside not in one.parents and UNBOUNDED.search(one.read_text())
    ]
    assert unbounded == []
    packed = zipped(zipped(packet(10, b"PGP") * (1 << 20)))
    owner, now = Ed25519PrivateKey.generate(), int(time.time())
    honest = certified(owner, public_of(owner, now), b"Alice <alice@example.org>")
    with pytest.raises(InvalidInput, match="'Alice': This file asks for more work or memory"):
        trust._fingerprint("senders", "Alice", honest + packed)
    with pytest.raises(InvalidInput, match="'Root': This file is too large"):
        trust._fingerprint("trust_anchors", "Root", bytes(2 << 20))


def test_who_sends_many_is_sent_away_and_holds_no_thread(bob: Holder) -> None:
    data = pkcs12(bob)
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(parse_upload, data, "x") for _ in range(8)]
        told = Counter(type(one.exception()) for one in found)
    assert told == {InvalidInput: 4, TryAgain: 4}


def test_an_honest_file_is_read_as_ever(bob: Holder) -> None:
    parsed = parse_upload(pkcs12(bob, "-iter", "600000"), "secret")
    assert parsed.emails == ("bob@example.org",)
    with pytest.raises(InvalidInput, match="password does not open") as caught:
        parse_upload(pkcs12(bob), "wrong")
    assert caught.value.field == "password"
    assert "BEGIN CERTIFICATE" in pem_of("secret:" + base64.b64encode(pkcs12(bob)).decode())
