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
        (b"a/b x=1", FindingKind.MALFORMED_CONTENT_TYPE, {}),
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


def test_no_value_takes_the_square_of_its_length() -> None:
    for piece in (b"(", b"((", b";", b"; x", b"; x=1", b'"', b"\\", b"(\\", b"; x*1=2", b"; x*=''"):
        for start in (b"a/b; ", b"a/b"):
            assert read_parameters(start + piece * (100_000 // len(piece))).findings
