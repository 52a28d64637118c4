"""What CMS packed is unpacked within bounds (RFC 3274)."""

from __future__ import annotations

import pytest

from tests.unit.smime.mails import Opener, body, encrypt, mail, pkcs7_entity
from tests.unit.smime.pki import Holder
from tests.unit.smime.test_decrypting import openssl_compress

pytestmark = pytest.mark.promise("C4")


def test_compressed_data_in_compressed_data_is_refused(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    """1.2 kB of it unpacked to 148 MB."""
    packed = openssl_compress(b"Content-Type: text/plain\r\n\r\n" + b"\0" * 140_000_000)
    twice = openssl_compress(pkcs7_entity(packed, "compressed-data"))
    for raw in (
        mail(twice, "compressed-data"),
        mail(encrypt("-aes256", holders["rsa"].cert, data=pkcs7_entity(twice, "compressed-data"))),
    ):
        assert len(raw) < 20_000
        with opener(raw) as opened:
            assert opened.content is None or len(body(opened)) < 300_000
            assert opened.security.status == "failed"


def test_the_ratio_of_compression_is_bounded(opener: Opener, holders: dict[str, Holder]) -> None:
    text = b"Content-Type: text/plain\r\n\r\n" + b"0" * 20_000_000
    packed = pkcs7_entity(openssl_compress(text), "compressed-data")
    sealed = mail(encrypt("-aes256", holders["rsa"].cert, data=packed))
    with opener(sealed) as opened:
        assert opened.security.status == "failed"
        assert b"0" * 64 not in body(opened), "what was encrypted, and not unpacked"
    lines = b"".join(b"line %d\r\n" % number for number in range(90_000))
    usual = b"Content-Type: text/plain\r\n\r\n" + lines
    packed = pkcs7_entity(openssl_compress(usual), "compressed-data")
    with opener(mail(encrypt("-aes256", holders["rsa"].cert, data=packed))) as opened:
        assert body(opened) == usual.partition(b"\r\n\r\n")[2]
