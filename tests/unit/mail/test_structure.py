"""The MIME tree: byte ranges of parts, and what is ambiguous about them."""

import pytest

from shared.mail.findings import FindingKind
from shared.mail.region import region
from shared.mail.structure import MAX_DEPTH, MAX_PARTS, entity, read_structure, split_multipart

HEAD = b'Content-Type: multipart/mixed; boundary="BB"\r\n\r\n'


def parts(mail: bytes) -> list[bytes]:
    return [one.copy() for one in split_multipart(entity(region(mail))).parts]


def kinds(mail: bytes) -> set[FindingKind]:
    return {one.kind for one in read_structure(region(mail)).all_findings}


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_parts_are_cut_as_they_lie(end: bytes) -> None:
    body = end.join([b"--BB", b"", b"one", b"", b"--BB \t", b"A: b", b"", b"two", b"--BB--", b""])
    mail = HEAD.replace(b"\r\n", end) + body
    assert parts(mail) == [end + b"one" + end, b"A: b" + end + end + b"two"]
    assert kinds(mail) == set()


def test_what_lies_around_the_parts_is_known() -> None:
    read = split_multipart(
        entity(region(HEAD + b"before\r\n--BB\r\n\r\nx\r\n--BB--\r\nbehind\r\n"))
    )
    assert (read.preamble.copy(), read.epilogue.copy()) == (b"before", b"behind\r\n")
    assert [one.detail for one in read.findings] == ["preamble", "epilogue"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"x\r--BB\r\n\r\nevil\r\n--BB\r\n\r\nx\r\n--BB--\r\n", FindingKind.BARE_CR),
        (
            b"--BB\r\n\r\nx\r\n--BB--tail\r\n--BB\r\n\r\nevil\r\n--BB--",
            FindingKind.DELIMITER_WITH_TAIL,
        ),
        (b"--BB\r\n\r\nx\r\n--BBtail\r\n\r\nevil\r\n--BB--", FindingKind.DELIMITER_WITH_TAIL),
        (
            b"--BB\r\n\r\nx\r\n--BB" + b" " * 200 + b"y\r\n\r\nevil\r\n--BB--",
            FindingKind.DELIMITER_WITH_TAIL,
        ),
        (b"--BB\r\n\r\nx\r\n", FindingKind.UNCLOSED_MULTIPART),
        (b"nothing", FindingKind.UNCLOSED_MULTIPART),
        (b"--BB\r\n\r\nx\r\n--BB--\r\n--BB\r\n\r\nevil", FindingKind.TEXT_OUTSIDE_PARTS),
        (b"--BB\r\n\r\nx\ry\r\n--BB--\r\n", FindingKind.BARE_CR),
        (
            b"--BB\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\nx\r\n--BB--",
            FindingKind.DUPLICATE_CONTENT_TYPE,
        ),
        (
            b"--BB\r\nContent-Transfer-Encoding: rot13\r\n\r\nx\r\n--BB--",
            FindingKind.UNKNOWN_TRANSFER_ENCODING,
        ),
        (b"--BB\r\n\r\nx\r\n" * (MAX_PARTS + 1) + b"--BB--", FindingKind.TOO_MANY_PARTS),
    ],
)
def test_what_others_read_differently_is_found(body: bytes, kind: FindingKind) -> None:
    assert kind in kinds(HEAD + body)


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (b"multipart/mixed", FindingKind.MALFORMED_BOUNDARY),
        (b"multipart/mixed; boundary=", FindingKind.MALFORMED_BOUNDARY),
        (b'multipart/mixed; boundary="BB "', FindingKind.MALFORMED_BOUNDARY),
        (b"multipart/mixed; boundary=" + b"B" * 71, FindingKind.MALFORMED_BOUNDARY),
        (b"multipart/mixed; boundary=BB; boundary=CC", FindingKind.DUPLICATE_PARAMETER),
        (b"multipart/mixed; boundary*=us-ascii''BB", FindingKind.ENCODED_BOUNDARY),
        (
            b"multipart/mixed; boundary=BB\r\nContent-Transfer-Encoding: base64",
            FindingKind.ENCODED_MULTIPART,
        ),
    ],
)
def test_an_odd_multipart_is_found(header: bytes, kind: FindingKind) -> None:
    mail = b"Content-Type: " + header + b"\r\n\r\n--BB\r\n\r\nx\r\n--BB--\r\n"
    assert kind in kinds(mail)


def test_messages_in_messages_are_parts() -> None:
    inner = b"Subject: inner\r\n\r\ntext"
    tree = read_structure(region(b"Content-Type: message/rfc822\r\n\r\n" + inner))
    (message,) = tree.parts
    assert message.whole.copy() == inner and message.entity.header.value("subject") == b"inner"


def test_depth_and_number_of_parts_are_bounded() -> None:
    deep = b"Content-Type: message/rfc822\r\n\r\n" * (MAX_DEPTH + 10)
    assert FindingKind.TOO_DEEP in kinds(deep)
    wide = b"".join(
        b"--BB\r\nContent-Type: multipart/mixed; boundary=C%d\r\n\r\n" % n
        + b"--C%d\r\n\r\nx\r\n" % n * 50
        for n in range(50)
    )
    tree = read_structure(region(HEAD + wide))
    assert sum(1 for _ in tree.walk()) <= MAX_PARTS
    assert FindingKind.TOO_MANY_PARTS in {one.kind for one in tree.all_findings}


def test_no_structure_takes_the_square_of_its_length() -> None:
    lines = [
        b"--BB\r\n",
        b"--BBx\r\n",
        b"x--BB",
        b"\r--BB",
        b"\r",
        b"--BB" + b" " * 70 + b"x",
        b"--BB\r\nContent-Type: multipart/mixed; boundary=BB\r\n\r\n",
    ]
    for line in lines:
        tree = read_structure(region(HEAD + line * ((1 << 20) // len(line))))
        assert tree.all_findings
