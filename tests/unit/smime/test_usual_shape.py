"""The short way through the shape that most senders write sees what the long way sees."""

from __future__ import annotations

import pytest

from services.decryptor.cms.content import content_info
from services.decryptor.cms.enveloped import Envelope, any_envelope, usual_envelope
from services.decryptor.cms.errors import Malformed
from services.decryptor.spool import region
from tests.unit.smime.mails import encrypt
from tests.unit.smime.pki import Holder

pytestmark = pytest.mark.promise("C4")


def read_both(cms: bytes) -> tuple[Envelope | None, Envelope | None]:
    body = region(cms)
    try:
        short = usual_envelope(body, content_info(body).content)
    except Malformed:
        short = None
    try:
        long = any_envelope(body, content_info(body).content, False)
    except Malformed:
        long = None
    return short, long


def seen(envelope: Envelope) -> tuple[object, ...]:
    return (
        envelope.recipients,
        envelope.content_type,
        envelope.content_algorithm,
        envelope.fields.take(0x80),
    )


@pytest.mark.parametrize("size", [0, 30, 100, 300, 70_000])
def test_both_see_the_same(holders: dict[str, Holder], size: int) -> None:
    rsa, stranger = holders["rsa"].cert, holders["stranger"].cert
    for certificates in ((rsa,), (stranger, rsa), (holders["p256"].cert, rsa)):
        short, long = read_both(encrypt("-aes128", *certificates, data=b"x" * size))
        assert short is not None
        assert long is not None
        assert seen(short) == seen(long)


def test_each_damaged_byte_is_seen_alike_or_left_to_the_long_way(
    holders: dict[str, Holder],
) -> None:
    made = encrypt("-aes256", holders["stranger"].cert, holders["rsa"].cert, data=b"x" * 200)
    taken = 0
    for place in range(len(made)):
        for flip in (0x01, 0x02, 0x80, 0xFF):
            damaged = bytearray(made)
            damaged[place] ^= flip
            try:
                short, long = read_both(bytes(damaged))
            except Malformed:
                continue
            if short is None:
                continue
            taken += 1
            assert long is not None
            assert seen(short) == seen(long)
    assert taken > 500
