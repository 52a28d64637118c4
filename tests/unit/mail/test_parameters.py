"""Parameters of Content-Type and Content-Disposition."""

import pytest

from shared.mail.findings import FindingKind
from shared.mail.parameters import read_parameters


@pytest.mark.parametrize(
    ("value", "kind", "parameters"),
    [
        (b" Text/Plain", "text/plain", {}),
        (b"text/plain; charset=UTF-8;", "text/plain", {"charset": "UTF-8"}),
        (b'a/b; Name="x;y\\"z"', "a/b", {"name": 'x;y"z'}),
        (b"a/b (a (nested) comment); x=1 (another)", "a/b", {"x": "1"}),
        (b"a/b;\r\n\tx = 1 ;\r\n y=2", "a/b", {"x": "1", "y": "2"}),
        (b"a/b; n*=utf-8'en'%E2%82%ac", "a/b", {"n": "€"}),
        (b"a/b; n*1=c; n*0=ab", "a/b", {"n": "abc"}),
        (b"a/b; n*0*=utf-8''%e2%82; n*1*=%ac; n*2=%41", "a/b", {"n": "€%41"}),
        (b"a/b; n*=no-such-charset''%e2%82%ac", "a/b", {"n": "€"}),
        (b'a/b; n="\xe2\x82\xac"', "a/b", {"n": "€"}),
    ],
)
def test_parameters_are_read(value: bytes, kind: str, parameters: dict[str, str]) -> None:
    read = read_parameters(value)
    assert (read.value, dict(read.parameters), read.findings) == (kind, parameters, ())


@pytest.mark.parametrize(
    ("value", "kind", "parameters"),
    [
        (b"a/b; x=1; x=2", FindingKind.DUPLICATE_PARAMETER, {"x": "1"}),
        (b"a/b; x=1; x*=utf-8''2", FindingKind.DUPLICATE_PARAMETER, {"x": "1"}),
        (b"a/b; x*=utf-8''2; x=1", FindingKind.DUPLICATE_PARAMETER, {"x": "1"}),
        (b"a/b; x*0=2; x=1", FindingKind.DUPLICATE_PARAMETER, {"x": "1"}),
        (b"a/b; x*0=1; x*0=2", FindingKind.DUPLICATE_PARAMETER, {"x": "1"}),
        (b"a/b; boundary*=us-ascii''BB", FindingKind.ENCODED_BOUNDARY, {"boundary": "BB"}),
        (b"a/b; boundary*0=B; boundary*1=B", FindingKind.ENCODED_BOUNDARY, {"boundary": "BB"}),
        (b"a/b; x*1=b; x*2=c", FindingKind.MALFORMED_PARAMETER, {"x": "bc"}),
        (b"a/b; x", FindingKind.MALFORMED_PARAMETER, {}),
        (b"a/b x=1", FindingKind.MALFORMED_CONTENT_TYPE, {"x": "1"}),
        (b"a/b, x=1; y=2", FindingKind.MALFORMED_CONTENT_TYPE, {"x": "1", "y": "2"}),
        (b'a/b\r\n\tx="1;2"', FindingKind.MALFORMED_CONTENT_TYPE, {"x": "1;2"}),
        (b"a/b c", FindingKind.MALFORMED_CONTENT_TYPE, {}),
        (b"a/b c x=1", FindingKind.MALFORMED_CONTENT_TYPE, {}),
        (b'a/b; x="1', FindingKind.MALFORMED_PARAMETER, {"x": '"1'}),
        (b'a/b; x="1"y; z=2', FindingKind.MALFORMED_PARAMETER, {"x": "1", "z": "2"}),
        (b"a/b (unclosed; x=1", FindingKind.MALFORMED_PARAMETER, {}),
        (b"; x=1", FindingKind.MALFORMED_CONTENT_TYPE, {"x": "1"}),
        (b"a/b/c; x=1", FindingKind.MALFORMED_CONTENT_TYPE, {"x": "1"}),
    ],
)
def test_what_others_read_differently_is_found(
    value: bytes, kind: FindingKind, parameters: dict[str, str]
) -> None:
    read = read_parameters(value)
    assert kind in [one.kind for one in read.findings]
    assert dict(read.parameters) == parameters


@pytest.mark.parametrize(
    "value",
    [b"text/html charset=utf-8", b"text/html, charset=utf-8", b"text/html\t charset = utf-8;",
     b'Text/HTML charset="utf-8"', b"text/html\r\n charset=utf-8"],
)  # fmt: skip
def test_a_type_ends_where_a_semicolon_was_forgotten(value: bytes) -> None:
    read = read_parameters(value)
    assert (read.value, read.parameters["charset"]) == ("text/html", "utf-8")
    assert [one.kind for one in read.findings] == [FindingKind.MALFORMED_CONTENT_TYPE]


def test_no_value_takes_the_square_of_its_length() -> None:
    for piece in (b"(", b"((", b";", b"; x", b"; x=1", b'"', b"\\", b"(\\", b"; x*1=2", b"; x*=''"):
        for start in (b"a/b; ", b"a/b"):
            assert read_parameters(start + piece * (100_000 // len(piece))).findings
    for piece in (b" x", b" a=", b", ", b" \t,x"):
        read_parameters(b"a/b" + piece * (100_000 // len(piece)))


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        # A label stands for what is really sent under it, here as everywhere.
        (b"filename*=gb2312''%94%E5.txt", "斿.txt"),
        (b"filename*=ks_c_5601-1987''%8C%63.txt", "똠.txt"),
        (b"filename*=shift_jis''%87%40.txt", "①.txt"),
        (b"filename*=iso-2022-jp''%1B$B-!%1B%28B.txt", "①.txt"),
        (b"filename*=cp-1252''%80.txt", "€.txt"),
        (b"filename*=iso-8859-1''%80.txt", "€.txt"),
        (b"filename*=x-mac-roman''%8E.txt", "é.txt"),
        (b"filename*=windows-874''%A1.txt", "ก.txt"),
        (b"filename*=utf-7''+ACE-.txt", "!.txt"),
        (b"filename*=punycode''abc-.txt", "abc-.txt"),
        (b"filename*=unheard''%C3%A9.txt", "é.txt"),
        (b"filename*=iso-8859-1''%C3%A9.txt", "Ã©.txt"),
        (b"filename*1*=%AC.txt; filename*0*=utf-8''%E2%82", "€.txt"),
        (b"filename*0*=gb2312''%94; filename*1*=%E5; filename*2=.txt", "斿.txt"),
        (b'filename="\xc3\xa9.txt"', "é.txt"),
        (b'filename="\xe9.txt"', "é.txt"),
        (b'filename="\x1b$B8+@Q=q\x1b(B.txt"', "見積書.txt"),
        # Quotes that were forgotten.
        (b"filename=a b.txt; size=3", "a b.txt"),
        (b"filename=a (1).txt; size=3", "a (1).txt"),
        (b"filename=a.txt (comment); size=3", "a.txt"),
        (b'filename="a b.txt', "a b.txt"),
        # What is written for old programs stands beside.
        (b"filename=a.txt; filename*=utf-8''%C3%A9.txt", "é.txt"),
        (b"filename*=utf-8''%C3%A9.txt; filename=a.txt", "é.txt"),
        (b"filename=a.txt; filename*0*=utf-8''%C3; filename*1*=%A9.txt", "é.txt"),
        (b"filename=a.txt; filename=b.txt", "a.txt"),
        (b"filename*=utf-8''a; filename*=utf-8''b", "a"),
    ],
)
def test_names_of_files_are_read_as_they_are_sent(sent: bytes, name: str) -> None:
    assert read_parameters(b"attachment; " + sent).parameters["filename"] == name


@pytest.mark.parametrize(
    "sent",
    [b"boundary=a; boundary*=utf-8''b", b"boundary*=utf-8''b; boundary=a"],
)
def test_a_boundary_is_the_plain_one(sent: bytes) -> None:
    read = read_parameters(b"multipart/mixed; " + sent)
    assert read.parameters["boundary"] == "a"
    assert "duplicate-parameter" in [one.kind for one in read.findings]
