"""The store: raw mail by key, durable once `Pack.commit` has returned.

A *pack* is one object that holds the mails of one batch, one after the other; a mail is a range
of it (`RawRef`). A file store syncs the pack and its folder; the others take the bucket's word.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import unquote, urlsplit

from shared.clock import new_id, time_of
from shared.errors import InvalidInput, NotFound, TryAgain
from shared.messages import RawRef

CHUNK = 1 << 20
#: The object that says whose store it is.
MARKER = "posthouse-store"


class StoreFull(TryAgain):
    """There is no room for another mail; fetching waits until there is."""

    code = "store-full"


class MissingObject(NotFound):
    """The store does not have what was written to it."""

    code = "bytes-missing"


class Pack:
    """A new object of the store, written front to back. Use as a context manager.

    Bytes are spooled to a local file; `commit` makes them durable under `key`. Without a commit
    nothing stays.
    """

    def __init__(self, store: Store, file: IO[bytes], key: str) -> None:
        self.key = key
        self.size = 0
        self._store = store
        self._file: IO[bytes] | None = file

    def write(self, chunk: bytes | memoryview) -> None:
        assert self._file is not None
        try:
            self._file.write(chunk)
        except OSError as error:
            raise _translated(error, "write to") from error
        self.size += len(chunk)

    def flush(self) -> None:
        """Writes what is buffered, so that a full disk shows."""
        assert self._file is not None
        try:
            self._file.flush()
        except OSError as error:
            raise _translated(error, "write to") from error

    def truncate(self, size: int) -> None:
        """Takes back what was written after `size`: a mail that broke off half-way."""
        assert self._file is not None
        self._file.seek(size)
        self._file.truncate()
        self.size = size

    def commit(self) -> None:
        """Returns when the object is durable. Raises TryAgain where it could not be made so."""
        assert self._file is not None
        file, self._file = self._file, None
        try:
            self._store.keep(file, self.key)
        except OSError as error:
            raise _translated(error, "write to") from error
        finally:
            _discard(file)

    def __enter__(self) -> Pack:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            _discard(self._file)
            self._file = None


class Store(Protocol):
    def pack(self) -> Pack:
        """A new, empty object. Its key begins with its day, so that days can be dropped whole."""
        ...

    def keep(self, file: IO[bytes], key: str) -> None:
        """Makes a pack's spool durable under `key`. For `Pack.commit`."""
        ...

    def read(self, ref: RawRef) -> bytes:
        """The bytes of one mail. Raises MissingObject where they are not there."""
        ...

    def stream(self, ref: RawRef) -> Iterator[bytes]:
        """The same in chunks of at most 1 MiB."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object; one that is gone already is fine."""
        ...

    def keys(self, before: str) -> Iterator[str]:
        """Keys that sort before `before` (a day prefix such as `raw/2026/11/22`)."""
        ...

    def sweep(self, before: datetime) -> int:
        """Removes what processes that died left half-written before then; returns how much."""
        ...

    def check(self) -> None:
        """Raises TryAgain where the store cannot be reached, StoreFull where it is full."""
        ...

    def marker(self) -> uuid.UUID | None:
        """Whose store it is (see `shared.own_store`); None where nobody wrote that yet."""
        ...

    def mark(self, identity: uuid.UUID) -> None:
        """Writes whose store it is, durably, over what stands there."""
        ...

    def is_empty(self) -> bool:
        """Whether no mail lies in it."""
        ...

    def space(self) -> tuple[int, int] | None:
        """(free, total) octets, None where the store has no such bounds."""
        ...


def new_key() -> str:
    """`raw/YYYY/MM/DD/<uuid7>`: sorts by time."""
    identifier = new_id()
    return f"raw/{time_of(identifier):%Y/%m/%d}/{identifier.hex}"


class FileStore:
    """Objects as files below one folder, for one machine or a shared volume."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._spool = root / "spool"
        self._spool.mkdir(parents=True, exist_ok=True)
        self._made: set[Path] = set()

    def pack(self) -> Pack:
        try:
            file = (self._spool / new_id().hex).open("xb", buffering=CHUNK)
        except OSError as error:
            raise _translated(error, "write to") from error
        return Pack(self, file, new_key())

    def keep(self, file: IO[bytes], key: str) -> None:
        file.flush()
        os.fsync(file.fileno())
        target = self._root / key
        if target.parent not in self._made:
            self._make_durable_folder(target.parent)
        Path(file.name).rename(target)
        _sync_folder(target.parent)

    def read(self, ref: RawRef) -> bytes:
        return b"".join(self.stream(ref))

    def stream(self, ref: RawRef) -> Iterator[bytes]:
        left = ref.size
        try:
            with (self._root / ref.key).open("rb") as file:
                file.seek(ref.offset)
                while left:
                    chunk = file.read(min(left, CHUNK))
                    if not chunk:
                        raise MissingObject(f"The store's object {ref.key} is shorter than it was.")
                    left -= len(chunk)
                    yield chunk
        except FileNotFoundError as error:
            raise _gone(ref.key) from error
        except OSError as error:
            raise _translated(error, "read from") from error

    def delete(self, key: str) -> None:
        (self._root / key).unlink(missing_ok=True)

    def keys(self, before: str) -> Iterator[str]:
        for folder, folders, files in os.walk(self._root / "raw"):
            folders.sort()
            relative = Path(folder).relative_to(self._root).as_posix()
            for name in sorted(files):
                key = f"{relative}/{name}"
                if key >= before:
                    return
                yield key

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
            return _identity((self._root / MARKER).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _translated(error, "read from") from error

    def mark(self, identity: uuid.UUID) -> None:
        try:
            with (self._spool / new_id().hex).open("xb") as file:
                file.write(str(identity).encode() + b"\n")
                self.keep(file, MARKER)
        except OSError as error:
            raise _translated(error, "write to") from error

    def is_empty(self) -> bool:
        return next(self.keys("raw/~"), None) is None

    def space(self) -> tuple[int, int] | None:
        try:
            found = os.statvfs(self._root)
        except OSError as error:
            raise _translated(error, "read from") from error
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def _make_durable_folder(self, folder: Path) -> None:
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in reversed(missing):
            _sync_folder(made.parent)
        self._made.add(folder)


class ObjectStore:
    """Objects in S3, Google Cloud Storage or Azure Blob Storage, by obstore.

    Credentials come from where each provider's own tools look for them (environment, workload
    identity).
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: Any = None

    @property
    def _bucket(self) -> Any:
        # Opened on first use: obstore's runtime does not survive a fork.
        if self._opened is None:
            from obstore.store import from_url

            self._opened = from_url(self._url)
        return self._opened

    def pack(self) -> Pack:
        return Pack(self, tempfile.NamedTemporaryFile(delete=False, buffering=CHUNK), new_key())

    def keep(self, file: IO[bytes], key: str) -> None:
        file.flush()
        with Path(file.name).open("rb") as spool:
            try:
                self._bucket.put(key, spool)
            except Exception as error:  # obstore raises its own tree and OSError
                raise TryAgain(f"The store did not take an object: {error}") from error

    def read(self, ref: RawRef) -> bytes:
        if not ref.size:
            return b""
        try:
            return bytes(self._bucket.get_range(ref.key, start=ref.offset, length=ref.size))
        except FileNotFoundError as error:
            raise _gone(ref.key) from error
        except Exception as error:
            raise TryAgain(f"The store did not answer: {error}") from error

    def stream(self, ref: RawRef) -> Iterator[bytes]:
        for start in range(0, ref.size, CHUNK):
            size = min(CHUNK, ref.size - start)
            yield self.read(RawRef(ref.key, ref.offset + start, size))

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._bucket.delete(key)

    def keys(self, before: str) -> Iterator[str]:
        for batch in self._bucket.list(prefix="raw/"):
            for found in sorted(str(item["path"]) for item in batch):
                if found < before:
                    yield found

    def sweep(self, before: datetime) -> int:
        """Nothing to do: spools are temporary files of the machine, parts expire in the bucket."""
        return 0

    def check(self) -> None:
        try:
            next(iter(self._bucket.list(prefix="raw/", chunk_size=1)), None)
        except Exception as error:
            raise TryAgain(f"The store did not answer: {error}") from error

    def marker(self) -> uuid.UUID | None:
        try:
            return _identity(bytes(self._bucket.get(MARKER).bytes()))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise TryAgain(f"The store did not answer: {error}") from error

    def mark(self, identity: uuid.UUID) -> None:
        try:
            self._bucket.put(MARKER, str(identity).encode() + b"\n")
        except Exception as error:
            raise TryAgain(f"The store did not take an object: {error}") from error

    def is_empty(self) -> bool:
        try:
            return not next(iter(self._bucket.list(prefix="raw/", chunk_size=1)), None)
        except Exception as error:
            raise TryAgain(f"The store did not answer: {error}") from error

    def space(self) -> tuple[int, int] | None:
        return None


def open_store(url: str) -> Store:
    """`file:///path`, `s3://bucket/prefix`, `gs://…`, `az://…`. Raises InvalidInput on others."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if parts.netloc or not path.is_absolute():
            raise InvalidInput("A file store is file:///absolute/path.", field="store_url")
        try:
            return FileStore(path)
        except OSError as error:
            raise InvalidInput(
                f"The store {path} cannot be used: {error.strerror}.", field="store_url"
            ) from error
    if parts.scheme in {"s3", "gs", "az"}:
        return ObjectStore(url)
    raise InvalidInput(
        f"There is no store for {parts.scheme or url!r}.",
        field="store_url",
        hint="Use file:///path, s3://bucket, gs://bucket or az://container.",
    )


def _identity(text: bytes) -> uuid.UUID:
    """Raises InvalidInput where it is no such thing."""
    try:
        return uuid.UUID(text.decode("ascii").strip())
    except ValueError as error:
        raise InvalidInput(
            f"The store's object {MARKER} does not hold the identity of a store.",
            field="store_url",
            hint="Is POSTHOUSE_STORE_URL right? Restore the object, or adopt the store.",
        ) from error


def _discard(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        file.close()
    with contextlib.suppress(OSError):
        Path(file.name).unlink(missing_ok=True)


def _gone(key: str) -> MissingObject:
    return MissingObject(
        f"The store has no object {key}.", hint="Retention removes raw mail after RETENTION_DAYS."
    )


def _translated(error: OSError, action: str) -> TryAgain:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFull(
            "The store is full: no mail is fetched until there is room again.",
            hint="Make room on its disk, or lower RETENTION_DAYS.",
        )
    return TryAgain(f"Posthouse could not {action} the store: {error.strerror}.")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
