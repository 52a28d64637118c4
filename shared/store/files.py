"""The store as files below one folder."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO

from shared.clock import new_id
from shared.messages import RawRef
from shared.store.base import (
    CHUNK,
    MARKER,
    PAGE,
    MissingObject,
    Pack,
    identity_in,
    missing_object,
    new_key,
    translated,
)


class FileStore:
    """Objects as files below one folder, for one machine or a shared volume."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._spool = root / "spool"
        self._spool.mkdir(parents=True, exist_ok=True)
        self._made: set[Path] = set()

    def pack(self) -> Pack:
        spool = self._spool / new_id().hex
        return Pack(self, lambda: spool.open("xb", buffering=CHUNK), new_key())

    def keep(self, file: IO[bytes], key: str) -> None:
        """It has its name before it is durable: nobody knows the key of a pack until this returns,
        and file systems with a journal sync a new file and its name at once, in half the time."""
        file.flush()
        target = self._root / key
        if target.parent not in self._made:
            self._make_durable_folder(target.parent)
        Path(file.name).rename(target)
        try:
            os.fsync(file.fileno())
            _sync_folder(target.parent)
        except OSError:
            with contextlib.suppress(OSError):
                target.unlink()
            raise

    def read(self, ref: RawRef) -> bytes:
        return b"".join(self._pieces(ref, ref.size))

    def stream(self, ref: RawRef) -> Iterator[bytes]:
        return self._pieces(ref, CHUNK)

    def _pieces(self, ref: RawRef, most: int) -> Iterator[bytes]:
        left = ref.size
        try:
            with (self._root / ref.key).open("rb") as file:
                file.seek(ref.offset)
                while left:
                    chunk = file.read(min(left, most))
                    if not chunk:
                        raise MissingObject(f"The store's object {ref.key} is shorter than it was.")
                    left -= len(chunk)
                    yield chunk
        except FileNotFoundError as error:
            raise missing_object(ref.key) from error
        except OSError as error:
            raise translated(error, "read from") from error

    def delete(self, key: str) -> None:
        (self._root / key).unlink(missing_ok=True)

    def delete_all(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.delete(key)

    def days(self, before: str) -> list[str]:
        found = (path.relative_to(self._root).as_posix() for path in self._root.glob("raw/*/*/*"))
        return sorted(day for day in found if day < before)

    def keys_of(self, day: str) -> Iterator[list[str]]:
        names = sorted(path.name for path in (self._root / day).iterdir())
        for start in range(0, len(names), PAGE):
            yield [f"{day}/{name}" for name in names[start : start + PAGE]]

    def sweep(self, before: datetime) -> int:
        swept = 0
        for path in self._spool.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its owner lived, and finished it
                if path.stat().st_mtime < before.timestamp():
                    path.unlink()
                    swept += 1
        return swept

    def check(self) -> None:
        with self.pack() as pack:
            pack.write(b"posthouse")
            pack.flush()

    def marker(self) -> uuid.UUID | None:
        try:
            return identity_in((self._root / MARKER).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise translated(error, "read from") from error

    def mark(self, identity: uuid.UUID) -> None:
        try:
            with (self._spool / new_id().hex).open("xb") as file:
                file.write(str(identity).encode() + b"\n")
                # What stands there now is whole until this one is.
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).rename(self._root / MARKER)
                _sync_folder(self._root)
        except OSError as error:
            raise translated(error, "write to") from error

    def is_empty(self) -> bool:
        return next(self._root.glob("raw/*/*/*/*"), None) is None

    def space(self) -> tuple[int, int] | None:
        try:
            found = os.statvfs(self._root)
        except OSError as error:
            raise translated(error, "read from") from error
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def _make_durable_folder(self, folder: Path) -> None:
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in reversed(missing):
            _sync_folder(made.parent)
        self._made.add(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
