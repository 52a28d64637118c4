"""base64 bodies of any shape, small and larger than what is decoded in one go."""

from __future__ import annotations

import base64
from pathlib import Path
from random import Random

import pybase64
import pytest

from services.decryptor.spool import Spool
from services.decryptor.transfer_encodings import Undecodable, decode
from shared.mail.region import WINDOW, region

CONTENT = Random(7).randbytes(3 * WINDOW)


def decoded(body: bytes, folder: Path, memory: int = 1 << 24) -> bytes:
    spool = Spool(folder, memory)
    try:
        return decode(region(body), "base64", spool).copy()
    finally:
        spool.close()


def in_lines(content: bytes, length: int, end: bytes) -> bytes:
    text = base64.b64encode(content)
    return b"".join(text[at : at + length] + end for at in range(0, len(text), length))


@pytest.mark.parametrize("memory", [1 << 24, 1 << 16], ids=["in memory", "by a file"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize("length", [4, 57, 64, 76, 77, 998, 5000])
@pytest.mark.parametrize("size", [1, 200, WINDOW, 3 * WINDOW - 1, 3 * WINDOW])
def test_lines_of_any_length(
    size: int, length: int, end: bytes, memory: int, tmp_path: Path
) -> None:
    content = CONTENT[:size]
    assert decoded(in_lines(content, length, end), tmp_path, memory) == content


@pytest.mark.parametrize("memory", [1 << 24, 1 << 16], ids=["in memory", "by a file"])
def test_lines_that_change_on_the_way(memory: int, tmp_path: Path) -> None:
    half = len(CONTENT) // 6 * 3
    body = in_lines(CONTENT[:half], 76, b"\r\n") + in_lines(CONTENT[half:], 64, b"\n")
    assert decoded(body, tmp_path, memory) == CONTENT
    spread = in_lines(CONTENT, 76, b"\r\n").replace(b"\r\n", b"\r\n\t ", 5000)
    assert decoded(spread, tmp_path, memory) == CONTENT


def as_in_one_go(body: bytes, folder: Path) -> None:
    try:
        expected = pybase64.b64decode(body)
    except ValueError:
        with pytest.raises(Undecodable):
            decoded(body, folder)
    else:
        assert decoded(body, folder) == expected


@pytest.mark.parametrize("size", [100, WINDOW // 4 * 3 - 2, WINDOW, 2 * WINDOW + 1])
def test_what_comes_behind_the_end_does_not_depend_on_windows(size: int, tmp_path: Path) -> None:
    body = in_lines(CONTENT[:size], 76, b"\r\n") + b"\r\n-- \r\nThe list's footer.\r\n"
    as_in_one_go(body + in_lines(CONTENT, 76, b"\r\n"), tmp_path)


def test_padding_at_the_end_of_a_window(tmp_path: Path) -> None:
    """The first window ends with a padded quadruple; what follows is not glued on."""
    line = 78
    first = WINDOW // line // 4 * 4 * 76 // 4 * 3 - 2
    assert first % 3 == 1
    body = in_lines(CONTENT[:first], 76, b"\r\n")
    assert len(body) == WINDOW // line // 4 * 4 * line
    as_in_one_go(body + in_lines(CONTENT, 76, b"\r\n"), tmp_path)


def test_damage_is_told(tmp_path: Path) -> None:
    body = in_lines(CONTENT, 76, b"\r\n")
    with pytest.raises(Undecodable):
        decoded(body[:-5], tmp_path, 1 << 16)
    with pytest.raises(Undecodable):
        decoded(body[:-5], tmp_path)
