"""Mails made safe to look at: whatever they hold, reading them neither fails nor lets through."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.admin.pages.mail_content import SHOWN_OCTETS, read, sanitised


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
