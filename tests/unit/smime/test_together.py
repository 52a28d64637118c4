"""Mails that are opened together come out as they do one by one, whatever lies among them."""

from __future__ import annotations

import logging

import pytest

from services.decryptor import opening
from services.decryptor.layers import LayerReader
from services.decryptor.opening import Opened, open_mails
from shared.mail.structure import Entity
from shared.mail_security import Security
from tests.unit.smime.mails import ENTITY, HEADER, Opener, encrypt, mail, pkcs7_entity, sign
from tests.unit.smime.pki import Holder

pytestmark = pytest.mark.promise("C4")


def damaged(made: bytes, place: int) -> bytes:
    octets = bytearray(made)
    octets[place] ^= 0x40
    return bytes(octets)


@pytest.fixture
def mixed(holders: dict[str, Holder]) -> list[bytes]:
    """Plain, encrypted in several ways and for several people, signed, damaged, empty."""
    rsa, p256, stranger = (holders[name] for name in ("rsa", "p256", "stranger"))
    usual = encrypt("-aes256", rsa.cert, data=ENTITY * 4)
    signed = sign(rsa.cert, rsa.key)
    return [
        HEADER + ENTITY,
        mail(usual),
        mail(encrypt("-aes128", p256.cert)),
        mail(encrypt("-aes128", stranger.cert)),
        mail(encrypt("-aes128", stranger.cert, rsa.cert, data=b"Subject: Two\r\n\r\nfor two\r\n")),
        mail(damaged(usual, len(usual) - 17)),  # which makes its padding none, whatever the key
        mail(damaged(usual, 8)),
        mail(usual)[:-700],
        b"",
        mail(signed, "signed-data"),
        mail(encrypt("-aes256", rsa.cert, data=pkcs7_entity(usual))),
        mail(usual),
    ]


def told(opened: Opened) -> tuple[Security, object, object]:
    return opened.security, opened.content, opened.headers


def test_each_comes_out_as_it_does_alone(opener: Opener, mixed: list[bytes]) -> None:
    alone = [told(opener(raw)) for raw in mixed]
    together = open_mails(mixed, opener.identities, opener.trust, spool_dir=opener.folder)
    assert [told(opened) for opened in together] == alone
    assert [security.status for security, _, _ in alone[:6]] == [
        "none",
        "decrypted",
        "decrypted",
        "no_recipient",
        "decrypted",
        "failed",
    ]


def test_a_bug_that_one_of_them_meets_is_the_fate_of_that_one(
    opener: Opener, mixed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LayerReader.read

    def reads(layers: LayerReader, whole: Entity) -> None:
        if whole.header.octets.startswith(b"Subject: Met"):
            raise RuntimeError("a bug")
        read(layers, whole)

    monkeypatch.setattr(LayerReader, "read", reads)
    logging.getLogger(opening.__name__).setLevel(logging.CRITICAL)
    met = b"Subject: Met\r\n" + mixed[1]
    first, broken, last = open_mails(
        [mixed[1], met, mixed[1]], opener.identities, opener.trust, spool_dir=opener.folder
    )
    assert broken.security.status == "failed"
    assert broken.content is None
    assert first.security.status == "decrypted"
    assert told(first) == told(last) == told(opener(mixed[1]))
