"""Text outside of an OpenPGP message, which nobody signed: its signature is never `valid`.

The messages are replayed ones that their signer sent to somebody, in other mails under the same
author.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from pysequoia import SignatureMode, Tsk, encrypt, sign

from services.decryptor.opening import TrustStore
from shared.certificates import IdentityIndex
from tests.unit.smime.mails import ENTITY, HEADER, TEXT, Opener
from tests.unit.smime.test_openpgp import Person, multipart_encrypted

pytestmark = pytest.mark.promise("F2")

PAY = b"Please pay Mallory 1000."
VERSION = b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
OCTETS = b"Content-Type: application/octet-stream; name=encrypted.asc\r\n\r\n"
PLAIN = b"Content-Type: text/plain\r\n\r\n"
BEGIN, END = b"-----BEGIN PGP MESSAGE-----\n", b"-----END PGP MESSAGE-----"


@pytest.fixture(scope="module")
def alice() -> Person:
    return Person("alice@example.org")


@pytest.fixture(scope="module")
def bob() -> Person:
    return Person("bob@example.org")


@pytest.fixture(scope="module")
def messages(alice: Person, bob: Person) -> dict[str, bytes]:
    """In armours as GnuPG and Sequoia write them."""
    return {
        "signed": sign(alice.secret.signer(), ENTITY, mode=SignatureMode.INLINE),
        "signed and encrypted": encrypt(ENTITY, [bob.public], signer=alice.secret.signer()),
    }


@pytest.fixture
def knowing(alice: Person, bob: Person, tmp_path: Path) -> Opener:
    trust = TrustStore.load(senders=[bytes(alice.public)], system=False)
    return Opener(IdentityIndex.load([bob.stored("bob")]), trust, tmp_path)  # type: ignore[list-item]


def multipart(*parts: bytes, kind: bytes = b"encrypted", before: bytes = b"") -> bytes:
    return (
        b"Content-Type: multipart/" + kind + b"; boundary=e\r\n\r\n" + before
        + b"".join(b"--e\r\n" + one + b"\r\n" for one in parts) + b"--e--\r\n"
    )  # fmt: skip


def binary(message: bytes) -> bytes:
    lines = message.partition(b"\n\n")[2].partition(b"\n=")[0]
    return base64.b64decode(lines.partition(b"\n-----")[0])


def padding(text: bytes) -> bytes:
    """A packet that is skipped (RFC 9580 section 5.14)."""
    return bytes((0xC0 | 21, len(text))) + text


Form = Callable[[bytes], bytes]
HONEST: dict[str, Form] = {
    "multipart/encrypted": multipart_encrypted,
    "in base64": lambda m: multipart_encrypted(base64.encodebytes(binary(m)), b"base64"),
    "in a multipart/mixed": lambda m: multipart(VERSION, OCTETS + m, kind=b"mixed"),
    "behind an empty text": lambda m: multipart(PLAIN, VERSION, OCTETS + m, kind=b"mixed"),
    "a text": lambda m: PLAIN + b"\r\n" + m.replace(b"\n", b"\r\n") + b"\r\n\r\n",
    "a text in quoted-printable": lambda m: (
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + m.replace(b"=", b"=3D")
    ),
    "the second part a text": lambda m: multipart(VERSION, PLAIN + m),
    "the version in capitals": lambda m: multipart(VERSION.upper(), OCTETS + m),
    "headers of a program": lambda m: (
        PLAIN + m.replace(BEGIN, BEGIN + b"Version: GnuPG v2.0.22 (GNU/Linux)\n", 1)
    ),
    "headers of another": lambda m: (
        PLAIN + m.replace(
            BEGIN,
            BEGIN + b"Version: PGP Desktop 9.8.3 (Build 4028)\nCharset: utf-8\n", 1)
    ),
    "headers of a third": lambda m: (
        PLAIN + m.replace(BEGIN, BEGIN + b'Comment: Use "gpg --dearmor" for unpacking\n', 1)
    ),
    "headers of a fourth": lambda m: (
        PLAIN + m.replace(
            BEGIN,
            BEGIN + b"Version: FlowCrypt 7.5.9 Gmail Encryption\n"
            b"Comment: Seamlessly send and receive encrypted email\n", 1)
    ),
    "headers of a fifth": lambda m: (
        PLAIN + m.replace(
            BEGIN, BEGIN + b"Version: Keybase OpenPGP v2.1.15\n"
            b"Comment: https://keybase.io/crypto\n", 1)
    ),
    "headers of an old program": lambda m: (
        PLAIN + m.replace(
            BEGIN,
            BEGIN + b"Version: PGPfreeware 6.5.8 for non-commercial use <http://www.pgp.com>\n"
            b"MessageID: 3q2+7wAAAAAAAAAAAAAAAAAAAAAAAAAA\nCharset: ISO-8859-15\n", 1)
    ),
    "headers of a gateway": lambda m: (
        PLAIN + m.replace(BEGIN, BEGIN + b"Version: Encryption Server 3.4.2 (Build 289)\n", 1)
    ),
    "headers of the sender's own in a part that no reader shows": lambda m: multipart(
        VERSION,
        OCTETS + m.replace(BEGIN, BEGIN + b"Version: 7\nComment: Example GmbH, room 4\n", 1),
    ),
    "longer lines": lambda m: (
        PLAIN + BEGIN + b"\n"
        + b"\n".join(base64.b64encode(binary(m))[n:][:76] for n in range(0, len(m), 76)).strip()
        + b"\n" + END
    ),
}  # fmt: skip
FORGED: dict[str, Form] = {
    "a text as the first part": lambda m: multipart(PLAIN + PAY, OCTETS + m),
    "HTML as the first part": lambda m: multipart(
        b"Content-Type: text/html\r\n\r\n<p>" + PAY, OCTETS + m
    ),
    "an image as the first part": lambda m: multipart(
        b"Content-Type: image/png\r\n\r\n" + PAY, OCTETS + m
    ),
    "a text behind the version": lambda m: multipart(VERSION + PAY, OCTETS + m),
    "the version far above a text": lambda m: multipart(
        VERSION + b"\r\n" * 3_000 + PAY, OCTETS + m
    ),
    "a text in the place of the version": lambda m: multipart(
        b"Content-Type: application/pgp-encrypted\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(PAY), OCTETS + m
    ),
    "a text before the armour": lambda m: multipart(VERSION, PLAIN + PAY + b"\n" + m),
    "a text behind the armour": lambda m: multipart(VERSION, PLAIN + m + b"\n" + PAY),
    "far before": lambda m: multipart(VERSION, PLAIN + PAY + b"\n" * 5_000 + m),
    "far behind": lambda m: multipart(VERSION, PLAIN + m + b"\n" * 5_000 + PAY),
    "before it in a multipart/mixed": lambda m: multipart(
        VERSION, PLAIN + PAY + b"\n" + m, kind=b"mixed"
    ),
    "the version of a multipart/mixed": lambda m: multipart(
        VERSION + PAY, OCTETS + m, kind=b"mixed"
    ),
    "packets of padding in a text": lambda m: multipart(
        VERSION,
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(padding(PAY) + binary(m)),
    ),
    "the preamble": lambda m: multipart(VERSION, OCTETS + m, before=PAY + b"\r\n"),
    "the epilogue": lambda m: multipart(VERSION, OCTETS + m) + PAY,
    "the preamble of a multipart of one part": lambda m: multipart(
        PLAIN + m, kind=b"mixed", before=PAY + b"\r\n"
    ),
    "around two armours": lambda m: multipart(VERSION, PLAIN + m + b"\n" + m),
    **{
        f"the line {line.decode()}": lambda m, line=line: (  # type: ignore[misc]
            PLAIN + m.replace(BEGIN, BEGIN + line + b"\n", 1)
        )
        for line in (
            b"Comment: Please pay Mallory 1000", b"Version: 1 (Please pay Mallory 1000)",
            b"Hash: Please pay Mallory 1000", b"Charset: Please pay Mallory 1000",
            b"Please: pay Mallory 1000", b"Comment: https://evil.example/pay",
        )
    },
    "a comment in a part of its own": lambda m: multipart(
        VERSION, PLAIN + m.replace(BEGIN, BEGIN + b"Comment: Please pay Mallory 1000\n", 1)
    ),
    "behind the base64": lambda m: PLAIN + m.replace(END, PAY + b"\n" + END),
    "behind the base64, a word a line": lambda m: (
        PLAIN + m.replace(END, b"Please\npay\nMallory\n1000\n" + END)
    ),
    "behind the line of the end": lambda m: PLAIN + m + PAY,
    "behind the end on its line": lambda m: PLAIN + m.rstrip() + b" " + PAY,
    "another armour beside": lambda m: (
        PLAIN + m + b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: " + PAY + b"\n"
    ),
    "an attachment beside": lambda m: multipart(PLAIN + m, PLAIN + PAY, kind=b"mixed"),
    "HTML beside": lambda m: multipart(
        PLAIN + m, b"Content-Type: text/html\r\n\r\n<p>" + PAY, kind=b"alternative"
    ),
    "in damaged base64": lambda m: (
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(m).rstrip() + b"\r\n-- \r\n" + PAY
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", HONEST)
@pytest.mark.parametrize("kind", ["signed", "signed and encrypted"])
def test_a_message_with_no_text_outside(
    kind: str, form: str, messages: dict[str, bytes], knowing: Opener
) -> None:
    with knowing(HEADER + HONEST[form](messages[kind])) as opened:
        assert opened.security.signature == "valid", opened.security
        assert isinstance(opened.content, bytes)
        assert TEXT in opened.content


@pytest.mark.parametrize("form", FORGED)
@pytest.mark.parametrize("kind", ["signed", "signed and encrypted"])
def test_a_message_beside_a_text_that_nobody_signed(
    kind: str, form: str, messages: dict[str, bytes], knowing: Opener
) -> None:
    raw = HEADER + FORGED[form](messages[kind])
    with knowing(raw) as opened:
        assert opened.security.signature != "valid", opened.security
        assert opened.security.reason or opened.security.signature == "none"
        if opened.content is not None and opened.security.signature not in ("none", "invalid"):
            assert opened.security.signature in ("partial", "ambiguous"), opened.security


@pytest.mark.parametrize("place", ["a mail of one part", "a part beside an empty text"])
@pytest.mark.parametrize(
    ("before", "behind", "word"),
    [
        (b"", b"", "valid"),
        (b"Hello\n", b"", "partial"),
        (b"", b"-- \nsent by a list\n", "partial"),
        (PAY + b"\n", b"\n" + PAY, "partial"),
        (b"", b"-----BEGIN PGP SIGNED MESSAGE-----\n", "invalid"),
        (b"> ", b"", "none"),
    ],
)
def test_text_around_a_clear_signed_text(
    before: bytes, behind: bytes, word: str, place: str, alice: Person, knowing: Opener
) -> None:
    """Servers of lists put their footers into a text; who answers quotes it, and signs nothing."""
    message = sign(alice.secret.signer(), b"Pay 4711.\n", mode=SignatureMode.CLEAR)
    for signed, expected in (
        (message, word),
        (message.replace(b"4711", b"4712"), word if word == "none" else "invalid"),
    ):
        quoted = signed.strip().replace(b"\n", b"\n> ") if before == b"> " else signed
        part = PLAIN + before + quoted + behind
        raw = HEADER + (part if "one" in place else multipart(PLAIN, part, kind=b"mixed"))
        with knowing(raw) as opened:
            assert opened.security.signature == expected, opened.security
            assert (opened.content is None) == (expected != "valid")
            if expected == "partial":
                assert opened.security.signer == "alice@example.org"
                assert opened.security.layers[0].covers == "part"


@pytest.mark.parametrize("place", ["a mail of one part", "a part beside an empty text"])
@pytest.mark.parametrize(
    ("before", "behind", "word"),
    [
        (b"", b"", "valid"),
        (b"Hello\n", b"", "partial"),
        (b"", b"-- \nsent by a list\n", "partial"),
        (b"", b"-----BEGIN PGP MESSAGE-----\n", "invalid"),
        (b"", b"-----BEGIN PGP SIGNED MESSAGE-----\n", "partial"),
    ],
)
def test_text_around_a_signed_message(
    before: bytes, behind: bytes, word: str, place: str, alice: Person, knowing: Opener
) -> None:
    """As around a clear-signed text: the signature is right, and not that of all that is shown."""
    message = sign(alice.secret.signer(), b"Pay 4711.\n", mode=SignatureMode.INLINE)
    middle = message.index(b"\n\n") + 40
    changed = message[:middle] + bytes([message[middle] ^ 2]) + message[middle + 1 :]
    for signed, expected in ((message, word), (changed, "invalid")):
        part = PLAIN + before + signed + behind
        raw = HEADER + (part if "one" in place else multipart(PLAIN, part, kind=b"mixed"))
        with knowing(raw) as opened:
            assert opened.security.signature == expected, opened.security
            assert (opened.content is None) == bool(before or behind)
            if expected == "partial":
                assert opened.security.signer == "alice@example.org"
                assert opened.security.layers[0].covers == "part"


@pytest.mark.parametrize("form", ["a text as the first part", "a text before the armour"])
def test_what_is_signed_inside_the_encryption_is_limited_as_well(
    form: str, alice: Person, bob: Person, knowing: Opener
) -> None:
    """Anyone can encrypt what somebody signed, and write a text beside it."""
    for inner in (
        PLAIN + sign(alice.secret.signer(), b"Good morning\n", mode=SignatureMode.CLEAR),
        multipart_encrypted(sign(alice.secret.signer(), ENTITY, mode=SignatureMode.INLINE)),
    ):
        message = encrypt(inner, [bob.public])
        with knowing(HEADER + multipart_encrypted(message)) as opened:
            assert opened.security.signature == "valid", opened.security
        with knowing(HEADER + FORGED[form](message)) as opened:
            assert opened.security.signature == "partial", opened.security
            assert "text around" in opened.security.reason


def test_text_outside_an_outer_signature_limits_the_inner_one(
    alice: Person, knowing: Opener
) -> None:
    """Whoever signs around it need not be known."""
    mallory = Tsk.generate("mallory@evil.example")
    inner = PLAIN + sign(alice.secret.signer(), b"Good morning\n", mode=SignatureMode.CLEAR)
    signature = sign(mallory.signer(), inner, mode=SignatureMode.DETACHED)
    around = b"Content-Type: application/pgp-signature\r\n\r\n" + signature
    for before, word in ((b"", "valid"), (PAY + b"\r\n", "partial")):
        with knowing(HEADER + multipart(inner, around, kind=b"signed", before=before)) as opened:
            assert opened.security.signature == word, opened.security


def test_the_lines_of_a_long_armour_are_looked_through(
    alice: Person, bob: Person, knowing: Opener
) -> None:
    text = ENTITY + base64.encodebytes(bytes(range(256)) * 4_000)
    message = encrypt(text, [bob.public], signer=alice.secret.signer())
    for line, word in ((b"", "valid"), (b"Comment: " + PAY + b"\n", "partial")):
        part = PLAIN + message.replace(BEGIN, BEGIN + line, 1)
        with knowing(HEADER + multipart(VERSION, part)) as opened:
            assert opened.security.signature == word, opened.security
