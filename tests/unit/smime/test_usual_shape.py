"""The short way through the shape that most senders write sees what the long way sees."""

from __future__ import annotations

import pytest

from services.decryptor.cms.content import content_info
from services.decryptor.cms.enveloped import Envelope, Fields, any_envelope, usual_envelope
from services.decryptor.cms.errors import Malformed
from shared.mail.region import region
from tests.unit.smime.mails import encrypt
from tests.unit.smime.pki import Holder

pytestmark = pytest.mark.promise("C4")


def read_both(cms: bytes) -> tuple[Envelope | None, Envelope | None]:
    body = region(cms)
    try:
        long = any_envelope(body, content_info(body).content, authenticated=False)
    except Malformed:
        long = None
    return usual_envelope(body), long


def seen(envelope: Envelope) -> tuple[object, ...]:
    content = envelope.content
    place = content.inner.take(0x80) if isinstance(content, Fields) else content
    return envelope.recipients, envelope.content_type, envelope.content_algorithm, place


@pytest.mark.parametrize("size", [0, 30, 100, 300, 8_000, 60_000])
def test_both_see_the_same(holders: dict[str, Holder], size: int) -> None:
    rsa, stranger, curve = (holders[name].cert for name in ("rsa", "stranger", "p256"))
    for certificates in ((rsa,), (stranger, rsa), (curve, rsa), (curve,)):
        short, long = read_both(encrypt("-aes128", *certificates, data=b"x" * size))
        assert short is not None
        assert long is not None
        assert seen(short) == seen(long)


def test_what_is_longer_is_left_to_the_long_way(holders: dict[str, Holder]) -> None:
    short, long = read_both(encrypt("-aes128", holders["rsa"].cert, data=b"x" * 70_000))
    assert short is None
    assert long is not None


@pytest.mark.parametrize("names", [("stranger", "rsa"), ("p256",)])
def test_each_damaged_byte_is_seen_alike_or_left_to_the_long_way(
    holders: dict[str, Holder], names: tuple[str, ...]
) -> None:
    made = encrypt("-aes256", *(holders[name].cert for name in names), data=b"x" * 300)
    taken = 0
    for place in range(len(made)):
        for flip in (0x01, 0x02, 0x80, 0xFF):
            damaged = bytearray(made)
            damaged[place] ^= flip
            short, long = read_both(bytes(damaged))
            if short is None:
                continue
            taken += 1
            assert long is not None
            assert seen(short) == seen(long)
    assert taken > 500
