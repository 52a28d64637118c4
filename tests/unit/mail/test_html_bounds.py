"""HTML that a parser makes thousands of times as large: text and page of it stay small."""

from __future__ import annotations

import subprocess
import sys

import pytest
from resiliparse.extract.html2text import extract_plain_text

from services.admin.pages.mail_content import sanitised
from shared.mail import bodies
from shared.mail.bodies import read_body
from shared.mail.html_bounds import not_too_deep, without_formatting
from shared.mail.region import region
from shared.mail.structure import read_structure

#: Each paragraph ends the formatting, and each text opens all of it again: six million elements,
#: of 160 kB.
_PROGRAM = """
import resource, sys
from services.admin.pages.mail_content import sanitised
from shared.mail.facts import read_facts
from shared.mail.region import region
html = "<p>" + "".join(f"<{sys.argv[1]} title={i}>" for i in range(150)) + "<p>x" * 40_000
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (150 << 20),) * 2)
raw = b"From: a@example.org\\r\\nContent-Type: text/html\\r\\n\\r\\n" + html.encode()
assert read_facts(region(raw), trusted=(), text_limit=16_384).body.text.count("x") > 4000
assert sanitised(html).count("x") == 40_000
"""


@pytest.mark.parametrize("tag", ["b", "FONT", "a", "nobr", "span"])
def test_formatting_that_nothing_ends_takes_no_memory(tag: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, tag], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize(
    "html",
    [
        "<p>a<b>b</b>c",
        "<a href=x>li</a>nk <code> x  y </code><tt>z</tt>",
        "<pre><b>a</b>\n  b</pre>",
        "<u>x<p>y</u>z",
        "<small>a</small><big>b</big> <font size=2>c</font> <i/>d",
        "<ul><li><strong>a</strong><li>b</ul>",
        "<b><div>x</div></b>y<!-- <b> -->",
        "a <bdo>b</bdo> <body>c <b",
    ],
)
def test_the_text_is_that_of_the_html_with_formatting(html: str) -> None:
    assert extract_plain_text(without_formatting(html)) == extract_plain_text(html)


def test_a_page_keeps_the_formatting_of_usual_mails() -> None:
    html = "<p>" + "<b style='x'>bold</b><p>" * 150
    assert sanitised(html).count("<b>bold</b>") == 150


@pytest.mark.parametrize(
    "piece",
    [
        "<span></y>",
        "</x><div>",
        "<span><div></span></div>",
        "<td><li><dd></td>",
        "<form><span><li></form>",
        "<table><td></table><i>",
    ],
)
def test_end_tags_that_end_nothing_hide_no_depth(piece: str) -> None:
    html = piece * 40_000
    assert len(not_too_deep(html, 2000)) < len(html) // 2


@pytest.mark.parametrize("before", ["", "<br>shown", "x < y <!-- <br title='<p>'>", "<p a b>&lt;"])
@pytest.mark.parametrize("tag", ["<p", "</p", "<a href='>' title=\">\"", "<X-Y/"])
@pytest.mark.parametrize(
    "attribute", [" a%d", "/a%d", " b%d=x", " b%d='>'", ' c%d = ">" ', "\n<d%d"]
)
def test_a_tag_has_a_bounded_number_of_attributes(before: str, tag: str, attribute: str) -> None:
    """A parser compares each of them with all others: those of one megabyte for a minute."""
    few, many = ("".join(attribute % n for n in range(count)) + ">x</p>" for count in (450, 600))
    assert not_too_deep(before + tag + few, 2000) == before + tag + few
    assert not_too_deep(before + tag + many, 2000) == before


@pytest.mark.parametrize(
    "piece",
    [
        "<div><p>a<p>b<br></div>",
        "<table><tr><td>a<td>b<tr><td>c</table>",
        "<table><tbody><tr><td><span>a</span></td></tr></tbody></table>",
        "<ul><li>a<li>b</ul><dl><dt>a<dd>b</dl>",
        "<a href='x'><img src='y'></a><hr>",
        "<div><!--[if mso]><table><tr><td><![endif]-->x<!--[if mso]></td></tr></table>"
        "<![endif]--></div>",
    ],
)
def test_long_usual_html_is_read_whole(piece: str) -> None:
    html = f"<html><head><title>x</title></head><body>{piece * 10_000}</body></html>"
    assert not_too_deep(html, 2000) == html


def test_what_an_end_tag_passes_over_counts() -> None:
    """Each looks in vain for its element, here and then in the parser: a megabyte of them took two
    seconds, two thousand elements at a time."""
    html = "<p><li>" * 990 + "</div>" * 150_000
    assert len(not_too_deep(html, 2000)) < 30_000


def test_the_html_of_all_parts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts without a text use nothing of the bound of the text."""
    read: list[int] = []

    def counted(html: str) -> str:
        read.append(len(html))
        return extract_plain_text(html)

    monkeypatch.setattr(bodies, "extract_plain_text", counted)
    part = b"--B\r\nContent-Type: text/html\r\n\r\n" + b"<p>" * 40_000 + b"\r\n"
    raw = b"Content-Type: multipart/mixed; boundary=B\r\n\r\n" + part * 30 + b"--B--\r\n"
    body = read_body(read_structure(region(raw)), 16_384)
    assert body.truncated
    assert sum(read) < 2 << 20
