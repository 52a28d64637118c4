"""Honest signed mails in the shapes of common mail programs and gateways.

What each writes around a signature is its own: parameters and their order, the sentence before the
first part, the header of the signature's part, fields inside what is signed. The mails are made
here; names are invented.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from pysequoia import SignatureMode

from tests.rig.forged_mails import BOSS, Forger

_ON_THE_WAY = """\
Return-Path: <boss@corp.example>
Delivered-To: tickets@corp.example
Received: from mx.corp.example (mx.corp.example [192.0.2.1])
\tby mail.example.org (Postfix) with ESMTPS id 4XyZ for <tickets@corp.example>;
\tSat, 28 Nov 2026 10:00:01 +0000 (UTC)
Authentication-Results: mail.example.org; dkim=pass header.d=corp.example;
\tspf=pass smtp.mailfrom=boss@corp.example
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=corp.example; s=s1;
\th=from:to:subject:date; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=abcdef
"""
_LIST = """\
List-Id: Invoices <invoices.example.org>
List-Post: <mailto:invoices@example.org>
Errors-To: invoices-bounces@example.org
Precedence: list
"""
_TEXT = """\
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe,=20
please pay invoice 4711.
--=20
The Boss
"""
_FLOWED = """\
Content-Type: text/plain; charset=UTF-8; format=flowed
Content-Transfer-Encoding: 8bit
Content-Language: de-DE

Grüße, please pay 
invoice 4711.

"""  # noqa: W291 -- RFC 3676
_SOFT_END = """\
Content-Transfer-Encoding: quoted-printable
Content-Type: text/plain;
\tcharset=utf-8

Please pay invoice 4711 =E2=80=94 thanks.=
"""
_ALTERNATIVE = """\
Content-Type: multipart/alternative;
\tboundary="----=_NextPart_001_0002_01DC"


------=_NextPart_001_0002_01DC
Content-Type: text/plain;
\tcharset="utf-8"
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe

------=_NextPart_001_0002_01DC
Content-Type: text/html;
\tcharset="utf-8"
Content-Transfer-Encoding: quoted-printable

<html><head><meta http-equiv=3DContent-Type content=3D"text/html; =
charset=3Dutf-8"></head><body><p class=3DMsoNormal>Gr=C3=BC=C3=9Fe</p></body></html>
------=_NextPart_001_0002_01DC--
"""
_RELATED = (
    'Content-Type: multipart/related; boundary="R"; type="multipart/alternative"\n\n--R\n'
    + _ALTERNATIVE
    + """
--R
Content-Type: image/png; name="image001.png"
Content-Transfer-Encoding: base64
Content-ID: <image001.png@01DC5F12>

iVBORw0KGgo=

--R--
"""
)
_WITH_FILES = (
    'Content-Type: multipart/mixed; boundary="M"\n\nThis is a multi-part message in MIME format.\n'
    "--M\n"
    + _RELATED
    + """
--M
Content-Type: application/pdf; name="=?iso-8859-1?Q?Rechnung_f=FCr_M=E4rz.pdf?="
Content-Transfer-Encoding: base64
Content-Disposition: attachment;
 filename*=utf-8''Rechnung%20f%C3%BCr%20M%C3%A4rz.pdf; size=9;
 creation-date="Sat, 28 Nov 2026 10:00:00 GMT"

JVBERi0xLjQK

--M--
"""
)
_MEETING = _ALTERNATIVE.replace(
    "------=_NextPart_001_0002_01DC--",
    """
------=_NextPart_001_0002_01DC
Content-Type: text/calendar; name="meeting.ics"; method=REQUEST; charset="utf-8"
Content-Transfer-Encoding: 8bit

BEGIN:VCALENDAR
METHOD:REQUEST
END:VCALENDAR

------=_NextPart_001_0002_01DC--""",
)
#: RFC 9788, and what programs did before it.
_PROTECTED = """\
Content-Type: multipart/mixed; boundary="------------a1B2";
 protected-headers="v1"
From: The Boss <boss@corp.example>
To: tickets@corp.example
Subject: Invoice 4711
Date: Sat, 28 Nov 2026 10:00:00 +0100
MIME-Version: 1.0

--------------a1B2
Content-Type: text/plain; charset=UTF-8; format=flowed
Content-Transfer-Encoding: base64

R3LDvMOfZQ0K

--------------a1B2
Content-Type: application/pgp-keys; name="OpenPGP_0xABCDEF.asc"
Content-Disposition: attachment; filename="OpenPGP_0xABCDEF.asc"
Content-Transfer-Encoding: quoted-printable

-----BEGIN PGP PUBLIC KEY BLOCK-----
=3DabcD
-----END PGP PUBLIC KEY BLOCK-----

--------------a1B2--
"""
_HEADER_PROTECTION = _TEXT.replace(
    'charset="utf-8"', 'charset="utf-8"; hp="clear"\nFrom: The Boss <boss@corp.example>'
)

_P7S = 'application/pkcs7-signature; name="smime.p7s"'
_X_P7S = 'application/x-pkcs7-signature;\n\tname="smime.p7s"'
_SMIME = 'protocol="application/pkcs7-signature"; micalg=sha-256;\n boundary="%s"'
_OPENPGP = 'micalg="pgp-sha512";\n protocol="application/pgp-signature";\n boundary="%s"'
_ENIGMAIL = "This is an OpenPGP/MIME signed message (RFC 4880 and 3156)\n"
_MULTIPART = "This is a multipart message in MIME format.\n\n"


def _crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def _mail(
    body: bytes, *, author: str = "The Boss <boss@corp.example>", more: str = "", way: str = ""
) -> bytes:
    return (
        _crlf(
            (way or _ON_THE_WAY) + f"From: {author}\nTo: tickets@corp.example\n"
            "Subject: Invoice 4711\nDate: Sat, 28 Nov 2026 10:00:00 +0100\n"
            f"Message-ID: <a1@corp.example>\nMIME-Version: 1.0\n{more}"
        )
        + body
    )


def _signed(
    forger: Forger,
    content: str,
    parameters: str,
    *,
    preamble: str = "",
    kind: str = _P7S,
    boundary: str = "----=_Part_1",
    author: str = "The Boss <boss@corp.example>",
    more: str = "",
    way: str = "",
) -> bytes:
    """A multipart/signed; `kind` is the type of the signature's part."""
    signed = _crlf(content)
    part = forger.signature_part(BOSS, signed, openpgp="pgp" in kind)
    part = _crlf(f"Content-Type: {kind}\n") + part[part.index(b"\r\n") + 2 :]
    part = part.replace(b"\r\n\r\n", b"\r\nContent-Disposition: attachment\r\n\r\n", 1)
    start = f"\n--{boundary}\n".encode().replace(b"\n", b"\r\n")
    body = _crlf(f"Content-Type: multipart/signed; {parameters % boundary}\n\n{preamble}")
    body += start[2:] + signed + start + part + f"\r\n--{boundary}--\r\n".encode()
    return _mail(body, author=author, more=more, way=way)


def _opaque(forger: Forger, content: str) -> bytes:
    return _mail(forger.opaque(BOSS, _crlf(content)), more="Content-Class: IPM.Note.SMIME\n")


def _encrypted(forger: Forger, content: str) -> bytes:
    return _mail(forger.encrypted(_crlf(content), BOSS))


def _in_the_text(forger: Forger, text: str) -> bytes:
    framed = forger.openpgp(BOSS, text.encode(), SignatureMode.CLEAR)
    return _mail(b"Content-Type: text/plain; charset=UTF-8\r\n\r\n" + framed)


def _quoting(forger: Forger) -> bytes:
    quoted = forger.openpgp(BOSS, b"Pay 4711\n", SignatureMode.CLEAR).decode().strip()
    lines = "\n".join(f"> {line}".rstrip() for line in quoted.splitlines())
    return _in_the_text(forger, f"You wrote:\n{lines}\nYes.\n")


def _of(content: str, parameters: str, **more: str) -> Callable[[Forger], bytes]:
    return partial(_signed, content=content, parameters=parameters, **more)  # type: ignore[arg-type]


_OUTLOOK = {
    "preamble": _MULTIPART,
    "kind": _X_P7S,
    "boundary": "----=_NextPart_000_0001_01DC5F12.AB12CD30",
    "more": "X-Mailer: Microsoft Outlook 16.0\nThread-Index: AdxfEg==\n",
}
_OUTLOOK_SMIME = (
    'protocol="application/x-pkcs7-signature";\n\tmicalg=2.16.840.1.101.3.4.2.1;\n\tboundary="%s"'
)
_APPLE = 'boundary="%s";\n\tprotocol="application/pkcs7-signature";\n\tmicalg=sha-256'
_PGP_SIGNATURE = 'application/pgp-signature; name="signature.asc"'

HONEST: Mapping[str, Callable[[Forger], bytes]] = {
    "Outlook": _of(_ALTERNATIVE, _OUTLOOK_SMIME, **_OUTLOOK),
    "Outlook, with files": _of(_WITH_FILES, _OUTLOOK_SMIME, **_OUTLOOK),
    "Outlook, a meeting": _of(_MEETING, _OUTLOOK_SMIME, **_OUTLOOK),
    "Outlook, the address as the name": _of(
        _TEXT, _OUTLOOK_SMIME, author="\"'boss@corp.example'\" <boss@corp.example>", **_OUTLOOK
    ),
    "Outlook in German": _of(
        _TEXT, _SMIME, preamble="Dies ist eine mehrteilige Nachricht im MIME-Format.\n\n"
    ),
    "Outlook for Mac": _of(
        _RELATED,
        _SMIME,
        preamble="> This message is in MIME format. Since your mail reader does not understand\n"
        "this format, some or all of this message may not be legible.\n\n",
        boundary="B_3912",
    ),
    "Exchange": partial(_opaque, content=_ALTERNATIVE),
    "Apple Mail": _of(_RELATED, _APPLE, preamble="\n", boundary="Apple-Mail=_0C8D3F0E"),
    "iOS": _of(_SOFT_END, _APPLE, preamble="\n", boundary="Apple-Mail-1A2B"),
    "Thunderbird": _of(
        _FLOWED,
        _SMIME,
        preamble="This is a cryptographically signed message in MIME format.\n\n",
        boundary="------------ms0102030405",
    ),
    "Thunderbird, OpenPGP": _of(_PROTECTED, _OPENPGP, preamble=_ENIGMAIL, kind=_PGP_SIGNATURE),
    "Thunderbird, encrypted": partial(_encrypted, content=_PROTECTED),
    "KMail": _of(
        _TEXT,
        'boundary="%s"; micalg="pgp-sha256";\n protocol="application/pgp-signature"',
        kind=_PGP_SIGNATURE + "\nContent-Description: This is a digitally signed message part.",
        boundary="nextPart12345.abc",
    ),
    "Mutt": _of(
        _HEADER_PROTECTION,
        'micalg=pgp-sha512;\n\tprotocol="application/pgp-signature"; boundary="%s"',
        preamble="\n",
        kind=_PGP_SIGNATURE,
        boundary="k+w/mQv8wyuph6w0",
        more="Content-Disposition: inline\n",
    ),
    "Evolution": _of(_ALTERNATIVE, _OPENPGP, preamble="\n", kind=_PGP_SIGNATURE, boundary="=-Wx/a"),
    "Gmail": _of(_ALTERNATIVE, _SMIME, boundary="000000000000abcdef0123456789"),
    "Proton": _of(
        _ALTERNATIVE, _OPENPGP + "; charset=utf-8", preamble=_ENIGMAIL, kind=_PGP_SIGNATURE
    ),
    "FairEmail": _of(_ALTERNATIVE, _OPENPGP, kind="application/pgp-signature"),
    "Alpine": _of(
        _FLOWED,
        _SMIME,
        preamble="  This message is in MIME format.  The first part should be readable text,\n"
        "  while the remaining parts are likely unreadable without MIME-aware tools.\n\n",
    ),
    "Horde": _of(
        _FLOWED,
        _OPENPGP,
        preamble="This message is in MIME format and has been PGP signed.\n\n",
        kind="application/pgp-signature",
    ),
    "a ticket system": _of(
        _TEXT,
        _SMIME,
        preamble="This is a multi-part message in MIME format...\n\n",
        boundary="----------=_1612559345-866-0",
    ),
    "a gateway by OpenSSL": _of(
        _ALTERNATIVE, _SMIME, preamble="This is an S/MIME signed message\n\n", kind=_X_P7S
    ),
    "a gateway by JavaMail": _of(
        _WITH_FILES,
        _SMIME,
        kind="application/pkcs7-signature; name=smime.p7s; smime-type=signed-data",
    ),
    "a mailing list that adds fields": _of(_FLOWED, _SMIME, way=_LIST + _ON_THE_WAY),
    "GnuPG in the text": partial(_in_the_text, text="Grüße\n- dashed\nFrom me  \n"),
    "GnuPG in the text, a reply": _quoting,
}
