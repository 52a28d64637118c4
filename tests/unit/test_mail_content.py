"""Mails made safe to look at: whatever they hold, reading them neither fails nor lets through."""

from __future__ import annotations

import base64
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.admin.pages.mail_content import SHOWN_OCTETS, read, sanitised
from tests.rig.time_bound import within_a_second
from tests.rig.tnef_writer import file, stream


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<a href='javascript:alert(1)'>x</a>",
        "<a href='https://evil.example/'>x</a>",
        "<svg><script>alert(1)</script></svg>",
        "<style>*{background:url(//evil.example)}</style>",
        "<div style='background:url(//evil.example)'>x</div>",
        "<form action=//evil.example><input name=a></form>",
        "<meta http-equiv=refresh content='0;url=//evil.example'>",
        "<base href=//evil.example>",
        "<iframe src=//evil.example></iframe>",
        "<math><mtext><img src=x></mtext></math>",
        "<table background=//evil.example><tr><td>x</td></tr></table>",
        "<!--[if mso]><img src=//evil.example><![endif]-->",
    ],
)
def test_nothing_active_and_no_address_survives(html: str) -> None:
    safe = sanitised(html).lower()
    for trace in (
        "script",
        "evil.example",
        "javascript",
        "onerror",
        "src",
        "href",
        "<img",
        "style",
    ):
        assert trace not in safe, safe


def test_words_and_tables_survive() -> None:
    html = "<h1>Hello</h1><table><tr><td colspan=2>cell</td></tr></table><b>bold</b>"
    safe = sanitised(html)
    assert "<h1>Hello</h1>" in safe
    assert '<td colspan="2">cell</td>' in safe


def test_text_html_and_attachments_are_told_apart() -> None:
    mail = (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n"
        b"--B\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n"
        b"--B\r\nContent-Type: text/html\r\n\r\n<p>Hi</p>\r\n"
        b"--B\r\nContent-Type: text/plain\r\n"
        b"Content-Disposition: attachment; filename*=utf-8''a%C3%A4.txt\r\n\r\nbody\r\n--B--\r\n"
    )
    content = read([mail])
    assert content.text.strip() == "Grüße"
    assert content.html.strip() == "<p>Hi</p>"
    assert [(a.name, a.content_type) for a in content.attachments] == [("aä.txt", "text/plain")]
    assert content.header.startswith("Subject: x\nMIME-Version")
    assert content.whole


def test_a_large_mail_is_read_to_a_bound() -> None:
    given = 0

    def chunks() -> object:
        nonlocal given
        yield b"Content-Type: text/plain\r\n\r\n"
        while True:
            given += 1 << 20
            yield b"x" * (1 << 20)

    content = read(chunks())  # type: ignore[arg-type]
    assert not content.whole
    assert given <= SHOWN_OCTETS + (1 << 20)


@given(st.binary(max_size=2000))
@settings(max_examples=200, deadline=None)
def test_no_octets_make_reading_fail(data: bytes) -> None:
    read([b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + data])
    read([data])


@given(st.text(max_size=300), st.sampled_from(["charset", "name", "boundary", "format"]))
@settings(max_examples=200, deadline=None)
def test_no_parameter_makes_reading_fail(value: str, name: str) -> None:
    head = f"Content-Type: text/html; {name}={value}\r\nContent-Disposition: {value}\r\n\r\nx"
    read([head.encode("utf-8", "replace")])


def _nested(depth: int) -> bytes:
    levels = [b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
              for n in range(depth)]  # fmt: skip
    return b"".join(levels) + b"Content-Type: text/plain\r\n\r\ndeep\r\n"


@pytest.mark.parametrize(
    "mail",
    [
        _nested(800),
        b"Content-Type: message/rfc822\r\n\r\n" * 1800 + b"end\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 12_000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 6000,
        b"Content-Type: text/plain" + b"; a=b" * 12_000 + b"\r\n\r\nx",
        b"Content-Type: text/plain; a=" + b"(" * 50_000 + b"\r\n\r\nx",
        b"Content-Type: text/plain; a*0*=''" + b"%" * 50_000 + b"\r\n\r\nx",
        b"Content-Disposition: attachment" + b"; filename*%d*=x" * 3000 + b"\r\n\r\nx",
        b"Content-Disposition: attachment; filename=" + b'"\\' * 25_000 + b"\r\n\r\nx",
        b"Content-Disposition: attachment; filename=" + b"=?a?q?" * 9000 + b"\r\n\r\nx",
        b"Subject: " + b"=?utf-8?q?" * 5000 + b"\r\n\r\nx",
        b"To: " + b"(" * 50_000 + b"\r\n\r\nx",
        b"To: " + b"a@x " * 13_000 + b"\r\n\r\nx",
        b"X: y\r\n" * 9000 + b"\r\nx",
        b"X:\r\n" + b" \r\n" * 18_000 + b"\r\nx",
        b"Content-Type: text/html\r\n\r\n" + b"<div>" * 10_000,
        b"Content-Type: text/html\r\n\r\n" + b"<ul><li>" * 24_000,
        b"Content-Type: text/html\r\n\r\n" + b"&" * 54_000,
        b"Content-Type: text/html\r\n\r\n" + b"<b><p></b>" * 5400,
        b"Content-Type: text/plain; charset=idna\r\n\r\n" + b"x" * 54_000,
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=" * 54_000,
        b"Content-Transfer-Encoding: base64\r\n\r\n" + b"=A" * 27_000,
    ],
    ids=range(22),
)
def test_no_small_mail_takes_long_or_raises(mail: bytes) -> None:
    with within_a_second():
        read([mail])


def test_the_text_is_read_as_the_octets_are() -> None:
    head = b"Content-Type: text/plain; charset=gb2312\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert read([head + base64.b64encode("喆鑫".encode("gbk"))[:-1]]).text.startswith("喆")
    assert read([head.replace(b"gb2312", b"no-such") + base64.b64encode("ü".encode())]).text == "ü"


def test_a_mail_in_a_mail_is_shown_as_one_unless_it_is_all() -> None:
    inner = b"Subject: inner\r\nContent-Type: text/plain\r\n\r\nforwarded\r\n"
    alone = b"Content-Type: message/rfc822\r\n\r\n" + inner
    assert read([alone]).text.strip() == "forwarded"
    beside = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee below\r\n"
        b"--b\r\n" + alone + b"\r\n--b--\r\n"
    )
    content = read([beside])
    assert content.text.strip() == "see below"
    assert [(a.path, a.content_type, a.within) for a in content.attachments] == [
        ("2", "message/rfc822", ""),
        ("2.1", "text/plain", "2"),
    ]


def test_parts_of_messages_in_a_mail_are_shown_with_where_they_lie() -> None:
    packed = EmailMessage()
    packed.set_content("packed\n")
    files = stream(file(b"A.TXT", b"first", "a.txt"))
    packed.add_attachment(files, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    inner = EmailMessage()
    inner.set_content("inner\n")
    inner.add_attachment(packed)
    inner.add_attachment(b"PK", maintype="application", subtype="zip", filename="in.zip")
    outer = EmailMessage()
    outer.set_content("outer\n")
    outer.add_attachment(inner, filename="fwd.eml")
    outer.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="own.pdf")
    raw = outer.as_bytes()
    content = read([raw])
    assert content.text.strip() == "outer"
    shown = [(a.path, a.name, a.within) for a in content.attachments]
    assert shown == [
        ("2", "fwd.eml", ""),
        ("2.1", "", "2"),
        ("2.2", "", "2"),
        ("2.2.1", "", "2.2"),
        ("2.2.2", "winmail.dat", "2.2"),
        ("2.2.2.1", "a.txt", "2.2.2"),
        ("2.3", "in.zip", "2"),
        ("3", "own.pdf", ""),
    ]
    assert ["1", *(path for path, _, _ in shown)] == [one.path for one in content.facts.parts]


def test_what_others_read_differently_is_said() -> None:
    mail = b"Content-Type: multipart/mixed; boundary=b\r\n\r\nhidden\r\n--b\r\n\r\nx\r\n--b--\r\n"
    assert "text-outside-parts" in {str(one.kind) for one in read([mail]).findings}
