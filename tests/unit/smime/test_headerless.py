"""What was decrypted comes out whole, whether or not it begins with a header."""

from __future__ import annotations

import random
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from pysequoia import Tsk
from pysequoia import encrypt as pgp_encrypt

from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex, parse_certificate
from tests.unit.smime.mails import HEADER, Opener, encrypt, mail, sign
from tests.unit.smime.pki import Holder
from tests.unit.smime.test_openpgp import multipart_encrypted

pytestmark = pytest.mark.promise("F3")

TEXTS = {
    "a letter": b"Dear support,\r\n\r\nplease see order 4711.\r\n\r\nBye\r\n",
    "a colon in the first line": b"Invoice: 4711\r\nTotal: 12\r\n",
    "a colon, then an empty line": b"Dear all:\r\n\r\nSee below.\r\n",
    "a name like a field, then a letter": b"Note: hello\r\nplease call\r\n\r\nBye\r\n",
    "a field among lines": b"Re: order\r\nThe Content: is text\r\nContent-Type: x\r\n\r\nBye\r\n",
    "one word": b"ok",
    "one line with LF": b"call me back\n",
    "an address": b"http://example.org/a?b=c\r\n\r\nlook\r\n",
    "umlauts": "Grüße aus Köln\r\n\r\nBis bald\r\n".encode(),
    "umlauts in Latin-1": "Grüße aus Köln, und mehr davon\r\n\r\nBis bald\r\n".encode("latin-1"),
    "a list": b"a: 1\nb: 2\n\nc: 3\n",
    "a time": b"10:30 is fine\r\n\r\nBye\r\n",
    "an indented line": b"  indented: yes\r\n\r\nBye\r\n",
    "to nobody": b"To: whom it may concern\r\n\r\nplease call\r\n",
    "from an office": b"From: our office\r\n\r\nplease call\r\n",
    "a day": b"Date: tomorrow\r\n\r\nplease call\r\n",
    "an mbox line": b"From here on it is easy\r\nSubject: x\r\n\r\nBye\r\n",
}  # fmt: skip

#: What people encrypt as it is, and what looks like noise to a program that looks for a text.
OTHERS = {
    "UTF-16": "Grüße aus Köln, und mehr".encode("utf-16"),
    "a file": b"PK\x03\x04" + bytes(range(120, 180)),
    "Japanese": "請求書をご確認ください。よろしくお願いします。".encode("shift_jis"),
    "Russian": "Пожалуйста, проверьте счёт за январь".encode("koi8-r"),
    "octets": bytes(range(7)) * 8,
}
#: Of these so much is wanted that it can be told from noise where the padding is short.
LINES = ("Japanese", "Russian")


def text_of(content: object) -> bytes:
    assert isinstance(content, bytes)
    message = message_from_bytes(content, policy=policy.default)
    assert message.get_content_type() == "text/plain"
    assert message["Subject"] == "Invoice 4711"
    return str(message.get_content()).encode().replace(b"\r\n", b"\n")


def expected(text: bytes) -> bytes:
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        decoded = text.decode("cp1252")
    return decoded.encode().replace(b"\r\n", b"\n")


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("options", [("-aes256",), ("-aes-256-gcm",)], ids=["cbc", "gcm"])
def test_encrypted_text(
    name: str, options: tuple[str, ...], opener: Opener, holders: dict[str, Holder]
) -> None:
    sealed = mail(encrypt(*options, holders["rsa"].cert, data=TEXTS[name]))
    with opener(sealed) as opened:
        assert opened.security.status == "decrypted", opened.security.reason
        assert text_of(opened.content) == expected(TEXTS[name])


@pytest.mark.parametrize("size", (45, 46, 47, 48))
@pytest.mark.parametrize("name", OTHERS)
def test_what_no_program_reads_is_no_damage(
    name: str, size: int, opener: Opener, holders: dict[str, Holder]
) -> None:
    """Of every length of the padding, which tells them from noise but where it is short."""
    whole = (OTHERS[name] * 8)[: size + 160 if name in LINES else size]
    with opener(mail(encrypt("-aes256", holders["rsa"].cert, data=whole))) as opened:
        assert opened.security.status == "decrypted", opened.security.reason
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(b"\r\n\r\n" + whole)


@pytest.mark.parametrize("size", [35, 40, 45, 48])
def test_octets_that_look_like_noise(size: int, opener: Opener, holders: dict[str, Holder]) -> None:
    """Three octets of padding are right by chance once in 16 millions."""
    whole = b"\1" + random.Random(size).randbytes(size - 1)
    with opener(mail(encrypt("-aes256", holders["rsa"].cert, data=whole))) as opened:
        assert opened.security.status == "decrypted", opened.security.reason
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(b"\r\n\r\n" + whole)


@pytest.mark.parametrize("name", TEXTS)
def test_signed_text(name: str, opener: Opener, holders: dict[str, Holder]) -> None:
    alice = holders["alice"]
    with opener(mail(sign(alice.cert, alice.key, data=TEXTS[name]), "signed-data")) as opened:
        # Nothing that was signed says what octets above 127 are, but that they are UTF-8.
        word = "ambiguous" if "Latin-1" in name else "valid"
        assert opened.security.signature == word, opened.security.reason
        assert text_of(opened.content) == expected(TEXTS[name])


@pytest.mark.parametrize("name", TEXTS)
def test_openpgp_text(name: str, tmp_path: Path) -> None:
    bob = Tsk.generate("Bob <bob@example.org>")
    parsed = parse_certificate(str(bob).encode())
    identities = IdentityIndex.load([("b", parsed.kind, parsed.certificate, parsed.private_key)])
    opener = Opener(identities, TrustStore(), tmp_path)
    message = pgp_encrypt(TEXTS[name], [bob.extract_certificate()])
    with opener(HEADER + multipart_encrypted(message)) as opened:
        assert opened.security.status == "decrypted", opened.security.reason
        assert text_of(opened.content) == expected(TEXTS[name])


@pytest.mark.parametrize(
    "entity",
    [
        b"Content-Type: text/plain\r\n\r\nHello\r\n",
        b"MIME-Version: 1.0\r\nX-Mine: 1\r\nContent-Type: text/plain\r\n\r\nHello\r\n",
        b"Subject: Invoice 4711\r\nX-Mine: 1\r\n\r\nHello\r\n",
        b"Content-Type: text/plain\r\nOdd-Field: 1\r\n\r\nHello\r\n",
        b"\r\nHello\r\n",
        b"To: undisclosed-recipients:;\r\nCc:\r\n\r\nHello\r\n",
        b"To: nobody\r\nContent-Type: text/plain\r\n\r\nHello\r\n",
        b"Content-Transfer-Encoding: base64\n\nSGVsbG8K\n",
    ],
)
def test_a_header_is_a_header(entity: bytes, opener: Opener, holders: dict[str, Holder]) -> None:
    with opener(mail(encrypt("-aes-256-gcm", holders["rsa"].cert, data=entity))) as opened:
        assert text_of(opened.content) == b"Hello\n"


def test_other_fields_of_the_content_survive(opener: Opener, holders: dict[str, Holder]) -> None:
    inner = (
        b"Content-Type: text/plain\r\nAutocrypt-Gossip: addr=bob@example.org\r\n"
        b"References: <one@example.org>\r\nX-Order: 4711\r\nX-Order: 4712\r\n"
        b"Received: from inside\r\nReply-To: sales@example.org\r\n"
        b"Authentication-Results: mx.example.org; dkim=pass\r\n"
        b"X-Forefront-Antispam-Report: SCL:-1\r\nX-MS-Exchange-Organization-SCL: -1\r\n"
        b"X-MS-Has-Attach: yes\r\n\r\nHello\r\n"
    )
    header = HEADER + b"Reply-To: outside@example.org\r\nX-Order: 1\r\n"
    with opener(
        mail(encrypt("-aes-256-gcm", holders["rsa"].cert, data=inner), header=header)
    ) as opened:
        assert isinstance(opened.content, bytes)
        message = message_from_bytes(opened.content)
    assert message["Autocrypt-Gossip"] == "addr=bob@example.org"
    assert message["References"] == "<one@example.org>"
    assert message.get_all("X-Order") == ["1", "4711", "4712"]
    assert message.get_all("Reply-To") == ["sales@example.org"]
    assert len(message.get_all("Received") or []) == 2
    assert message["X-MS-Has-Attach"] == "yes"
    for name in (
        "Authentication-Results", "X-Forefront-Antispam-Report", "X-MS-Exchange-Organization-SCL"
    ):  # fmt: skip
        assert message[name] is None, "only a server says what it has checked"


def test_noise_of_a_wrong_key_is_no_text(opener: Opener, holders: dict[str, Holder]) -> None:
    """What fits the padding by chance is not handed out as a text."""
    from services.decryptor.layer_entities import looks_readable
    from shared.mail.region import region

    for number in range(2000):
        noise = bytes((number * 7 + place * place * 31 + place * 17) % 256 for place in range(48))
        assert not looks_readable(region(noise)) or noise[:1] in b"\r\n"
    assert not looks_readable(region(b"\1" + random.Random(4711).randbytes(1 << 12)))
