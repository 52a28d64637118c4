"""Forms of a mail in files: all of it is there, or the disk is said to be full."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest

from services.decryptor.spool import Spool


@pytest.mark.promise("C4")
def test_a_form_is_not_cut_off_where_the_disk_is_full(tmp_path: Path) -> None:
    """The kernel takes what still fits of a write, and says so by a number alone."""
    spool = Spool(tmp_path, memory=10)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        sink = spool.sink()
        with pytest.raises(OSError) as raised:
            sink.write(b"x" * ((1 << 20) + 1))
            sink.finish()
        assert raised.value.errno == errno.EFBIG
        file, _ = spool.named()
        with pytest.raises(OSError), file:
            file.write(b"x" * ((1 << 20) + 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        spool.close()


@pytest.mark.promise("C4")
def test_a_form_in_a_file_is_there_to_its_last_octet(tmp_path: Path) -> None:
    """Also what no buffer of the file was full with."""
    spool = Spool(tmp_path, memory=10)
    pieces = [b"x" * 100_000, b"the end"]
    try:
        sink = spool.sink()
        for piece in pieces:
            sink.write(piece)
        assert sink.finish().copy() == b"".join(pieces)
    finally:
        spool.close()
