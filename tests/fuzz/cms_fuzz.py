"""Feeds the opener with hostile mails, guided by coverage.

    .fuzz/bin/python tests/fuzz/cms_fuzz.py CORPUS -max_total_time=600 -timeout=30 \
        -rss_limit_mb=300 -max_len=20000 -artifact_prefix=CORPUS-

CORPUS is a folder; it is filled with valid mails (and the keys that open them) when it is empty.
A crash is an exception that leaves the layers: the net that `open_mail` has below them is not
under test here. More than a second of processor time (by our own count: a busy machine makes any
input slow on the clock) or more memory than the limit ends the run too.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import atheris
import pybase64

with atheris.instrument_imports(include=["services.decryptor"]):
    from services.decryptor.cms.content import content_info
    from services.decryptor.cms.enveloped import Fields, any_envelope, usual_envelope
    from services.decryptor.layers import LayerReader
    from services.decryptor.limits import MailLimits
    from services.decryptor.opening import _opened
    from services.decryptor.spool import Spool
    from services.decryptor.transfer_encodings import Undecodable, decode
    from services.decryptor.trust import TrustStore
    from shared.mail.region import region
    from shared.mail.structure import entity

from shared.certificates import IdentityIndex, parse_certificate
from shared.mail_security import Security

LIMITS = MailLimits(decompressed_bytes=1 << 20, memory_bytes=1 << 14)
ENTITY = b"Content-Type: text/plain\r\nSubject: inner\r\n\r\nHello, hello, hello.\r\n" * 3
MAX_SECONDS = 1.0
#: The first octet of an input chooses how the rest is put into a mail.
WRAPPINGS = (
    b"Content-Type: application/pkcs7-mime\r\n\r\n",
    b"",
    b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n"
    b"Content-Type: application/pkcs7-signature\r\n\r\n",
    b"Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--b\r\n"
    b"Content-Type: application/octet-stream\r\n\r\n",
    b"Content-Type: text/plain\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\n",
)


def openssl(*arguments: str | Path, data: bytes = b"") -> bytes:
    return subprocess.run(
        ["openssl", *map(str, arguments)], input=data, check=True, capture_output=True
    ).stdout


def keys(folder: Path) -> list[Path]:
    """Key and certificate in one PEM file each: RSA and P-256."""
    made: list[Path] = []
    for name, options in (
        ("rsa", ["rsa:2048"]),
        ("ec", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ):
        both = folder / f"{name}.pem"
        made.append(both)
        if both.exists():
            continue
        openssl("req", "-x509", "-newkey", *options, "-nodes", "-subj", f"/CN={name}",
                "-days", "3650", "-keyout", folder / "key", "-out", folder / "cert")  # fmt: skip
        both.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return made


def seed(corpus: Path, rsa: Path, ec: Path) -> None:
    """One valid structure of each kind."""

    def enveloped(*arguments: str | Path, data: bytes = ENTITY) -> bytes:
        return openssl("cms", "-encrypt", "-binary", "-outform", "DER", *arguments, data=data)

    signed = ("cms", "-sign", "-binary", "-outform", "DER", "-signer", rsa, "-inkey", rsa)
    opaque = openssl(*signed, "-nodetach", data=ENTITY)
    wrapped = b"Content-Type: application/pkcs7-mime\r\n\r\n" + opaque
    structures = [
        enveloped("-aes128", rsa), enveloped("-aes256", "-stream", "-indef", rsa),
        enveloped("-des3", "-keyid", "-recip", rsa), enveloped("-aes-256-gcm", rsa),
        enveloped("-aes-128-gcm", "-stream", "-indef", ec), enveloped("-aes256", ec),
        enveloped("-aes128", "-recip", rsa, "-keyopt", "rsa_padding_mode:oaep"),
        enveloped("-aes128", rsa, data=wrapped), opaque,
        openssl(*signed, "-nodetach", "-stream", "-indef", "-noattr", data=ENTITY),
    ]  # fmt: skip
    detached = openssl(*signed, data=b"Hello")
    inputs = [b"\0" + one for one in structures] + [b"\2" + detached + b"\r\n--b--\r\n"]
    inputs.append(
        b"\1From: a@b\r\nContent-Type: application/pkcs7-mime\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(structures[0])
    )
    for number, one in enumerate(inputs):
        (corpus / f"seed-{number}").write_bytes(one)


def assert_read_alike(cms: bytes) -> None:
    """The short way through the usual shape says what the long way says."""
    body = region(cms)
    short = usual_envelope(body)
    if short is None:
        return
    long = any_envelope(body, content_info(body).content, authenticated=False)
    assert isinstance(long.content, Fields)
    place = long.content.inner.take(0x80)
    assert short[1:] == (*long[1:4], place)


def assert_decoded_alike(body: bytes, folder: Path) -> None:
    """The short way through even lines of base64 says what the decoder says of the whole."""
    try:
        plain: bytes | None = pybase64.b64decode(body)
    except ValueError:
        plain = None
    spool = Spool(folder, LIMITS.memory_bytes)
    try:
        found: bytes | None = decode(region(body), "base64", spool).copy()
    except Undecodable:
        found = None
    finally:
        spool.close()
    assert found == plain


def main() -> None:
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    home = corpus.with_name(corpus.name + "-keys")
    home.mkdir(exist_ok=True)
    rsa, ec = keys(home)
    if not any(corpus.iterdir()):
        seed(corpus, rsa, ec)
    parsed = [parse_certificate(one.read_bytes()) for one in (rsa, ec)]
    identities = IdentityIndex.load(
        (one.key_type, one.kind, one.certificate, one.private_key) for one in parsed
    )
    trust = TrustStore.load(senders=[one.certificate for one in parsed], system=False)
    spools = Path(tempfile.mkdtemp(prefix="fuzz-"))

    def one_input(data: bytes) -> None:
        if not data:
            return
        raw = WRAPPINGS[data[0] % len(WRAPPINGS)] + data[1:]
        assert_read_alike(data[1:])
        assert_decoded_alike(data[1:], spools)
        spool = Spool(spools, LIMITS.memory_bytes)
        began = time.thread_time()
        outer = entity(region(raw))
        layers = LayerReader(identities, trust, LIMITS, spool)
        layers.read(outer)
        layers.unwrap()
        with _opened(layers, outer, trust, spool) as opened:
            assert Security.from_json(opened.security.to_json()) == opened.security
        assert time.thread_time() - began < MAX_SECONDS, "too slow"

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
