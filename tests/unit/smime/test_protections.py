"""Protections of the reader for which every other test had a second reason to hold."""

from __future__ import annotations

import base64
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pysequoia import SignatureMode, Tsk, sign, verify

from services.decryptor.author import Author, read_author
from services.decryptor.layer_facts import Facts, PgpSignature, SignedLayer
from services.decryptor.layers import LayerReader
from services.decryptor.opening import MailLimits, TrustStore
from services.decryptor.openpgp.cleartext import signed_text
from services.decryptor.signature_verdicts import judged
from services.decryptor.spool import Spool
from shared.certificates import IdentityIndex
from shared.certificates.openpgp_keys import emails_of
from shared.certificates.uploads import addresses
from shared.mail.fields import read_fields
from shared.mail.region import region
from shared.mail.structure import entity
from tests.unit.smime.chains import utf8_mailbox
from tests.unit.smime.mails import (
    ENTITY,
    HEADER,
    Opener,
    body,
    encrypt,
    mail,
    multipart_signed,
    pkcs7_entity,
)
from tests.unit.smime.pki import Holder, common_name, ec_key
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
        assert body(opened) == once.partition(b"\r\n\r\n")[2], "unpacked once"


def test_a_signature_is_nobodys_where_the_author_was_not_asked_for(
    opener: Opener, holders: dict[str, Holder]
) -> None:
    raw = entity(region(HEADER + multipart_signed(holders["alice"].cert, holders["alice"].key)))
    spool = Spool(opener.folder, 1 << 20)
    layers = LayerReader(opener.identities, opener.trust, MailLimits(), spool)
    layers.open_layers(raw)
    openpgp = Facts()
    openpgp.signature(SignedLayer("openpgp", openpgp=PgpSignature("valid", ("alice@example.org",))))
    for facts in (layers.facts, openpgp):
        asked = judged(facts, read_author(raw.header, ()), "", opener.trust)
        assert asked.signature == "valid", asked.reason
        assert judged(facts, Author(None), "", opener.trust).signature == "mismatch"


@pytest.fixture
def clear(tmp_path: Path) -> tuple[Tsk, Opener]:
    """The key of Alice, and what verifies with it."""
    alice = Tsk.generate("Alice <alice@example.org>")
    trust = TrustStore.load(senders=[bytes(alice.extract_certificate())], system=False)
    return alice, Opener(IdentityIndex.load([]), trust, tmp_path)


def clear_signed(key: Tsk, text: bytes, charset: bytes = b"utf-8") -> bytes:
    head = b"Content-Type: text/plain; charset=" + charset
    head += b"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    return HEADER + head + sign(key.signer(), text, mode=SignatureMode.CLEAR)


@pytest.mark.parametrize(
    "line",
    [
        b"Hash: SHA512 and pay Mallory\n",
        b"Hash: SHA512, pay\n",
        b"Hash: SHA512\nComment: pay Mallory\n",
        b"Comment: pay Mallory\nHash: SHA512\n",
        b"Hash: SHA512\n pay Mallory\n",
        b"Hash: pay-Mallory\n",
        b"pay Mallory\n",
    ],
)
def test_nothing_unsigned_is_written_into_the_head_of_a_signed_text(
    line: bytes, clear: tuple[Tsk, Opener]
) -> None:
    key, opener = clear
    raw = clear_signed(key, b"Good morning\n")
    start = raw.index(b"MESSAGE-----\n") + len(b"MESSAGE-----\n")
    stop = raw.index(b"\n\n", start) + 1
    with opener(raw) as opened:
        assert opened.security.signature == "valid", opened.security.reason
    with opener(raw[:start] + b"Hash: SHA512,SHA256 \n" + raw[stop:]) as opened:
        assert opened.security.signature == "valid", opened.security.reason
    with opener(raw[:start] + line + raw[stop:]) as opened:
        assert opened.security.signature == "invalid"
        assert opened.content is None


_SIGNED_TEXTS = (
    b"Good morning\n",
    b"Pay 100 \n- dash\n-- x\nFrom a\n\nend",
    b"a\r\nb \t\r\n\n\n",
    b"a\rb\x0b\x0cc \n\xc2\xa0\n",
    b"",
    b"x\n-----BEGIN PGP SIGNED MESSAGE-----\n\ny\n-----BEGIN PGP SIGNATURE-----\n\nz\n"
    b"-----END PGP SIGNATURE-----\n> -----END PGP SIGNATURE-----\n",
)
_SMUGGLED = (
    b"\r", b"\n", b"\r\n", b" ", b"\t", b"- ", b"-", b"\0", b"\x0b", b"\xc2\x85", b"pay Mallory\n",
    b"-----BEGIN PGP SIGNATURE-----\n", b" -----BEGIN PGP SIGNATURE-----\n",
    b"-----END PGP SIGNATURE-----\n", b"\n-----BEGIN PGP SIGNED MESSAGE-----\n\n",
    b"Hash: SHA512\n", b"NotDashEscaped: x\n", b"- -----BEGIN PGP SIGNATURE-----\n",
    b"-----BEGIN PGP MESSAGE-----\n",
)  # fmt: skip


def test_what_is_taken_out_of_a_signed_text_is_what_was_verified() -> None:
    """Of messages changed at random: here and in Sequoia, but for white space at the end of lines,
    which no such signature covers."""
    key = Tsk.generate("Alice <alice@example.org>")
    certificates = [key.extract_certificate()]
    framed = [sign(key.signer(), one, mode=SignatureMode.CLEAR).strip() for one in _SIGNED_TEXTS]
    rng = random.Random(4880)
    right = 0
    for _ in range(4000):
        message = rng.choice(framed)
        for _ in range(rng.randrange(1, 4)):
            lines = [match.end() for match in re.finditer(rb"^|\n", message)]
            at = rng.choice(lines) - rng.randrange(2)
            message = message[: max(0, at)] + rng.choice(_SMUGGLED) + message[max(0, at) :]
        message = message.strip()
        text = signed_text(message)
        if text is None:
            continue
        try:
            verified = verify(bytes=message, store=lambda _: certificates)
        except (RuntimeError, ValueError):
            continue
        right += 1
        assert _plain(text) == _plain(verified.bytes or b""), message
    assert right > 200


def _plain(text: bytes) -> bytes:
    return re.sub(rb"(?m)[ \t\r]+$", b"", text).rstrip(b"\n")


@pytest.mark.parametrize(
    ("text", "charset", "signature"),
    [
        ("Grüße\n".encode(), b"utf-8", "valid"),
        (b"Pay 100\n", b"us-ascii", "valid"),
        # Another character set makes another text of the same octets, and nobody signed it.
        ("Grüße\n".encode("latin-1"), b"iso-8859-1", "ambiguous"),
        ("Grüße\n".encode("latin-1"), b"iso-8859-5", "ambiguous"),
        ("Grüße\n".encode("cp1252"), b"windows-1252", "ambiguous"),
        ("支払う\n".encode("shift_jis"), b"shift_jis", "ambiguous"),
        ("支払う\n".encode("gb18030"), b"gb18030", "ambiguous"),
        # RFC 3676: lines are joined without the space at their end.
        (b"Pay 100 \n000\n", b"utf-8; format=flowed", "valid"),
        (b"Pay 100 \n000\n", b"utf-8; format=flowed; delsp=yes", "ambiguous"),
    ],
)
def test_a_signed_text_has_no_character_set_but_its_own(
    text: bytes, charset: bytes, signature: str, clear: tuple[Tsk, Opener]
) -> None:
    key, opener = clear
    with opener(clear_signed(key, text, charset)) as opened:
        assert opened.security.signature == signature, opened.security.reason


def test_no_letter_becomes_one_of_ascii_where_addresses_are_compared(
    holders: dict[str, Holder],
) -> None:
    """The lower case of the Kelvin sign is a k: an address of its own, for which an authority that
    may not speak for that of the other could be found."""
    kelvin = "\N{KELVIN SIGN}evin@example.org"
    key = ec_key(ec.SECP256R1())
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(common_name("x"))
        .issuer_name(common_name("x"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(utf8_mailbox(kelvin), False)
        .sign(key, hashes.SHA256())
    )
    assert addresses(made) == (kelvin,)
    assert emails_of([f"Kevin <{kelvin}>", "Kevin <KEVIN@example.org>"]) == (
        kelvin,
        "kevin@example.org",
    )
    assert read_author(read_fields(f"From: {kelvin}\r\n".encode()), ()).address == kelvin


@pytest.mark.parametrize(
    "name",
    [
        "The\N{ZERO WIDTH SPACE}Boss",
        "\N{RIGHT-TO-LEFT OVERRIDE}ssoB ehT",
        "=?utf-8?q?The=E2=80=8BBoss?=",
        "The\N{LINE SEPARATOR}Boss",
        "The\N{PARAGRAPH SEPARATOR}Boss",
        "=?utf-8?q?The=0ABoss?=",
        "=?no-such?q?Boss?=",
        "=?utf-8?b?!?=",
    ],
)
def test_a_name_with_letters_that_are_not_seen_is_ambiguous(name: str) -> None:
    header = read_fields(f"From: {name} <alice@example.org>\r\n".encode())
    assert read_author(header, ()).problem == "ambiguous"
