"""An upload is read whatever its age and form, or it is said what is wrong with it."""

from __future__ import annotations

import base64
import subprocess
from datetime import UTC
from pathlib import Path

import pytest
from asn1crypto import core
from asn1crypto import pkcs12 as asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, x448
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pysequoia import Tsk

from shared.certificates import Identity, IdentityIndex, ParsedCertificate, parse_certificate
from shared.certificates.identifiers import certificate_name
from shared.certificates.senders import parse_sender_upload, read_certificates
from shared.errors import InvalidInput
from tests.unit.smime.pki import NOW, Holder, Pki, ec_key, ed25519_key, rsa_key, x25519_key

pytestmark = pytest.mark.promise("C1")
OPENSSL = Path(__file__).parent / "openssl-3.5"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def bob(pki: Pki) -> Holder:
    return pki.holder("bob", rsa_key(), email="Bob@Example.org")


def openssl(*arguments: str) -> bytes:
    done = subprocess.run(["openssl", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def pkcs12(holder: Holder, *arguments: str, password: str = "secret") -> bytes:
    return openssl(
        "pkcs12", "-export", "-inkey", str(holder.key), "-in", str(holder.cert),
        "-passout", f"pass:{password}", *arguments,
    )  # fmt: skip


def pem(*files: Path) -> bytes:
    return b"Bag Attributes\n    friendlyName: x\n".join(file.read_bytes() for file in files)


def is_bob(parsed: ParsedCertificate, bob: Holder, name: str = "") -> None:
    assert parsed.kind == "smime"
    assert parsed.subject == "CN=bob,O=Example Stadtwerke,C=DE"
    assert parsed.issuer == "CN=Example Root,O=Example Stadtwerke,C=DE"
    assert int(parsed.serial, 16) == bob.certificate.serial_number
    assert len(parsed.fingerprint) == 64
    assert parsed.not_before < NOW.astimezone(UTC)
    assert parsed.not_after is not None
    assert parsed.not_after > NOW
    assert parsed.friendly_name == name
    assert parsed.emails == ("bob@example.org",)
    assert parsed.key_type == "RSA-2048"
    assert parsed.certificate == bob.der
    assert "private_key" not in repr(parsed), "a key is never shown"
    identity = Identity.load("id", parsed.certificate, parsed.private_key)
    assert identity.private_key.public_key() == bob.private.public_key()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-3DES"),
        ("-legacy", "-certpbe", "PBE-SHA1-RC2-128", "-keypbe", "PBE-SHA1-RC2-128"),
        ("-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"),
        ("-certpbe", "AES-128-CBC", "-keypbe", "AES-256-CBC", "-macalg", "sha512"),
        ("-nomac",),
        ("-certpbe", "NONE", "-keypbe", "NONE"),
    ],
    ids=["today", "RC2-40", "RC2-128", "3DES", "AES", "no MAC", "not encrypted"],
)
@pytest.mark.parametrize("password", ["secret", "", "Schlüssel€"])
def test_pkcs12(options: tuple[str, ...], password: str, bob: Holder) -> None:
    data = pkcs12(bob, *options, "-name", "Bob's key", password=password)
    is_bob(parse_certificate(data, password), bob, "Bob's key")
    if not password:
        is_bob(parse_certificate(data), bob, "Bob's key")


def test_chain_is_kept(pki: Pki, bob: Holder) -> None:
    parsed = parse_certificate(pkcs12(bob, "-certfile", str(pki.root_pem)), "secret")
    assert len(parsed.chain) == 1
    assert certificate_name(parsed.chain[0]).serial == pki.root.serial_number
    parsed = parse_certificate(pem(pki.root_pem, bob.key, bob.cert))
    assert parsed.certificate == bob.der
    assert len(parsed.chain) == 1


@pytest.mark.parametrize("form", ["pkcs8", "encrypted pkcs8", "traditional", "old encrypted"])
def test_pem(form: str, bob: Holder, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    commands = {
        "pkcs8": ["pkey"],
        "encrypted pkcs8": ["pkcs8", "-topk8", "-passout", "pass:secret"],
        "traditional": ["rsa", "-traditional"],
        "old encrypted": ["rsa", "-traditional", "-aes256", "-passout", "pass:secret"],
    }
    subprocess.run(
        ["openssl", *commands[form], "-in", bob.key, "-out", key], check=True, capture_output=True
    )
    data = pem(bob.cert, key)
    is_bob(parse_certificate(data, "secret"), bob)
    if "encrypted" in form:
        for password in (None, "", "wrong"):
            with pytest.raises(InvalidInput) as caught:
                parse_certificate(data, password)
            assert caught.value.field == "password"
    else:
        is_bob(parse_certificate(data), bob)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("p256", "EC secp256r1"), ("brainpool", "EC brainpoolP384r1"), ("x25519", "X25519")],
)
def test_kinds_of_keys(kind: str, shown: str, pki: Pki) -> None:
    keys = {
        "p256": lambda: ec_key(ec.SECP256R1()),
        "brainpool": lambda: ec_key(ec.BrainpoolP384R1()),
        "x25519": x25519_key,
    }
    holder = pki.holder(kind, keys[kind]())
    parsed = parse_certificate(pem(holder.cert, holder.key))
    assert parsed.key_type == shown
    Identity.load("id", parsed.certificate, parsed.private_key)


def test_x448_in_pkcs12_is_not_damaged(pki: Pki) -> None:
    holder = pki.holder("x448", x448.X448PrivateKey.generate())
    assert parse_certificate(pem(holder.cert, holder.key)).key_type == "X448"
    with pytest.raises(InvalidInput, match="not read here") as caught:
        parse_certificate(pkcs12(holder), "secret")
    assert caught.value.field == "file"
    assert "X448 as PEM" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "form", ["UTF-16", "UTF-16 of another order", "mark", "twice the key", "trusted", "armour"]
)
def test_pem_as_programs_leave_it(form: str, bob: Holder) -> None:
    """PowerShell writes UTF-16 into a file, Notepad a mark in front of UTF-8."""
    data = pem(bob.cert, bob.key)
    text = data.decode()
    files = {
        "UTF-16": text.encode("utf-16"),
        "UTF-16 of another order": "\ufeff".encode("utf-16-be") + text.encode("utf-16-be"),
        "mark": b"\xef\xbb\xbf" + base64.b64encode(pkcs12(bob)),
        "twice the key": data + bob.key.read_bytes(),
        "trusted": openssl(
            "x509", "-trustout", "-addtrust", "emailProtection", "-in", str(bob.cert)
        )
        + bob.key.read_bytes(),
        "armour": (
            f"-----BEGIN PKCS12-----\n{base64.encodebytes(pkcs12(bob)).decode()}"
            "-----END PKCS12-----\n"
        ).encode("utf-16"),
    }
    is_bob(parse_certificate(files[form], "secret"), bob)


def test_what_is_trusted_may_be_in_utf_16_too(bob: Holder, pki: Pki) -> None:
    known = Tsk.generate("Bob <bob@example.org>").extract_certificate()
    [sender] = parse_sender_upload(str(known).encode("utf-16"))
    assert sender.fingerprint == known.fingerprint
    [sender] = parse_sender_upload(bob.cert.read_text().encode("utf-16"))
    assert sender.certificate == bob.der
    [authority] = read_certificates(pki.root_pem.read_text().encode("utf-16"))
    assert authority == pki.root
    for data in (b"", b"\xff\xfe", b"\xef\xbb\xbf\r\n"):
        with pytest.raises(InvalidInput, match="empty"):
            parse_sender_upload(data)


def test_renewed_certificate_with_the_same_key(pki: Pki, bob: Holder) -> None:
    newer = pki.holder("newer", bob.private, days=(-1, 700))
    parsed = parse_certificate(pem(bob.cert, newer.cert, bob.key))
    assert parsed.certificate == newer.der
    assert parsed.chain == (bob.der,)


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        (b"", "file", "empty"),
        (b"  \n", "file", "empty"),
        (b"hello", "file", "neither"),
        (b"\x30\x82\x01\x00 damaged", "file", "damaged"),
        (b"x" * 2_000_000, "file", "large"),
        (b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
         b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n", "file", "damaged"),
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n-----END PGP PRIVATE KEY BLOCK-----\n",
         "file", "damaged"),
    ],
)  # fmt: skip
def test_refused(data: bytes, field: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        parse_certificate(data, "secret")
    assert caught.value.field == field


def test_what_is_missing_is_named(pki: Pki, bob: Holder) -> None:
    other = pki.holder("other", rsa_key())
    signer = pki.holder("signer", ed25519_key())
    cases = [
        (bob.cert.read_bytes(), "file", "no private key"),
        (bob.der, "file", "no private key"),
        (bob.key.read_bytes(), "file", "no certificate"),
        (pem(bob.cert, other.key), "file", "does not belong"),
        (pem(bob.cert, bob.key, other.cert, other.key), "file",
         "2 private keys in this file: CN=bob,.*, CN=other,"),
        (pem(bob.cert, bob.key, other.key, signer.key), "file",
         r"3 .*, one without a certificate \(RSA-2048\), one without a certificate \(signing\)"),
        (openssl("pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in", str(bob.key)), "file",
         "no certificate"),
        (openssl("pkcs8", "-topk8", "-passout", "pass:x", "-outform", "DER", "-in", str(bob.key)),
         "file", "no certificate"),
        (openssl("pkcs8", "-topk8", "-v2", "camellia256", "-passout", "pass:x", "-in", str(bob.key))
         + bob.cert.read_bytes(), "file", "encryption that is not supported"),
        (bob.cert.read_bytes() + bob.private.private_bytes(  # type: ignore[attr-defined]
            Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), "file", "not read here"),
        (pem(signer.cert, signer.key), "file", "can sign, but not decrypt"),
    ]  # fmt: skip
    for data, field, words in cases:
        with pytest.raises(InvalidInput, match=words) as caught:
            parse_certificate(data, "x" if b"ENCRYPTED" in data else None)
        assert caught.value.field == field


def test_wrong_password_of_pkcs12(bob: Holder) -> None:
    data = pkcs12(bob)
    for password, words in (("wrong", "does not open"), (None, "protected"), ("", "protected")):
        with pytest.raises(InvalidInput, match=words) as caught:
            parse_certificate(data, password)
        assert caught.value.field == "password"


@pytest.mark.promise("C2")
def test_found_by_another_spelling_of_the_issuer(bob: Holder) -> None:
    """Senders re-encode names: another string type, another case."""
    index = IdentityIndex([bob.identity()])
    name = bob.identity().name
    assert [one.id for one in index.matching(name.issuer, name.serial, b"")] == ["bob"]
    respelled = name.issuer.replace(
        b"\x0c\x0cExample Root", b"\x13\x0cEXAMPLE  ROOT"[:2] + b"EXAMPLE ROOT"
    )
    assert respelled != name.issuer
    assert [one.id for one in index.matching(respelled, name.serial, b"")] == ["bob"]
    assert list(index.matching(name.issuer.replace(b"Root", b"Ruut"), name.serial, b"")) == []
    assert list(index.matching(b"\x30\x05garbage", name.serial, b"")) == []
    assert list(index.matching(name.issuer, name.serial + 1, b"")) == []


@pytest.mark.promise("C2")
def test_newest_first(pki: Pki) -> None:
    key = rsa_key()
    old = pki.holder("old", key, days=(-900, -500))
    new = pki.holder("new", key, days=(-10, 300))
    index = IdentityIndex([old.identity(), new.identity()])
    key_id = next(iter(old.identity().name.key_ids))
    assert [one.id for one in index.matching(b"", 0, key_id)] == ["new", "old"]


@pytest.mark.parametrize("label", [b"PKCS12", b"PKCS #12", b""])
def test_pkcs12_in_armour(label: bytes, bob: Holder) -> None:
    data = base64.encodebytes(pkcs12(bob))
    if label:
        data = (
            b"Issuer ...: /CN=Example\n-----BEGIN " + label + b"-----\n" + data
            + b"-----END " + label + b"-----\n"
        )  # fmt: skip
    assert (
        parse_certificate(data, "secret").fingerprint
        == bob.certificate.fingerprint(hashes.SHA256()).hex()
    )
    with pytest.raises(InvalidInput) as caught:
        parse_certificate(data, "wrong")
    assert caught.value.field == "password"


def test_two_keys_in_one_pkcs12_are_named(pki: Pki, bob: Holder) -> None:
    """As Java's keytool writes them: each key in a bag of its own."""
    carol = pki.holder("carol", ec_key(ec.SECP256R1()))
    first, second = (
        asn1.Pfx.load(pkcs12(who, "-name", name)) for who, name in ((bob, "old"), (carol, "new"))
    )
    safes = [*first.authenticated_safe, *second.authenticated_safe]
    first["auth_safe"]["content"] = core.OctetString(asn1.AuthenticatedSafe(safes).dump())
    with pytest.raises(InvalidInput, match="2 private keys in this file: old, new") as caught:
        parse_certificate(first.dump(force=True), "secret")
    assert caught.value.field == "file"
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["ML-KEM-768", "ML-KEM-1024"])
def test_keys_of_ml_kem_as_openssl_writes_them(kind: str) -> None:
    """Seed and expanded key beside each other (RFC 9935 section 6)."""
    parsed = parse_certificate((OPENSSL / f"{kind.lower()}.pem").read_bytes())
    assert (parsed.key_type, parsed.emails) == (kind, ("alice@example.org",))
    identity = Identity.load("id", parsed.certificate, parsed.private_key)
    secret, wrapped = identity.private_key.public_key().encapsulate()  # type: ignore[union-attr]
    assert identity.private_key.decapsulate(wrapped) == secret  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name",
    ["ml-kem-512.pem", "ml-kem-512.p12", "ml-kem-768.p12", "ml-kem-768-expanded.pem"],
)
def test_keys_of_ml_kem_that_are_not_read_are_not_damaged(name: str) -> None:
    data = (OPENSSL / name).read_bytes()
    with pytest.raises(InvalidInput, match="not read here") as caught:
        parse_certificate(data, "x")
    assert caught.value.field == "file"
    assert "ML-KEM-768" in caught.value.hint
    if "p12" in name:
        with pytest.raises(InvalidInput, match="password") as caught:
            parse_certificate(data, "wrong")
        assert caught.value.field == "password"


def test_a_key_behind_a_password_may_be_of_a_kind_that_is_not_read() -> None:
    """PEM has no check of its own: what does not open looks the same by either cause."""
    data = (OPENSSL / "ml-kem-768-protected.pem").read_bytes()
    with pytest.raises(InvalidInput, match=r"password does not open .* not read here") as caught:
        parse_certificate(data, "x")
    assert caught.value.field == "password"
    assert "ML-KEM-768" in caught.value.hint
    with pytest.raises(InvalidInput, match="password does not open") as caught:
        parse_certificate(data, "wrong")
    assert caught.value.field == "password"


def test_a_wrong_password_is_blamed_whatever_it_makes_of_the_key(bob: Holder) -> None:
    """The padding of what a wrong password decrypts is right once in 256 times."""
    key = openssl("pkcs8", "-topk8", "-iter", "1", "-passout", "pass:secret", "-in", str(bob.key))
    data = bob.cert.read_bytes() + key
    said: set[str] = set()
    for number in range(4000):
        with pytest.raises(InvalidInput, match="password does not open") as caught:
            parse_certificate(data, f"wrong {number}")
        assert caught.value.field == "password"
        said.add(str(caught.value))
    assert len(said) == 2, "both cases occurred"
    is_bob(parse_certificate(data, "secret"), bob)
