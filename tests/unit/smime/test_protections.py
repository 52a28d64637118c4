"""Protections of the reader for which every other test had a second reason to hold."""

from __future__ import annotations

import base64

import pytest
from asn1crypto import cms

from tests.unit.smime.mails import (
    ENTITY,
    HEADER,
    Opener,
    encrypt,
    mail,
    multipart_signed,
    pkcs7_entity,
)
from tests.unit.smime.pki import Holder
from tests.unit.smime.test_decrypting import openssl_compress

pytestmark = pytest.mark.promise("F2")


def test_a_field_with_a_space_before_its_colon_is_ambiguous(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    """The header of some readers ends there."""
    signed = multipart_signed(holders["alice"].cert, holders["alice"].key)
    with opener(b"X-Note: a\r\n" + HEADER + signed) as opened:
        assert opened.security.signature == "valid"
    with opener(b"X-Note : a\r\n" + HEADER + signed) as opened:
        assert opened.security.signature == "ambiguous"


def test_a_detached_signature_brings_no_content_of_its_own(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    """Readers that look into the signature would show that one."""
    signed = multipart_signed(holders["alice"].cert, holders["alice"].key)
    start = signed.rindex(b"\r\n\r\n", 0, signed.rindex(b"--b1--") - 8) + 4
    stop = signed.rindex(b"--b1--")
    structure = cms.ContentInfo.load(base64.b64decode(signed[start:stop]))
    structure["content"]["encap_content_info"]["content"] = b"Pay Mallory."
    forged = base64.encodebytes(structure.dump(force=True)).replace(b"\n", b"\r\n")
    with opener(HEADER + signed) as opened:
        assert opened.security.signature == "valid"
    with opener(HEADER + signed[:start] + forged + signed[stop:]) as opened:
        assert opened.security.signature == "invalid"
        assert "content of its own" in opened.security.reason


@pytest.mark.promise("C4")
def test_one_layer_is_compressed_at_most_however_small(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    once = pkcs7_entity(openssl_compress(ENTITY), "compressed-data")
    twice = pkcs7_entity(openssl_compress(once), "compressed-data")
    rsa = holders["rsa"].cert
    with opener(mail(encrypt("-aes256", rsa, data=once))) as opened:
        assert opened.security.status == "decrypted"
    with opener(mail(encrypt("-aes256", rsa, data=twice))) as opened:
        assert opened.security.status == "failed"
        assert opened.content is None
