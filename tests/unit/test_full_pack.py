"""A disk that is full in the middle of a pack: said in words at whatever is done next."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.store import FileStore, Pack, StoreFull
from shared.store.base import CHUNK

AFTER: dict[str, Callable[[Pack], None]] = {
    "more": lambda pack: pack.write(b"x" * 4 * CHUNK),
    "back to the last whole mail": lambda pack: pack.truncate(10),
    "flush": lambda pack: pack.flush(),
    "commit": lambda pack: pack.commit(),
}


@pytest.mark.promise("M7", "M19")
@pytest.mark.parametrize("after", AFTER)
def test_a_disk_that_is_full_is_named(after: str, tmp_path: Path) -> None:
    full = tmp_path / "spool"
    full.symlink_to("/dev/full")
    store = FileStore(tmp_path / "store")
    with Pack(store, lambda: full.open("r+b", buffering=4 * CHUNK), "raw/full") as pack:
        pack.write(b"x" * (CHUNK // 2))
        pack.write(b"x" * (CHUNK // 2 + 1))  # lies in the buffer of the file
        with pytest.raises(StoreFull, match="The store is full"):
            AFTER[after](pack)


@pytest.mark.promise("I1", "M7")
@pytest.mark.parametrize("failing", [0, 1], ids=["its octets", "its name"])
def test_what_cannot_be_made_durable_leaves_nothing(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk over a network tells that it is full when it is asked to sync."""
    store = FileStore(tmp_path / "store")
    with store.pack() as first:  # the folders of the day are there
        first.write(b"x")
        first.commit()
    calls = iter(range(9))

    def fsync(_: int) -> None:
        if next(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with store.pack() as pack:
        pack.write(b"y" * 100)
        with pytest.raises(StoreFull):
            pack.commit()
    left = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert left == [tmp_path / "store" / first.key]


@pytest.mark.promise("I1")
def test_the_folders_of_a_new_day_are_durable_with_its_first_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash a folder whose name was not synced is gone, with all that lies in it."""
    store, synced, sync = FileStore(tmp_path / "store"), set[Path](), os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with store.pack() as pack:
        pack.write(b"x")
        pack.commit()
    path = tmp_path / "store" / pack.key
    day = [*path.parents][: len(Path(pack.key).parents)]
    assert synced == {path, *day}


def test_the_mark_that_stands_there_is_whole_until_the_new_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, before = FileStore(tmp_path / "store"), uuid.uuid4()
    store.mark(before)
    seen: list[uuid.UUID | None] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(store.marker()))
    after = uuid.uuid4()
    store.mark(after)
    assert seen == [before, after]
