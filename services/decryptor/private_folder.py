"""A folder for plaintext that only this process uses, and that does not outlive it for long.

Mails are opened through files; whoever kills a decryptor must find none of them later. They have no
name where the kernel can do without (`spool`); for where it cannot, each process has a folder of
its own (mode 0700) and holds a lock on it, which ends with the process however it ends. Whoever
starts removes the folders that nobody holds any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Final

import structlog

_log = structlog.get_logger(__name__)
_PREFIX: Final = "posthouse-decryptor-"


class PrivateFolder:
    """`path` makes the folder inside `parent` on first use; `close` removes it. Thread-safe."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._held = -1

    @property
    def path(self) -> Path:
        """Raises OSError where it cannot be made."""
        with self._lock:
            if self._path is None:
                self._make()
            assert self._path is not None
            return self._path

    def _make(self) -> None:
        self._parent.mkdir(parents=True, exist_ok=True)
        parent = os.open(self._parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Held while one looks and makes: a folder is never seen before it is locked.
            fcntl.flock(parent, fcntl.LOCK_EX)
            self._remove_leftovers()
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))  # 0700
            self._held = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._held, fcntl.LOCK_EX)
            self._path = path
        finally:
            os.close(parent)

    def _remove_leftovers(self) -> None:
        for path in self._parent.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):  # another user's, or in use
                if path.is_symlink() or path.stat().st_uid != os.getuid():
                    continue
                held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
                    _log.info("leftovers of a killed decryptor removed", folder=path.name)
                finally:
                    os.close(held)

    def close(self) -> None:
        with self._lock:
            path, self._path = self._path, None
            if path is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(self._held)
