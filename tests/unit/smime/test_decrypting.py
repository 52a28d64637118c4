"""What senders produce opens: every key, every cipher, every encoding, by the openssl command."""

from __future__ import annotations

import base64
import os
import zlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import x448, x25519
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from services.decryptor.cms.ber import encode
from services.decryptor.cms.oids import COMPRESSED_DATA, DATA, ENVELOPED_DATA, ZLIB, oid
from services.decryptor.opening import MailLimits
from tests.unit.smime.mails import (
    ENTITY,
    HEADER,
    TEXT,
    Opener,
    body,
    encrypt,
    header_of,
    mail,
    pkcs7_entity,
)
from tests.unit.smime.pki import Holder, Pki, index, rsa_key

pytestmark = pytest.mark.promise("C2")

CIPHERS = {
    "aes-128-cbc": ("AES-128-CBC", "none"),
    "aes-192-cbc": ("AES-192-CBC", "none"),
    "aes-256-cbc": ("AES-256-CBC", "none"),
    "des3": ("3DES-CBC", "none"),
    "aes-128-gcm": ("AES-128-GCM", "aead"),
    "aes-192-gcm": ("AES-192-GCM", "aead"),
    "aes-256-gcm": ("AES-256-GCM", "aead"),
}
OAEP = ("-keyopt", "rsa_padding_mode:oaep")
KEYS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "rsa": ("rsa", (), "RSA-PKCS1v15"),
    "oaep-sha1": ("rsa", OAEP, "RSA-OAEP"),
    "oaep-sha256": ("rsa", (*OAEP, "-keyopt", "rsa_oaep_md:sha256"), "RSA-OAEP"),
    "oaep-sha512-mgf-sha1": (
        "rsa",
        (*OAEP, "-keyopt", "rsa_oaep_md:sha512", "-keyopt", "rsa_mgf1_md:sha1"),
        "RSA-OAEP",
    ),
    "oaep-label": (
        "rsa",
        (*OAEP, "-keyopt", "rsa_oaep_md:sha384", "-keyopt", "rsa_oaep_label:706f7374"),
        "RSA-OAEP",
    ),
    "p256": ("p256", (), "ECDH"),
    "p256-sha256": ("p256", ("-keyopt", "ecdh_kdf_md:sha256"), "ECDH"),
    "p384-sha512": ("p384", ("-keyopt", "ecdh_kdf_md:sha512"), "ECDH"),
    "p521": ("p521", (), "ECDH"),
    "p521-cofactor": ("p521", ("-keyopt", "ecdh_cofactor_mode:1"), "ECDH"),
    "brainpool256": ("brainpool256", (), "ECDH"),
    "brainpool384": ("brainpool384", ("-keyopt", "ecdh_kdf_md:sha384"), "ECDH"),
    "brainpool512": ("brainpool512", (), "ECDH"),
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("cipher", CIPHERS)
def test_opens_and_says_how(
    key: str, cipher: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    name, options, key_algorithm = KEYS[key]
    for encoding in ((), ("-stream", "-indef")):
        for naming in ((), ("-keyid",)):
            made = encrypt(f"-{cipher}", *encoding, *naming, "-recip", holders[name].cert, *options)
            with opener(mail(made)) as opened:
                security = opened.security
                assert security.status == "decrypted", (encoding, naming, security.reason)
                assert body(opened) == TEXT
                assert security.encrypted
                assert security.certificate == name
                assert (security.content_algorithm, security.integrity) == CIPHERS[cipher]
                assert security.key_algorithm == key_algorithm
                assert security.signature == "none"
                assert len(security.recipients) == 1
                assert ("key id " in security.recipients[0]) == bool(naming)


def test_content_is_the_outer_mail_with_the_inner_entity(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    with opener(mail(encrypt("-aes256", holders["rsa"].cert))) as opened:
        assert opened.content == HEADER + ENTITY


def test_several_recipients_of_mixed_kinds(opener: Opener, holders: dict[str, Holder]) -> None:
    for ours in ("rsa", "p384", "brainpool256"):
        made = encrypt(
            "-aes256", "-recip", holders["stranger"].cert, "-recip", holders["alice-ec"].cert,
            "-recip", holders[ours].cert, "-recip", holders["alice"].cert, *OAEP,
        )  # fmt: skip
        with opener(mail(made)) as opened:
            assert opened.security.certificate == ours
            assert body(opened) == TEXT
            assert len(opened.security.recipients) == 4


def test_a_damaged_recipient_keeps_no_other_out(opener: Opener, holders: dict[str, Holder]) -> None:
    """Both keys are here, and the algorithm of the first one is none."""
    made = encrypt(
        "-aes256", "-recip", holders["rsa"].cert, *OAEP, "-recip", holders["p384"].cert
    )  # fmt: skip
    scheme = encode(6, oid("1.2.840.113549.1.1.7"))
    assert made.count(scheme + b"\x30\0") == 1
    with opener(mail(made.replace(scheme + b"\x30\0", scheme + b"\x04\0"))) as opened:
        assert opened.security.certificate == "p384", opened.security.reason
        assert body(opened) == TEXT


def test_password_recipient_beside_a_certificate(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    made = encrypt("-aes256", "-pwri_password", "secret", "-recip", holders["rsa"].cert)
    with opener(mail(made)) as opened:
        assert opened.security.status == "decrypted"


def test_expired_certificate_still_opens(pki: Pki, tmp_path: Path) -> None:
    old = pki.holder("expired", rsa_key(), days=(-800, -400))
    with Opener(index(old), pki.trust, tmp_path)(mail(encrypt("-aes256", old.cert))) as opened:
        assert body(opened) == TEXT


def test_key_id_of_a_certificate_without_the_extension(pki: Pki, tmp_path: Path) -> None:
    """Senders then take the SHA-1 of the key, as the extension would."""
    key = rsa_key()
    named, plain = pki.holder("with-id", key), pki.holder("without-id", key, key_id=False)
    made = encrypt("-aes256", "-keyid", "-recip", named.cert)
    with Opener(index(plain), pki.trust, tmp_path)(mail(made)) as opened:
        assert opened.security.certificate == "without-id"


def test_every_fitting_certificate_is_tried(pki: Pki, tmp_path: Path) -> None:
    """Two authorities with one name gave out one serial number: only the key tells them apart."""
    right, wrong = pki.holder("right", rsa_key()), pki.holder("wrong", rsa_key())
    swapped = type(right.identity()).load("wrong", right.der, wrong.pkcs8)
    both = type(index())([swapped, right.identity()])
    for _ in range(20):
        with Opener(both, pki.trust, tmp_path)(mail(encrypt("-aes256", right.cert))) as opened:
            assert opened.security.certificate == "right"
            assert body(opened) == TEXT


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m",
        b"application/x-pkcs7-mime; name=smime.p7m",
        b'APPLICATION/PKCS7-MIME;\r\n\tsmime-type="authEnveloped-data"',
        b'application/octet-stream; name="smime.p7m"',
        b'application/octet-stream; name="=?utf-8?B?c21pbWUucDdt?="',
        b'application/octet-stream; name="=?iso-8859-1?Q?smime=2Ep7m?="',
        b"application/octet-stream; name*0=smime; name*1=.p7m",
        b"application/octet-stream",
        b"application/x-smime",
        b"application/pkcs7; name=message.bin.p7m",
        b"application/pkcs7-mime",
    ],
)
@pytest.mark.parametrize("encoding", ["base64", "binary", "8bit", "quoted-printable"])
def test_entity_forms(
    content_type: bytes, encoding: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    made = encrypt("-aes256", holders["rsa"].cert)
    if encoding == "base64":
        # One line without an end, as some gateways produce it.
        encoded = base64.b64encode(made)
    elif encoding == "quoted-printable":
        encoded = b"=\r\n".join(b"".join(b"=%02X" % byte for byte in made[i : i + 24])
                                for i in range(0, len(made), 24))  # fmt: skip
    else:
        encoded = made
    raw = (
        HEADER + b"Content-Type: " + content_type + b"\r\n"
        b"Content-Transfer-Encoding: " + encoding.encode() + b"\r\n\r\n" + encoded
    )
    with opener(raw) as opened:
        assert opened.security.status == "decrypted", opened.security.reason
        assert body(opened) == TEXT


def test_line_ends_of_a_unix_mailbox(opener: Opener, holders: dict[str, Holder]) -> None:
    raw = mail(encrypt("-aes256", holders["rsa"].cert)).replace(b"\r\n", b"\n")
    with opener(raw) as opened:
        assert opened.security.status == "decrypted"
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(TEXT)


@pytest.mark.parametrize("ciphers", [("-aes256", "-aes-256-gcm"), ("-aes-256-gcm", "-aes256")])
def test_encrypted_in_encrypted(
    ciphers: tuple[str, str], opener: Opener, holders: dict[str, Holder]
) -> None:
    inner = pkcs7_entity(encrypt(ciphers[1], holders["p256"].cert))
    with opener(mail(encrypt(ciphers[0], holders["rsa"].cert, data=inner))) as opened:
        assert body(opened) == TEXT
        assert opened.security.integrity == "none", "the weakest layer counts"
        assert len(opened.security.recipients) == 2


@pytest.mark.promise("F3")
@pytest.mark.parametrize(
    ("inner", "status", "words"),
    [
        ("for somebody else", "no_recipient", "among the recipients"),
        ("damaged", "failed", "cannot be decrypted"),
        ("of an unknown cipher", "unsupported", "AES-128-CCM"),
        ("of OpenPGP", "failed", "no OpenPGP message"),
    ],
)
def test_what_is_opened_around_an_encryption_that_is_not_is_handed_out(
    inner: str, status: str, words: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    p256 = holders["p256"].cert
    gcm = encrypt("-aes-128-gcm", p256)
    entities = {
        "for somebody else": pkcs7_entity(encrypt("-aes128", holders["stranger"].cert)),
        "damaged": pkcs7_entity(gcm[:-1] + bytes((gcm[-1] ^ 1,))),
        "of an unknown cipher": pkcs7_entity(
            gcm.replace(encode(6, oid("2.16.840.1.101.3.4.1.6")),
                        encode(6, oid("2.16.840.1.101.3.4.1.7")))),
        "of OpenPGP": (
            b"Content-Type: multipart/encrypted; boundary=e\r\n\r\n"
            b"--e\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
            b"--e\r\nContent-Type: application/octet-stream\r\n\r\nnothing\r\n--e--\r\n"),
    }  # fmt: skip
    entity = entities[inner]
    fields = b"Subject: What it is about\r\nX-Order: 4711\r\n"
    sealed = encrypt("-aes-256-gcm", holders["rsa"].cert, data=fields + entity)
    with opener(mail(sealed)) as opened:
        security = opened.security
        assert (security.status, security.encrypted) == (status, True), security
        assert words in security.reason
        assert "what that held is handed out" in security.reason
        assert (security.certificate, security.integrity) == ("rsa", "aead")
        assert [layer.verdict for layer in security.layers] == ["decrypted", status]
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(entity.partition(b"\r\n\r\n")[2])
        assert b"\r\nSubject: What it is about\r\n" in header_of(opened)
        assert b"\r\nX-Order: 4711\r\n" in header_of(opened)


@pytest.mark.promise("C4")
def test_no_recipient_goes_out_as_it_came(opener: Opener, holders: dict[str, Holder]) -> None:
    with opener(mail(encrypt("-aes256", holders["stranger"].cert))) as opened:
        assert opened.content is None
        assert opened.security.encrypted
        assert opened.security.status == "no_recipient"
        assert opened.security.certificate is None
        assert opened.security.integrity is None
        serial = f"{holders['stranger'].certificate.serial_number:x}"
        assert opened.security.recipients == (
            f"CN=Example Root, O=Example Stadtwerke, C=DE, serial {serial}",
        )


@pytest.mark.promise("C4")
@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("07", "AES-128-CCM"),
        ("2f", "AES-256-CCM"),
        ("63", "2.16.840.1.101.3.4.1.99"),
    ],
)
def test_unsupported_cipher_is_named(
    sent: str, shown: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    """The openssl command cannot make them; the name of one that it makes is changed."""
    made = encrypt("-aes-128-gcm", holders["rsa"].cert)
    prefix = "0609608648016503040"
    before = bytes.fromhex(prefix + "106")
    assert made.count(before) == 1
    after = bytes.fromhex(prefix + "1" + sent)
    with opener(mail(made.replace(before, after))) as opened:
        assert opened.security.status == "unsupported"
        assert shown in opened.security.reason
        assert opened.content is None


@pytest.mark.parametrize("kind", [x25519.X25519PrivateKey, x448.X448PrivateKey])
@pytest.mark.parametrize("scheme", ["x963", "hkdf", "hkdf with salt"])
@pytest.mark.parametrize("null", [False, True])
def test_x25519_and_x448(
    kind: type[x25519.X25519PrivateKey] | type[x448.X448PrivateKey],
    scheme: str,
    null: bool,
    pki: Pki,
    tmp_path: Path,
) -> None:
    """RFC 8418, by hand: neither the openssl command nor Bouncy Castle of this age writes it."""
    wrap = encode(0x30, encode(6, oid("2.16.840.1.101.3.4.1.45")) + (b"\x05\x00" if null else b""))
    material = os.urandom(16)
    info = encode(
        0x30,
        wrap + encode(0xA0, encode(4, material)) + encode(0xA2, encode(4, (256).to_bytes(4))),
    )
    ephemeral, own = kind.generate(), kind.generate()
    receiver = pki.holder("montgomery", own)
    opener = Opener(index(receiver), pki.trust, tmp_path)
    secret = ephemeral.exchange(own.public_key())  # type: ignore[arg-type]
    if scheme == "x963":
        name = oid("1.3.132.1.11.1")
        wrapping_key = X963KDF(hashes.SHA256(), 32, info).derive(secret)
    else:
        name = oid("1.2.840.113549.1.9.16.3.19")
        salt = material if "salt" in scheme else None
        wrapping_key = HKDF(hashes.SHA256(), 32, salt, info).derive(secret)
    key, nonce = os.urandom(32), os.urandom(16)
    point = ephemeral.public_key().public_bytes_raw()
    curve = oid("1.3.101.110" if kind is x25519.X25519PrivateKey else "1.3.101.111")
    originator = encode(0xA1, encode(0x30, encode(6, curve)) + encode(3, b"\0" + point))
    issued = receiver.identity().name
    identifier = encode(0x30, issued.issuer + encode(2, issued.serial.to_bytes(21)))
    wrapped = encode(0x30, identifier + encode(4, aes_key_wrap(wrapping_key, key)))
    recipient = (
        encode(2, b"\3")
        + encode(0xA0, originator)
        + encode(0xA1, encode(4, material))
        + encode(0x30, encode(6, name) + wrap)
        + encode(0x30, wrapped)
    )
    padded = ENTITY + bytes((16 - len(ENTITY) % 16,)) * (16 - len(ENTITY) % 16)
    cipher = Cipher(AES(key), CBC(nonce)).encryptor()
    content = (
        encode(6, oid("1.2.840.113549.1.7.1"))
        + encode(0x30, encode(6, oid("2.16.840.1.101.3.4.1.42")) + encode(4, nonce))
        + encode(0x80, cipher.update(padded) + cipher.finalize())
    )
    enveloped = encode(2, b"\2") + encode(0x31, encode(0xA1, recipient)) + encode(0x30, content)
    made = encode(0x30, encode(6, ENVELOPED_DATA) + encode(0xA0, encode(0x30, enveloped)))
    with opener(mail(made)) as opened:
        assert opened.security.certificate == "montgomery", opened.security.reason
        assert body(opened) == TEXT


def test_nesting_is_limited(opener: Opener, holders: dict[str, Holder]) -> None:
    data = ENTITY
    for _ in range(5):
        data = pkcs7_entity(encrypt("-aes128", holders["rsa"].cert, data=data))
    with opener(HEADER + data, MailLimits(nesting=5)) as opened:
        assert opened.security.status == "decrypted"
    with opener(HEADER + data, MailLimits(nesting=3)) as opened:
        assert opened.security.status == "failed"
        assert b"pkcs7-mime" in header_of(opened), "what was opened up to there"


def test_compressed_within_its_limit(opener: Opener, holders: dict[str, Holder]) -> None:
    packed = openssl_compress(ENTITY)
    with opener(mail(packed, "compressed-data")) as opened:
        assert opened.content is None, "what is only compressed is not kept twice"
        assert not opened.security.encrypted
        assert [layer.kind for layer in opened.security.layers] == ["compression"]
    sealed = encrypt("-aes256", holders["rsa"].cert, data=pkcs7_entity(packed, "compressed-data"))
    with opener(mail(sealed)) as opened:
        assert body(opened) == TEXT


def test_compression_bomb_stays_a_fact(opener: Opener) -> None:
    bomb = openssl_compress(b"Content-Type: text/plain\r\n\r\n" + b"\0" * 30_000_000)
    assert len(bomb) < 100_000
    with opener(mail(bomb, "compressed-data"), MailLimits(decompressed_bytes=1_000_000)) as opened:
        assert opened.security.status == "failed"
        assert "1000000" in opened.security.reason
        assert opened.content is None


def openssl_compress(data: bytes) -> bytes:
    """CompressedData (RFC 3274), by hand: Debian's openssl is built without it."""
    inner = encode(0x30, encode(6, DATA) + encode(0xA0, encode(4, zlib.compress(data))))
    packed = encode(0x30, encode(2, b"\0") + encode(0x30, encode(6, ZLIB)) + inner)
    return encode(0x30, encode(6, COMPRESSED_DATA) + encode(0xA0, packed))
