"""A disk that is full in the middle of a pack: said in words at whatever is done next."""

from __future__ import annotations

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
