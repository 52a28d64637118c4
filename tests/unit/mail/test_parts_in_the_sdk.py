"""A part of a mail that lies in the event has the octets that it has at its address."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator

import pytest

from posthouse.contents import NoSuchPart, part_of
from posthouse.file_names import safe_name
from posthouse.mime_fields import file_name
from posthouse.mime_parts import leaves
from shared.mail.parts import leaves as leaves_at_the_address
from shared.mail.region import region
from shared.mail.structure import MAX_DEPTH, MAX_PARTS, read_structure
from tests.rig.time_bound import within_a_second

pytestmark = pytest.mark.promise("F5")

_INNER = b"From: ann@example.org\r\nSubject: =?utf-8?q?inside?=\r\n\r\nBonjour  \r\n\r\n"
_STATUS = (
    b"Reporting-MTA: dns; mx.example.org\r\n\r\n"
    b"Final-Recipient: rfc822; bob@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n"
)


def _of(kind: str, body: bytes, *fields: str) -> bytes:
    head = "".join(f"{one}\r\n" for one in (f"Content-Type: {kind}", *fields))
    return head.encode() + b"\r\n" + body


def _multipart(*parts: bytes, kind: str = "mixed; boundary=b", boundary: str = "b") -> bytes:
    line = b"--" + boundary.encode()
    inner = b"".join(line + b"\r\n" + one + b"\r\n" for one in parts)
    return _of(f"multipart/{kind}", inner + line + b"--\r\n")


def _nested(depth: int) -> bytes:
    mail = _of("text/plain", b"at the bottom\r\n")
    for number in range(depth):
        mail = _multipart(mail, kind=f"mixed; boundary=b{number}.", boundary=f"b{number}.")
    return mail


def _messages(depth: int) -> bytes:
    mail = _INNER
    for _ in range(depth):
        mail = _of("message/rfc822", mail)
    return mail


#: By what Python's `email` makes something else of.
_MAILS = {
    "delivery status": _multipart(_of("message/delivery-status", _STATUS)),
    "receipt": _multipart(_of("message/disposition-notification", b"Original: a\r\n\r\nb: c\r\n")),
    "complaint": _multipart(_of("message/feedback-report", b"Feedback-Type: abuse\r\n\r\n")),
    "message": _multipart(_of("message/rfc822", _INNER)),
    "message in base64": _multipart(
        _of(
            "message/rfc822",
            base64.encodebytes(_INNER),
            "Content-Transfer-Encoding: base64",
        )
    ),
    "message in a message": _messages(3),
    "unknown encoding": _of("text/plain", b"a=3D\r\n", "Content-Transfer-Encoding: x-strange"),
    "broken base64": _of("a/b", b"QUJD*RA\r\n=x", "Content-Transfer-Encoding: base64 (so)"),
    "quoted-printable": _of(
        "text/plain", b"a=3D \t\r\nb=\r\nc=\n=zz=", "Content-Transfer-Encoding: Quoted-Printable"
    ),
    "no header": b"nothing but a line\r\n",
    "nothing": b"",
    "digest": _multipart(b"\r\n" + _INNER, kind='digest; boundary="b"'),
    "boundary in sections": _multipart(
        _of("text/plain", b"x"), kind="mixed; boundary*0*=utf-8''%62; boundary*1=c", boundary="bc"
    ),
    "boundary behind many parameters": _multipart(
        _of("text/plain", b"x"), kind="mixed" + "; x=y" * 99 + "; boundary=b"
    ),
    "boundary behind more than are read": _multipart(
        _of("text/plain", b"x"), kind="mixed" + "; x=y" * 100 + "; boundary=b"
    ),
    "boundary behind many comments": _multipart(
        _of("text/plain", b"x"), kind="mixed" + " (x)" * 101 + "; boundary=b"
    ),
    "no semicolon before the boundary": _multipart(
        _of("text/plain charset=utf-8", b"x"), kind="mixed boundary=b"
    ),
    "a comma before the boundary": _multipart(
        _of("text/plain, charset=utf-8", b"x"), kind="mixed, boundary=b; x=y"
    ),
    "boundary after a comment": _multipart(
        _of("text/plain", b"x"), kind="mixed (a (nested\\)) one); x; boundary=b; boundary=other"
    ),
    "cut off": _multipart(_of("text/plain", b"x"), _of("a/b", b"y"))[:-9],
    "as deep as is read": _nested(MAX_DEPTH),
    "deeper than is read": _nested(MAX_DEPTH + 6),
    "more parts than are read": _multipart(*[b"\r\nx"] * (MAX_PARTS + 5)),
}


def _here(raw: bytes) -> list[tuple[str, str, bytes]]:
    return [(one.path, one.media_type, one.content) for one in leaves(raw)]


def _at_the_address(raw: bytes) -> list[tuple[str, str, bytes]]:
    found = leaves_at_the_address(read_structure(region(raw)))
    return [(one.path, one.media_type, b"".join(one.content())) for one in found]


@pytest.mark.parametrize("name", _MAILS)
def test_every_part_is_opened_as_it_is_at_its_address(name: str) -> None:
    raw = _MAILS[name]
    parts = _at_the_address(raw)
    assert parts
    for path, _, octets in parts[:50]:
        assert part_of(raw, path).read() == octets
    assert _here(raw) == parts


def test_a_delivery_status_keeps_its_recipients_and_a_message_its_line_ends() -> None:
    assert part_of(_MAILS["delivery status"], "1").read() == _STATUS
    assert part_of(_MAILS["message"], "1").read() == _INNER
    assert part_of(_MAILS["message in base64"], "1").read() == _INNER


def test_broken_mails_have_the_same_parts_here_and_there() -> None:
    """With a boundary, an encoding or a type that is changed where it stands."""
    several = 0
    for raw in _broken(1500):
        parts = _at_the_address(raw)
        assert _here(raw) == parts, raw
        several += len(parts) > 1
    assert several > 100


@pytest.mark.parametrize(
    "header",
    [
        'Content-Type: a/b; name="winmail.dat"',
        'Content-Type: a/b (a; name="x"); name=winmail.dat',
        "Content-Type: a/b; name=x\r\nContent-Disposition: attachment;\r\n filename=winmail.dat",
        "Content-Type: a/b; name==?utf-8?q?winmail.dat?=",
        "Content-Type: a/b; name==?x?q?winmail.dat",
        'Content-Type: a/b; name="=?utf-8?b?w6Q=?= =?utf-8?b?w7Y=?="',
        "Content-Type: a/b; filename=x\r\nContent-Disposition: attachment; name=x",
        "Content-Disposition: attachment; filename*1=.dat; filename*0*=utf-8''win%6dail",
        "Content-Disposition: attachment; filename=x; filename*=utf-8''winmail.dat",
        "Content-Disposition: attachment; filename=win mail.dat ; name=x",
        'Content-Disposition: attachment; filename="winmail.dat',
        "content-disposition: attachment; filename=\r\nContent-Disposition: a; filename=x",
    ],
)
def test_a_part_is_called_as_it_is_at_its_address(header: str) -> None:
    raw = header.encode() + b"\r\n\r\nx"
    ((_, at_the_address),) = [
        (one.path, one.name) for one in leaves_at_the_address(read_structure(region(raw)))
    ]
    ((_, here),) = [(one.path, file_name(one.header)) for one in leaves(raw)]
    assert (safe_name(here) if here else "") == at_the_address


@pytest.mark.parametrize("again", ["ann@example.org, ", "(", '"', "=?utf-8?q?x?= ", "; x=("])
def test_long_fields_hold_up_no_handler(again: str) -> None:
    """Python's `email` takes minutes for each, or runs out of its stack."""
    value = again * ((5 << 20) // len(again))
    raw = f"Content-Type: a/b; name={value}\r\nContent-Disposition: x; {value}\r\n\r\nx".encode()
    with within_a_second(), pytest.raises(NoSuchPart):
        part_of(raw, "1.1")


_BITS = (
    b"\r\n", b"\n", b"\r", b"\0", b"--b", b"--b--", b'"', b"(", b")", b"\\", b";", b"=", b"*0",
    b"*", b"\r\n\r\n", b"\n ", b"Content-Type: message/rfc822\r\n\r\n", b"boundary*=utf-8''b; ",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", b"; boundary=b", b"name=a b; ",
    b"Content-Transfer-Encoding: base64\r\n", b"\xff", b"\x0b", b" \t\r\n",
)  # fmt: skip


def _broken(count: int) -> Iterator[bytes]:
    chance = random.Random(4711)
    seeds = [one for one in _MAILS.values() if 0 < len(one) < 5000]
    for _ in range(count):
        mail = bytearray(b"\r\n".join(chance.sample(seeds, 2)))
        for _ in range(chance.randrange(1, 6)):
            fields = max(0, mail.find(b"ontent-T", chance.randrange(len(mail) + 1)))
            at = min(len(mail), fields + chance.randrange(80))
            if chance.random() < 0.6:
                mail[at:at] = chance.choice(_BITS)
            else:
                del mail[at : at + chance.randrange(1, 20)]
        yield bytes(mail)
