"""The mails that lie in the demo mailbox at first: one of each kind that real mailboxes hold.

All of them are made here, by code; `demo send` makes its mails with the same functions.
"""

from __future__ import annotations

import base64
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.serialization import pkcs7

from cli.demo.certificate import DemoCertificate, self_signed

_SMTP = policy.SMTP.clone(max_line_length=200)
_DOMAIN = "posthouse.example"


def compose(sender: str | Address, recipient: str, subject: str, text: str) -> EmailMessage:
    """A plain mail of now, with an id of its own."""
    mail = EmailMessage(policy=_SMTP)
    mail["From"] = sender
    mail["To"] = recipient
    mail["Subject"] = subject
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = make_msgid(domain=_DOMAIN)
    mail.set_content(text)
    return mail


def encrypted(mail: EmailMessage, certificate: DemoCertificate) -> bytes:
    """The mail as S/MIME enveloped-data (RFC 8551) for the demo mailbox, AES-256-CBC."""
    return encrypted_octets(mail.as_bytes(), certificate)


def encrypted_octets(octets: bytes, certificate: DemoCertificate) -> bytes:
    """The same of a mail whose line ends are CRLF."""
    outer, entity = _split(octets)
    envelope = (
        pkcs7.PKCS7EnvelopeBuilder()
        .set_data(entity)
        .set_content_encryption_algorithm(algorithms.AES256)
        .add_recipient(certificate.certificate)
        .encrypt(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
    )
    kind = 'application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"'
    return outer + _part(kind, envelope, "smime.p7m")


def signed(mail: EmailMessage, name: str, address: str) -> EmailMessage:
    """The mail with a detached signature (RFC 1847) of a sender whom nobody vouches for."""
    certificate, key = self_signed(name, address)
    outer, entity = _split(mail.as_bytes())
    signature = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(entity)
        .add_signer(certificate, key, hashes.SHA256())
        .sign(
            serialization.Encoding.DER,
            [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary],
        )
    )
    boundary = f"signed-{random.getrandbits(64):016x}"
    kind = (
        'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; '
        f'micalg=sha-256; boundary="{boundary}"\r\n\r\n'
    )
    line = f"--{boundary}".encode()
    parts = [
        *(outer, kind.encode(), line, b"\r\n", entity, b"\r\n", line, b"\r\n"),
        _part('application/pkcs7-signature; name="smime.p7s"', signature, "smime.p7s"),
        *(b"\r\n", line, b"--\r\n"),
    ]
    return _Verbatim(b"".join(parts))


class _Verbatim(EmailMessage):
    """Octets that must not be written anew: a signature covers them."""

    def __init__(self, octets: bytes) -> None:
        super().__init__(policy=_SMTP)
        self._octets = octets

    def as_bytes(self, unixfrom: bool = False, policy: object = None) -> bytes:
        return self._octets


def samples(certificate: DemoCertificate, *, recipient: str) -> Iterator[bytes]:
    """The sample mails, ready for the mailbox."""
    for mail in _mails(recipient):
        yield mail if isinstance(mail, bytes) else mail.as_bytes()
    secret = compose(
        Address("Payroll", "payroll", _DOMAIN),
        recipient,
        "Payslip (encrypted)",
        "Only the holder of the attached certificate's key can read this.\n",
    )
    secret.add_attachment(
        "employee;month;net\n4711;2026-10;2,718.28\n", subtype="csv", filename="payslip.csv"
    )
    yield encrypted(secret, certificate)
    contract = compose(
        Address("Legal", "legal", _DOMAIN), recipient, "Contract draft (signed)", "Please review.\n"
    )
    yield signed(contract, "Legal", f"legal@{_DOMAIN}").as_bytes()
    board = compose(
        Address("Board", "board", _DOMAIN),
        recipient,
        "Minutes (signed, then encrypted)",
        "First signed by the board, then encrypted for you.\n",
    )
    yield encrypted(signed(board, "Board", f"board@{_DOMAIN}"), certificate)


def _mails(recipient: str) -> Iterator[EmailMessage | bytes]:
    yield compose(
        f"alice@{_DOMAIN}", recipient, "Welcome to Posthouse", "A plain mail, nothing special.\n"
    )

    umlauts = Address("Jürgen Groß", "juergen", _DOMAIN)
    yield compose(
        umlauts,
        recipient,
        "Grüße aus Köln: Rückfrage zur Bestellung",
        "Schöne Grüße, bis übermorgen!\n",
    )

    latin = compose(f"vertrieb@{_DOMAIN}", recipient, "x", "x")
    latin.replace_header("Subject", "Angebot")
    latin.set_content("Preis: 100 £, gültig bis März.\n", charset="iso-8859-1", cte="8bit")
    yield latin.as_bytes().replace(
        b"Subject: Angebot\r\n", b"Subject: =?iso-8859-1?Q?Angebot_f=FCr_M=FCller?=\r\n"
    )

    page = compose(
        f"news@{_DOMAIN}", recipient, "Newsletter", "The plain form of the newsletter.\n"
    )
    page.add_alternative("<h1>Newsletter</h1><p>With <b>HTML</b>.</p>", subtype="html")
    page["List-Unsubscribe"] = f"<https://news.{_DOMAIN}/unsubscribe>"
    yield page

    picture = compose(f"shop@{_DOMAIN}", recipient, "Your receipt, with a logo", "See the logo.\n")
    identifier = make_msgid(domain=_DOMAIN)
    picture.add_alternative(f'<img src="cid:{identifier[1:-1]}"> Thank you!', subtype="html")
    picture.get_payload()[1].add_related(_png(), "image", "png", cid=identifier)  # type: ignore[union-attr, index]
    yield picture

    invoice = compose(umlauts, recipient, "Rechnung 2026-0815", "Die Rechnung liegt bei.\n")
    invoice.add_attachment(
        _pdf(), maintype="application", subtype="pdf", filename="Rechnung für Müller.pdf"
    )
    yield invoice

    several = compose(f"reports@{_DOMAIN}", recipient, "Weekly figures", "Three files.\n")
    several.add_attachment("day;sold\nMon;12\nTue;9\n", subtype="csv", filename="figures.csv")
    several.add_attachment(_zip(), maintype="application", subtype="zip", filename="figures.zip")
    several.add_attachment(_png(), maintype="image", subtype="png", filename="chart.png")
    yield several

    large = compose(f"scanner@{_DOMAIN}", recipient, "Scan of 40 pages", "A larger attachment.\n")
    noise = random.Random(40).randbytes(3_000_000)  # noqa: S311 (incompressible, always the same)
    large.add_attachment(noise, maintype="image", subtype="tiff", filename="scan.tiff")
    yield large

    invitation = compose(
        f"calendar@{_DOMAIN}", recipient, "Invitation: stand-up", "Monday, 9:00.\n"
    )
    invitation.add_alternative(_calendar(), subtype="calendar", params={"method": "REQUEST"})
    yield invitation

    answer = compose(
        f"bob@{_DOMAIN}",
        recipient,
        "Re: [ticket #4711] " + "a subject that is so long that it has to be folded " * 3 + "📬",
        "> Did the parcel arrive?\n\nYes, thank you! 🎉\n",
    )
    answer["In-Reply-To"] = make_msgid(domain=_DOMAIN)
    answer["References"] = " ".join(make_msgid(domain=_DOMAIN) for _ in range(12))
    yield answer

    japanese = compose(Address("山田", "yamada", _DOMAIN), recipient, "お問い合わせ", "x")
    japanese.set_content("製品についてお尋ねします。\n", charset="iso-2022-jp")
    yield japanese

    bounce = compose(
        f"mailer-daemon@{_DOMAIN}", recipient, "Undelivered mail returned", "It could not go out.\n"
    )
    bounce["Auto-Submitted"] = "auto-replied"
    original = compose(recipient, f"nobody@{_DOMAIN}", "Are you there?", "Hello?\n")
    bounce.add_attachment(original)
    yield bounce

    yield b"To: " + recipient.encode() + b"\r\n\r\nNo subject, no sender, no date, no id.\r\n"


def _split(octets: bytes) -> tuple[bytes, bytes]:
    """The headers that stay outside, and the MIME entity with its own (RFC 8551 section 3.1)."""
    head, _, body = octets.partition(b"\r\n\r\n")
    outer, inner, current = bytearray(), bytearray(), bytearray()
    target = outer
    for line in head.split(b"\r\n"):
        if not line.startswith((b" ", b"\t")):
            target += current
            current = bytearray()
            target = inner if line.lower().startswith(b"content-") else outer
        current += line + b"\r\n"
    target += current
    if b"mime-version:" not in outer.lower():
        outer += b"MIME-Version: 1.0\r\n"
    return bytes(outer), bytes(inner) + b"\r\n" + body


def _part(kind: str, content: bytes, name: str) -> bytes:
    head = (
        f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'
    )
    return head.encode() + base64.encodebytes(content).replace(b"\n", b"\r\n")


def _png() -> bytes:
    """A small red square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    rows = (b"\0" + b"\xd0\x21\x2e" * 16) * 16
    header = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    pieces = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + pieces


def _pdf() -> bytes:
    """An empty page."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>",
    ]
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj%bendobj\n" % (number, content)
    table = len(out)
    out += b"xref\n0 4\n0000000000 65535 f \n"
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % table
    return bytes(out)


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("figures.csv", "day;sold\nMon;12\n")
    return out.getvalue()


def _calendar() -> str:
    return "\n".join(
        (
            "BEGIN:VCALENDAR",
            "VERSION:2.0",
            "PRODID:-//Posthouse//demo//EN",
            "METHOD:REQUEST",
            "BEGIN:VEVENT",
            f"UID:stand-up@{_DOMAIN}",
            "DTSTAMP:20261101T080000Z",
            "DTSTART:20261102T090000Z",
            "DTEND:20261102T091500Z",
            "SUMMARY:Stand-up",
            "END:VEVENT",
            "END:VCALENDAR",
            "",
        )
    )
