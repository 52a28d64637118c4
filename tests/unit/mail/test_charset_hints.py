"""Raw octets in a header: UTF-8, else what the mail says of its texts."""

import pytest

from shared.mail.facts import read_facts
from shared.mail.fields import read_fields, split_header
from shared.mail.findings import FindingKind
from shared.mail.region import Region, region
from shared.mail.summary import read_headers

#: (a label as senders write it, the codec that it stands for, a text).
SETS = [
    ("gb2312", "gbk", "关于报价镕"),
    ("ks_c_5601-1987", "cp949", "견적 똠"),
    ("big5", "cp950", "報價單碁"),
    ("shift_jis", "cp932", "御見積書①"),
    ("euc-jp", "euc_jp", "御見積書"),
    ("windows-1251", "cp1251", "Счёт на оплату"),
    ("koi8-r", "koi8_r", "Счёт на оплату"),
    ("koi8-u", "koi8_u", "Рахунок ґ"),
    ("windows-874", "cp874", "สวัสดี"),
    ("iso-8859-7", "iso8859_7", "Καλημέρα"),
    ("iso-8859-9", "cp1254", "Işık €"),
    ("windows-1255", "cp1255", "שלום"),
    ("windows-1250", "cp1250", "Žluťoučký"),
    ("macintosh", "mac_roman", "Grüße"),
]


def mail(label: str, raw: bytes) -> bytes:
    """One with these octets wherever people write, and the label at its first text only."""
    return b"\r\n".join(
        (
            b'From: "' + raw + b'" <a@x.example>',
            b"To: " + raw + b" <b@x.example>",
            b"Reply-To: " + raw + b" <c@x.example>",
            b"Sender: " + raw + b" <d@x.example>",
            b"Subject: Re: " + raw,
            b"Content-Type: multipart/mixed; boundary=B",
            b"",
            b"--B",
            b'Content-Type: text/plain; charset="' + label.encode() + b'"',
            b"",
            b"x",
            b"--B",
            b'Content-Type: application/pdf; name="' + raw + b'.pdf"',
            b"",
            b"x",
            b"--B",
            b"Content-Type: application/pdf",
            b'Content-Disposition: attachment; filename="' + raw + b'.pdf"',
            b"",
            b"x",
            b"--B--",
            b"",
        )
    )


@pytest.mark.promise("F1")
@pytest.mark.parametrize(("label", "codec", "text"), SETS)
def test_raw_octets_are_what_the_first_text_is(label: str, codec: str, text: str) -> None:
    for octets in (text.encode(codec), text.encode()):
        raw = mail(label, octets)
        read = read_headers(raw)
        assert (read.sender_name, read.to_names, read.subject) == (text, (text,), f"Re: {text}")
        facts = read_facts(region(raw), trusted=(), text_limit=100)
        assert facts.sender is not None
        assert [one.name for one in (*facts.reply_to, facts.sender)] == [text, text]
        assert [one.name for one in facts.parts] == ["", f"{text}.pdf", f"{text}.pdf"]
        doubtful = FindingKind.CHARSET_MISMATCH in {one.kind for one in read.findings}
        assert doubtful is (octets != text.encode())


@pytest.mark.parametrize(
    ("header", "body", "label"),
    [
        (b"Subject: \xd1\r\nContent-Type: text/plain; charset=koi8-r\r\n", b"", "koi8-r"),
        (b'Subject: \xd1\r\nContent-Type: text/html;\r\n\tCharset = "KOI8-R"\r\n', b"", "KOI8-R"),
        (b"Subject: \xd1\r\nFrom: =?koi8-r*ru?B?8A==?= <a@x>\r\n", b"", "koi8-r"),
        (b"Subject: \xd1\r\n", b"--B\r\nContent-Type: text/plain; charset=koi8-r\r\n", "koi8-r"),
        (b"Subject: \xd1\r\n", b'<meta http-equiv="x" content="a; charset=koi8-r">', "koi8-r"),
        # What says no more than octets do is passed over.
        (b"From: =?utf-8?Q?a?= <a@x>\r\nSubject: \xd1\r\n", b"charset=koi8-r", "koi8-r"),
        (b"Subject: \xd1\r\nX: charset=us-ascii charset=no-such\r\n", b"charset=big5", "big5"),
        (b"Subject: \xd1\r\n", b"x", ""),
        (b"Subject: \xc3\xa4\r\nContent-Type: text/plain; charset=koi8-r\r\n", b"", ""),
        (b"Subject: a\r\nContent-Type: text/plain; charset=koi8-r\r\n", b"", ""),
        (b"Subject: \xd1\r\n", b" " * 20_000 + b"charset=koi8-r", ""),
    ],
)
def test_a_set_is_named_in_the_header_or_at_the_start_of_the_body(
    header: bytes, body: bytes, label: str
) -> None:
    whole = header + b"\r\n" + body
    assert read_fields(whole).charset_hint == label
    assert split_header(region(whole))[0].charset_hint == label


def test_a_message_ends_where_it_ends() -> None:
    raw = b"Subject: \xd1\r\n\r\n"
    within = raw + b"Content-Type: text/plain; charset=koi8-r\r\n"
    whole = Region(b" " * 10_000 + within, 10_000, 10_000 + len(raw))
    assert split_header(whole)[0].charset_hint == ""


def text_of(content_type: bytes, octets: bytes, subject: bytes = b"x") -> str:
    raw = b"Subject: " + subject + b"\r\n" + content_type + b"\r\n" + octets + b"\r\n"
    return read_facts(region(raw), trusted=(), text_limit=100).body.text.strip()


@pytest.mark.promise("F1")
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"Content-Type: text/html\r\n",
        b"Content-Type: text/html; charset=us-ascii\r\n",
        b'Content-Type: text/html; charset=""\r\n',
        b"Content-Type: text/html; charset=unknown-8bit\r\n",
        b"Content-Type: text/html; charset=no-such\r\n",
        b"Content-Type: text/plain\r\n",
        b"Content-Type: text/plain; charset=us-ascii\r\n",
    ],
)
@pytest.mark.parametrize(("label", "codec", "text"), SETS)
def test_a_text_that_names_no_set_has_that_of_its_mail(
    said: bytes, label: str, codec: str, text: str
) -> None:
    octets, name = text.encode(codec), label.encode()
    assert text_of(said, octets, b"=?" + name + b"?Q?a?=") == text
    assert text_of(said, text.encode(), b"=?" + name + b"?Q?a?=") == text
    if b"html" in said:
        for meta in (b'<meta charset="%b">', b'<META content="text/html; charset=%b">'):
            page = b"<html><head>" + meta % name + b"</head><body>" + octets + b"</body></html>"
            # What the page says of itself goes before what stands elsewhere.
            assert text_of(said, page, b"=?iso-8859-1?Q?=FC?=") == text


def test_a_label_that_is_known_goes_before_what_a_page_says() -> None:
    page = b'<meta charset="koi8-r"><body>' + "Счёт".encode("cp1251")
    assert text_of(b"Content-Type: text/html; charset=windows-1251\r\n", page) == "Счёт"
