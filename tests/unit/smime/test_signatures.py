"""What signatures are worth, in words, and whose they are."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from services.decryptor.trust import TrustStore
from tests.unit.smime.mails import (
    ENTITY,
    HEADER,
    TEXT,
    Opener,
    body,
    encrypt,
    mail,
    multipart_signed,
    openssl,
    pkcs7_entity,
    sign,
)
from tests.unit.smime.pki import NOW, Holder, Pki, index, rsa_key

pytestmark = pytest.mark.promise("C3")

PSS = ("-keyopt", "rsa_padding_mode:pss")
KINDS = {
    "rsa-sha256": ("alice", ("-md", "sha256")),
    "rsa-sha384": ("alice", ("-md", "sha384")),
    "rsa-sha512": ("alice", ("-md", "sha512")),
    "pss-sha256": ("alice", ("-md", "sha256", *PSS)),
    "pss-sha512-salt-20": ("alice", ("-md", "sha512", *PSS, "-keyopt", "rsa_pss_saltlen:20")),
    "ecdsa-sha256": ("alice-ec", ("-md", "sha256")),
    "ecdsa-sha512": ("alice-ec", ("-md", "sha512")),
    "key-id": ("alice", ("-keyid",)),
    "streamed": ("alice", ("-stream", "-indef")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_opaque_and_detached(kind: str, opener: Opener, holders: dict[str, Holder]) -> None:
    name, options = KINDS[kind]
    who = holders[name]
    with opener(mail(sign(who.cert, who.key, *options), "signed-data")) as opened:
        assert opened.security.signature == "valid", opened.security.reason
        assert opened.security.signer == "alice@example.org"
        assert opened.security.reason == ""
        assert not opened.security.encrypted
        assert opened.content == HEADER + ENTITY
    detached = HEADER + multipart_signed(who.cert, who.key, *options)
    with opener(detached) as opened:
        assert opened.security.signature == "valid", opened.security.reason
        assert opened.content == HEADER + ENTITY, "what was verified is what is handed out"


@pytest.mark.parametrize("kind", ["rsa-sha256", "pss-sha256", "ecdsa-sha256"])
def test_without_attributes(kind: str, opener: Opener, holders: dict[str, Holder]) -> None:
    name, options = KINDS[kind]
    made = sign(holders[name].cert, holders[name].key, "-noattr", *options)
    with opener(mail(made, "signed-data")) as opened:
        assert opened.security.signature == "valid", opened.security.reason
    at = made.index(TEXT[:20])
    with opener(mail(made[:at] + b"?" + made[at + 1 :], "signed-data")) as opened:
        assert opened.security.signature == "invalid"


def test_changed_content(opener: Opener, holders: dict[str, Holder]) -> None:
    who = holders["alice"]
    raw = HEADER + multipart_signed(who.cert, who.key)
    with opener(raw.replace(b"Gr\xc3\xbc\xc3\x9fe", b"Graesse", 1)) as opened:
        assert opened.security.signature == "invalid"
        assert opened.security.signer == "alice@example.org"
        assert "changed" in opened.security.reason
        assert opened.content is None


def test_line_ends_changed_on_the_way(opener: Opener, holders: dict[str, Holder]) -> None:
    """A mail that was stored with LF is still what was signed."""
    who = holders["alice"]
    raw = (HEADER + multipart_signed(who.cert, who.key)).replace(b"\r\n", b"\n")
    with opener(raw) as opened:
        assert opened.security.signature == "valid", opened.security.reason


def test_somebody_else_signed(opener: Opener, holders: dict[str, Holder]) -> None:
    who = holders["stranger"]
    with opener(HEADER + multipart_signed(who.cert, who.key)) as opened:
        assert opened.security.signature == "mismatch"
        assert opened.security.signer == "stranger@example.org"
        assert "not the sender" in opened.security.reason


@pytest.mark.parametrize(
    "options",
    [
        {"self_signed": True},
        {"days": (-800, -400)},
        {"days": (10, 20)},
        {"purpose": ExtendedKeyUsageOID.SERVER_AUTH},
    ],
    ids=["unknown authority", "expired before signing", "not yet valid", "not for mail"],
)
def test_untrusted(options: dict[str, object], pki: Pki, opener: Opener) -> None:
    who = pki.holder("somebody", rsa_key(), email="alice@example.org", **options)  # type: ignore[arg-type]
    with opener(HEADER + multipart_signed(who.cert, who.key)) as opened:
        assert opened.security.signature == "untrusted"
        assert opened.security.signer == "alice@example.org"
        assert opened.security.reason


def test_sha1_proves_nothing(opener: Opener, holders: dict[str, Holder]) -> None:
    who = holders["alice"]
    with opener(HEADER + multipart_signed(who.cert, who.key, "-md", "sha1")) as opened:
        assert opened.security.signature == "untrusted"
        assert "SHA-1" in opened.security.reason


def test_expired_after_signing(pki: Pki) -> None:
    """The certificate counts at the time of signing, not at that of reading."""
    who = pki.holder("retired", rsa_key(), days=(-800, -400))
    assert pki.trust.judge(who.certificate, [], NOW - timedelta(days=600)).trusted
    assert not pki.trust.judge(who.certificate, [], NOW - timedelta(days=300)).trusted
    assert not pki.trust.judge(who.certificate, [], None).trusted


def test_trust_is_extended_by_the_administrator(
    pki: Pki, holders: dict[str, Holder], tmp_path: Path
) -> None:
    raw = HEADER + multipart_signed(holders["alice"].cert, holders["alice"].key)
    with Opener(index(), TrustStore.load(system=True), tmp_path)(raw) as opened:
        assert opened.security.signature == "untrusted"
    extended = TrustStore.load([pki.root_pem.read_bytes()], system=True)
    with Opener(index(), extended, tmp_path)(raw) as opened:
        assert opened.security.signature == "valid", opened.security.reason
    with pytest.raises(ValueError):
        TrustStore.load([b"nothing of the kind"], system=False)


def test_intermediate_authority_from_the_mail(pki: Pki, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import hashes, serialization

    from tests.unit.smime.pki import DAY, common_name

    key = rsa_key()
    middle = (
        x509.CertificateBuilder()
        .subject_name(common_name("Issuing"))
        .issuer_name(pki.root.subject)
        .public_key(key.public_key())
        .serial_number(4711)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(True, 0), True)
        .sign(pki.root_key, hashes.SHA256())
    )
    leaf_key = rsa_key()
    leaf = (
        x509.CertificateBuilder()
        .subject_name(common_name("Alice"))
        .issuer_name(middle.subject)
        .public_key(leaf_key.public_key())
        .serial_number(4712)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name("alice@example.org")]), False)
        .sign(key, hashes.SHA256())
    )
    for name, one in (("middle", middle), ("leaf", leaf)):
        (tmp_path / f"{name}.pem").write_bytes(one.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        leaf_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    chain = ("-certfile", tmp_path / "middle.pem")
    for options, expected in ((chain, "valid"), ((), "untrusted")):
        raw = HEADER + multipart_signed(tmp_path / "leaf.pem", tmp_path / "key.pem", *options)
        with Opener(index(), pki.trust, tmp_path)(raw) as opened:
            assert opened.security.signature == expected, opened.security.reason


def test_signature_without_its_certificate(opener: Opener, holders: dict[str, Holder]) -> None:
    """As by an OpenPGP key that is not known: nobody can say whether it is right, but for a content
    that its attributes show to be changed."""
    who = holders["alice"]
    for options, changed in ((), "invalid"), (("-noattr",), "untrusted"), (("-keyid",), "invalid"):
        raw = HEADER + multipart_signed(who.cert, who.key, "-nocerts", *options)
        with opener(raw) as opened:
            assert opened.security.signature == "untrusted", opened.security
            assert "neither in the mail nor among the known senders" in opened.security.reason
            assert opened.security.signer is None
            assert opened.content is None
        with opener(raw.replace(b"aus K", b"aus k", 1)) as opened:
            assert opened.security.signature == changed, opened.security


def test_a_key_that_is_not_supported_is_named(opener: Opener, tmp_path: Path) -> None:
    """A curve that OpenSSL knows and `cryptography` does not."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:brainpoolP320r1", "-nodes",
        "-keyout", key, "-out", cert, "-subj", "/CN=Alice/emailAddress=alice@example.org",
    )  # fmt: skip
    with opener(HEADER + multipart_signed(cert, key)) as opened:
        assert opened.security.signature == "invalid"
        assert "kind that is not supported" in opened.security.reason


@pytest.mark.parametrize(
    ("name", "reason"), [("ripemd160", "RIPEMD-160 is not supported"), ("md5", "uses MD5")]
)
def test_a_digest_that_is_not_supported_is_named(
    name: str, reason: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    who = holders["alice"]
    with opener(HEADER + multipart_signed(who.cert, who.key, "-md", name)) as opened:
        assert opened.security.signature == "invalid"
        assert reason in opened.security.reason


def test_signature_of_a_known_sender_without_its_certificate(
    pki: Pki, holders: dict[str, Holder], tmp_path: Path
) -> None:
    """Looked for among the senders that the administrator gave."""
    alice, stranger = holders["alice"], holders["stranger"]
    for given, options, expected in (
        (alice, (), "valid"),
        (alice, ("-keyid",), "valid"),
        (stranger, (), "untrusted"),
    ):
        raw = HEADER + multipart_signed(alice.cert, alice.key, "-nocerts", *options)
        trust = TrustStore.load(senders=[given.der], system=False)
        with Opener(index(), trust, tmp_path)(raw) as opened:
            assert opened.security.signature == expected, opened.security.reason
        changed = raw.replace(b"aus K", b"aus k", 1)
        with Opener(index(), trust, tmp_path)(changed) as opened:
            assert opened.security.signature == "invalid"


def test_sender_that_was_given_signs_for_his_own_address_only(
    holders: dict[str, Holder], tmp_path: Path
) -> None:
    stranger = holders["stranger"]
    trust = TrustStore.load(senders=[stranger.der], system=False)
    with Opener(index(), trust, tmp_path)(
        HEADER + multipart_signed(stranger.cert, stranger.key)
    ) as opened:
        assert opened.security.signature == "mismatch"
        assert "not the sender" in opened.security.reason


def test_certificate_that_cannot_be_read(opener: Opener, holders: dict[str, Holder]) -> None:
    """A version that does not exist, an extension twice, a key of an unknown kind."""
    made = sign(holders["alice"].cert, holders["alice"].key)
    for before, after in (
        ("a003020102", "a003020103"),
        ("0603551d11", "0603551d25"),
        ("06092a864886f70d010101", "06092a864886f70d010163"),
        ("0603551d13", "0603551dff"),
    ):
        damaged = made.replace(bytes.fromhex(before), bytes.fromhex(after))
        assert damaged != made
        with opener(mail(damaged, "signed-data")) as opened:
            assert opened.security.signature != "valid"
            assert "analysed" not in opened.security.reason
            assert opened.content == HEADER + ENTITY


def test_several_signers(opener: Opener, holders: dict[str, Holder]) -> None:
    alice, stranger = holders["alice"], holders["stranger"]
    made = multipart_signed(stranger.cert, stranger.key, "-signer", alice.cert, "-inkey", alice.key)
    with opener(HEADER + made) as opened:
        assert opened.security.signature == "valid"
        assert opened.security.signer == "alice@example.org"


@pytest.mark.promise("C2")
def test_signed_then_encrypted(opener: Opener, holders: dict[str, Holder]) -> None:
    alice = holders["alice"]
    opaque = pkcs7_entity(sign(alice.cert, alice.key), "signed-data")
    with opener(mail(encrypt("-aes256", holders["rsa"].cert, data=opaque))) as opened:
        assert body(opened) == TEXT
        assert opened.security.status == "decrypted"
        assert opened.security.signature == "valid"
    detached = multipart_signed(alice.cert, alice.key)
    with opener(mail(encrypt("-aes256", holders["rsa"].cert, data=detached))) as opened:
        assert opened.content == HEADER + ENTITY
        assert opened.security.signature == "valid"


@pytest.mark.promise("C2")
def test_triple_wrapped(opener: Opener, holders: dict[str, Holder]) -> None:
    """Signed, encrypted, signed again (RFC 2634): what is inside counts."""
    alice, gateway = holders["alice"], holders["stranger"]
    inner = pkcs7_entity(sign(alice.cert, alice.key), "signed-data")
    sealed = pkcs7_entity(encrypt("-aes-256-gcm", holders["p256"].cert, data=inner))
    for outer in (
        multipart_signed(gateway.cert, gateway.key, entity=sealed),
        pkcs7_entity(sign(gateway.cert, gateway.key, data=sealed), "signed-data"),
    ):
        with opener(HEADER + outer) as opened:
            assert body(opened) == TEXT
            assert opened.security.status == "decrypted"
            assert opened.security.integrity == "aead"
            assert opened.security.signature == "valid"
            assert opened.security.signer == "alice@example.org"


def test_broken_outer_signature_is_not_hidden_by_the_inner_one(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    inner = pkcs7_entity(sign(alice.cert, alice.key), "signed-data")
    outer = multipart_signed(alice.cert, alice.key, entity=inner)
    with opener(HEADER + outer.replace(b"filename=", b"fileName=", 1)) as opened:
        assert opened.security.signature == "invalid"


def test_signature_of_an_encrypted_mail_that_does_not_open(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    sealed = pkcs7_entity(encrypt("-aes256", holders["stranger"].cert))
    with opener(HEADER + multipart_signed(alice.cert, alice.key, entity=sealed)) as opened:
        assert opened.security.status == "no_recipient"
        assert opened.security.signature == "partial"
        assert opened.security.signer == "alice@example.org"
        assert opened.content is None
        assert [(one.kind, one.verdict, one.covers) for one in opened.security.layers] == [
            ("signature", "partial", "ciphertext"),
            ("encryption", "no_recipient", None),
        ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"--b1--", b"--b1\r\nContent-Type: text/plain\r\n\r\nadded\r\n--b1--"),
        (b"boundary=", b"x-boundary="),
        (b"This is a signed message.\r\n\r\n--b1", b"--b2"),
    ],
    ids=["a third part", "no boundary", "one part"],
)
def test_misshapen_multipart(
    before: bytes, after: bytes, opener: Opener, holders: dict[str, Holder]
) -> None:
    alice = holders["alice"]
    with opener(HEADER + multipart_signed(alice.cert, alice.key).replace(before, after)) as opened:
        assert opened.security.signature == "invalid"
        assert opened.content is None


def test_certificates_only(opener: Opener, holders: dict[str, Holder]) -> None:
    """A mail that carries certificates to somebody is neither signed nor encrypted."""
    made = openssl("crl2pkcs7", "-nocrl", "-certfile", holders["alice"].cert, "-outform", "DER")
    with opener(mail(made, "certs-only")) as opened:
        assert opened.security.signature == "none"
        assert opened.security.status == "none"
        assert opened.content is None


def test_authorities_that_vouch_for_each_other_in_circles(
    pki: Pki, holders: dict[str, Holder]
) -> None:
    """Dozens of certificates with one name and one key make more paths than can be tried."""
    from cryptography.hazmat.primitives import hashes

    from tests.unit.smime.pki import DAY, common_name

    key = rsa_key()

    def issued(subject: str, public: object) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(common_name(subject))
            .issuer_name(common_name("Circle"))
            .public_key(public)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(subject == "Circle", None), True)
            .sign(key, hashes.SHA256())
        )

    circle = [issued("Circle", key.public_key()) for _ in range(40)]
    leaf = issued("Leaf", holders["alice"].certificate.public_key())
    assert not pki.trust.judge(leaf, circle, None).trusted
