"""Forms of OpenPGP mails that GnuPG makes, beside what GnuPG says of each."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from pysequoia import decrypt_file

from services.decryptor.opening import may_be_secured
from services.decryptor.openpgp import decrypting
from services.decryptor.openpgp.packets import packets_of
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex, parse_certificate
from shared.mail.region import region
from shared.mail.structure import entity
from tests.unit.smime.gnupg import GnuPG
from tests.unit.smime.mails import ENTITY, HEADER, TEXT, Opener
from tests.unit.smime.test_found import EMPTY, FOOTER, mixed
from tests.unit.smime.test_openpgp import multipart_encrypted

pytestmark = pytest.mark.promise("C4")

ALICE, BOB, MALLORY = "alice@example.org", "bob@example.org", "mallory@evil.example"
TO_BOB = ("--armor", "-e", "-r", BOB)
LATIN = "Grüße aus Köln.\n".encode("latin-1")


@pytest.fixture(scope="module")
def gnupg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GnuPG]:
    gnupg = GnuPG(tmp_path_factory.mktemp("gnupg"))
    gnupg.key(BOB, "cv25519")
    for signer in (ALICE, MALLORY):
        gnupg("--quick-gen-key", signer, "ed25519", "sign,cert", "never")
    yield gnupg
    gnupg.close()


@pytest.fixture
def opener(gnupg: GnuPG, tmp_path: Path) -> Opener:
    """Of Bob, who knows Alice and Mallory."""
    parsed = parse_certificate(gnupg.secret(BOB))
    stored = ("bob", parsed.kind, parsed.certificate, parsed.private_key)
    known = [gnupg("--export", signer) for signer in (ALICE, MALLORY)]
    return Opener(
        IdentityIndex.load([stored]), TrustStore.load(senders=known, system=False), tmp_path
    )


def text(message: bytes) -> bytes:
    return HEADER + b"Content-Type: text/plain\r\n\r\n" + message.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("compression", ["none", "zip", "bzip2"])
@pytest.mark.parametrize("form", [text, lambda m: HEADER + multipart_encrypted(m)],
                         ids=["text", "multipart/encrypted"])  # fmt: skip
def test_a_message_that_is_signed_and_not_encrypted(
    form: object, compression: str, gnupg: GnuPG, opener: Opener
) -> None:
    """`gpg --sign`: the same armour as around an encrypted one, and nobody is a recipient."""
    for signer, word in ((ALICE, "valid"), (MALLORY, "mismatch")):
        message = gnupg("--armor", "--compress-algo", compression, "-u", signer, "-s", data=TEXT)
        with opener(form(message)) as opened:  # type: ignore[operator]
            assert (opened.security.encrypted, opened.security.status) == (False, "none")
            assert opened.security.signature == word, opened.security
            assert isinstance(opened.content, bytes)
            assert opened.content.endswith(TEXT)


def test_a_signed_message_of_somebody_unknown_or_damaged(gnupg: GnuPG, opener: Opener) -> None:
    message = gnupg("--armor", "-u", MALLORY, "-s", data=TEXT)
    opener.trust = TrustStore()
    with opener(text(message)) as opened:
        assert opened.security.signature == "untrusted"
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(TEXT)
    lines = message.split(b"\n")
    lines[3] = lines[3][::-1]
    with opener(text(b"\n".join(lines))) as opened:
        assert (opened.security.encrypted, opened.security.signature) == (False, "invalid")
    with opener(text(b"Hello,\n" + message)) as opened:
        assert (opened.security.encrypted, opened.security.signature) == (False, "untrusted")
        assert "other text" in opened.security.reason
        assert opened.content is None


@pytest.mark.parametrize(
    "options",
    [
        ("--compress-algo", "none"),
        ("--compress-algo", "zip"),
        ("--compress-algo", "zlib"),
        ("--throw-keyids",),
    ],
)
def test_a_long_message_that_nobody_signed_is_decrypted_once(
    options: tuple[str, ...], gnupg: GnuPG, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequoia would be asked for its signature first, and then for its content."""
    asked: list[bool] = []

    def counted(path: str, output: str, *how: object, **more: object) -> object:
        asked.append(True)
        return decrypt_file(path, output, *how, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(decrypting, "MOST_READ", 1000)
    monkeypatch.setattr(decrypting, "decrypt_file", counted)
    lines = ENTITY + b"".join(b"line %d\r\n" % number for number in range(2000))
    with opener(HEADER + multipart_encrypted(gnupg(*options, *TO_BOB, data=lines))) as opened:
        assert (opened.security.status, opened.security.signature) == ("decrypted", "none")
        assert opened.content == HEADER + lines
    assert len(asked) == 1


@pytest.mark.parametrize("compression", ["none", "zip"])
def test_a_long_message_that_somebody_signed_is_verified(
    compression: str, gnupg: GnuPG, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decrypting, "MOST_READ", 1000)
    lines = ENTITY + b"".join(b"line %d\r\n" % number for number in range(2000))
    for signer, words in ((ALICE, ("valid", "untrusted")), (MALLORY, ("mismatch", "untrusted"))):
        options = ("--compress-algo", compression, "-u", signer, "-s", *TO_BOB)
        with opener(HEADER + multipart_encrypted(gnupg(*options, data=lines))) as opened:
            assert opened.security.signature == words[compression == "zip"], opened.security
            assert opened.content == HEADER + lines


def test_what_is_no_message_is_not_for_somebody_else(opener: Opener) -> None:
    for part in (b"Version: 1\r\n", b"----- BEGIN PGP MESSAGE-----\r\n\r\naaaa\r\n"):
        with opener(HEADER + multipart_encrypted(part)) as opened:
            assert opened.security.encrypted
            assert opened.security.status == "failed"
            assert "no OpenPGP message" in opened.security.reason


@pytest.mark.promise("F3")
@pytest.mark.parametrize("order", [(ALICE, MALLORY), (MALLORY, ALICE)], ids=["first", "second"])
def test_the_author_may_be_any_of_several_signers(
    order: tuple[str, str], gnupg: GnuPG, opener: Opener
) -> None:
    by = ("-u", order[0], "-u", order[1])
    signature = gnupg("--armor", *by, "--detach-sign", data=ENTITY)
    detached = (
        b'Content-Type: multipart/signed; protocol="application/pgp-signature"; boundary=s\r\n\r\n'
        b"--s\r\n" + ENTITY + b"\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n"
        + signature + b"\r\n--s--\r\n"
    )  # fmt: skip
    mails = {
        "detached": HEADER + detached,
        "in the text": text(gnupg(*by, "--clearsign", data=b"Good morning\n")),
        "encrypted": HEADER + multipart_encrypted(gnupg(*TO_BOB, *by, "-s", data=ENTITY)),
        "changed": HEADER + detached.replace(b"aus K", b"aus k", 1),
    }
    for form, raw in mails.items():
        with opener(raw) as opened:
            assert opened.security.signature == ("invalid" if form == "changed" else "valid"), form
            assert form == "changed" or opened.security.signer == ALICE


def packet(kind: int, body: bytes) -> bytes:
    return bytes((0xC0 | kind, 0xFF)) + len(body).to_bytes(4) + body


@pytest.mark.parametrize("hidden", [True, False], ids=["hidden", "named"])
def test_the_operations_with_a_key_that_a_mail_asks_for_are_bounded(
    hidden: bool, gnupg: GnuPG, opener: Opener
) -> None:
    """Each copy of the session key that may be meant here is tried, and costs milliseconds."""
    made = gnupg("-e", *(("--throw-keyids",) if hidden else ()), "-r", BOB, data=ENTITY)
    (sealed,) = (body for kind, body in packets_of(made) if kind == 1)
    rest = made[made.index(sealed) + len(sealed) :]
    decoy = packet(1, sealed[:-8] + bytes(8))
    # Seven keys of RSA 4096 and ten hidden recipients ask for seventy.
    for count, status in (
        (20, "decrypted"), (70, "decrypted"), (100, "unsupported"), (2_000, "unsupported")
    ):  # fmt: skip
        message = decoy * count + packet(1, sealed) + rest
        raw = HEADER + multipart_encrypted(base64.encodebytes(message), b"base64")
        with opener(raw) as opened:
            assert opened.security.status == status, opened.security
            assert status == "decrypted" or "more recipients" in opened.security.reason
    other = packet(1, sealed[:1] + b"\x01" * 8 + sealed[9:])
    message = other * 2_000 + packet(1, sealed) + rest
    with opener(HEADER + multipart_encrypted(base64.encodebytes(message), b"base64")) as opened:
        assert opened.security.status == "decrypted", "those of others cost nothing"
    with opener(HEADER + multipart_encrypted(base64.encodebytes(other * 50_000 + rest), b"base64"),
                ) as opened:  # fmt: skip
        assert opened.security.status == "failed"
        assert "too many recipients" in opened.security.reason


def test_short_keys_are_tried_with_more_copies(gnupg: GnuPG, opener: Opener) -> None:
    """Seven RSA keys and ten hidden recipients were too many, whatever the length of the keys."""
    gnupg.key("rsa@example.org", "rsa2048")
    parsed = parse_certificate(gnupg.secret("rsa@example.org"))
    stored = ("rsa", parsed.kind, parsed.certificate, parsed.private_key)
    opener.identities = IdentityIndex.load([stored])
    made = gnupg("-e", "--throw-keyids", "-r", "rsa@example.org", data=ENTITY)
    ((_, sealed), *_) = packets_of(made)
    rest = made[made.index(sealed) + len(sealed) :]
    decoy = packet(1, sealed[:-8] + bytes(8))
    for count, status in ((100, "decrypted"), (1_000, "unsupported")):
        message = decoy * count + packet(1, sealed) + rest
        with opener(HEADER + multipart_encrypted(base64.encodebytes(message), b"base64")) as opened:
            assert opened.security.status == status, opened.security


@pytest.mark.parametrize("blank", [b" ", b"\t ", b""])
def test_the_empty_line_of_an_armour_may_hold_white_space(
    blank: bytes, gnupg: GnuPG, opener: Opener
) -> None:
    """RFC 9580 section 6.2; GnuPG reads it."""
    message = gnupg(*TO_BOB, data=TEXT).replace(b"-\n\n", b"-\nVersion: 1\n" + blank + b"\n", 1)
    assert gnupg("--decrypt", data=message) == TEXT
    with opener(text(message)) as opened:
        assert opened.security.status == "decrypted", opened.security


def test_octets_before_an_armour_are_no_packets(gnupg: GnuPG, opener: Opener) -> None:
    message = b"\xc2\xa0\n" + gnupg(*TO_BOB, data=ENTITY)
    with opener(HEADER + multipart_encrypted(message)) as opened:
        assert opened.security.status == "decrypted", opened.security


@pytest.mark.parametrize(
    ("armour", "mail", "expected"),
    [
        (b"", b"", b"windows-1252"),
        (b"Charset: ISO-8859-15\n", b"", b"ISO-8859-15"),
        (b"Comment: x\ncharset: iso-8859-2 \n", b"; charset=us-ascii", b"iso-8859-2"),
        (b"Charset: nonsense\n", b"", b"windows-1252"),
        (b"Charset: utf-8\n", b"; charset=iso-8859-7", b"iso-8859-7"),
    ],
)
def test_the_character_set_of_a_text_that_is_not_utf8(
    armour: bytes, mail: bytes, expected: bytes, gnupg: GnuPG, opener: Opener
) -> None:
    message = gnupg(*TO_BOB, data=LATIN).replace(b"-\n\n", b"-\n" + armour + b"\n", 1)
    raw = text(message).replace(b"text/plain", b"text/plain" + mail, 1)
    with opener(raw) as opened:
        assert isinstance(opened.content, bytes)
        assert opened.content.endswith(LATIN)
        assert b'charset="' + expected + b'"' in opened.content


def files(message: bytes, armoured: bytes) -> dict[str, bytes]:
    """An encrypted file as mail programs attach it."""
    encoded = b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(message)
    kind = b"Content-Type: application/octet-stream"
    said = b"\r\nContent-Disposition: attachment; filename="
    return {
        "armoured, named in the disposition": kind + said + b'"a.asc"\r\n\r\n' + armoured,
        "armoured, name*": kind + said[:-1] + b"*=utf-8''a.pdf.asc\r\n\r\n" + armoured,
        "binary": kind + b"; name=a.pdf.gpg" + encoded,
        "binary, named in the disposition": kind + said + b"a.PGP; size=4" + encoded,
        "binary, without an encoding": kind + said + b"a.gpg\r\n\r\n" + message,
    }


@pytest.mark.promise("F3")
@pytest.mark.parametrize("content", [ENTITY, b"%PDF-1.7\n\x00\x01\xff\n"], ids=["mail", "file"])
def test_an_encrypted_file_is_opened_alone_and_named_beside_others(
    content: bytes, gnupg: GnuPG, opener: Opener
) -> None:
    armoured = gnupg(*TO_BOB, data=content)
    message = gnupg("--dearmor", data=armoured)
    for name, part in files(message, armoured).items():
        for raw in (HEADER + part, HEADER + mixed(part), HEADER + mixed(EMPTY, part)):
            assert may_be_secured(entity(region(raw)), raw), name
            with opener(raw) as opened:
                assert opened.security.status == "decrypted", (name, opened.security)
                assert isinstance(opened.content, bytes)
                assert opened.content.endswith(content)
                assert (b"octet-stream" in opened.content) == (content is not ENTITY)
        raw = HEADER + mixed(FOOTER, part)
        assert may_be_secured(entity(region(raw)), raw), name
        with opener(raw) as opened:
            assert (opened.security.encrypted, opened.security.status) == (True, "unsupported")
            assert opened.content is None
    keys = gnupg("--armor", "--export", BOB)
    for part in files(gnupg("--dearmor", data=keys), keys).values():
        with opener(HEADER + mixed(FOOTER, part)) as opened:
            assert not opened.security.encrypted, "a key is no message"
