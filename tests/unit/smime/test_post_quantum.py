"""ML-KEM recipients (RFC 9936 in RFC 9629) and ML-DSA signatures (RFC 9882).

Held to a foreign implementation: the example of the draft of RFC 9936 (structure, key derivation,
key wrap and content; its ML-KEM-512 secret is given, as no library here opens it), and OpenSSL 3.5,
which signs with ML-DSA and has no ML-KEM recipients. Held to the texts of the RFCs alone: whole
mails for ML-KEM-768 and 1024, made here with OpenSSL's primitives.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.decryptor.cms import oids
from services.decryptor.cms.ber import encode
from services.decryptor.cms.content import content_info
from services.decryptor.cms.enveloped import any_envelope
from services.decryptor.cms.key_encapsulation import unwrapped
from services.decryptor.cms.oids import oid
from services.decryptor.trust import TrustStore
from shared.certificates import parse_certificate
from shared.mail.region import region
from tests.unit.smime.mails import ENTITY, HEADER, Opener, encrypt, mail
from tests.unit.smime.pki import Holder, Pki, index

pytestmark = pytest.mark.promise("C2")

AES = "2.16.840.1.101.3.4.1."
DERIVATIONS = {28: hashes.SHA256(), 29: hashes.SHA384(), 30: hashes.SHA512()}
WRAPS = {"5": 16, "25": 24, "45": 32}
#: The example of the working group's draft of RFC 9936, and the values on the way to it.
EXAMPLE = """
MIID4gYLKoZIhvcNAQkQARegggPRMIIDzQIBADGCA3ikggN0BgsqhkiG9w0BCRAN
AzCCA2MCAQCAFFmXiMN67UAO5AXRsqM2arF9gkpRMAsGCWCGSAFlAwQEAQSCAwA+
pA/GygkOLIr3bicnqzjgZS2VFZhv4YaCf+hOWW5CG4X9RZzHiZc3LJ3jHRkbOcHV
o+tt21aq3t52XMOQ/bvC+IyxdWgdQgG4HM38sk/vE68vWhq8+NivOE8CoBCm6Rnx
mHpemxwOLT8H9YqfpTnOhswUmRChaSwMpM4Ozk7u0uZpnLl2MyRS3koutcph97CB
Mww0eY73EqJOWcM86h8fnm1PvzdDo4RnQwARM29i2HB5K4Zr780dGzZb7RlSZz06
Wwwgs4a079HPY/03a9R8zEasTdjsZrBHxMlaz/HP0CikGbAC/aG2F8umHS6Rz+j/
+8uP/U1fatixWMIZ423FFAXcDAsjSXmsZY5yvd8bZ3O5ayrj5NB76GBIBAwBZ0Nv
qDnnUpsAzJq1Wi8l22PMn1V1lOaRwR5VPUo+vHYPXxnl/hRIOLTH0VkdqbXUZ0lP
2crFLMVQQGA5nb23IpjrmkwBewB4b9x9nXqletu4thw03h4oiyq3KBcdzhQ80WlT
+YTBrtVZ5WuqDOZY0yzOQvRAdQTNelea0O+bdxNeqjm2+To6LlmXgH8GNhyD9OZ/
jj+c9oMWARUU9dhaGBzq1xTNSUDk66wB1mUo2jL4nOoEKOjrytz4qhiMn2LoWxlX
ZVt/4rjXlzt6cia2bZO/eyMvPc9lPIS07PGpkg2xlJrXULVGpVUqIOVJCXGbjAwH
BW/LfldK0qMuyVAB3ehEgb530DntW/dCYuzzmB8bANM2apwuBhxH4kGgYcYklWDS
uERqSAw4woupidn2itxLuvKiC0fkkjEoxyNC1Zf9olneC4PCBW1rd+eZsxkySqUL
HWWcKlYCm3RTxfO6UkPZ+nSdkXxA2dEB5FO8ixDkKnwIkyPAJveD4QC5+m5wFEJN
pvo3kryVfughnQFrdz8o/tzJYqSFq6/+wCMoGXHimqaJg57P0mGekih80jDbJqJQ
fMUA6xx6UpO1/pF64pvxrTUBJPijEWNSFLQR259n07hb1xUBhTfqRbQfQbTGYFEw
DQYLKoZIhvcNAQkQAxwCARAwCwYJYIZIAWUDBAEFBBjAUOQ5L5wU3QrCIgID8xfX
AflPndknePUwOgYJKoZIhvcNAQcBMB4GCWCGSAFlAwQBBjARBAxcpXRouBvwO42n
GGwCARCADZTIaJqZ0sOOGS+muggEEFzxeGxXx0ArVPyTwwpKRTM=
"""
EXAMPLE_SECRET = "7DF12D412AE299A24FDE6D7C3BB8E3194C80AD3C733DCF2775E09FE8BEDB86D8"


def sequence(*parts: bytes) -> bytes:
    return encode(0x30, b"".join(parts))


def named(content: bytes, *parameters: bytes) -> bytes:
    return sequence(encode(6, content), *parameters)


def kem_recipient(
    holder: Holder,
    content_key: bytes,
    *,
    kem: bytes,
    by_key_id: bool = False,
    derivation: int = 28,
    wrap: str = "45",
    material: bytes = b"",
) -> bytes:
    """An OtherRecipientInfo with a KEMRecipientInfo (RFC 9629 section 3)."""
    secret, ciphertext = holder.certificate.public_key().encapsulate()  # type: ignore[union-attr]
    size = encode(2, bytes((WRAPS[wrap],)))
    wrapping = named(oid(AES + wrap))
    ukm = encode(0xA0, encode(4, material)) if material else b""
    info = sequence(wrapping, size, ukm)
    kek = HKDF(DERIVATIONS[derivation], WRAPS[wrap], None, info).derive(secret)
    key_id = x509.SubjectKeyIdentifier.from_public_key(holder.certificate.public_key()).digest
    serial = holder.certificate.serial_number
    rid = (
        encode(0x80, key_id)
        if by_key_id
        else sequence(
            holder.certificate.issuer.public_bytes(),
            encode(2, serial.to_bytes(serial.bit_length() // 8 + 1)),
        )
    )
    value = sequence(
        encode(2, b"\0"), rid, named(kem), encode(4, ciphertext),
        named(oid(f"1.2.840.113549.1.9.16.3.{derivation}")), size, ukm, wrapping,
        encode(4, keywrap.aes_key_wrap(kek, content_key)),
    )  # fmt: skip
    return encode(0xA4, encode(6, oids.ORI_KEM) + value)


def authenticated(recipients: bytes, content_key: bytes) -> bytes:
    """AuthEnvelopedData (RFC 5083) with AES-256-GCM around `ENTITY`."""
    nonce = os.urandom(12)
    sealed = AESGCM(content_key).encrypt(nonce, ENTITY, None)
    chosen = named(oid(AES + "46"), sequence(encode(4, nonce), encode(2, b"\x10")))
    content = sequence(encode(6, oids.DATA), chosen, encode(0x80, sealed[:-16]))
    inner = sequence(encode(2, b"\0"), encode(0x31, recipients), content, encode(4, sealed[-16:]))
    return sequence(encode(6, oids.AUTH_ENVELOPED_DATA), encode(0xA0, inner))


@pytest.fixture(scope="module")
def kem_holders(pki: Pki) -> dict[bytes, Holder]:
    return {
        oids.ML_KEM_768: pki.holder("kem768", mlkem.MLKEM768PrivateKey.generate()),
        oids.ML_KEM_1024: pki.holder("kem1024", mlkem.MLKEM1024PrivateKey.generate()),
    }


@pytest.fixture
def kem_opener(kem_holders: dict[bytes, Holder], pki: Pki, opener: Opener) -> Opener:
    return Opener(index(*kem_holders.values()), pki.trust, opener.folder)


def test_example_of_the_rfc() -> None:
    body = region(base64.b64decode(EXAMPLE))
    envelope = any_envelope(body, content_info(body).content, authenticated=True)
    [recipient] = envelope.recipients
    assert recipient.kind == "encapsulation"
    assert recipient.algorithm.oid == oids.ML_KEM_512
    assert str(recipient) == "key id 599788c37aed400ee405d1b2a3366ab17d824a51"
    key = unwrapped(recipient, bytes.fromhex(EXAMPLE_SECRET), 16)
    data = base64.b64decode(EXAMPLE)
    nonce, ciphertext, tag = data[-48:-36], data[-31:-18], data[-16:]
    assert AESGCM(key).decrypt(nonce, ciphertext + tag, None) == b"Hello, world!"


def test_ml_kem_512_is_named_and_unsupported(opener: Opener) -> None:
    with opener(mail(base64.b64decode(EXAMPLE), "authEnveloped-data")) as opened:
        assert opened.security.status == "unsupported"
        assert "ML-KEM-512" in opened.security.reason
        assert opened.security.recipients == ("key id 599788c37aed400ee405d1b2a3366ab17d824a51",)


@pytest.mark.parametrize("kem", [oids.ML_KEM_768, oids.ML_KEM_1024])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"by_key_id": True},
        {"derivation": 29},
        {"derivation": 30, "wrap": "25"},
        {"wrap": "5"},
        {"material": b"for this mail"},
    ],
)
def test_ml_kem(
    kem: bytes, how: dict[str, object], kem_holders: dict[bytes, Holder], kem_opener: Opener
) -> None:
    content_key = os.urandom(32)
    recipient = kem_recipient(kem_holders[kem], content_key, kem=kem, **how)  # type: ignore[arg-type]
    with kem_opener(mail(authenticated(recipient, content_key), "authEnveloped-data")) as opened:
        security = opened.security
        assert opened.content == HEADER + ENTITY, security
        assert (security.status, security.integrity) == ("decrypted", "aead")
        assert security.key_algorithm == f"ML-KEM-{768 if kem == oids.ML_KEM_768 else 1024}"


def test_damaged_encapsulation_opens_nothing(
    kem_holders: dict[bytes, Holder], kem_opener: Opener
) -> None:
    content_key = os.urandom(32)
    kem = oids.ML_KEM_768
    made = authenticated(kem_recipient(kem_holders[kem], content_key, kem=kem), content_key)
    for place in range(0, len(made), 29):
        damaged = bytearray(made)
        damaged[place] ^= 0x10
        with kem_opener(mail(bytes(damaged), "authEnveloped-data")) as opened:
            assert opened.content in (None, HEADER + ENTITY)
            assert "analysed" not in opened.security.reason


def test_key_of_another_length_than_its_wrap(
    kem_holders: dict[bytes, Holder], kem_opener: Opener
) -> None:
    content_key = os.urandom(32)
    kem = oids.ML_KEM_768
    made = kem_recipient(kem_holders[kem], content_key, kem=kem).replace(
        encode(2, b"\x20") + named(oid(AES + "45")), encode(2, b"\x10") + named(oid(AES + "45"))
    )
    with kem_opener(mail(authenticated(made, content_key), "authEnveloped-data")) as opened:
        assert opened.content is None
        assert opened.security.status == "failed"
        assert "another length" in opened.security.reason


@pytest.mark.promise("C1")
def test_ml_kem_key_is_uploaded(kem_holders: dict[bytes, Holder]) -> None:
    for kem, name in ((oids.ML_KEM_768, "ML-KEM-768"), (oids.ML_KEM_1024, "ML-KEM-1024")):
        holder = kem_holders[kem]
        parsed = parse_certificate(holder.key.read_bytes() + holder.cert.read_bytes())
        assert parsed.key_type == name


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("-pwri_password", "secret"), "password"),
        (("-secretkey", "00" * 16, "-secretkeyid", "01"), "shared key"),
    ],
)
def test_recipients_without_certificate_are_named(
    options: tuple[str, ...], name: str, opener: Opener
) -> None:
    with opener(mail(encrypt("-aes128", *options))) as opened:
        assert opened.security.status == "unsupported"
        assert name in opened.security.reason
        assert opened.security.recipients == (f"a {name}",)


def test_rsa_kem_is_named(opener: Opener, holders: dict[str, Holder]) -> None:
    """RFC 5990 in KeyTransRecipientInfo: what RSA-KEM was before RFC 9690."""
    for who in ("rsa", "stranger"):
        made = encrypt("-aes128", holders[who].cert)
        renamed = made.replace(named(oids.RSA, b"\x05\0"), named(oids.RSA_KEM, b"\x05\0"), 1)
        renamed = _lengthened(renamed, len(renamed) - len(made))
        with opener(mail(renamed)) as opened:
            assert opened.security.status == "unsupported", opened.security
            assert "RSA-KEM" in opened.security.reason


@pytest.mark.parametrize("kem", [oids.KEM_RSA, oids.RSA_KEM, oids.ML_KEM_512])
def test_each_encapsulation_that_is_not_opened_is_named(
    kem: bytes, kem_holders: dict[bytes, Holder], kem_opener: Opener, opener: Opener
) -> None:
    """As of RFC 9690, in KEMRecipientInfo: for a key here and for somebody else's."""
    name = "ML-KEM-512" if kem == oids.ML_KEM_512 else "RSA-KEM"
    made = kem_recipient(kem_holders[oids.ML_KEM_768], bytes(32), kem=kem)
    for opens in (kem_opener, opener):
        with opens(mail(authenticated(made, bytes(32)), "authEnveloped-data")) as opened:
            assert opened.security.status == "unsupported", opened.security
            assert name in opened.security.reason
            assert opened.security.key_algorithm == name


def _lengthened(made: bytes, by: int) -> bytes:
    """The lengths of the structures around the first recipient, changed by so much."""
    data = bytearray(made)
    for place in (2, 17, 21, 28, 32):
        size = int.from_bytes(data[place : place + 2]) + by
        data[place : place + 2] = size.to_bytes(2)
    return bytes(data)


SIGNERS: dict[str, tuple[Callable[[], object], bytes]] = {
    "ML-DSA-44": (mldsa.MLDSA44PrivateKey.generate, oids.ML_DSA_44),
    "ML-DSA-65": (mldsa.MLDSA65PrivateKey.generate, oids.ML_DSA_65),
    "ML-DSA-87": (mldsa.MLDSA87PrivateKey.generate, oids.ML_DSA_87),
}


def signed(holder: Holder, name: bytes, *, attributes: bool) -> bytes:
    """SignedData (RFC 5652) around `ENTITY` as RFC 9882 section 3 has it."""
    sha512 = named(oid("2.16.840.1.101.3.4.2.3"))
    serial = holder.certificate.serial_number
    rid = sequence(
        holder.certificate.issuer.public_bytes(),
        encode(2, serial.to_bytes(serial.bit_length() // 8 + 1)),
    )
    inside = b"".join(
        sorted(
            (
                sequence(encode(6, oids.CONTENT_TYPE), encode(0x31, encode(6, oids.DATA))),
                sequence(
                    encode(6, oids.MESSAGE_DIGEST),
                    encode(0x31, encode(4, hashlib.sha512(ENTITY).digest())),
                ),
            )
        )
    )
    covered = encode(0x31, inside) if attributes else ENTITY
    signature = holder.private.sign(covered)  # type: ignore[attr-defined]
    info = sequence(
        encode(2, b"\1"), rid, sha512, encode(0xA0, inside) if attributes else b"",
        named(name), encode(4, signature),
    )  # fmt: skip
    content = sequence(encode(6, oids.DATA), encode(0xA0, encode(4, ENTITY)))
    data = sequence(
        encode(2, b"\1"), encode(0x31, sha512), content, encode(0xA0, holder.der),
        encode(0x31, info),
    )  # fmt: skip
    return sequence(encode(6, oids.SIGNED_DATA), encode(0xA0, data))


@pytest.mark.promise("C3")
@pytest.mark.parametrize("name", SIGNERS)
@pytest.mark.parametrize("attributes", [True, False])
def test_ml_dsa(name: str, attributes: bool, pki: Pki, opener: Opener) -> None:
    make, algorithm = SIGNERS[name]
    alice = pki.holder(name, make(), email="alice@example.org")
    made = signed(alice, algorithm, attributes=attributes)
    with opener(mail(made, "signed-data")) as opened:
        assert opened.security.signature == "valid", opened.security.reason
        assert opened.content == HEADER + ENTITY
    at = made.index(ENTITY[-40:])
    with opener(mail(made[:at] + b"?" + made[at + 1 :], "signed-data")) as opened:
        assert opened.security.signature == "invalid"
    other = next(one for _, one in SIGNERS.values() if one != algorithm)
    with opener(
        mail(made.replace(named(algorithm) + b"\x04", named(other) + b"\x04"), "signed-data")
    ) as opened:
        assert opened.security.signature == "invalid", "the algorithm is that of the key"


@pytest.mark.promise("C3")
def test_ml_dsa_sender_who_is_known(pki: Pki, opener: Opener) -> None:
    alone = pki.holder(
        "alone", mldsa.MLDSA65PrivateKey.generate(), email="alice@example.org", self_signed=True
    )
    made = signed(alone, oids.ML_DSA_65, attributes=True)
    with opener(mail(made, "signed-data")) as opened:
        assert opened.security.signature == "untrusted"
    trust = TrustStore.load(senders=[alone.der], system=False)
    with Opener(index(), trust, opener.folder)(mail(made, "signed-data")) as opened:
        assert opened.security.signature == "valid", opened.security.reason


@pytest.mark.parametrize("name", ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
def test_ml_dsa_as_openssl_signs(name: str, opener: Opener) -> None:
    data = (Path(__file__).parent / "openssl-3.5" / f"{name}.pem").read_bytes()
    block = re.search(rb"-----BEGIN CMS-----(.*)-----END CMS-----", data, re.DOTALL)
    assert block is not None
    made = base64.b64decode(block[1])
    (certificate,) = cms.ContentInfo.load(made)["content"]["certificates"]
    opener.trust = TrustStore.load(senders=[certificate.chosen.dump()], system=False)
    for octets, word in ((made, "valid"), (made.replace(b"Signed", b"signed", 1), "invalid")):
        with opener(mail(octets, "signed-data")) as opened:
            assert opened.security.signature == word, opened.security
            if word == "valid":
                assert isinstance(opened.content, bytes)
                assert b"Signed by ML-DSA" in opened.content
