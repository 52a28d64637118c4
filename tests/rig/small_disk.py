"""A small disk of its own, to be filled: a tmpfs, mounted as root."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


class SmallDisk:
    """`fill` takes its last octet, or all but so many; `free` gives that back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, *, leaving: int = 0) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
        with self._ballast.open("r+b") as file:
            file.truncate(self._ballast.stat().st_size - leaving)

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mounts a disk of that size at `path`, which is made."""
    path.mkdir(parents=True, exist_ok=True)
    owner = path.stat()
    options = f"size={megabytes}m,uid={owner.st_uid},gid={owner.st_gid},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
    try:
        yield SmallDisk(path)
    finally:
        # Whoever still has a file open on it keeps it until then.
        subprocess.run(["umount", "--lazy", os.fspath(path)], check=True)
