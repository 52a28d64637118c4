"""Forms of S/MIME mails that OpenSSL makes, beside what it says of each."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from datetime import timedelta

import pytest
from asn1crypto import cms
from asn1crypto import core as asn1core
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from services.decryptor.cms.verify import load_certificates
from tests.unit.smime.chains import utf8_mailbox
from tests.unit.smime.mails import (
    ENTITY,
    HEADER,
    Opener,
    encrypt,
    mail,
    openssl,
    sign,
)
from tests.unit.smime.pki import NOW, Holder, Pki, common_name, rsa_key

MALLORY = b"mallory@evil.example"


def openssl_says(der: bytes, pki: Pki, *options: str) -> bool:
    """Whether `openssl cms -verify` takes it."""
    done = subprocess.run(
        ["openssl", "cms", "-verify", "-inform", "DER", "-binary", "-CAfile", pki.root_pem,
         *options], input=der, capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


def other_bodies(der: bytes) -> dict[str, bytes]:
    """The same structure in bodies that say something else about it, or nothing."""
    kind = b'Content-Type: application/pkcs7-mime; name="smime.p7m"\r\n'
    said = b"Content-Transfer-Encoding: "
    encoded = base64.encodebytes(der).replace(b"\n", b"\r\n")
    bare = encoded.replace(b"=", b"").rstrip()
    pem = openssl("cms", "-cmsout", "-inform", "DER", "-outform", "PEM", data=der)
    gpgsm = b"-----BEGIN ENCRYPTED MESSAGE-----\r\n\r\n" + encoded + b"-----END"
    return {
        "base64 that says 7bit": kind + said + b"7bit\r\n\r\n" + encoded,
        "base64 that says nothing": kind + b"\r\n" + encoded,
        "PEM": kind + said + b"7bit\r\n\r\n" + pem,
        "PEM in base64": kind + said + b"base64\r\n\r\n" + base64.encodebytes(pem),
        "base64 in base64": kind + said + b"base64\r\n\r\n" + base64.encodebytes(encoded),
        "as gpgsm writes it": kind + said + b"7bit\r\n\r\n" + gpgsm,
        "a footer": kind + said + b"base64\r\n\r\n" + encoded + b"\r\n____\r\na list of mails\r\n",
        "a footer of one word": kind + said + b"base64\r\n\r\n" + bare + b"\r\n\r\nx\r\n-- \r\n",
    }


@pytest.mark.promise("C4")
@pytest.mark.parametrize("more", range(3))
def test_a_structure_whose_encoding_is_told_wrongly_is_opened(
    more: int, opener: Opener, holders: dict[str, Holder]
) -> None:
    """Of each length of the last quadruple."""
    content = ENTITY + b"x" * (16 * more)
    encrypted = other_bodies(encrypt("-aes256", holders["rsa"].cert, data=content))
    for form, entity in encrypted.items():
        with opener(HEADER + entity) as opened:
            assert opened.security.status == "decrypted", (form, opened.security)
            assert opened.content == HEADER + content
    alice = holders["alice"]
    for form, entity in other_bodies(sign(alice.cert, alice.key, data=content)).items():
        with opener(HEADER + entity) as opened:
            assert opened.security.signature == "valid", (form, opened.security)
            assert opened.content == HEADER + content
    broken = HEADER + mail(b"MIIB is no structure")[len(HEADER) :]
    with opener(broken) as opened:
        assert opened.security.status == "failed"


@pytest.mark.promise("C4")
@pytest.mark.parametrize("cipher", ["-aes128", "-aes192", "-aes256", "-des3", "-aes-256-gcm"])
def test_keys_that_triple_des_wraps(
    cipher: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    with opener(mail(encrypt(cipher, "-des3-wrap", "-recip", holders["p256"].cert))) as opened:
        assert opened.security.status == "decrypted", opened.security


@pytest.mark.promise("C3")
@pytest.mark.parametrize("digest", ["sha512-224", "sha3-224", "sha512-256", "sha3-512"])
def test_each_digest_of_the_sha2_and_sha3_families(
    digest: str, opener: Opener, pki: Pki, holders: dict[str, Holder]
) -> None:
    signed = sign(holders["alice"].cert, holders["alice"].key, "-md", digest)
    assert openssl_says(signed, pki)
    with opener(mail(signed, "signed-data")) as opened:
        assert opened.security.signature == "valid", opened.security


def signed_again(signer: Holder, change: Callable[[cms.CMSAttributes], object]) -> bytes:
    """An opaque signature by that signer, over attributes that were changed before."""
    structure = cms.ContentInfo.load(sign(signer.cert, signer.key))
    one = structure["content"]["signer_infos"][0]
    attributes = one["signed_attrs"]
    change(attributes)
    one["signed_attrs"] = cms.CMSAttributes(list(attributes))
    covered = b"\x31" + one["signed_attrs"].untag().dump(force=True)[1:]
    one["signature"] = signer.private.sign(covered, padding.PKCS1v15(), hashes.SHA256())  # type: ignore[attr-defined]
    return bytes(structure.dump(force=True))


@pytest.mark.promise("F2")
@pytest.mark.parametrize("kind", ["content_type", "message_digest", "signing_time", "none"])
def test_an_attribute_has_one_value(
    kind: str, opener: Opener, pki: Pki, holders: dict[str, Holder]
) -> None:
    """RFC 5652 section 11: with two, readers differ on which one counts; OpenSSL takes neither."""
    second = {
        "content_type": "signed_data",
        "message_digest": b"\xff" * 32,
        "signing_time": cms.Time({"utc_time": NOW + timedelta(minutes=1)}),
    }

    def change(attributes: cms.CMSAttributes) -> None:
        for one in attributes:
            if one["type"].native == kind:
                one["values"].append(second[kind])

    signed = signed_again(holders["alice"], change)
    assert openssl_says(signed, pki) == (kind == "none")
    with opener(mail(signed, "signed-data")) as opened:
        assert opened.security.signature == ("valid" if kind == "none" else "invalid")


@pytest.mark.promise("C2")
@pytest.mark.parametrize(
    ("count", "size", "word"), [(200, 9, "valid"), (300, 9, "invalid"), (1, 70_000, "invalid")]
)
def test_signed_attributes_are_few_and_short(
    count: int, size: int, word: str, opener: Opener, holders: dict[str, Holder]
) -> None:
    """Programs write six, of some dozen octets each; each octet costs work for each signature."""

    def change(attributes: cms.CMSAttributes) -> None:
        for number in range(count):
            values = [asn1core.OctetString(b"x" * size)]
            attributes.append({"type": f"1.2.3.4.{number}", "values": values})

    with opener(mail(signed_again(holders["alice"], change), "signed-data")) as opened:
        assert opened.security.signature == word, opened.security


@pytest.mark.promise("C2")
def test_what_is_no_certificate_by_its_size_is_none(pki: Pki) -> None:
    """Each attribute of a name, and each extension, costs work in every signature of a mail."""
    rows = {
        "usual": (common_name("somebody"), 1, True),
        "long, as names are": (common_name("x" * 60), 1000, True),
        "of SLH-DSA": (common_name("somebody"), 50_000, True),
        "a long name": (x509.Name([*common_name("x")] * 100), 1, False),
        "too large": (common_name("somebody"), 70_000, False),
    }
    key = rsa_key()
    for name, (subject, size, is_one) in rows.items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x" * size)
        der = (
            x509.CertificateBuilder(pki.root.subject, subject, key.public_key(), 1, NOW, NOW)
            .add_extension(extension, critical=False)
            .sign(pki.root_key, hashes.SHA256())
            .public_bytes(serialization.Encoding.DER)
        )
        assert bool(load_certificates([der])) is is_one, name
    assert load_certificates([b"", b"\x30\0", b"\x30\x03\x02\1\0"]) == []


@pytest.mark.promise("F2")
def test_a_signature_without_attributes_covers_no_type_of_content(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    """RFC 5652 section 5.3."""
    alice = holders["alice"]
    for kind, word in (("1.2.840.113549.1.7.1", "valid"), ("1.2.3.4", "invalid")):
        signed = sign(alice.cert, alice.key, "-noattr", "-econtent_type", kind)
        with opener(mail(signed, "signed-data")) as opened:
            assert opened.security.signature == word, opened.security


def certificate(pki: Pki, key: object, *names: x509.GeneralName) -> x509.Certificate:
    public = key.public_key()  # type: ignore[attr-defined]
    return (
        x509.CertificateBuilder()
        .subject_name(common_name("somebody"))
        .issuer_name(pki.root.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .sign(pki.root_key, hashes.SHA256())
    )


@pytest.mark.promise("F2")
@pytest.mark.parametrize("form", ["SigningCertificateV2", "none"])
def test_a_certificate_that_the_signer_did_not_mean_is_no_signers(
    form: str, opener: Opener, pki: Pki
) -> None:
    """Mallory had Alice's key certified for an address of his own (RFC 5035 section 1.1)."""
    alice = pki.holder("alice-once", rsa_key(), email="alice@example.org")
    his = certificate(pki, alice.private, x509.RFC822Name(MALLORY.decode()))
    options = ("-keyid", *(("-cades",) * (form != "none")))
    signed = sign(alice.cert, alice.key, *options)

    def with_certificates(*ones: x509.Certificate) -> bytes:
        structure = cms.ContentInfo.load(signed)
        structure["content"]["certificates"] = cms.CertificateSet(
            [asn1.Certificate.load(one.public_bytes(serialization.Encoding.DER)) for one in ones]
        )
        return bytes(structure.dump(force=True))

    substituted = with_certificates(his)
    header = HEADER.replace(b"alice@example.org", MALLORY)
    with opener(mail(substituted, "signed-data", header)) as opened:
        # Without the attribute nothing tells whom the signer meant.
        assert opened.security.signature == ("invalid" if form != "none" else "valid")
    if form != "none":
        assert not openssl_says(substituted, pki, "-cades")
        both = with_certificates(his, alice.certificate)
        with opener(mail(both, "signed-data")) as opened:
            assert opened.security.signature == "valid", opened.security


_IN_DNS = x509.RFC822Name("alice@xn--bcher-kva.example")


@pytest.mark.promise("F3")
@pytest.mark.parametrize(
    ("name", "author", "word"),
    [
        (_IN_DNS, "alice@bücher.example", "valid"),
        (_IN_DNS, "Alice@XN--BCHER-KVA.example", "valid"),
        (_IN_DNS, "alice@bucher.example", "mismatch"),
        (x509.RFC822Name("alice@kxample.org"), "alice@\u212axample.org", "mismatch"),
        (*utf8_mailbox("älice@xn--bcher-kva.example"), "älice@bücher.example", "valid"),
        (*utf8_mailbox("älice@bücher.example"), "älice@xn--bcher-kva.example", "valid"),
        (*utf8_mailbox("älice@bücher.example"), "ÄLICE@bücher.example", "mismatch"),
    ],
)
def test_a_domain_is_the_same_in_letters_and_as_dns_has_it(
    name: x509.GeneralName, author: str, word: str, opener: Opener, pki: Pki
) -> None:
    """RFC 9598 section 5: local parts are compared as they are, domains as A-labels."""
    key = rsa_key()
    holder = pki.holder("somebody", key)
    holder.cert.write_bytes(certificate(pki, key, name).public_bytes(serialization.Encoding.PEM))
    header = HEADER.replace(b"Alice Example <alice@example.org>", author.encode())
    with opener(mail(sign(holder.cert, holder.key), "signed-data", header)) as opened:
        assert opened.security.signature == word, opened.security
        assert word == "mismatch" or opened.security.signer == author.lower()
