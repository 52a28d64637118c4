"""What every store is: objects by key, and packs that are written front to back."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Final, Protocol

from shared.clock import new_id, time_of
from shared.errors import InvalidInput, NotFound, OwnFailure
from shared.messages import RawRef

CHUNK: Final = 1 << 20
#: The object that says whose store it is.
MARKER: Final = "posthouse-store"
#: Keys that are listed and deleted in one request, at most (S3 takes no more).
PAGE: Final = 1000


class StoreFull(OwnFailure):
    """There is no room for another mail; fetching waits until there is."""

    code = "store-full"


class MissingObject(NotFound):
    """The store does not have what was written to it."""

    code = "bytes-missing"


class Pack:
    """A new object of the store, written front to back. Use as a context manager.

    Up to `CHUNK` octets are held in memory, more is spooled to a local file; `commit` makes them
    durable under `key`. Without a commit nothing stays.
    """

    def __init__(self, store: Store, spool: Callable[[], IO[bytes]], key: str) -> None:
        """`spool` opens the file, and raises OSError where it cannot."""
        self.key = key
        self.size = 0
        self._store = store
        self._spool = spool
        self._held = bytearray()
        self._file: IO[bytes] | None = None

    def write(self, chunk: bytes | memoryview) -> None:
        if self._file is None and self.size + len(chunk) <= CHUNK:
            self._held += chunk
        else:
            try:
                self._opened().write(chunk)
            except OSError as error:
                raise translated(error, "write to") from error
        self.size += len(chunk)

    def append(self, other: Pack) -> int:
        """Takes over what `other`, which is small, holds; returns the offset that it has here."""
        start = self.size
        self.write(other.held)
        return start

    @property
    def is_small(self) -> bool:
        """Whether all of it is in memory."""
        return self._file is None

    @property
    def held(self) -> bytes:
        """What is in memory: all of a small one."""
        return bytes(self._held)

    def flush(self) -> None:
        """Writes what is buffered, so that a full disk shows."""
        try:
            self._opened().flush()
        except OSError as error:
            raise translated(error, "write to") from error

    def truncate(self, size: int) -> None:
        """Takes back what was written after `size`: a mail that broke off half-way."""
        if self._file is None:
            del self._held[size:]
        else:
            # Room first, where there is none: what is buffered is written before it is cut off.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), size)
            try:
                self._file.seek(size)  # which writes what is buffered
                self._file.truncate()
            except OSError as error:
                raise translated(error, "write to") from error
        self.size = size

    def commit(self) -> None:
        """Returns when the object is durable. Raises OwnFailure where it could not be made so."""
        try:
            self._store.keep(self._opened(), self.key)
        except OSError as error:
            raise translated(error, "write to") from error
        finally:
            self._close()

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = self._spool()
            self._file.write(self._held)
            self._held.clear()
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            _discard(self._file)
            self._file = None

    def __enter__(self) -> Pack:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


class Store(Protocol):
    def pack(self) -> Pack:
        """A new, empty object. Its key begins with its day, so that days can be dropped whole."""
        ...

    def keep(self, file: IO[bytes], key: str) -> None:
        """Makes a pack's spool durable under `key`. For `Pack.commit`."""
        ...

    def read(self, ref: RawRef) -> bytes:
        """The octets of one mail. Raises MissingObject where they are not there."""
        ...

    def stream(self, ref: RawRef) -> Iterator[bytes]:
        """The same in chunks of at most 1 MiB."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object; one that is gone already is fine."""
        ...

    def delete_all(self, keys: Sequence[str]) -> None:
        """Removes up to `PAGE` objects; those that are gone already are fine."""
        ...

    def days(self, before: str) -> list[str]:
        """Days that hold objects and sort before `before`, oldest first (`raw/2026/11/22`).

        Costs a request for each year and month, however many objects there are."""
        ...

    def keys_of(self, day: str) -> Iterator[list[str]]:
        """The keys of one of those days, in pages of `PAGE` at most, asked for as it goes."""
        ...

    def sweep(self, before: datetime) -> int:
        """Removes what processes that died left half-written before then; returns how much."""
        ...

    def check(self) -> None:
        """Raises OwnFailure where the store takes nothing, StoreFull where it is full.

        Whether it can be reached is seen by its marker. Lists nothing."""
        ...

    def marker(self) -> uuid.UUID | None:
        """Whose store it is (see `shared.store_identity`); None where nobody wrote that yet."""
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


def identity_in(text: bytes) -> uuid.UUID:
    """Raises InvalidInput where it is no such thing."""
    try:
        return uuid.UUID(text.decode("ascii").strip())
    except ValueError as error:
        raise InvalidInput(
            f"The store's object {MARKER} does not hold the identity of a store.",
            field="store_url",
            hint="Is POSTHOUSE_STORE_URL right? Restore the object, or adopt the store.",
        ) from error


def missing_object(key: str) -> MissingObject:
    return MissingObject(
        f"The store has no object {key}.",
        hint="Retention removes raw mail after POSTHOUSE_RETENTION_DAYS.",
    )


def translated(error: OSError, action: str) -> OwnFailure:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFull(
            "The store is full: no mail is fetched until there is room again.",
            hint="Make room on its disk, or lower POSTHOUSE_RETENTION_DAYS.",
        )
    return OwnFailure(f"Posthouse could not {action} the store: {error.strerror}.")


def _discard(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        file.close()
    with contextlib.suppress(OSError):
        Path(file.name).unlink(missing_ok=True)
