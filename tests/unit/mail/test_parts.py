"""Parts and text of a mail, beside what Python's `email` makes of the same octets."""

from __future__ import annotations

import base64
import binascii
import random
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage, Message

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from posthouse.mail import read_mail
from posthouse.testing import make_event
from shared.mail.bodies import read_body
from shared.mail.facts import read_facts
from shared.mail.parts import PartFacts, find_part, leaves
from shared.mail.region import region
from shared.mail.structure import read_structure
from shared.mail.transfer_encodings import decoded, decoded_size
from shared.rules.facts import kept

pytestmark = pytest.mark.promise("F4")

TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.sampled_from(" \n"),
    max_size=80,
)
NAMES = st.text("abc .-_öß日()", min_size=1, max_size=30).map(str.strip).filter(bool)


@st.composite
def mails(draw: st.DrawFn, depth: int = 2) -> EmailMessage:
    mail = EmailMessage(policy=policy.SMTP)
    mail["From"] = "ann@example.org"
    mail.set_content(draw(TEXTS), cte=draw(st.sampled_from(["base64", "quoted-printable", "8bit"])))
    if draw(st.booleans()):
        mail.add_alternative(f"<p>{draw(TEXTS)}</p>", subtype="html")
    for _ in range(draw(st.integers(0, 3))):
        if depth and draw(st.booleans()):
            mail.add_attachment(draw(mails(depth - 1)))
        else:
            mail.add_attachment(
                draw(st.binary(max_size=200)),
                maintype="application",
                subtype="octet-stream",
                filename=draw(NAMES),
            )
    return mail


def of_python(mail: Message, prefix: str = "") -> Iterator[tuple[str, Message]]:
    """Paths as IMAP counts, by the other parser's tree."""
    if not mail.is_multipart():
        yield (prefix or "1"), mail
    elif mail.get_content_type() == "message/rfc822":
        yield (prefix or "1"), mail
        inner = mail.get_payload(0)
        assert isinstance(inner, Message)
        if inner.is_multipart():
            yield from of_python(inner, prefix)
        else:
            yield from of_python(inner, f"{prefix}.1")
    else:
        for number, part in enumerate(mail.iter_parts(), 1):  # type: ignore[attr-defined]
            yield from of_python(part, f"{prefix}.{number}" if prefix else str(number))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(mail=mails())
def test_parts_are_those_of_another_parser(mail: EmailMessage) -> None:
    raw = mail.as_bytes()
    theirs = list(of_python(message_from_bytes(raw, policy=policy.default)))
    root = read_structure(region(raw))
    ours = list(leaves(root))
    assert [one.path for one in ours] == [path for path, _ in theirs]
    for one, (path, part) in zip(ours, theirs, strict=True):
        assert find_part(root, path) == one
        assert one.media_type == part.get_content_type()
        assert one.name == (part.get_filename() or "").strip(" .")
        if one.media_type == "message/rfc822":
            continue
        content = part.get_payload(decode=True)
        got = b"".join(decoded(one.part.entity.body, one.part.entity.transfer_encoding))
        assert got == content
        assert one.size == len(got)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(mail=mails(depth=0))
def test_the_text_is_that_of_another_parser(mail: EmailMessage) -> None:
    raw = mail.as_bytes()
    parsed = message_from_bytes(raw, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    body = parsed.get_body(("plain",))
    assert body is not None
    plain = body.get_content().split()
    assume(plain or parsed.get_body(("html",)) is None)  # an empty form is none
    found = read_body(read_structure(region(raw)), 100_000)
    assert found.text.split() == plain
    assert not found.truncated
    assert not found.is_from_html


def simple(body: bytes, header: str = "Content-Type: text/plain; charset=utf-8\r\n") -> bytes:
    return f"From: a@example.org\r\n{header}\r\n".encode() + body


def multipart(kind: str, *parts: str) -> bytes:
    delimited = "".join(f"--b\r\n{one}\r\n" for one in parts)
    return f"Content-Type: multipart/{kind}; boundary=b\r\n\r\n{delimited}--b--\r\n".encode()


HTML = "Content-Type: text/html\r\nContent-ID: <h@x>\r\n\r\n<p>Hello</p>"
PICTURE = "Content-Type: image/png\r\nContent-ID: <i@x>\r\n\r\nPNG"


@pytest.mark.parametrize(
    ("mail", "text", "from_html"),
    [
        (multipart("alternative", "\r\n", HTML), "Hello", True),
        (multipart("alternative", "Content-Transfer-Encoding: base64\r\n\r\nIA0K", HTML),
         "Hello", True),
        (multipart("alternative", "Content-Type: text/plain; charset=utf-8\r\n"
                   "Content-Transfer-Encoding: quoted-printable\r\n\r\n=C2=A0=0D=0A", HTML),
         "Hello", True),
        (multipart("alternative", HTML, "\r\n \r\n"), "Hello", True),
        (multipart("alternative", "\r\n"), "", False),
        (multipart("alternative", "\r\nHi", HTML), "Hi", False),
        (multipart('related; start="<h@x>"', PICTURE, HTML), "Hello", True),
        (multipart("related", PICTURE, HTML), "Hello", True),
        (multipart('related; start="<none@x>"', HTML, PICTURE), "Hello", True),
        (multipart("related", PICTURE), "", False),
    ],
    ids=["empty", "base64", "no-break", "empty-last", "alone", "full", "start", "picture",
         "no-start", "no-text"],
)  # fmt: skip
def test_the_form_that_has_a_text_is_the_text(mail: bytes, text: str, from_html: bool) -> None:
    """Of alternatives one that is not empty (RFC 2046 section 5.1.4), of related parts the root
    (RFC 2387): what every mail program shows."""
    found = read_body(read_structure(region(mail)), 1000)
    assert (found.text.strip(), found.is_from_html) == (text, from_html)


@pytest.mark.parametrize(
    ("parameters", "sent", "text"),
    [
        ("FLOWED", b"One \r\npara \r\ngraph.\r\n\r\n Next\r\n", "One para graph.\n\nNext"),
        ("flowed; DelSp=yes", "日 \r\n本 \r\n語".encode(), "日本語"),
        (
            "flowed",
            b"> a \r\n> b\r\n>> c \r\n> d \r\ne \r\n-- \r\nAnn",
            "> a b\n>> c \n> d \ne \n-- \nAnn",
        ),
        ("flowed", b">a\r\n>\r\n >b\r\n From x", "> a\n>\n >b\nFrom x"),
        ("flowed", b"a \rb \nc \n", "a b c "),
        ("fixed", b"a \r\n b\r\n", "a \n b"),
    ],
)
@pytest.mark.parametrize("charset", ["utf-8", "UTF8"])
def test_lines_that_were_broken_to_be_joined_are_joined(
    parameters: str, sent: bytes, text: str, charset: str
) -> None:
    """RFC 3676, sections 4.2 to 4.6."""
    header = f"Content-Type: text/plain; charset={charset}; format={parameters}\r\n"
    found = read_facts(region(simple(sent, header)), trusted=(), text_limit=99)
    assert found.to_json()["text"] == text


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b"abc= \r\ndef", b"abcdef"),
        (b"abc=\t \ndef", b"abcdef"),
        (b"abc \t\r\n def\r\n", b"abc\r\n def\r\n"),
        (b"abc\t\ndef", b"abc\ndef"),
        (b"abc=20\r\n", b"abc \r\n"),
        (b"a b\r\n", b"a b\r\n"),
    ],
)
def test_white_space_that_servers_add_to_lines_is_none(sent: bytes, content: bytes) -> None:
    """RFC 2045 section 6.7, rule 3."""
    assert b"".join(decoded(region(sent), "quoted-printable")) == content


def test_an_octet_is_not_cut_in_two() -> None:
    line = b"=E2=82=AC" * 400_000
    for shift in range(3):
        whole = region(b"a" * shift + line)
        assert b"".join(decoded(whole, "quoted-printable")).count(b"=") == 0


def test_text_is_cut_at_whole_characters_and_says_so() -> None:
    facts = read_facts(region(simple("ö".encode() * 100)), trusted=(), text_limit=11)
    assert (facts.body.text, facts.body.truncated) == ("ö" * 5, True)
    facts = read_facts(region(simple("ö".encode() * 5)), trusted=(), text_limit=10)
    assert (facts.body.text, facts.body.truncated) == ("ö" * 5, False)
    assert read_facts(region(simple(b"x")), trusted=(), text_limit=0).body.text == ""


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Hello</p><p>World &amp; all</p>", "Hello\n\nWorld & all"),
        ("<style>p{x:y}</style><script>x()</script>Hi<br>you", "Hi\nyou"),
        ("<ul><li>one</li><li>two</li></ul>", "• one\n  • two"),
        ("<div>" * 5000 + "deep", ""),
        ("", ""),
    ],
)
def test_html_alone_becomes_text(html: str, text: str) -> None:
    raw = simple(html.encode(), "Content-Type: text/html; charset=utf-8\r\n")
    facts = read_facts(region(raw), trusted=(), text_limit=10_000)
    assert facts.body.text.strip() == text
    assert facts.body.is_from_html
    assert facts.html == "1"


def test_controls_do_not_reach_a_handler() -> None:
    raw = simple("\ufeffa\x00b\x1b[31mc\x85d\r\ne\tf\rg".encode())
    assert read_facts(region(raw), trusted=(), text_limit=100).body.text == "ab[31mcd\ne\tf\ng"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="a/../../etc/passwd"', "a_.._.._etc_passwd"),
        ("attachment; filename=..", ""),
        ('attachment; filename="invoice\u202efdp.exe"', "invoice_fdp.exe"),
        ("attachment; filename*=utf-8''Gr%C3%B6%C3%9Fe.pdf", "Größe.pdf"),
        ("attachment; filename*0=long; filename*1=er.pdf", "longer.pdf"),
        ('attachment; filename="=?utf-8?Q?Gr=C3=B6=C3=9Fe.pdf?="', "Größe.pdf"),
        ('attachment; filename="C:\\\\Users\\\\x.doc"', "C:_Users_x.doc"),
        ("attachment", ""),
    ],
)
def test_names_are_safe_as_names_of_files(disposition: str, name: str) -> None:
    header = f"Content-Type: application/pdf\r\nContent-Disposition: {disposition}\r\n"
    facts = read_facts(region(simple(b"x", header)), trusted=(), text_limit=10)
    assert facts.parts == (PartFacts("1", "application/pdf", name, "attachment", "", 1, ""),)


@settings(deadline=None, max_examples=300)
@given(
    octets=st.binary(max_size=400),
    noise=st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=3)), max_size=4),
    encoding=st.sampled_from(["base64", "quoted-printable", "7bit", "x-unknown"]),
)
def test_the_size_is_that_of_what_is_given(
    octets: bytes, noise: list[tuple[int, bytes]], encoding: str
) -> None:
    encoded = base64.encodebytes(octets) if encoding == "base64" else binascii.b2a_qp(octets)
    for where, extra in noise:
        encoded = encoded[:where] + extra + encoded[where:]
    whole = region(encoded)
    assert decoded_size(whole, encoding) == len(b"".join(decoded(whole, encoding)))


def test_large_parts_are_decoded_in_pieces() -> None:
    octets = random.Random(7).randbytes(3 << 20)
    for line_end in (b"\n", b"\r\n"):
        whole = region(base64.encodebytes(octets).replace(b"\n", line_end))
        pieces = list(decoded(whole, "base64"))
        assert b"".join(pieces) == octets
        assert max(map(len, pieces)) <= 1 << 18
        assert decoded_size(whole, "base64") == len(octets)


def test_more_parts_than_are_told_of_are_counted() -> None:
    parts = "".join(f"--b\r\n\r\n{n}\r\n" for n in range(300))
    raw = simple(parts.encode() + b"--b--\r\n", "Content-Type: multipart/mixed; boundary=b\r\n")
    facts = read_facts(region(raw), trusted=(), text_limit=100)
    assert (len(facts.parts), facts.parts_left_off) == (200, 100)
    assert facts.body.truncated


def test_parts_of_a_digest_are_messages_where_they_name_no_type() -> None:
    mail = (
        b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n"
        b"Subject: first\r\n\r\nA.\r\n--b\r\nContent-Type: text/plain\r\n\r\nB.\r\n--b--\r\n"
    )
    facts = read_facts(region(mail), trusted=(), text_limit=1000)
    assert [(one.path, one.content_type) for one in facts.parts] == [
        ("1", "message/rfc822"),
        ("1.1", "text/plain"),
        ("2", "text/plain"),
    ]
    assert facts.body.text == "B."


@pytest.mark.parametrize("parameters", ["", "; boundary=other", "; boundary=" + "b" * 300])
@pytest.mark.parametrize(
    ("beside", "attachments"),
    [
        ("", 0),
        ("Content-Disposition: inline\r\n", 0),
        ("Content-Disposition: attachment\r\n", 1),
        ("Content-Disposition: inline; filename=a.eml\r\n", 1),
    ],
)
def test_a_multipart_that_cannot_be_taken_apart_is_a_part_and_no_attachment(
    parameters: str, beside: str, attachments: int
) -> None:
    head = f"Content-Type: multipart/mixed{parameters}\r\n{beside}"
    raw = simple(b"--b\r\n\r\nHello\r\n--b--\r\n", head)
    facts = read_facts(region(raw), trusted=(), text_limit=1000)
    assert [(one.path, one.content_type) for one in facts.parts] == [("1", "multipart/mixed")]
    assert kept(facts.to_json()).get("n", 0) == attachments
    assert len(read_mail(facts.to_json()).attachments) == attachments
    assert len(make_event(raw=raw).attachments) == attachments
