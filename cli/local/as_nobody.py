"""Runs a program in a user namespace in which root is seen as `nobody` (user_namespaces(7)).

A program of its own, run by path: `python -I -S as_nobody.py PROGRAM ARGUMENT ...`. The kernel
makes a namespace only for a process of one thread (unshare(2), EINVAL), and after a fork from a
running Posthouse libraries may already have started theirs.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

CLONE_NEWUSER: Final = 0x10000000
NOBODY: Final = 65534


def main() -> None:
    """Replaces itself with the program; ends with 1 and one line where the kernel refuses."""
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        for name in ("uid_map", "gid_map"):
            Path("/proc/self", name).write_text(f"{NOBODY} 0 1", encoding="ascii")
        os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - what Posthouse itself passes
    except OSError as error:
        sys.exit(f"{sys.argv[1]} cannot be run without the rights of root: {error}")


if __name__ == "__main__":
    main()
