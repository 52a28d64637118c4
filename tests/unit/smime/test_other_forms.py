"""Forms in which encrypted content is sent, by hand, by old programs and by servers that change it:
opened where the mail is nothing else, named where it is not. OpenSSL and GnuPG made each of them.
"""

from __future__ import annotations

import base64
import codecs
import quopri
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.decryptor.opening import may_be_secured
from services.decryptor.openpgp.recognising import is_file
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex, parse_certificate
from shared.mail.region import region
from shared.mail.structure import entity
from tests.unit.smime.gnupg import GnuPG
from tests.unit.smime.mails import (
    ENTITY,
    HEADER,
    TEXT,
    Opener,
    encrypt,
    mail,
    openssl,
    pkcs7_entity,
    sign,
)
from tests.unit.smime.pki import Holder, Pki, index
from tests.unit.smime.test_found import FOOTER, mixed
from tests.unit.smime.test_openpgp import multipart_encrypted

pytestmark = pytest.mark.promise("F3")

BOB = "bob@example.org"
TEXT_PART = b"Content-Type: text/plain\r\n\r\n"
HTML_PART = b"Content-Type: text/html\r\n\r\n"


class Forms:
    """What the commands wrote, for the keys of the opener."""

    def __init__(self, gnupg: GnuPG, holder: Holder, alice: Holder) -> None:
        self.der = encrypt("-aes-256-cbc", holder.cert)
        self.gcm = encrypt("-aes-256-gcm", holder.cert)
        self.pem = openssl(
            "cms", "-encrypt", "-binary", "-outform", "PEM", "-aes-256-cbc", holder.cert,
            data=ENTITY,
        )  # fmt: skip
        self.pkcs7 = openssl(
            "smime", "-encrypt", "-binary", "-outform", "PEM", "-aes-256-cbc", holder.cert,
            data=ENTITY,
        )  # fmt: skip
        assert self.pem.startswith(b"-----BEGIN CMS-----")
        assert self.pkcs7.startswith(b"-----BEGIN PKCS7-----")
        self.signed = lines("CMS", sign(alice.cert, alice.key))
        self.armour = gnupg("--armor", "-e", "-r", BOB, data=ENTITY)
        self.binary = gnupg("-e", "-r", BOB, data=ENTITY)
        self.password = gnupg("-c", data=ENTITY)
        self.clearsigned = gnupg("--clearsign", data=b"Hello\n")
        self.key = gnupg("--armor", "--export", BOB)
        self.plain_packets = gnupg("--store", data=ENTITY)


def lines(label: str, der: bytes) -> bytes:
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (
        label.encode(), base64.encodebytes(der), label.encode()
    )  # fmt: skip


@pytest.fixture(scope="module")
def gnupg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GnuPG]:
    gnupg = GnuPG(tmp_path_factory.mktemp("gnupg"), "secret")
    gnupg.key(BOB, "cv25519")
    yield gnupg
    gnupg.close()


@pytest.fixture(scope="module")
def forms(gnupg: GnuPG, holders: dict[str, Holder]) -> Forms:
    return Forms(gnupg, holders["rsa"], holders["alice"])


@pytest.fixture
def openers(
    gnupg: GnuPG, holders: dict[str, Holder], pki: Pki, tmp_path: Path
) -> dict[str, Opener]:
    """By the format whose keys are there."""
    parsed = parse_certificate(gnupg.secret(BOB), "secret")
    stored = ("bob", parsed.kind, parsed.certificate, parsed.private_key)
    return {
        "smime": Opener(index(holders["rsa"]), pki.trust, tmp_path),
        "openpgp": Opener(IdentityIndex.load([stored]), TrustStore(), tmp_path),
    }


def part(media_type: str, body: bytes, encoding: str = "7bit") -> bytes:
    """An entity with that body."""
    if encoding == "base64":
        body = base64.encodebytes(body)
    elif encoding == "quoted-printable":
        body = quopri.encodestring(body)
    header = f"Content-Type: {media_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return header.encode() + body


def in_html(armour: bytes, how: str) -> bytes:
    """An armour as an editor, or a program in a browser, puts it into HTML."""
    every = armour.strip().split(b"\n")
    broken = b"<br>".join(every)
    return {
        "br": b"<p>" + b"<br>\r\n".join(every) + b"</p>",
        "br without line ends": b"<br/>".join(every),
        "no-break spaces": broken.replace(b" ", b"&nbsp;"),
        "numbers": broken.replace(b" ", b"&#160;").replace(b"-", b"&#45;"),
        "UTF-8": broken.replace(b" ", "\N{NO-BREAK SPACE}".encode()),
        "div": b"".join(b"<div>%b</div>" % (one or b"<br>") for one in every),
        "span": b"".join(b'<p class="x"><span>%b</span></p>\r\n' % one for one in every),
        "pre": b"<pre>" + armour.replace(b" ", b"&nbsp;") + b"</pre>",
        "a tag within": broken.replace(b"BEGIN ", b"BEGIN <b>", 1),
        "an answer": b"<blockquote>" + b"<br>".join(b"&gt; " + one for one in every),
    }[how]


IN_HTML = (
    "br", "br without line ends", "no-break spaces", "numbers", "UTF-8", "div", "span", "pre",
    "a tag within", "an answer",
)  # fmt: skip


OPENED: dict[str, tuple[str, Callable[[Forms], bytes]]] = {
    "PEM in a text": ("smime", lambda f: TEXT_PART + f.pem),
    "PEM of RFC 7468's older label": ("smime", lambda f: TEXT_PART + b"\r\n" + f.pkcs7 + b"\r\n"),
    "PEM with AES-GCM": ("smime", lambda f: TEXT_PART + lines("CMS", f.gcm)),
    "PEM in a text in base64": ("smime", lambda f: part("text/plain", f.pem, "base64")),
    "PEM in quoted-printable": ("smime", lambda f: part("text/plain", f.pem, "quoted-printable")),
    "PEM as octets": ("smime", lambda f: part("application/octet-stream", f.pem)),
    "PEM as a named file": ("smime", lambda f: part(
        "application/octet-stream; name=mail.pem", f.pem, "base64")),
    "PEM by its type": ("smime", lambda f: part("application/x-pem-file; name=m.pem", f.pem)),
    "PEM in a multipart of one part": ("smime", lambda f: mixed(TEXT_PART + f.pem)),
    "packets without a name": ("openpgp", lambda f: part(
        "application/octet-stream", f.binary, "base64")),
    "an armour without a name": ("openpgp", lambda f: part(
        "application/octet-stream", f.armour, "base64")),
    "an armour without a name, as it is": ("openpgp", lambda f: part(
        "application/octet-stream", f.armour)),
    "an armour behind a mark of UTF-8": ("openpgp", lambda f: part(
        "text/plain; charset=utf-8", codecs.BOM_UTF8 + f.armour, "base64")),
    "packets of a named type": ("openpgp", lambda f: part(
        "application/pgp; x-action=encrypt", f.binary, "base64")),
    "application/pgp": ("openpgp", lambda f: part(
        "application/pgp; format=text; x-action=encrypt", f.armour)),
    "application/x-pgp": ("openpgp", lambda f: part("application/x-pgp", f.armour)),
    "application/x-pgp-message": ("openpgp", lambda f: part(
        "application/x-pgp-message", f.armour, "base64")),
    "application/x-pgp, binary": ("openpgp", lambda f: part(
        "application/x-pgp", f.binary, "base64")),
    "traditional": ("openpgp", lambda f: part(
        "text/plain; x-action=pgp-encrypted", f.armour)),
    "UTF-16 with its mark": ("openpgp", lambda f: part(
        "text/plain; charset=utf-16", f.armour.decode().encode("utf-16"), "base64")),
    "UTF-16, big end first": ("openpgp", lambda f: part(
        "text/plain; charset=UTF-16BE", f.armour.decode().encode("utf-16-be"), "base64")),
    "UTF-16 that does not say which": ("openpgp", lambda f: part(
        "text/plain; charset=utf-16", f.armour.decode().encode("utf-16-le"), "base64")),
    "UTF-16 as it is": ("openpgp", lambda f: part(
        "text/plain; charset=utf-16le", f.armour.decode().encode("utf-16-le"), "binary")),
    "PEM in UTF-16": ("smime", lambda f: part(
        "text/plain; charset=utf-16", f.pem.decode().encode("utf-16"), "base64")),
    "PEM in UTF-16, big end first": ("smime", lambda f: part(
        "text/plain; charset=utf-16be", f.pkcs7.decode().encode("utf-16-be"), "binary")),
    "PEM in UCS-2, in a multipart": ("smime", lambda f: mixed(part(
        "text/plain; charset=ucs-2", f.pem.decode().encode("utf-16-le"), "base64"))),
    "octets under another name": ("smime", lambda f: part(
        "application/octet-stream; name=mail.dat", f.der, "base64")),
}  # fmt: skip


@pytest.mark.parametrize("name", OPENED)
def test_a_mail_that_is_one_encrypted_message_is_opened(
    name: str, forms: Forms, openers: dict[str, Opener]
) -> None:
    format, made = OPENED[name]
    raw = HEADER + made(forms)
    assert may_be_secured(entity(region(raw)), raw)
    with openers[format](raw) as opened:
        assert opened.security.status == "decrypted", opened.security.reason
        assert [one.format for one in opened.security.layers] == [format]
        assert isinstance(opened.content, bytes)
        assert opened.content.startswith(HEADER)
        assert opened.content.endswith(TEXT)
        assert b"utf-16" not in opened.content.lower(), "that is what the armour was written in"


def outside(text: bytes, where: str) -> bytes:
    """A multipart of a footer alone, with a text before its first part or behind its last one."""
    before, behind = (text, b"") if where == "preamble" else (b"", text)
    return (
        b"Content-Type: multipart/mixed; boundary=m\r\n\r\n" + before + b"\r\n--m\r\n" + FOOTER
        + b"\r\n--m--\r\n" + behind
    )  # fmt: skip


NAMED: dict[str, tuple[str, Callable[[Forms], bytes]]] = {
    "PEM below a greeting": ("smime", lambda f: TEXT_PART + b"Hello,\r\n" + f.pem),
    "PEM above a footer": ("smime", lambda f: TEXT_PART + f.pem + b"-- \r\na list\r\n"),
    "PEM below a greeting, in base64": (
        "smime", lambda f: part("text/plain", b"Hello,\r\n" + f.pem, "base64")),
    "PEM beside": ("smime", lambda f: mixed(TEXT_PART + f.pem, FOOTER)),
    "PEM beside, in base64": ("smime", lambda f: mixed(
        part("text/plain", f.pem, "base64"), FOOTER)),
    "a file of PEM beside": ("smime", lambda f: mixed(
        FOOTER, part("application/octet-stream; name=mail.txt", f.pkcs7))),
    "a file of PEM beside, in base64": ("smime", lambda f: mixed(
        FOOTER, part("application/x-pem-file; name=m.pem", f.pem, "base64"))),
    "PEM in HTML": ("smime", lambda f: HTML_PART + in_html(f.pem, "br")),
    "PEM in HTML beside": ("smime", lambda f: mixed(
        FOOTER, HTML_PART + in_html(f.pem, "no-break spaces"))),
    "octets beside": ("smime", lambda f: mixed(
        FOOTER, part("application/octet-stream", f.der, "base64"))),
    "octets beside, GCM": ("smime", lambda f: mixed(
        FOOTER, part("application/octet-stream", f.gcm, "binary"))),
    "octets in a deep multipart": ("smime", lambda f: mixed(
        FOOTER, mixed(FOOTER, part("application/octet-stream", f.der, "base64"), boundary=b"n"))),
    "packets beside": ("openpgp", lambda f: mixed(
        FOOTER, part("application/octet-stream", f.binary, "base64"))),
    "packets beside, as they are": ("openpgp", lambda f: mixed(
        part("application/octet-stream", f.binary, "binary"), FOOTER)),
    "packets for a password": ("openpgp", lambda f: mixed(
        FOOTER, part("application/octet-stream", f.password, "base64"))),
    "packets of a named type": ("openpgp", lambda f: mixed(
        FOOTER, part("application/x-pgp", f.binary, "base64"))),
    "UTF-16 beside": ("openpgp", lambda f: mixed(part(
        "text/plain; charset=utf-16", f.armour.decode().encode("utf-16"), "base64"), FOOTER)),
    "UTF-16 below a greeting": ("openpgp", lambda f: part(
        "text/plain; charset=utf-16", ("Grüße\n" + f.armour.decode()).encode("utf-16"),
        "base64")),
    "PEM in UTF-16 beside": ("smime", lambda f: mixed(part(
        "text/plain; charset=utf-16", f.pem.decode().encode("utf-16"), "base64"), FOOTER)),
    "PEM in UTF-16 below a greeting": ("smime", lambda f: part(
        "text/plain; charset=utf-16", ("Grüße\n" + f.pem.decode()).encode("utf-16"), "base64")),
    "PEM in UTF-16 in HTML": ("smime", lambda f: part(
        "text/html; charset=utf-16le", in_html(f.pem, "br").decode().encode("utf-16-le"),
        "binary")),
    "octets under another name beside": ("smime", lambda f: mixed(
        FOOTER, part("application/octet-stream; name=mail.dat", f.gcm, "base64"))),
    "UTF-16 in HTML": ("openpgp", lambda f: part(
        "text/html; charset=utf-16", in_html(f.armour, "br").decode().encode("utf-16"), "base64")),
    "before the first part": ("openpgp", lambda f: outside(f.armour, "preamble")),
    "behind the last part": ("openpgp", lambda f: outside(f.armour, "epilogue")),
    "PEM before the first part": ("smime", lambda f: outside(f.pem, "preamble")),
    "PEM behind the last part": ("smime", lambda f: outside(f.pkcs7, "epilogue")),
    "a multipart without its boundary": ("openpgp", lambda f: (
        b"Content-Type: multipart/mixed; boundary=none\r\n\r\n" + f.armour)),
    "a mail in base64": ("smime", lambda f: part("message/rfc822", mail(f.der), "base64")),
    "a mail in base64, PGP/MIME": ("openpgp", lambda f: part(
        "message/rfc822", HEADER + multipart_encrypted(f.armour), "base64")),
    "a mail in base64 beside": ("smime", lambda f: mixed(
        FOOTER, part("message/rfc822", mail(f.der), "base64"))),
    "a mail in quoted-printable": ("openpgp", lambda f: part(
        "message/global", HEADER + TEXT_PART + f.armour, "quoted-printable")),
    "a mail of which every octet is quoted": ("smime", lambda f: (
        b"Content-Transfer-Encoding: quoted-printable\r\nContent-Type: message/rfc822\r\n\r\n"
        + b"".join(b"=%02X" % octet + b"=\r\n" * (at % 20 == 19)
                   for at, octet in enumerate(mail(f.der))))),
    "HTML in base64 behind many hyphens": ("openpgp", lambda f: mixed(
        part("text/html", b"-" * 3_000 + b"<br>" + in_html(f.armour, "br"), "base64"), FOOTER)),
    "a mail in base64 in one": ("smime", lambda f: part("message/rfc822", HEADER + part(
        "message/rfc822", HEADER + mixed(FOOTER, pkcs7_entity(f.der)), "base64"), "base64")),
    "a quoted message": ("openpgp", lambda f: TEXT_PART + b"".join(
        b"> " + line + b"\r\n" for line in f.armour.split(b"\n")) + b"I cannot read this.\r\n"),
    "one that cannot be decoded": ("openpgp", lambda f: TEXT_PART + b"Hello,\r\n"
        + f.armour[:70] + b"A" + f.armour[75:]),
    "HTML in base64": ("openpgp", lambda f: part(
        "text/html", in_html(f.armour, "no-break spaces"), "base64")),
    "HTML in quoted-printable": ("openpgp", lambda f: part(
        "text/html", in_html(f.armour, "no-break spaces"), "quoted-printable")),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_what_is_encrypted_among_other_things_is_named(
    name: str, forms: Forms, openers: dict[str, Opener]
) -> None:
    format, made = NAMED[name]
    named(HEADER + made(forms), format, openers)


@pytest.mark.parametrize("how", IN_HTML)
def test_an_armour_with_markup_is_named(how: str, forms: Forms, openers: dict[str, Opener]) -> None:
    text = in_html(forms.armour, how)
    named(HEADER + HTML_PART + text, "openpgp", openers)
    named(HEADER + mixed(FOOTER, HTML_PART + text), "openpgp", openers)
    if how != "numbers":  # these hide the hyphens that are looked for in base64
        named(HEADER + mixed(part("text/html", text, "base64"), FOOTER), "openpgp", openers)


def named(raw: bytes, format: str, openers: dict[str, Opener]) -> None:
    assert may_be_secured(entity(region(raw.partition(b"\r\n\r\n")[0])), raw)
    for opener in openers.values():
        with opener(raw) as opened:
            assert opened.security.encrypted
            assert opened.security.status == "unsupported"
            assert opened.security.reason
            assert opened.content is None, "it is never merged with what lies beside it"
            assert [one.format for one in opened.security.layers] == [format]


ARMOURED = b"-----BEGIN PGP MESSAGE-----"
NOTHING: dict[str, Callable[[Forms], bytes]] = {
    "a first line in a sentence": lambda f: TEXT_PART + b"It begins with " + ARMOURED
    + b", then lines of base64 follow, and -----END PGP MESSAGE-----\r\n",
    "a first line, then a sentence": lambda f: TEXT_PART + b"Like this:\r\n" + ARMOURED
    + b"\r\nVersion: GnuPG v2\r\n\r\nhQEM...\r\n-----END PGP MESSAGE-----\r\n",
    "a quoted fragment": lambda f: TEXT_PART + b"> " + ARMOURED + b"\r\n> [...]\r\nWhat?\r\n",
    "a first line in HTML": lambda f: HTML_PART + b"<code>" + ARMOURED + b"</code> is the first"
    b" line, and <code>-----END PGP MESSAGE-----</code> the last one.",
    "a first line of CMS": lambda f: TEXT_PART + b"It begins with\r\n-----BEGIN CMS-----\r\nand "
    b"MIIB, as OpenSSL writes it.\r\n",
    "a first line beside": lambda f: mixed(TEXT_PART + ARMOURED + b" is the first line", FOOTER),
    "the example of RFC 4880": lambda f: TEXT_PART + b"6.6. Example:\r\n\r\n" + ARMOURED
    + b"\r\nVersion: OpenPrivacy 0.99\r\n\r\nyDgBO22WxBHv7O8X7O/jygAEzol56iUKiXmV+XmpCtmpqQUKiQrF"
    b"qclFqUDBovzS\r\nvBSFjiSiVHsuAA==\r\n=njUN\r\n-----END PGP MESSAGE-----\r\n",
    "a key": lambda f: TEXT_PART + f.key,
    "a key in HTML": lambda f: HTML_PART + in_html(f.key, "no-break spaces"),
    "a key beside": lambda f: mixed(FOOTER, part("application/pgp-keys; name=k.asc", f.key)),
    "a key without its name": lambda f: mixed(
        FOOTER, part("application/octet-stream", base64.b64decode(b"".join(
            f.key.split(b"\n\n")[1].split(b"\n=")[0].split())), "base64")),
    "a signed text": lambda f: TEXT_PART + f.clearsigned,
    "a signed text beside": lambda f: mixed(TEXT_PART + f.clearsigned, FOOTER),
    "PEM of a signature": lambda f: TEXT_PART + f.signed,
    "PEM of a signature beside": lambda f: mixed(
        FOOTER, part("application/x-pem-file; name=m.pem", f.signed)),
    "PEM of a certificate": lambda f: TEXT_PART + lines("CERTIFICATE", f.der),
    "octets": lambda f: mixed(
        FOOTER, part("application/octet-stream", bytes(range(256)), "base64")),
    "certificates under another name": lambda f: mixed(
        FOOTER, part("application/octet-stream; name=chain.p7b", base64.b64decode(
            f.signed.split(b"-----")[2]), "base64")),
    "octets that begin like CMS": lambda f: mixed(
        FOOTER, part("application/octet-stream", b"0\x82\x01\x00" + bytes(256), "base64")),
    "octets that begin like OpenPGP": lambda f: mixed(
        FOOTER, part("application/octet-stream", f.binary[:3] + bytes(400), "base64")),
    "packets that are not encrypted": lambda f: mixed(
        FOOTER, part("application/octet-stream", f.plain_packets, "base64")),
    "a forwarded mail in base64": lambda f: part(
        "message/rfc822", HEADER + TEXT_PART + b"pgp and .p7m\r\n", "base64"),
    "a text in UTF-16": lambda f: part(
        "text/plain; charset=utf-16", "Grüße, BEGIN PGP\r\n".encode("utf-16"), "base64"),
    "words outside of the parts": lambda f: outside(ARMOURED + b" is a first line", "epilogue"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_who_writes_about_it_has_encrypted_nothing(
    name: str, forms: Forms, openers: dict[str, Opener]
) -> None:
    for opener in openers.values():
        with opener(HEADER + NOTHING[name](forms)) as opened:
            assert not opened.security.encrypted, opened.security
            assert opened.security.status == "none"
            assert "PEM" not in name or opened.security.signature == "none"


def test_random_octets_without_a_name_are_no_message() -> None:
    """However often: what tells a message is far longer than what occurs by chance."""
    chance = random.Random(1)
    for _ in range(20_000):
        octets = chance.choice(b"\x84\x85\x8c\xc1\xc3").to_bytes() + chance.randbytes(200)
        assert not is_file(entity(region(part("application/octet-stream", octets, "binary"))))
