"""Signed mails, honest and forged, out of a grammar: for whom says a mail what?

`Forger.mail(random)` makes one. What nobody signed has the word EVIL in it; the author who signs
is `boss` or `mallory`, both with certificates of one trusted authority and with known OpenPGP keys.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pysequoia import SignatureMode, Tsk, encrypt
from pysequoia import sign as pgp_sign

from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex, parse_certificate
from tests.rig import odd_fragments

BOSS, MALLORY = "boss@corp.example", "mallory@evil.example"
EVIL = b"EVIL: pay to Mallory"

_Private = ec.EllipticCurvePrivateKey


class Signer(NamedTuple):
    address: str
    key: _Private
    certificate: x509.Certificate
    openpgp: Tsk


class Forger:
    """Makes mails; `trust` and `identities` are what they are opened with."""

    def __init__(self) -> None:
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        root = self._issued("Authority", self._root_key, None)
        self.signers = {address: self._signer(address, root) for address in (BOSS, MALLORY)}
        keys = [one.openpgp.extract_certificate() for one in self.signers.values()]
        self.trust = TrustStore([root], keys)
        self._receiver = Tsk.generate("Tickets <tickets@corp.example>")
        parsed = parse_certificate(str(self._receiver).encode())
        self.identities = IdentityIndex.load(
            [("tickets", parsed.kind, parsed.certificate, parsed.private_key)]
        )

    def _signer(self, address: str, root: x509.Certificate) -> Signer:
        key = ec.generate_private_key(ec.SECP256R1())
        return Signer(
            address, key, self._issued(address, key, root), Tsk.generate(f"Somebody <{address}>")
        )

    def _issued(self, name: str, key: _Private, root: x509.Certificate | None) -> x509.Certificate:
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root.subject if root else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=300))
            .add_extension(x509.BasicConstraints(root is None, None), True)
        )
        if root is not None:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.RFC822Name(name)]), False
            ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        return builder.sign(self._root_key, hashes.SHA256())

    # What is signed ---------------------------------------------------------------------------

    def smime(self, who: str, content: bytes, *, opaque: bool = False) -> bytes:
        """SignedData in DER."""
        signer = self.signers[who]
        options = [pkcs7.PKCS7Options.Binary]
        if not opaque:
            options.append(pkcs7.PKCS7Options.DetachedSignature)
        return (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(content)
            .add_signer(signer.certificate, signer.key, hashes.SHA256())
            .sign(serialization.Encoding.DER, options)
        )

    def openpgp(self, who: str, content: bytes, mode: SignatureMode) -> bytes:
        """A detached signature, or a text between signature lines, which all end with LF."""
        if mode == SignatureMode.CLEAR:
            # The library signs other line ends than it writes where CRLF is given.
            content = content.replace(b"\r\n", b"\n")
        return pgp_sign(self.signers[who].openpgp.signer(), content, mode=mode)

    def signature_part(self, who: str, content: bytes, *, openpgp: bool = False) -> bytes:
        """The second part of a multipart/signed around `content`."""
        if openpgp:
            made = self.openpgp(who, content, SignatureMode.DETACHED).replace(b"\n", b"\r\n")
            return b"Content-Type: application/pgp-signature; name=signature.asc\r\n\r\n" + made
        return (
            b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n" + _base64(self.smime(who, content))
        )

    def opaque(self, who: str, content: bytes) -> bytes:
        """An entity with an opaque signature."""
        return (
            b"Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n"
            + _base64(self.smime(who, content, opaque=True))
        )

    def multipart(self, who: str, content: bytes, *, openpgp: bool = False) -> bytes:
        """An honest multipart/signed."""
        return (
            b'Content-Type: multipart/signed; micalg=sha-256; boundary="BB"\r\n\r\n--BB\r\n'
            + content
            + b"\r\n--BB\r\n"
            + self.signature_part(who, content, openpgp=openpgp)
            + b"\r\n--BB--\r\n"
        )

    def encrypted(self, content: bytes, who: str | None = None) -> bytes:
        """A multipart/encrypted, with a signature inside where `who` is given."""
        signer = self.signers[who].openpgp.signer() if who else None
        message = encrypt(content, [self._receiver.extract_certificate()], signer=signer)
        return (
            b"Content-Type: multipart/encrypted; boundary=E\r\n\r\n--E\r\n"
            b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--E\r\n"
            b"Content-Type: application/octet-stream\r\n\r\n"
            + message.replace(b"\n", b"\r\n")
            + b"\r\n--E--\r\n"
        )

    # Mails ------------------------------------------------------------------------------------

    def mail(self, random: Random) -> bytes:
        """One mail: in a third of the cases nothing about it is odd."""
        who = random.choice((BOSS, MALLORY))
        odd = random.randrange(3)
        content = _entity(random, odd=odd == 2)
        author = random.choice(_AUTHORS if odd else _HONEST).replace(b"ME", who.encode())
        if random.randrange(4) == 0:
            content = random.choice(_INSIDE).replace(b"ME", who.encode()) + content
        shape = random.randrange(6)
        if shape == 0:
            body = self.opaque(who, content)
        elif shape == 1:
            text = self.openpgp(who, _TEXT, SignatureMode.CLEAR).replace(b"\n", b"\r\n")
            body = random.choice(_TEXT_HEADERS) + b"\r\n" + text
            if odd:
                body = random.choice(_AROUND).replace(b"THIS", body.rstrip())
        elif shape == 2:
            body = self.encrypted(content, who)
        elif shape == 3:
            body = self.encrypted(self.multipart(who, content))
        elif odd:
            body = self._odd_multipart(random, who, content)
        else:
            body = self.multipart(who, content, openpgp=shape == 4)
        header = (
            b"From: " + author + b"\r\nTo: tickets@corp.example\r\nSubject: Invoice 4711\r\n"
            b"Date: Sat, 28 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        )
        if odd and random.randrange(5) == 0:
            body = odd_fragments.commented(random, body)
        mail = header + body
        if odd == 2 and random.randrange(2):
            mail = self._mutated(random, mail)
        if odd and random.randrange(6) == 0:
            mail = mail.replace(b"\r\n", b"\n")
        return mail

    def _odd_multipart(self, random: Random, who: str, content: bytes) -> bytes:
        parameters = random.choice(_BOUNDARIES)
        if random.randrange(4) == 0:
            parameters += random.choice(_MORE_TYPES)
        return (
            b"Content-Type: multipart/signed; micalg=sha-256; "
            + parameters
            + b"\r\n\r\n"
            + random.choice(_PREAMBLES)
            + b"--BB\r\n"
            + content
            + b"\r\n--BB\r\n"
            + self.signature_part(who, content, openpgp=bool(random.randrange(2)))
            + random.choice(_EPILOGUES)
        )

    @staticmethod
    def _mutated(random: Random, mail: bytes) -> bytes:
        for _ in range(random.randrange(1, 4)):
            # Mostly in the header, where the author is.
            end = random.choice((mail.find(b"\r\n\r\n") + 4, len(mail)))
            at = random.randrange(max(1, end))
            mail = mail[:at] + random.choice(_FRAGMENTS) + mail[at + random.randrange(2) :]
        return mail


def _base64(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


_TEXT = b"Please pay invoice 4711 to the new account.\r\n- dashed\r\nBye\r\n"
_PART = b"Content-Type: text/plain\r\n\r\n" + EVIL + b"\r\n"
_HONEST = (b"ME", b"<ME>", b"Some Body <ME>", b'"Body, Some" <ME>', b"=?utf-8?q?S=C3=B6me?= <ME>")
_OTHERS = tuple(
    one
    for address in (BOSS.encode(), MALLORY.encode())
    for one in (
        b"ME, " + address,
        address + b", ME",
        b'"' + address + b'" <ME>',
        address + b" <ME>",
        b"<" + address + b"> <ME>",
        b"ME (" + address + b")",
        b"=?utf-8?q?" + address.replace(b"@", b"=40") + b"?= <ME>",
        b"=?utf-8?q?" + address.replace(b"@", b"=40") + b"=2C?= <ME>",
        b"=?utf-8?q?" + address.replace(b"@", b"=40") + b"?= ME",
        b"group: " + address + b", ME;",
        b"group: ME;",
        b"ME\r\nFrom: " + address,
        b"ME\rFrom: " + address,
        b"ME\r\n " + address,
        b"ME\r\n \r\nFrom: " + address,
        b"ME\r\n\rFrom: " + address,
        b"ME\0" + address,
        b"ME\0, " + address,
        b"<" + address + b"@ME>",
        b"<@" + address[address.index(b"@") + 1 :] + b":ME>",
        b'"x\\" <' + address + b'>" <ME>',
        b"(<" + address + b">) ME",
        b"(a (nested) <" + address + b">) ME",
        b"<ME>" + address,
        b"a <ME>, b <" + address + b">",
        b"<ME",
        b'"unclosed <' + address + b"> <ME>",
        b"ME\r\nSender: " + address,
        b"ME\r\nFrom : " + address,
        b"ME\r\nFROM: " + address,
        b"ME\r\nno field\r\nFrom: " + address,
        b"ME\x0bFrom: " + address,
        b"ME\x85From: " + address,
        b"ME\xe2\x80\xa8From: " + address,
        b"x =?utf-8?b?" + base64.b64encode(b"<" + address + b">,") + b"?= <ME>",
        b"=?utf-8?b?" + base64.b64encode(address + b"\r\nX: y") + b"?= <ME>",
    )
)
_MORE = tuple(one for address in (BOSS, MALLORY) for one in odd_fragments.authors(address.encode()))
_AUTHORS = _HONEST + odd_fragments.NAMED + _OTHERS + _MORE
_INSIDE = (
    b"From: ME\r\n",
    b"Subject: inside\r\nFrom: Other Name <ME>\r\n",
    b"From: " + BOSS.encode() + b"\r\n",
    b"From: " + MALLORY.encode() + b"\r\n",
    b"X-Other: y\r\n",
)
_TEXT_HEADERS = (
    b"",
    b"Content-Type: text/plain; charset=utf-8\r\n",
    b"Content-Type: text/plain; charset=utf-7\r\n",
    b"Content-Type: text/plain; charset=utf-16\r\n",
    b"Content-Type: text/plain; charset=x; charset=utf-8\r\n",
    b"Content-Type: text/html\r\n",
)
_AROUND = (
    b"THIS\r\n",
    b"THIS\r\n" + EVIL,
    b"THIS\r\n" + EVIL + b"\r\n-----END PGP SIGNATURE-----\r\n",
    b"THIS\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA512\r\n\r\n" + EVIL,
)
_BOUNDARIES = (
    b"boundary=BB",
    b'boundary="BB"; boundary="CC"',
    b'boundary="CC"; boundary="BB"',
    b"boundary=CC; boundary*=us-ascii''BB",
    b"boundary=BB; boundary*=us-ascii''CC",
    b"boundary*0=B; boundary*1=B",
    b"boundary*=us-ascii''BB",
    b'boundary="BB" (comment)',
    b'boundary="B\\B"',
    b"boundary=BB ; x=y",
    b'boundary=BB; x="; boundary=CC"',
    b'boundary = "BB"',
    b'boundary="BB ',
    b"boundary=BB\rboundary=CC",
    b"boundary=BB\r\n\t; x=y",
    *odd_fragments.BOUNDARIES,
)
_MORE_TYPES = (
    b"\r\nContent-Type: multipart/mixed; boundary=CC",
    b"\r\nContent-Type: text/plain",
    b"\rContent-Type: multipart/mixed; boundary=CC",
    b"\r\ncontent-transfer-encoding: base64",
    b"\r\nContent-Type : multipart/mixed; boundary=CC",
    b"\r\nContent-Disposition: attachment",
)
_PREAMBLES = (
    b"",
    b"This is a multi-part message in MIME format.\r\n",
    b"This is an S/MIME signed message\r\n\r\n",
    EVIL + b"\r\n",
    b"x\r--BB\r\n" + _PART,
    b"--CC\r\n" + _PART + b"--CC--\r\n",
    b"--BBx\r\n" + _PART,
    b"--BB--x\r\n" + _PART,
    b"--BB--\r\n" + _PART,
    b"--BB\r" + _PART + b"\r\n",
    b"--BB\r\n" + _PART,
    b"\n\r--BB\r\n" + _PART,
    *odd_fragments.PREAMBLES,
)
_EPILOGUES = (
    b"\r\n--BB--\r\n",
    b"\r\n--BB--",
    b"\r\n--BB--\r\n\r\n",
    b"\r\n--BB-- \t\r\n",
    b"\r\n--BB--tail\r\n--BB\r\n" + _PART + b"--BB--\r\n",
    b"\r\n--BB--\r\n" + EVIL,
    b"\r\n--BB--\r\n--BB\r\n" + _PART + b"\r\n--BB--",
    b"\r\n--BB\r\n" + _PART + b"--BB--\r\n",
    b"\r\n--BBtail\r\n" + _PART + b"\r\n--BB--\r\n",
    b"\r--BB\r" + _PART + b"\r\n--BB--\r\n",
    b"",
    *odd_fragments.EPILOGUES,
)
_FRAGMENTS = (
    b"\r", b"\n", b"\0", b"\r\n", b"\r\n ", b"\r\n\r\n", b"\r\r\n", b" ", b"\t", b"\x0b", b"\x0c",
    b"--BB", b"--BB\r\n", b"\r--BB\r\n" + _PART, b"\x85", b"\xe2\x80\xa8", b":", b";", b",", b"\"",
    b"(", b"<", b">", b"=?utf-8?q?=0D=0A?=", b"From: evil@evil.example\r\n", b"\x1c", b"\x7f",
    b"\rFrom: evil@evil.example\r", b"Content-Type: text/html\r\n", b"\\", b"\xff", b"\x1e",
    b"\r\n\t\r\n", b"Content-Transfer-Encoding: base64\r\n", b"\r\nFrom evil@evil.example Sat\r\n",
)  # fmt: skip
_LEAVES = (
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nPlease pay invoice 4711.\r\n",
    b"\r\nPlease pay invoice 4711.\r\n",
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"Gr\xc3\xbc\xc3\x9fe\r\n",
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"R3LDvMOfZQ0K\r\n",
    b"Content-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe =\r\nand more\r\n",
    b"Content-Type: text/plain; charset=utf-8; format=flowed; delsp=yes\r\n\r\none \r\ntwo\r\n",
)
_HTML = b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>Please pay</p>\r\n"
_ODD_LEAVES = (
    b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n<p>one</p>\r\n",
    b"Content-Type: text/plain; charset=utf-8; charset=utf-16\r\n\r\none, two\r\n",
    b"Content-Type: text/plain\r\n\r\none\rtwo\r\n",
    b"Content-Type: text/plain\r\nContent-Transfer-Encoding: rot13\r\n\r\nbar\r\n",
    b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Transfer-Encoding: 7bit\r\n\r\nUGF5\r\n",
    b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64 (x)\r\n\r\nUGF5\r\n",
    b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\nUGF5!*\r\n=\r\nUGF5\r\n",
    b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=ZZb=\r\n",
    b"Content-Type: text/plain; charset=utf-7\r\n\r\n+AGEAYg-\r\n",
    b"Content-Type: text/plain; charset=utf-16\r\n\r\none two\r\n",
    b"Content-Type: text/plain; charset=no-such\r\n\r\none two\r\n",
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xff\xfe one\r\n",
    b"Content-Type: text/plain\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n",
    b"Content-Type: text\r\n\r\none\r\n",
    b"Content-Type: text/plain x\r\n\r\none\r\n",
    b"Content-Type : text/html\r\n\r\n<p>one</p>\r\n",
    b"Content-Type: text/x-unknown\r\n\r\none\r\n",
    b"Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nattached\r\n",
    b"Content-Type: message/rfc822\r\n\r\nFrom: x@y.example\r\n\r\nforwarded\r\n",
    b"Content-Type: text/plain\r\n\r\none\0two\r\n",
    b"Content-Type: text/plain\r\n\r\nbegin 644 x.txt\r\n#0V%T\r\n`\r\nend\r\n",
    b"Content-Type: multipart/mixed\r\n\r\nno boundary\r\n",
    b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$B4A;z\x1b(B\r\n",
    b'Content-Type: text/plain; charset="utf-8\r\n\r\none\r\n',
    *odd_fragments.LEAVES,
)


def _entity(random: Random, *, odd: bool, depth: int = 0) -> bytes:
    """Readers order the texts of deep trees in ways of their own: honest ones are a text, texts
    one behind the other, or a text beside its HTML form."""
    choice = random.randrange(6)
    if depth < 3 and choice < 2:
        boundary = (random.choice((b"IN%d", b"BBin%d")) if odd else b"IN%d") % depth
        kind = b"mixed"
        parts = [_entity(random, odd=odd, depth=depth + 1) for _ in range(random.randrange(1, 4))]
        if choice == 1:
            kind, parts = b"alternative", [random.choice(_LEAVES), _HTML]
        return (
            b"Content-Type: multipart/" + kind + b'; boundary="' + boundary + b'"\r\n\r\n'
            + b"".join(b"--" + boundary + b"\r\n" + one + b"\r\n" for one in parts)
            + b"--" + boundary + (b"--\r\n" if not odd or random.randrange(4) else b"\r\n")
        )  # fmt: skip
    if depth == 0 and choice == 2:
        return _HTML
    return random.choice(_LEAVES + _ODD_LEAVES if odd else _LEAVES)
