"""Where the intermediate forms of a mail lie: in memory while small, in a file once large.

A mail of 150 MB must not cost 150 MB of memory, nor one of 8 kB a file. What is written goes to a
`SpoolWriter`; what comes back is a `Region` of octets or of a memory-mapped file, which the readers
treat alike.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, Final

from shared.mail.region import WINDOW, Region, region

#: Linux: the open files of this process, by number; each can be opened again.
_OPEN_FILES: Final = Path("/proc/self/fd")


class SpoolWriter:
    """Collects octets; `finish` gives them back as a region."""

    __slots__ = ("_cut", "_file", "_parts", "_size", "_spool")

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._parts: list[bytes] = []
        self._size = 0
        self._cut = 0
        self._file: BinaryIO | None = None

    def __len__(self) -> int:
        return self._size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends `data`. Raises OSError where the disk is full."""
        if not data:
            return
        self._size += len(data)
        if self._file is not None:
            self._file.write(data)
        elif self._size <= self._spool.memory:
            self._parts.append(bytes(data))
        else:
            # Unnamed from the start: nothing is left behind even by a kill.
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 -- `finish` closes it
                dir=self._spool.directory
            )
            for part in self._parts:
                self._file.write(part)
            self._parts.clear()
            self._file.write(data)

    def cut(self, count: int) -> None:
        """Leaves the last `count` octets out of what `finish` gives."""
        self._cut = count

    def finish(self) -> Region:
        """What was written. The sink takes nothing more."""
        end = self._size - self._cut
        if self._file is None:
            parts, self._parts = self._parts, []
            return Region(parts[0] if len(parts) == 1 else b"".join(parts), 0, end)
        with self._file as file:
            self._file = None
            file.flush()
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return Region(self._spool.keep(mapping), 0, end)

    def discard(self) -> None:
        """Drops what was written: unauthentic plaintext must not be looked at."""
        self._parts.clear()
        if self._file is not None:
            self._file.close()
            self._file = None


class Spool:
    """The temporary files of one mail in `directory`; `close` removes them.

    `memory` is up to how many octets one form of the mail stays in memory.
    """

    __slots__ = ("_held", "_mappings", "_paths", "directory", "memory")

    def __init__(self, directory: Path, memory: int) -> None:
        self.directory = directory
        self.memory = memory
        self._mappings: list[mmap.mmap] = []
        self._paths: list[Path] = []
        self._held: list[int] = []

    def sink(self) -> SpoolWriter:
        return SpoolWriter(self)

    def keep(self, mapping: mmap.mmap) -> mmap.mmap:
        """Closes `mapping` together with the spool."""
        self._mappings.append(mapping)
        return mapping

    def drop(self, part: Region) -> None:
        """Frees a form that is not needed any more; no other region of it may be in use."""
        if isinstance(part.buffer, mmap.mmap) and part.buffer in self._mappings:
            self._mappings.remove(part.buffer)
            part.buffer.close()

    def named(self) -> tuple[BinaryIO, Path]:
        """A new file, open for writing, and a path that is good until the spool is closed.

        Where the kernel has it, the path is that of an open file without a name in any folder:
        nothing is left behind by a kill.
        """
        if _OPEN_FILES.is_dir():
            file = tempfile.TemporaryFile(dir=self.directory)  # noqa: SIM115
            self._held.append(os.dup(file.fileno()))
            return file, _OPEN_FILES / str(self._held[-1])
        descriptor, name = tempfile.mkstemp(prefix="opened-", suffix=".eml", dir=self.directory)
        self._paths.append(Path(name))
        return os.fdopen(descriptor, "wb"), Path(name)

    def release_mappings(self) -> None:
        """Closes the intermediate forms; the files with a path stay."""
        while self._mappings:
            # An exported view can only be left over by a bug; the garbage collector closes it.
            with contextlib.suppress(BufferError):
                self._mappings.pop().close()

    def close(self) -> None:
        self.release_mappings()
        while self._paths:
            self._paths.pop().unlink(missing_ok=True)
        while self._held:
            os.close(self._held.pop())


def source(raw: BinaryIO | bytes | bytearray | memoryview, spool: Spool) -> Region:
    """The mail as a region: files are mapped, other streams are copied to the spool first."""
    if isinstance(raw, bytes):
        return region(raw)
    if isinstance(raw, bytearray | memoryview):
        return region(bytes(raw))
    try:
        descriptor = raw.fileno()
        if os.fstat(descriptor).st_size:
            return region(spool.keep(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)))
        return region(b"")
    except (OSError, ValueError, AttributeError):
        sink = spool.sink()
        while piece := raw.read(WINDOW):
            sink.write(piece)
        return sink.finish()
