"""HTML that a parser makes thousands of times as large: text and page of it stay small."""

from __future__ import annotations

import subprocess
import sys

import pytest
from resiliparse.extract.html2text import extract_plain_text

from services.admin.pages.mail_content import sanitised
from shared.mail.html_bounds import without_formatting

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
