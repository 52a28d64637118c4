"""More fragments of the grammar of forged mails (`tests.rig.forged_mails`): what readers trip over.

ME stands for the author who signs, in authors; EVIL is what nobody signed.
"""

from __future__ import annotations

import re
from random import Random

_PART = b"Content-Type: text/plain\r\n\r\nEVIL\r\n"

#: Values of From that are odd and honest.
NAMED = (
    b"ME <ME>", b"\"'ME'\" <ME>", b'"Jane @ Corp" <ME>', b"=?utf-8?q?Jane_=40_Corp?= <ME>",
    "Eva \U0001f469\u200d\U0001f4bb <ME>".encode(), b"ME\r\nMIME-Version: 1.0",
    b"=?utf-8?b?2LnZhNuM4oCM2LHYttin?= <ME>", b"=?utf-8?b?77u/SmFuZQ==?= <ME>",
)  # fmt: skip


def authors(address: bytes) -> tuple[bytes, ...]:
    """Values of From that show `address` to somebody, or look as if."""
    encoded = address.replace(b"@", b"=40")
    return (
        b"ME.", b"ME,", b",ME", b"<ME >", b"< ME>", b'"ME"', b"<<ME>>", b"ME>", b"<ME", b"'ME'",
        b"ME (=?utf-8?q?" + encoded + b"?=)", b"ME\r\n\t(" + address + b")",
        address + b":ME;", b'"' + address + b'": ME;', address + b": ME", b"ME <>", b"<> ME",
        b"ME <" + address, b"ME <" + address + b">>", b"=?utf-8?q?=22?= <" + address + b">, <ME>",
        b"=?utf-8?q?x=3E?= <ME>", b'"' + address + b" <ME>", b'ME"' + address + b'"',
        address.replace(b"@", b"\xe2\x80\x8b@") + b" <ME>", b"\xe2\x80\xae<ME>", b"ME\xc2\xa0",
        b"<ME\xe2\x80\x8b>", address.replace(b"@", b"\xef\xbc\xa0") + b" <ME>", b"\xef\xbb\xbfME",
        b"\r\n ME", b" \r\n " + address + b"\r\n <ME>", b"<ME\r\n >", b"<\r\n ME>",
        b"(\\))" + address + b" <ME>", b'"\\"' + address + b'\\"" <ME>', b'"a\\" <ME>',
        b"a\\<" + address + b"\\> <ME>", b"[<" + address + b">] <ME>", b"a[b <ME>", b'a"b"c <ME>',
        b"=?us-ascii?q?" + encoded + b"_?= <ME>", b"=?x?q?" + address + b"?= <ME>",
        b"=?utf-8?q?=00?= <ME>", b"=?utf-7?q?+AEA-?= <ME>", b"=?utf-8?q?a b?= <ME>",
        b"(" * 200 + b")" * 200 + b"ME", b'"x" ' * 300 + b"<ME>", b"ME\r\nX-From: " + address,
        b"ME\r\nResent-From: " + address, b"ME\r\nFro\r\n m: " + address,
        b"ME\r\n\xef\xbb\xbfFrom: " + address, b"ME\r\nFrom\x00: " + address,
        b"ME\r\nFrom\xa0: " + address, b"ME\r\nfrom\xe2\x80\x8b: " + address, b"ME\r\n:\r\nX: y",
        b'"\'' + address + b"'\" <ME>", b'<"' + address + b'"@ME>', b"<" + address + b" ME>",
        b"<" + address + b",ME>", b"<(c)ME>", b"<ME>;<" + address + b">", b"a:b:ME;;",
        b"mailto:ME", b"<mailto:ME>", b"<ME?cc=" + address + b">", b"<ME> via " + address,
        b'"' + address.replace(b"@", b" @ ") + b'" <ME>',
        b'"' + address.replace(b"@", b" @ ").replace(b".", b"\xe3\x80\x82") + b'" <ME>',
        b'"' + address.replace(b"@", b"\xe2\x80\x8d@\xe2\x80\x8d") + b'" <ME>',
        b"ME\r\nMIME-Version: 1.0 (" + address + b")",
    )  # fmt: skip


LEAVES = (
    b"Content-Type: text/html charset=utf-8\r\n\r\n<p>one\r\n",
    b"Content-Type: multipart/mixed boundary=Q\r\n\r\n--Q\r\n\r\none\r\n--Q--\r\n",
    b"Content-Type: text/plain\r\nContent-Transfer-Encoding: BASE64 \r\n\r\nUGF5\r\n",
    b"Content-Type: text/plain\r\nContent-Transfer-Encoding:\r\n base64\r\n\r\nUGF5\r\n",
    b'Content-Type: text/plain\r\nContent-Transfer-Encoding: "base64"\r\n\r\nUGF5\r\n',
    b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64;\r\n\r\nUGF5\r\n",
    b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\naGk=aG8=\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nabc= \r\ndef  \r\n",
    b"Content-Type: text/plain; charset*=utf-8''iso-8859-1\r\n\r\nGr\xc3\xbc\r\n",
    b'Content-Type: text/plain; charset="utf-8"; x="; charset=utf-16"\r\n\r\nabcd\r\n',
    b"Content-Type: text/plain; charset=utf-8 ; charset =utf-16\r\n\r\nabcd\r\n",
    b"Content-Type: text/plain; charset=unicode-1-1-utf-7\r\n\r\n+AGE-\r\n",
    b"Content-Type: text/plain; charset=iso-2022-kr\r\n\r\n\x1b$)C\x0e0!\x0f\r\n",
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xed\xa0\x80 \xf4\x90\x80\x80\r\n",
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xe2\x80\xa8\xc2\x85 \x1b[31m\r\n",
    b"Content-Type: text / plain\r\n\r\none\r\n",
    b"Content-Type: text/plain, text/html\r\n\r\n<p>one\r\n",
    b"Content-Type: text/plain\r\nContent-Disposition: inline attachment\r\n\r\none\r\n",
    b"Content-Type: text/plain\r\nContent-Disposition: (x) attachment\r\n\r\none\r\n",
    b"Content-Type: message/global\r\n\r\nFrom: x@y.example\r\n\r\nforwarded\r\n",
    b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nRnJvbTogeAo=\r\n",
    b"Content-Type: message/partial; id=a; number=1\r\n\r\nFrom: x@y\r\n\r\nhalf\r\n",
    b"Content-Type: multipart/digest; boundary=R\r\n\r\n--R\r\n\r\nFrom: x@y\r\n\r\none\r\n--R--",
    b"Content-Type: multipart/mixed; boundary=R(x)R\r\n\r\n--R\r\n\r\none\r\n--R--\r\n",
    b"Content-Type: multipart/mixed; boundary='RR'\r\n\r\n--RR\r\n\r\none\r\n--RR--\r\n",
    b"Content-Type: multipart/mixed; boundary=RR\r\n\r\n--RR\r\n one\r\n\r\ntwo\r\n--RR--\r\n",
    b"Content-Type: multipart/mixed; boundary=RR\r\n\r\n--RR\r\none: two\r\n--RR--\r\n",
    b"Content-Type: text/html; charset=utf-16\r\n\r\n<p>abcd\r\n",
    b"Content-Type: text/plain; charset*0=koi8; charset*1=-r\r\n\r\n\xf0\r\n",
    b"Content-Type: text/plain; x=; charset=koi8-r\r\n\r\n\xf0\r\n",
    b"Content-Type: text/plain; x/y=z; charset=koi8-r\r\n\r\n\xf0\r\n",
    b'Content-Type: text/plain; name=x"; charset=koi8-r\r\n\r\n\xf0\r\n',
    b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\nPay\x1b(J\x1b(B\r\n",
    b"Content-Type: text/plain; charset=gb18030\r\n\r\n\xa6\xd9\r\n",
    b"Content-Type: text/plain\r\nContent-Disposition: form-data; name=x\r\n\r\none\r\n",
    b"Content-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\nFrom: x@y\r\n\r\none\r\n",
    b"Content-Type: message/delivery-status\r\n\r\none: two\r\n",
    b"Note: two\r\n\r\none\r\n",
    b"garbage\r\n\r\none\r\n",
    b"From x@y Sat\r\n\r\none\r\n",
    b"Content-Type: text/plain\r\n \r\n\r\none\r\n",
)
BOUNDARIES = (
    b"boundary=BB; boundary*0=C; boundary*1=C",
    b"boundary=BB; BOUNDARY=CC",
    b"boundary=(x)BB",
    b"boundary=BB(x)",
    b"boundary='BB'",
    b'protocol="application/pkcs7-signature; boundary=CC"; boundary=BB',
    b'boundary=BB; x*0="; boundary=CC"',
    b"boundary=BB, boundary=CC",
    b"boundary==?utf-8?q?CC?=; boundary=BB",
    b"boundary=BB\x00; boundary=CC",
    b'x="\\"; boundary=CC; y="; boundary=BB',
)
PREAMBLES = tuple(
    before + behind + b"\r\n" + _PART
    for before, behind in (
        (b"--BB", b" "),
        (b"--BB", b"\x0b"),
        (b"-- BB", b""),
        (b" --BB", b""),
        (b"\x0c--BB", b""),
        (b"\xe2\x80\xa8--BB", b""),
        (b"--bb", b""),
        (b"--BB", b"\x00"),
    )
)
EPILOGUES = (
    b"\r\n--BB --\r\n" + _PART + b"--BB--\r\n",
    b"\r\n--BB-\r\n" + _PART,
    b"\r\n--bb--\r\n--BB\r\n" + _PART,
    b"\r\n--BB--\r" + _PART,
    b"\r\n--BB\r\n--BB--\r\n",
    b"\r\n--BB\r\nContent-Disposition: attachment\r\n\r\nEVIL\r\n--BB--\r\n",
)
_COMMENTS = (b"TYPE (a/b)", b"(a/b) TYPE", b"(;) TYPE", b"TYPE(x)", b"TYPE; (a/b) x=y", b"TYPE;(;)")


def commented(random: Random, body: bytes) -> bytes:
    """A comment beside one of the types, and a field in the last header that nobody signed."""
    kind = random.choice(re.findall(rb"Content-Type: ([a-z0-9/-]+)", body) or [b"text/plain"])
    before, _, behind = random.choice(_COMMENTS).partition(b"TYPE")
    body = body.replace(b" " + kind, b" " + before + kind + behind, 1)
    start, found, end = body.rpartition(b"Content-Type: ")
    return start + b"X-Note: EVIL\r\n" + found + end if found else body
