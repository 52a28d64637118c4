"""Damage ends as a fact: never as an exception, never as a content that was not sent."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.decryptor.opening import Opened
from shared.mail_security import Security
from tests.unit.smime.mails import (
    ENTITY,
    HEADER,
    Opener,
    encrypt,
    mail,
    multipart_signed,
    pkcs7_entity,
    sign,
)
from tests.unit.smime.pki import Holder

pytestmark = pytest.mark.promise("C4")

OAEP = ("-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256")


@pytest.fixture(scope="session")
def sealed(holders: dict[str, Holder]) -> dict[str, bytes]:
    """One CMS structure of each kind."""
    rsa, p256 = holders["rsa"].cert, holders["p256"].cert
    alice = holders["alice"]
    return {
        "cbc": encrypt("-aes256", rsa),
        "cbc-stream": encrypt("-aes256", "-stream", "-indef", rsa),
        "3des": encrypt("-des3", rsa),
        "oaep": encrypt("-aes256", "-recip", rsa, *OAEP),
        "ecdh": encrypt("-aes256", p256),
        "gcm": encrypt("-aes-256-gcm", rsa),
        "gcm-stream": encrypt("-aes-128-gcm", "-stream", "-indef", p256),
        "signed": sign(alice.cert, alice.key),
        "signed-stream": sign(alice.cert, alice.key, "-stream", "-indef"),
    }


def is_a_fact(opened: Opened, *, authentic: bool) -> None:
    """Whatever was done to a mail, the answer is one of these."""
    security = opened.security
    assert Security.from_json(security.to_json()) == security
    if opened.content is None:
        if security.encrypted:
            assert security.status in ("no_recipient", "unsupported", "failed")
            assert security.integrity is None
            assert security.reason
        return
    assert security.status in ("none", "decrypted")
    if authentic and security.encrypted:
        assert opened.content == HEADER + ENTITY, "an authenticated content is whole or nothing"
    if security.signature in ("valid", "untrusted"):
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(ENTITY), "a signed content is what was signed"


KINDS = [
    "cbc", "cbc-stream", "3des", "oaep", "ecdh", "gcm", "gcm-stream", "signed", "signed-stream",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits(kind: str, sealed: dict[str, bytes], opener: Opener) -> None:
    made = sealed[kind]
    chance = random.Random(kind)
    # Every byte of the structure's beginning, where the lengths and names are, then samples.
    places = [*range(120), *(chance.randrange(len(made)) for _ in range(150))]
    for place in places:
        damaged = bytearray(made)
        damaged[place] ^= 1 << chance.randrange(8)
        with opener(mail(bytes(damaged))) as opened:
            is_a_fact(opened, authentic=kind.startswith("gcm"))


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off(kind: str, sealed: dict[str, bytes], opener: Opener) -> None:
    made = sealed[kind]
    for length in (0, 1, 2, 5, 20, *range(40, len(made), 97), len(made) - 1):
        with opener(mail(made[:length])) as opened:
            is_a_fact(opened, authentic=True)
            if opened.content is not None:
                # Only end marks of the outermost elements are gone: the content is whole.
                assert set(made[length:]) == {0}
                assert opened.content == HEADER + ENTITY
                continue
            assert opened.security.status == "failed" or opened.security.signature == "invalid"


@pytest.mark.parametrize("kind", ["gcm", "gcm-stream"])
def test_every_bit_of_the_tag_counts(kind: str, sealed: dict[str, bytes], opener: Opener) -> None:
    made = sealed[kind]
    tag = len(made.rstrip(b"\0")) - 1
    for place in range(tag - 15, tag + 1):
        damaged = bytearray(made)
        damaged[place] ^= 0x40
        with opener(mail(bytes(damaged))) as opened:
            assert opened.content is None


def test_short_tag_is_refused(sealed: dict[str, bytes], opener: Opener) -> None:
    """RFC 5084: the default length is 12, and a tag of 4 is guessed in minutes."""
    made = sealed["gcm"]
    assert made[-18:-16] == b"\x04\x10"
    for kept in (0, 4, 8, 11):
        # The outer lengths stay: what is left over lies behind the tag.
        damaged = made[:-18] + bytes((4, kept)) + made[-16:][:kept] + bytes(16 - kept)
        with opener(mail(damaged)) as opened:
            assert opened.security.status == "failed"
            assert opened.content is None


def test_swapped_recipients(opener: Opener, holders: dict[str, Holder]) -> None:
    """The wrapped key of somebody else under our name does not open, and says no more than that."""
    ours = encrypt("-aes256", holders["rsa"].cert)
    theirs = encrypt("-aes256", holders["stranger"].cert)
    start, size = ours.index(b"\x04\x82\x01\x00") + 4, 256
    other = theirs.index(b"\x04\x82\x01\x00") + 4
    damaged = ours[:start] + theirs[other : other + size] + ours[start + size :]
    with opener(mail(damaged)) as opened:
        assert opened.security.status == "failed"
        assert opened.content is None


def test_one_answer_for_every_wrong_key(opener: Opener, holders: dict[str, Holder]) -> None:
    """Telling bad padding from a bad key or a bad content would be a decryption oracle."""
    made = encrypt("-aes256", holders["rsa"].cert)
    start = made.index(b"\x04\x82\x01\x00") + 4
    reasons = set()
    for trial in range(60):
        damaged = bytearray(made)
        if trial % 3 == 0:
            damaged[start : start + 256] = bytes(random.Random(trial).randbytes(256))
            damaged[start] &= 0x3F
        elif trial % 3 == 1:
            damaged[start + 200] ^= 1 << trial % 8
        else:
            damaged[-1 - trial] ^= 0xFF
            damaged[-1] ^= 0x55
        with opener(mail(bytes(damaged))) as opened:
            # CBC proves nothing: once in 256 times a damaged padding is another right one.
            if trial % 3 != 2 or opened.content is None:
                assert opened.content is None
                reasons.add((opened.security.status, opened.security.reason))
    assert len(reasons) == 1


def test_damaged_base64(opener: Opener, sealed: dict[str, bytes]) -> None:
    raw = mail(sealed["gcm"])
    at = raw.index(b"\r\n\r\n") + 200
    for damage in (b"!", b"====", b"\0", b"\xff\xfe", b"-", b"\r\n\r\n"):
        with opener(raw[:at] + damage + raw[at + 1 :]) as opened:
            is_a_fact(opened, authentic=True)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_random_damage(data: st.DataObject, sealed: dict[str, bytes], opener: Opener) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    damaged = bytearray(sealed[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        how = data.draw(st.sampled_from(["change", "insert", "delete", "repeat"]))
        if how == "change":
            damaged[place] = data.draw(st.integers(0, 255))
        elif how == "insert":
            damaged[place:place] = data.draw(st.binary(max_size=20))
        elif how == "delete":
            del damaged[place : place + data.draw(st.integers(1, 40))]
            damaged += b"\0"
        else:
            damaged[place:place] = damaged[place : place + data.draw(st.integers(1, 60))]
    with opener(mail(bytes(damaged))) as opened:
        is_a_fact(opened, authentic=kind.startswith("gcm"))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_random_mails(data: st.DataObject, opener: Opener, holders: dict[str, Holder]) -> None:
    """Whole mails of pieces that mean something to the reader of entities."""
    pieces = st.sampled_from(
        [
            b"Content-Type: multipart/signed; boundary=b\r\n", b"Content-Type: text/plain\r\n",
            b"Content-Type: application/pkcs7-mime\r\n", b"Content-Type: multipart/encrypted;",
            b"Content-Type: application/pgp-encrypted\r\n", b'boundary="b"', b"boundary*0*=''b",
            b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: binary\r\n",
            b"Content-Type: application/pkcs7-signature\r\n", b"\r\n", b"\n", b"--b", b"--b--",
            b"\r\n--b\r\n", b"-----BEGIN PGP MESSAGE-----\r\n\r\n", b"-----END PGP MESSAGE-----",
            b"-----BEGIN PGP SIGNED MESSAGE-----\r\n", b"MIIB", b"\x30\x80", b"From: a@b\r\n", b";",
            b"Content-Type: message/rfc822\r\n\r\n", b"x" * 100, b"=", b"\xff", b": ", b" ", b"\0",
        ]
    )  # fmt: skip
    raw = b"".join(data.draw(st.lists(pieces | st.binary(max_size=8), max_size=20)))
    with opener(raw) as opened:
        assert Security.from_json(opened.security.to_json()) == opened.security
        assert "analysed" not in opened.security.reason, "an exception was caught at last"


def test_mail_that_signs_itself_over_and_over(opener: Opener, holders: dict[str, Holder]) -> None:
    alice = holders["alice"]
    entity = ENTITY
    for number in range(12):
        entity = multipart_signed(alice.cert, alice.key, entity=entity).replace(
            b"b1", b"b%d" % number
        )
    with opener(HEADER + entity) as opened:
        assert opened.content is None


def test_nothing_is_left_behind(opener: Opener, sealed: dict[str, bytes], tmp_path: Path) -> None:
    for kind in KINDS:
        with opener(mail(sealed[kind][:-7])):
            pass
        with opener(HEADER + pkcs7_entity(sealed[kind])):
            pass
    assert list(tmp_path.iterdir()) == []


def test_hostile_sizes_stay_small(opener: Opener, holders: dict[str, Holder]) -> None:
    """Names, lists and numbers of many megabytes are refused before they are copied."""
    from services.decryptor.cms.ber import encode
    from services.decryptor.cms.oids import ENVELOPED_DATA

    version = encode(2, b"\0")
    huge = bytes(5_000_000)
    serial = encode(0x30, encode(0x30, b"") + encode(2, b"\x7f" * 1000))
    lists = [
        encode(4, b"") * 2_000_000,
        encode(0x30, version + serial + encode(0x30, encode(6, b"\x2a")) + encode(4, b"x")),
        encode(0x30, version + encode(0x80, huge) + encode(0x30, b"") + encode(4, b"x")),
        encode(0x30, encode(2, b"")) * 20_000,
        encode(0xA2, b"") * 20_000,
    ]
    for recipients in lists:
        cms = encode(
            0x30,
            encode(6, ENVELOPED_DATA)
            + encode(0xA0, encode(0x30, version + encode(0x31, recipients))),
        )
        raw = mail(cms)
        tracemalloc.start()
        try:
            with opener(raw) as opened:
                assert opened.security.status == "failed"
                assert len(opened.security.reason) < 200
                assert opened.security.recipients == ()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3 * len(raw) + (4 << 20), peak


def test_a_recipient_whose_name_cannot_be_read_is_a_stranger(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    made = encrypt("-aes256", holders["rsa"].cert)
    # Another type of attribute, with a value of a type that no name has.
    strange = made.replace(bytes.fromhex("06035504030c"), bytes.fromhex("060355000008"))
    assert strange != made
    security = opener(mail(strange)).security
    assert security.status == "no_recipient"
    assert len(security.recipients) == 1
