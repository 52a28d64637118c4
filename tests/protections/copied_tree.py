"""A copy of the tree in which a protection can be removed, with an environment that imports it.

The copy's environment consists of links to the installed packages, but for those that lead to the
tree itself (editable installs): whatever environment a test gives to the processes that it starts,
none of them imports the original.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

#: Python compares the times of sources in seconds: each state of a module has one of its own.
_TIMES = itertools.count(4_000_000_000 // 2)


class CopiedTree:
    """The files of `root` that git tracks or does not ignore, as they are now, in `folder`."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (root / name).is_file():  # not what was deleted and is not committed yet
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name)
        self.python = _linked_environment(root, folder)

    @contextlib.contextmanager
    def changed(self, module: str, text: str) -> Iterator[None]:
        """Has `text` in place of the module's own."""
        path = self.folder / module
        before = path.read_text(encoding="utf-8")
        try:
            _write(path, text)
            yield
        finally:
            _write(path, before)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    now = next(_TIMES)
    os.utime(path, (now, now))


def _linked_environment(root: Path, folder: Path) -> Path:
    """Makes `.venv` in the copy; its interpreter."""
    original, copy = Path(sys.prefix), folder / ".venv"
    packages = Path(sysconfig.get_path("purelib")).relative_to(original)
    (copy / packages).mkdir(parents=True)
    (copy / "bin").mkdir()
    shutil.copy2(original / "pyvenv.cfg", copy)
    for entry in (original / packages).iterdir():
        if entry.suffix == ".pth":
            text = entry.read_text(encoding="utf-8").replace(str(root), str(folder))
            (copy / packages / entry.name).write_text(text, encoding="utf-8")
        else:
            (copy / packages / entry.name).symlink_to(entry)
    for program in (original / "bin").iterdir():
        _copy_program(program, copy / "bin" / program.name, str(original), str(copy))
    for beside in ("policy",):  # programs with packages of their own
        if (original / beside).exists():
            (copy / beside).symlink_to(original / beside)
    return copy / "bin" / "python"


def _copy_program(program: Path, copy: Path, original: str, new: str) -> None:
    """A script starts the interpreter that its first line names."""
    if program.name.startswith("python"):
        copy.symlink_to(program.resolve())
    elif program.is_file() and program.read_bytes().startswith(b"#!"):
        script = program.read_text(encoding="utf-8").replace(original, new)
        copy.write_text(script, encoding="utf-8")
        copy.chmod(0o755)
    elif program.is_file():
        copy.symlink_to(program)
