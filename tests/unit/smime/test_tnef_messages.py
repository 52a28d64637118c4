"""Encrypted messages in what Outlook packs into winmail.dat: named, and not opened there."""

from __future__ import annotations

import base64

import pytest
from pysequoia import encrypt as pgp_encrypt

from services.decryptor.opening import may_be_secured
from shared.mail.region import region
from shared.mail.structure import entity
from tests.rig import tnef_writer
from tests.unit.smime.mails import ENTITY, HEADER, Opener, encrypt, sign
from tests.unit.smime.pki import Holder
from tests.unit.smime.test_openpgp import Person
from tests.unit.smime.test_openpgp_outside import PLAIN, multipart

pytestmark = pytest.mark.promise("C4")


def packed(*files: bytes, kind: bytes = b"application/ms-tnef; name=winmail.dat") -> bytes:
    stream = base64.encodebytes(tnef_writer.stream(*files)).replace(b"\n", b"\r\n")
    return b"Content-Type: " + kind + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + stream


@pytest.fixture(scope="module")
def files(holders: dict[str, Holder], bob: Person) -> dict[str, bytes]:
    sealed, message = encrypt(holders["rsa"].cert), pgp_encrypt(ENTITY, [bob.public])
    alice = holders["alice"]
    return {
        "S/MIME": tnef_writer.file(b"SMIME.P7M", sealed, "smime.p7m", "multipart/signed"),
        "S/MIME by its short name": tnef_writer.file(b"SMIME.P7M", sealed),
        "OpenPGP": tnef_writer.file(b"MSG.ASC", message, "message.asc"),
        "in a message": tnef_writer.message(
            b"x", tnef_writer.stream(tnef_writer.file(b"SMIME.P7M", sealed, "smime.p7m"))
        ),
        "behind others": tnef_writer.file(b"A.TXT", b"x") * 3
        + tnef_writer.file(b"SMIME.P7M", sealed),
        "a signature": tnef_writer.file(b"SMIME.P7M", sign(alice.cert, alice.key), "smime.p7m"),
        "a public key": tnef_writer.file(b"KEY.ASC", str(bob.public).encode(), "key.asc"),
        "a text": tnef_writer.file(b"A.TXT", b"smime.p7m"),
    }


@pytest.mark.parametrize(
    ("name", "status", "format"),
    [
        ("S/MIME", "unsupported", "smime"),
        ("S/MIME by its short name", "unsupported", "smime"),
        ("OpenPGP", "unsupported", "openpgp"),
        ("in a message", "unsupported", "smime"),
        ("behind others", "unsupported", "smime"),
        ("a signature", "none", ""),
        ("a public key", "none", ""),
        ("a text", "none", ""),
    ],
)
@pytest.mark.parametrize("kind", ["application/ms-tnef", "application/octet-stream"])
def test_what_is_encrypted_in_a_winmail_dat_is_named(
    kind: str, name: str, status: str, format: str, files: dict[str, bytes], opener: Opener
) -> None:
    part = packed(files[name], kind=kind.encode() + b"; name=winmail.dat")
    mails = [HEADER + multipart(PLAIN + b"Hello\r\n", part, kind=b"mixed")]
    if kind == "application/ms-tnef":
        mails += [HEADER + part, HEADER + multipart(PLAIN, part, kind=b"mixed")]
    for raw in mails:
        assert may_be_secured(entity(region(raw)), raw)
        with opener(raw) as opened:
            assert opened.security.status == status, opened.security
            assert opened.security.encrypted is (status != "none")
            assert [one.format for one in opened.security.layers] == ([format] if format else [])
            assert opened.content is None, "the mail goes out as it came"
        if status != "none":
            assert "winmail.dat" in opened.security.reason
