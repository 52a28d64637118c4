"""Malformed mails: what broken senders, gateways and attackers produce."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator

Maker = Callable[[random.Random], bytes]

_HEAD = b"From: a@example.org\r\nTo: b@example.com\r\nSubject: odd\r\n"


def truncated_multipart(rng: random.Random) -> bytes:
    body = _HEAD + (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
        b"Content-Type: text/plain\r\n\r\nhello\r\n--b\r\nContent-Type: application/pdf\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(rng.randbytes(3000))
    )
    return body[: rng.randrange(60, len(body))]


def nested(rng: random.Random) -> bytes:
    depth = rng.choice((10, 100, 1000))
    parts = [_HEAD]
    for level in range(depth):
        parts.append(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        )
    return b"".join(parts) + b"Content-Type: text/plain\r\n\r\ndeep\r\n"


def nested_messages(rng: random.Random) -> bytes:
    return (_HEAD + b"Content-Type: message/rfc822\r\n\r\n") * rng.choice((5, 200)) + b"end\r\n"


def broken_encoding(rng: random.Random) -> bytes:
    encoding = rng.choice((b"base64", b"quoted-printable", b"x-uuencode", b"8bit; x", b""))
    return (
        _HEAD
        + b"Content-Type: text/plain; charset="
        + rng.choice((b"utf-8", b"no-such", b"=?", b"'"))
        + b"\r\nContent-Transfer-Encoding: "
        + encoding
        + b"\r\n\r\n"
        + bytes(rng.choices(b"ABC=+/\r\n\xff\x80%", k=800))
    )


def huge_header(rng: random.Random) -> bytes:
    name = rng.choice((b"Subject", b"To", b"Received", b"X-Long", b"Message-ID"))
    return name + b": " + b"x@y, " * rng.choice((2000, 60_000)) + b"\r\n\r\nbody\r\n"


def many_headers(rng: random.Random) -> bytes:
    return b"X-H: v\r\n" * rng.choice((1000, 40_000)) + _HEAD + b"\r\nbody\r\n"


def nuls(rng: random.Random) -> bytes:
    mail = bytearray(_HEAD + b"Message-ID: <nul@x>\r\n\r\nbody body body\r\n")
    for _ in range(10):
        mail[rng.randrange(len(mail))] = 0
    return bytes(mail)


def eight_bit_header(rng: random.Random) -> bytes:
    return (
        b"From: " + rng.randbytes(30).replace(b"\n", b"").replace(b"\r", b"") + b"@x\r\n"
        b"Subject: =?utf-8?B?" + base64.b64encode(rng.randbytes(40))[:-3] + b"?=\r\n"
        b"Date: "
        + rng.choice((b"yesterday", b"99 Foo 99999 25:61:61 +9999", b"0"))
        + b"\r\n\r\n.\r\n"
    )


def wrong_lengths(rng: random.Random) -> bytes:
    return (
        _HEAD + b"Content-Length: 99999999\r\nLines: -1\r\n\r\n" + b"short\r\n" * rng.randrange(9)
    )


def lone_line_ends(rng: random.Random) -> bytes:
    mail = _HEAD + b"\r\n" + b"text " * 50
    return mail.replace(b"\r\n", rng.choice((b"\r", b"\n", b"\n\r", b"\r\r\n")))


def false_smime(rng: random.Random) -> bytes:
    kind = rng.choice(
        (b"enveloped-data", b"signed-data", b"authEnveloped-data", b"compressed-data")
    )
    der = rng.choice(
        (b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x06\x09\x2a\x86H\x86\xf7\r\x01\x07\x03")
    )
    return (
        _HEAD
        + b"Content-Type: application/pkcs7-mime; smime-type="
        + kind
        + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(der + rng.randbytes(rng.randrange(400)))
    )


def false_signature(rng: random.Random) -> bytes:
    return (
        _HEAD + b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";'
        b' micalg=sha-256; boundary="s"\r\n\r\n--s\r\n\r\nsigned\r\n--s\r\n'
        b"Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(rng.randbytes(200))
        + rng.choice((b"--s--\r\n", b""))
    )


def false_openpgp(rng: random.Random) -> bytes:
    return (
        _HEAD
        + b"Content-Type: text/plain\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\n"
        + base64.encodebytes(rng.randbytes(300)).replace(b"\n", b"\r\n")
        + rng.choice((b"-----END PGP MESSAGE-----\r\n", b""))
    )


def noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 4000))


def empty(rng: random.Random) -> bytes:
    return rng.choice((b"\r\n", b"\r\n\r\n", b":", b" folded\r\n\r\n", b"no colon\r\n\r\nx"))


def wide_ids(rng: random.Random) -> bytes:
    """Ids of characters of three octets, as long as ids are read, which no index would take."""
    long = "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(950))
    return f"Message-ID: <{long}@x>\r\nReferences: <1{long}@x>\r\n\r\nx".encode()


MAKERS: tuple[Maker, ...] = (
    truncated_multipart,
    nested,
    nested_messages,
    broken_encoding,
    huge_header,
    many_headers,
    nuls,
    eight_bit_header,
    wrong_lengths,
    lone_line_ends,
    false_smime,
    false_signature,
    false_openpgp,
    noise,
    empty,
    wide_ids,
)


def odd_mails(count: int, seed: int) -> Iterator[bytes]:
    """`count` malformed mails, each kind in turn, none like another."""
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        # Unique, and harmless to the oddity: after the end of whatever it is.
        yield MAKERS[number % len(MAKERS)](rng) + b"\r\n" + str((seed, number)).encode()
