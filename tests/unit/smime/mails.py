"""Mails for the tests, made with the openssl command."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Sequence
from pathlib import Path

from services.decryptor.opening import MailLimits, Opened, open_mail
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex

HEADER = (
    b"Received: from mx.example.net by mx.example.org; Thu, 1 Jan 2026 10:00:00 +0100\r\n"
    b"From: Alice Example <alice@example.org>\r\n"
    b"To: bob@example.org\r\n"
    b"Subject: Invoice 4711\r\n"
    b"Date: Thu, 1 Jan 2026 10:00:00 +0100\r\n"
    b"Message-ID: <4711@example.org>\r\n"
    b"MIME-Version: 1.0\r\n"
)
TEXT = "Grüße aus Köln.\r\n".encode() * 30
ENTITY = (
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + TEXT
)


def openssl(*arguments: str | Path, data: bytes = b"") -> bytes:
    """The output of one openssl command; its message where it fails."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)], input=data, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def encrypt(*arguments: str | Path, data: bytes = ENTITY) -> bytes:
    """CMS in DER or BER."""
    return openssl("cms", "-encrypt", "-binary", "-outform", "DER", *arguments, data=data)


def sign(signer: Path, key: Path, *arguments: str | Path, data: bytes = ENTITY) -> bytes:
    """CMS in DER or BER."""
    return openssl(
        "cms", "-sign", "-binary", "-nodetach", "-outform", "DER",
        "-signer", signer, "-inkey", key, *arguments, data=data,
    )  # fmt: skip


def pkcs7_entity(cms: bytes, kind: str = "enveloped-data") -> bytes:
    """A CMS structure as a MIME entity."""
    return (
        f'Content-Type: application/pkcs7-mime; smime-type={kind}; name="smime.p7m"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
        'Content-Disposition: attachment; filename="smime.p7m"\r\n\r\n'
    ).encode() + base64.encodebytes(cms).replace(b"\n", b"\r\n")


def mail(cms: bytes, kind: str = "enveloped-data", header: bytes = HEADER) -> bytes:
    """A CMS structure as a whole mail."""
    return header + pkcs7_entity(cms, kind)


def multipart_signed(
    signer: Path, key: Path, *arguments: str | Path, entity: bytes = ENTITY
) -> bytes:
    """A multipart/signed entity around `entity`, with the line ends of mail."""
    signature = openssl(
        "cms", "-sign", "-binary", "-outform", "DER", "-signer", signer, "-inkey", key,
        *arguments, data=entity,
    )  # fmt: skip
    return (
        b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n'
        b'\tmicalg=sha-256; boundary="b1"\r\n\r\nThis is a signed message.\r\n\r\n--b1\r\n'
        + entity
        + b"\r\n--b1\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(signature).replace(b"\n", b"\r\n")
        + b"\r\n--b1--\r\n"
    )


class Opener:
    """Opens mails with some identities, and remembers nothing."""

    def __init__(self, identities: IdentityIndex, trust: TrustStore, folder: Path) -> None:
        self.identities = identities
        self.trust = trust
        self.folder = folder

    def __call__(self, raw: bytes, limits: MailLimits | None = None) -> Opened:
        return open_mail(raw, self.identities, self.trust, limits=limits, spool_dir=self.folder)


def body(opened: Opened) -> bytes:
    """The body of the content, which must be in memory."""
    assert isinstance(opened.content, bytes), opened.security
    return opened.content.partition(b"\r\n\r\n")[2]


def header_of(opened: Opened) -> bytes:
    """The header of the content, which must be in memory."""
    assert isinstance(opened.content, bytes), opened.security
    return opened.content.partition(b"\r\n\r\n")[0] + b"\r\n"


def recipients(*certificates: Path) -> Sequence[str | Path]:
    """Arguments for several recipients with default options."""
    return [argument for one in certificates for argument in ("-recip", one)]
