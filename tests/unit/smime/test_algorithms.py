"""Every algorithm of the registries: opened, or named and `unsupported`, and never "damaged".

OpenPGP: the tables of RFC 9580 section 9. CMS: RFC 5652 and what refers to it.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import cmac, hashes, keywrap
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pysequoia import Profile, Tsk
from pysequoia.packet import PacketPile, Tag

from services.decryptor.cms.ber import encode
from services.decryptor.cms.errors import Malformed
from services.decryptor.cms.oids import AUTH_ENVELOPED_DATA, ENVELOPED_DATA, oid
from services.decryptor.opening import TrustStore
from services.decryptor.openpgp.recipients import whole_message
from services.decryptor.openpgp.reencryption import reencrypted
from shared.certificates import IdentityIndex, parse_certificate
from shared.errors import InvalidInput
from shared.mail.region import region
from tests.unit.smime.gnupg import GnuPG
from tests.unit.smime.mails import ENTITY, HEADER, Opener
from tests.unit.smime.mails import mail as smime
from tests.unit.smime.pki import Holder, Pki, index
from tests.unit.smime.test_openpgp import multipart_encrypted

pytestmark = pytest.mark.promise("C4")

KEYS = ("rsa2048", "cv25519", "nistp256", "nistp384", "nistp521")
BRAINPOOL = ("brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1")


def packet(kind: int, body: bytes) -> bytes:
    return bytes((0xC0 | kind, 0xFF)) + len(body).to_bytes(4) + body


def mail(message: bytes) -> bytes:
    return HEADER + multipart_encrypted(base64.encodebytes(message), b"base64")


def opener_of(secret: bytes, folder: Path) -> Opener:
    parsed = parse_certificate(secret)
    stored = ("key", parsed.kind, parsed.certificate, parsed.private_key)
    return Opener(IdentityIndex.load([stored]), TrustStore(), folder)


@pytest.fixture(scope="module")
def gnupg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GnuPG]:
    gnupg = GnuPG(tmp_path_factory.mktemp("gnupg"))
    gnupg.key("bob@example.org", *KEYS, *BRAINPOOL)
    gnupg("--quick-gen-key", "alice@example.org", "ed25519", "sign,cert", "never")
    yield gnupg
    gnupg.close()


@pytest.fixture
def opener(gnupg: GnuPG, tmp_path: Path) -> Opener:
    parsed = parse_certificate(gnupg.secret("bob@example.org"))
    stored = ("bob", parsed.kind, parsed.certificate, parsed.private_key)
    trust = TrustStore.load(senders=[gnupg("--export", "alice@example.org")], system=False)
    return Opener(IdentityIndex.load([stored]), trust, tmp_path)


@pytest.fixture
def pki_opener(pki: Pki, receivers: list[Holder], tmp_path: Path) -> Opener:
    return Opener(index(*receivers), pki.trust, tmp_path)


@pytest.mark.parametrize("options", [(), ("--throw-keyids",)], ids=["named", "hidden"])
@pytest.mark.parametrize("number", range(len(KEYS + BRAINPOOL)), ids=KEYS + BRAINPOOL)
def test_each_kind_of_openpgp_key_that_gnupg_makes(
    number: int, options: tuple[str, ...], gnupg: GnuPG, opener: Opener
) -> None:
    part = gnupg.fingerprints("bob@example.org")[1 + number]
    with opener(HEADER + multipart_encrypted(gnupg.encrypt(ENTITY, part, *options))) as opened:
        assert opened.security.status == "decrypted", opened.security
        assert opened.content == HEADER + ENTITY


def test_a_changed_message_for_a_brainpool_key_opens_nothing(gnupg: GnuPG, opener: Opener) -> None:
    """Its digest is checked here, before Sequoia sees what was in it."""
    part = gnupg.fingerprints("bob@example.org")[1 + len(KEYS)]
    made = gnupg("--compress-algo", "none", "--encrypt", "-r", f"{part}!", data=ENTITY * 20)
    for place in (-200, -100, -25, -1):
        changed = bytearray(made)
        changed[place] ^= 1
        with opener(mail(bytes(changed))) as opened:
            assert opened.security.status == "failed", opened.security
            assert opened.content is None


@pytest.mark.parametrize("kind", ["elg2048", "secp256k1", "rsa1024"])
def test_a_key_of_a_kind_that_is_not_opened_is_refused_by_name(kind: str, gnupg: GnuPG) -> None:
    gnupg.key(f"{kind}@example.org", kind)
    with pytest.raises(InvalidInput, match=r"ElGamal|ECDH|RSA"):
        parse_certificate(gnupg.secret(f"{kind}@example.org"))


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("number", [0, 5], ids=["rsa2048", "brainpoolP256r1"])
@pytest.mark.parametrize("compression", ["none", "zip", "zlib", "bzip2"])
def test_each_compression_of_openpgp(
    compression: str, number: int, signed: bool, gnupg: GnuPG, opener: Opener
) -> None:
    part = gnupg.fingerprints("bob@example.org")[1 + number]
    options = ("--compress-algo", compression, *(("-s", "-u", "alice@example.org") * signed))
    with opener(HEADER + multipart_encrypted(gnupg.encrypt(ENTITY, part, *options))) as opened:
        assert opened.security.status == "decrypted", opened.security
        assert opened.content == HEADER + ENTITY
        assert opened.security.signature == ("valid" if signed else "none"), opened.security


def test_what_bzip2_unpacks_to_is_bounded(gnupg: GnuPG, opener: Opener) -> None:
    part = gnupg.fingerprints("bob@example.org")[1]
    message = gnupg.encrypt(bytes(60_000_000), part, "--compress-algo", "bzip2")
    assert len(message) < 10_000
    with opener(HEADER + multipart_encrypted(message)) as opened:
        assert opened.content is None
        assert opened.security.status == "failed"
        assert "unpacks to more" in opened.security.reason
    # In memory as well, before Sequoia writes any of it.
    [key] = opener.identities.openpgp
    subkey = next(one for one in key.subkeys if one.fingerprint == part.lower())
    with pytest.raises(Malformed):
        reencrypted(whole_message(region(message)), key, subkey, 1 << 20)


@pytest.mark.parametrize(
    ("cipher", "shown"),
    [
        *((name, "") for name in ("AES", "AES192", "AES256", "TWOFISH")),
        *((name, "") for name in ("CAMELLIA128", "CAMELLIA192", "CAMELLIA256")),
        ("IDEA", "IDEA"),
        ("3DES", "3DES"),
        ("CAST5", "CAST5"),
        ("BLOWFISH", "Blowfish"),
    ],
)
def test_each_cipher_of_openpgp(cipher: str, shown: str, gnupg: GnuPG, opener: Opener) -> None:
    part = gnupg.fingerprints("bob@example.org")[1]
    message = gnupg.encrypt(ENTITY, part, "--cipher-algo", cipher, "--force-mdc")
    with opener(HEADER + multipart_encrypted(message)) as opened:
        assert opened.security.status == ("unsupported" if shown else "decrypted")
        assert shown in opened.security.reason
        assert opened.content == (None if shown else HEADER + ENTITY)


#: RFC 9580 section 9.1: reserved, for signing only, or nowhere given out.
@pytest.mark.parametrize("algorithm", [0, 3, 16, 17, 19, 20, 21, 22, 23, 24, 27, 28, 37, 100, 255])
@pytest.mark.parametrize("ours", [True, False])
def test_each_public_key_algorithm_that_is_not_opened_is_named(
    algorithm: int, ours: bool, gnupg: GnuPG, opener: Opener
) -> None:
    part = gnupg.fingerprints("bob@example.org")[1]
    key_id = bytes.fromhex(part[-16:]) if ours else b"elsewher"
    recipient = b"\3" + key_id + bytes((algorithm,)) + b"\0\x08\xff"
    message = packet(1, recipient) + packet(18, b"\1" + os.urandom(60))
    with opener(mail(message)) as opened:
        assert opened.security.status == "unsupported", opened.security
        name = "ElGamal" if algorithm == 16 else f"algorithm {algorithm}"
        assert name in opened.security.reason


def eax(key: bytes, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
    """EAX mode (Bellare, Rogaway and Wagner), which the library does not have."""

    def omac(kind: int, data: bytes) -> bytes:
        mac = cmac.CMAC(AES(key))
        mac.update(kind.to_bytes(16) + data)
        return mac.finalize()

    start, head = omac(0, nonce), omac(1, associated)
    context = Cipher(AES(key), modes.CTR(start)).encryptor()
    sealed = context.update(plain) + context.finalize()
    body = omac(2, sealed)
    return sealed + bytes(a ^ b ^ c for a, b, c in zip(start, head, body, strict=True))


def version_2(
    secret: bytes, cipher: int, size: int, mode: int, *, text: bytes = ENTITY, piece: int = 6
) -> bytes:
    """A message of RFC 9580 (sections 5.1.2, 5.1.6 and 5.13.2) for an X25519 key of version 6, cut
    into pieces of 64 octets shifted by `piece`."""
    key = next(p for p in PacketPile.from_bytes(secret) if p.tag == Tag.SecretSubkey)
    assert key.fingerprint is not None
    point = key.body[10:42]
    session, ephemeral = os.urandom(size), X25519PrivateKey.generate()
    public = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(point))
    wrapping = HKDF(hashes.SHA256(), 16, None, b"OpenPGP X25519").derive(public + point + shared)
    wrapped = keywrap.aes_key_wrap(wrapping, session)
    name = bytes((33, 6)) + bytes.fromhex(key.fingerprint)
    recipient = b"\6" + name + bytes((25,)) + public + bytes((len(wrapped),)) + wrapped
    nonce_size = {1: 16, 2: 15, 3: 12}.get(mode, 12)
    head, salt = bytes((0xD2, 2, cipher, mode, piece)), os.urandom(32)
    derived = HKDF(hashes.SHA256(), size + nonce_size - 8, salt, head).derive(session)
    content, start = derived[:size], derived[size:]
    plain = packet(11, b"b\0\0\0\0\0" + text)

    def seal(number: int, data: bytes, associated: bytes) -> bytes:
        nonce = start + number.to_bytes(8)
        if cipher not in (7, 8, 9) or mode == 4:
            return os.urandom(len(data) + 16)
        if mode == 1:
            return eax(content, nonce, data, associated)
        if mode == 2:
            return AESOCB3(content).encrypt(nonce, data, associated)
        return AESGCM(content).encrypt(nonce, data, associated)

    pieces = [plain[at : at + (64 << piece)] for at in range(0, len(plain), 64 << piece)]
    sealed = b"".join(seal(i, piece, head) for i, piece in enumerate(pieces))
    sealed += seal(len(pieces), b"", head + len(plain).to_bytes(8))
    return packet(1, recipient) + packet(18, head[1:] + salt + sealed)


_CIPHERS = {
    1: ("IDEA", 16), 2: ("3DES", 24), 3: ("CAST5", 16), 4: ("Blowfish", 16), 7: ("AES-128", 16),
    8: ("AES-192", 24), 9: ("AES-256", 32), 10: ("Twofish", 32), 11: ("Camellia-128", 16),
    12: ("Camellia-192", 24), 13: ("Camellia-256", 32), 100: ("cipher 100", 32),
}  # fmt: skip


@pytest.mark.parametrize("mode", [1, 2, 3, 4], ids=["EAX", "OCB", "GCM", "unknown"])
@pytest.mark.parametrize("cipher", _CIPHERS, ids=[name for name, _ in _CIPHERS.values()])
def test_each_cipher_and_mode_of_rfc_9580(cipher: int, mode: int, tmp_path: Path) -> None:
    key = Tsk.generate("bob@example.org", profile=Profile.RFC9580)
    name, size = _CIPHERS[cipher]
    opens = opener_of(bytes(key), tmp_path)
    with opens(mail(version_2(bytes(key), cipher, size, mode))) as opened:
        if mode < 4 and cipher in (7, 8, 9):
            assert opened.security.status == "decrypted", opened.security
            assert opened.content == HEADER + ENTITY
        else:
            assert opened.security.status == "unsupported", opened.security
            assert name in opened.security.reason


def test_a_message_in_eax_has_few_pieces(tmp_path: Path) -> None:
    """Each takes seventeen microseconds: a message of 16 MiB could be cut into 200,000."""
    key = Tsk.generate("bob@example.org", profile=Profile.RFC9580)
    opens = opener_of(bytes(key), tmp_path)
    for length, status in ((64 * 1_000, "decrypted"), (64 * 16_400, "failed")):
        message = version_2(bytes(key), 9, 32, 1, text=bytes(length), piece=0)
        with opens(mail(message)) as opened:
            assert opened.security.status == status, opened.security
    assert "too many pieces" in opened.security.reason


def named(name: str, parameters: bytes = b"") -> bytes:
    return encode(0x30, encode(6, oid(name)) + parameters)


def identifier(holder: Holder) -> bytes:
    name = holder.identity().name
    return encode(0x30, name.issuer + encode(2, name.serial.to_bytes(21)))


def transport(holder: Holder, algorithm: bytes) -> bytes:
    return encode(
        0x30, encode(2, b"\0") + identifier(holder) + algorithm + encode(4, os.urandom(256))
    )


def agreement(holder: Holder, algorithm: bytes) -> bytes:
    point = encode(3, b"\0\x04" + os.urandom(64))
    originator = encode(0xA0, encode(0xA1, named("1.2.840.10045.2.1") + point))
    wrapped = encode(0x30, encode(0x30, identifier(holder) + encode(4, os.urandom(40))))
    return encode(0xA1, encode(2, b"\3") + originator + algorithm + wrapped)


def enveloped(recipient: bytes, algorithm: bytes, *, authenticated: bool = False) -> bytes:
    content = encode(0x30, encode(6, DATA) + algorithm + encode(0x80, os.urandom(64)))
    whole = encode(2, b"\0") + encode(0x31, recipient) + content
    if authenticated:
        whole += encode(4, os.urandom(16))
    kind = AUTH_ENVELOPED_DATA if authenticated else ENVELOPED_DATA
    return encode(0x30, encode(6, kind) + encode(0xA0, encode(0x30, whole)))


DATA = oid("1.2.840.113549.1.7.1")
RSA = named("1.2.840.113549.1.1.1", b"\5\0")
AES_CBC = named("2.16.840.1.101.3.4.1.42", encode(4, bytes(16)))
_NIST = "2.16.840.1.101.3.4.1."
#: Content encryptions that somebody registered for CMS or that mail programs have sent.
_CONTENTS = {
    "1.2.840.113549.3.2": "RC2-CBC", "1.2.840.113549.3.4": "RC4", "1.3.14.3.2.7": "DES-CBC",
    "1.2.840.113549.3.9": "", "1.2.840.113533.7.66.10": "", "1.3.6.1.4.1.188.7.1.1.2": "",
    "1.3.6.1.4.1.3029.1.2": "", "1.2.410.200004.1.4": "", "1.2.410.200046.1.1.2": "",
    "1.2.156.10197.1.104.2": "", "1.2.643.2.2.21": "", "1.2.643.7.1.1.5.1.1": "",
    "1.2.392.200011.61.1.1.1.2": "Camellia-128-CBC", "1.2.392.200011.61.1.1.1.3": "",
    "1.2.392.200011.61.1.1.1.4": "Camellia-256-CBC",
    "1.2.840.113549.1.9.16.3.18": "ChaCha20-Poly1305",
    **{_NIST + arc: "" for arc in ("1", "3", "4", "5", "21", "41", "44", "99")},
    _NIST + "7": "AES-128-CCM", _NIST + "27": "AES-192-CCM", _NIST + "47": "AES-256-CCM",
}  # fmt: skip


@pytest.mark.parametrize("authenticated", [False, True])
@pytest.mark.parametrize("parameters", [b"", b"\5\0", encode(4, bytes(8)), encode(0x30, b"")])
@pytest.mark.parametrize("name", _CONTENTS)
def test_each_content_encryption_of_cms_that_is_not_opened_is_named(
    name: str,
    parameters: bytes,
    authenticated: bool,
    holders: dict[str, Holder],
    pki_opener: Opener,
) -> None:
    made = enveloped(
        transport(holders["rsa"], RSA), named(name, parameters), authenticated=authenticated
    )
    with pki_opener(smime(made)) as opened:
        assert opened.security.status == "unsupported", opened.security
        assert (_CONTENTS[name] or name) in opened.security.reason


@pytest.mark.parametrize("who", ["rsa", "p256"])
@pytest.mark.parametrize(
    "name",
    [
        *("1.2.840.113549.1.1.2", "1.2.840.113549.1.9.16.3.14", "1.3.14.7.2.1.1"),
        *("1.2.156.10197.1.301.3", "1.2.643.7.1.1.1.1", "1.2.3.4"),
    ],
)
def test_each_key_transport_of_cms_that_is_not_opened_is_named(
    name: str, who: str, holders: dict[str, Holder], pki_opener: Opener
) -> None:
    with pki_opener(smime(enveloped(transport(holders[who], named(name)), AES_CBC))) as opened:
        assert opened.security.status == "unsupported", opened.security
        assert name in opened.security.reason or "RSA-KEM" in opened.security.reason


#: Static and ephemeral Diffie-Hellman, MQV, GOST, and one that nobody registered.
_SCHEMES = (
    *("1.2.840.113549.1.9.16.3.5", "1.2.840.113549.1.9.16.3.10", "1.3.132.1.15.0"),
    *("1.3.132.1.15.3", "1.3.133.16.840.63.0.16", "1.2.643.7.1.1.6.1", "1.2.3.4"),
)
_WRAPS = (
    *("1.2.840.113549.1.9.16.3.7", "1.2.392.200011.61.1.1.3.2", "1.2.410.200046.1.1.40"),
    *("1.2.643.2.2.13.1", "1.2.410.200004.7.1.1.1", "1.2.3.4"),
)


@pytest.mark.parametrize("who", ["rsa", "p256"])
@pytest.mark.parametrize(
    ("scheme", "wrap", "shown"),
    [
        *((scheme, _NIST + "45", scheme) for scheme in _SCHEMES),
        *(("1.3.132.1.11.1", wrap, wrap) for wrap in _WRAPS),
    ],
)
def test_each_key_agreement_and_wrap_of_cms_that_is_not_opened_is_named(
    scheme: str, wrap: str, shown: str, who: str, holders: dict[str, Holder], pki_opener: Opener
) -> None:
    made = enveloped(agreement(holders[who], named(scheme, named(wrap))), AES_CBC)
    with pki_opener(smime(made)) as opened:
        assert opened.security.status == "unsupported", opened.security
        assert shown in opened.security.reason


@pytest.mark.parametrize(
    ("name", "encrypted"),
    [
        ("1.2.840.113549.1.7.4", True),  # signed-and-enveloped (PKCS #7)
        ("1.2.840.113549.1.7.6", True),  # encrypted with a key that was agreed on elsewhere
        ("1.2.840.113549.1.7.5", False),  # digested
        ("1.2.840.113549.1.9.16.1.2", False),  # authenticated
        ("1.2.840.113549.1.9.16.1.31", False),  # timestamped
        ("1.2.3.4", False),
    ],
)
def test_each_content_type_of_cms_that_is_not_opened_is_named(
    name: str, encrypted: bool, pki_opener: Opener
) -> None:
    made = encode(0x30, encode(6, oid(name)) + encode(0xA0, encode(0x30, encode(2, b"\0"))))
    with pki_opener(smime(made)) as opened:
        assert opened.security.status == "unsupported", opened.security
        assert opened.security.encrypted == encrypted
        assert name in opened.security.reason
        assert opened.content is None
