"""Where the tests and their servers keep temporary files: in memory, where there is room.

Databases, mailboxes and stores are made and removed thousands of times in a run, and nobody reads
them after it. On a disk that took a fifth of the processor time of a run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

#: Linux has a file system in memory there; in a container it has 64 MB by default.
MEMORY = Path("/dev/shm")
#: Octets. Three test processes with their servers use about two gigabytes at a time.
ROOM = 8 << 30


def keep_in_memory() -> None:
    """For this process and all that it starts. TMPDIR, where it is set, goes before."""
    if not os.environ.get("TMPDIR") and has_room(MEMORY):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # found anew when it is asked for


def has_room(folder: Path) -> bool:
    """Whether `folder` takes files and programs, as large as tests have them."""
    try:
        found = os.statvfs(folder)
        free = min(found.f_bavail * found.f_frsize, _free_memory())
    except OSError:
        return False
    takes = os.access(folder, os.W_OK) and not found.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)
    return takes and free >= ROOM


def _free_memory() -> int:
    """Octets that programs can have without anything being swapped; see proc(5)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0
