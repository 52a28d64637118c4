"""The reader of BER takes what senders write, in linear time, and refuses the rest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.decryptor.cms import ber
from services.decryptor.cms.ber import (
    MAX_CHUNKS,
    MAX_ITEMS,
    encode,
    octet_string,
    reader_at,
    skip,
    to_der,
)
from services.decryptor.cms.errors import Malformed
from services.decryptor.cms.oids import dotted, oid

pytestmark = pytest.mark.promise("C2")


def chunked(parts: list[bytes], tag: int = 0x24) -> bytes:
    """A constructed octet string of indefinite length."""
    return bytes((tag, 0x80)) + b"".join(encode(4, part) for part in parts) + b"\0\0"


@given(st.lists(st.binary(max_size=300), max_size=10), st.booleans())
def test_octet_strings_in_every_form(parts: list[bytes], nested: bool) -> None:
    whole = b"".join(parts)
    forms = [encode(4, whole), chunked(parts), encode(0x24, b"".join(encode(4, p) for p in parts))]
    if nested:
        forms.append(bytes((0x24, 0x80)) + chunked(parts) + encode(4, b"") + b"\0\0")
    for form in forms:
        source = reader_at(form + b"behind")
        assert octet_string(source) == whole
        assert source.position == len(form)
        assert to_der(form) == encode(4, whole)


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for buffer in (data, memoryview(data)):
        try:
            assert 0 < skip(buffer, 0, len(data)) <= len(data)
        except Malformed:
            pass
        try:
            to_der(bytes(buffer))
        except Malformed:
            pass


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x30", b"\x30\x05\x00", b"\x30\x84\xff\xff\xff\xff", b"\x30\x80", b"\x30\x80\x00",
        b"\x04\x80\x00\x00", b"\x1f\x81\x01\x00", b"\x30\xff", b"\x30\x89" + b"\0" * 20,
        b"\x30\x80" * 200 + b"\0\0" * 200,
    ],
)  # fmt: skip
def test_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        skip(data, 0, len(data))


def test_chunks_are_limited() -> None:
    """Chunks of one byte each would cost a minute for one mail."""
    data = b"\x24\x80" + b"\x04\x01x" * (MAX_CHUNKS + 1) + b"\0\0"
    with pytest.raises(Malformed, match="pieces"):
        for _ in reader_at(data).octets():
            pass


def test_der_is_made_in_one_way_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stepping over what is indefinite takes a way through all that lies in it, at each depth."""
    looked_at = 0
    read = ber.header

    def counted(buffer: ber.Buffer, position: int, end: int) -> tuple[int, int, int]:
        nonlocal looked_at
        looked_at += 1
        return read(buffer, position, end)

    monkeypatch.setattr(ber, "header", counted)
    depth, nothing = 40, encode(5, b"") * 1000
    made = nothing
    for _ in range(depth):
        made = encode(0x30, made)
    assert to_der(b"\x30\x80" * depth + nothing + b"\0\0" * depth + b"behind") == made
    assert looked_at == depth + 1000


def test_elements_are_limited() -> None:
    """Each costs a step, and two octets in a mail."""
    nothing = encode(5, b"")
    many = nothing * (MAX_CHUNKS + 1)
    with pytest.raises(Malformed, match="too many"):
        skip(b"\x30\x80" + many + b"\0\0", 0, len(many) + 4)
    source = reader_at(encode(0x30, many))
    with pytest.raises(Malformed, match="too many"):
        source.leave(source.enter(0x30))
    assert to_der(encode(0x30, nothing * (MAX_ITEMS - 1)))
    with pytest.raises(Malformed, match="too many"):
        to_der(encode(0x30, nothing * MAX_ITEMS))
    assert octet_string(reader_at(chunked([b"x"] * MAX_ITEMS)))
    with pytest.raises(Malformed, match="larger"):
        octet_string(reader_at(chunked([b"x"] * (MAX_ITEMS + 1))))


def test_deep_octet_strings_are_refused() -> None:
    data = b"\x24\x80" * 1000 + b"\0\0" * 1000
    with pytest.raises(Malformed, match="deeply"):
        octet_string(reader_at(data))


@given(st.lists(st.integers(0, 2**40), max_size=6))
def test_object_identifiers(arcs: list[int]) -> None:
    text = ".".join(map(str, [1, 2, *arcs]))
    assert dotted(oid(text)) == text or len(oid(text)) > 32


def test_sets_are_sorted() -> None:
    unsorted = bytes((0x31, 0x80)) + encode(4, b"b") + encode(4, b"a") + b"\0\0"
    assert to_der(unsorted) == encode(0x31, encode(4, b"a") + encode(4, b"b"))
