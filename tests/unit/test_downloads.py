"""What a command downloads into a file, where it comes by half."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import downloads
from shared.errors import TryAgain

#: The system takes no more than 64 KiB of a file, as where a disk is full.
_PROGRAM = """
import resource, sys
from pathlib import Path
from cli import downloads
from shared.errors import InvalidInput
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
try:
    downloads.write(iter([b"x" * (1 << 20)]), Path(sys.argv[1]))
except InvalidInput as error:
    print(error)
"""


def by_half() -> Iterator[bytes]:
    yield b"the first half"
    raise TryAgain("The admin service is away.")


def test_a_file_of_half_a_mail_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "mail.eml"
    with pytest.raises(TryAgain):
        downloads.write(by_half(), file)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_disk_has_no_room_for_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "mail.eml"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(file)], capture_output=True, text=True, timeout=60
    )
    assert "cannot be written" in done.stdout, done.stderr
    assert not file.exists()


def test_what_is_no_file_stays(tmp_path: Path) -> None:
    """Such as /dev/stdout, which is a link, and /dev/null."""
    link, pipe = tmp_path / "stdout", tmp_path / "pipe"
    (tmp_path / "file").touch()
    link.symlink_to(tmp_path / "file")
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for path in (link, pipe):
            with pytest.raises(TryAgain):
                downloads.write(by_half(), path)
    finally:
        os.close(reading)
    assert link.is_symlink()
    assert pipe.is_fifo()
