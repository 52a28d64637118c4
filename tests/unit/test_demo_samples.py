"""The demo's mails are what they claim to be, by the word of OpenSSL and of Python's own parser."""

from __future__ import annotations

import email
import email.policy
import subprocess
from email.message import EmailMessage
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from cli.demo.certificate import DemoCertificate
from cli.demo.samples import compose, encrypted, samples


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> DemoCertificate:
    return DemoCertificate.of(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def mails(certificate: DemoCertificate) -> list[bytes]:
    return list(samples(certificate, recipient="demo@posthouse.example"))


def _parsed(octets: bytes) -> EmailMessage:
    mail = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(mail, EmailMessage)
    return mail


def _opened(octets: bytes, certificate: DemoCertificate, folder: Path) -> bytes:
    key = folder / "key.pem"
    key.write_bytes(
        certificate.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return subprocess.run(
        ["openssl", "cms", "-decrypt", "-inkey", key], input=octets, capture_output=True, check=True
    ).stdout


def test_they_cover_what_mailboxes_hold(mails: list[bytes]) -> None:
    kinds = {part.get_content_type() for octets in mails for part in _parsed(octets).walk()}
    assert kinds >= {
        "text/html",
        "image/png",
        "application/pdf",
        "application/zip",
        "text/csv",
        "text/calendar",
        "message/rfc822",
        "application/pkcs7-mime",
        "multipart/signed",
    }
    subjects = [_parsed(octets)["Subject"] for octets in mails]
    assert "Angebot für Müller" in subjects and "お問い合わせ" in subjects and None in subjects
    assert any(b"\xfc" in octets for octets in mails)  # 8-bit ISO-8859-1
    assert max(map(len, mails)) > 3_000_000
    for octets in mails:
        assert b"\n" not in octets.replace(b"\r\n", b"")


def test_encrypted_ones_open_with_the_demo_certificate(
    mails: list[bytes], certificate: DemoCertificate, tmp_path: Path
) -> None:
    locked = [o for o in mails if _parsed(o).get_content_type() == "application/pkcs7-mime"]
    payslip, minutes = (_parsed(_opened(octets, certificate, tmp_path)) for octets in locked)
    assert payslip.get_body() is not None and "Only the holder" in str(payslip.get_body())
    assert [a.get_filename() for a in payslip.iter_attachments()] == ["payslip.csv"]
    assert minutes.get_content_type() == "multipart/signed"


def test_the_signature_covers_what_is_sent(mails: list[bytes]) -> None:
    (signed,) = (o for o in mails if _parsed(o).get_content_type() == "multipart/signed")

    def verified(octets: bytes) -> bool:
        command = ["openssl", "cms", "-verify", "-noverify"]
        done = subprocess.run(command, input=octets, capture_output=True, check=False)
        return done.returncode == 0

    assert verified(signed)
    assert not verified(signed.replace(b"Please review.", b"Please ignore."))


def test_a_mail_of_the_command_line_can_be_encrypted(
    certificate: DemoCertificate, tmp_path: Path
) -> None:
    mail = compose("Jürgen <j@example.org>", "demo@posthouse.example", "Grüße", "Schöne Grüße\n")
    outer = _parsed(encrypted(mail, certificate))
    assert outer["Subject"] == "Grüße" and "Schöne" not in outer.as_string()
    inner = _parsed(_opened(encrypted(mail, certificate), certificate, tmp_path))
    assert inner.get_content() == "Schöne Grüße\r\n"


def test_the_certificate_is_made_once(tmp_path: Path) -> None:
    assert DemoCertificate.of(tmp_path).pkcs12 == DemoCertificate.of(tmp_path).pkcs12
    assert (tmp_path / "demo.p12").stat().st_mode & 0o777 == 0o600
