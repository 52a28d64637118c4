"""Whoever uses the store looks whose it is, and an empty one is made ours in an order that holds.

For an administrator: as in test_store_identity.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from services.scheduler.retention import housekeeping
from shared.clock import utc_now
from shared.messages import RawRef
from shared.storage.pool import Database
from shared.store import FileStore
from shared.store_identity import ForeignStore, OwnStore

pytestmark = pytest.mark.promise("I5")

OBJECT = f"raw/2026/01/01/{'0' * 32}"
MAIL = b"a mail of somebody else"
USES: dict[str, Callable[[OwnStore], object]] = {
    "written": lambda store: store.pack(),
    "read": lambda store: store.read(RawRef(OBJECT, 0, len(MAIL))),
    "streamed": lambda store: list(store.stream(RawRef(OBJECT, 0, len(MAIL)))),
    "deleted": lambda store: store.delete(OBJECT),
    "deleted with others": lambda store: store.delete_all([OBJECT]),
    "listed": lambda store: list(store.keys_of(OBJECT.rpartition("/")[0])),
    "swept": lambda store: store.sweep(utc_now()),
}


def put(folder: Path, day: str) -> Path:
    path = folder / "raw" / day / ("0" * 32)
    path.parent.mkdir(parents=True)
    path.write_bytes(MAIL)
    return path


@pytest.mark.parametrize("use", USES)
def test_nothing_is_done_in_a_store_that_is_another_installations(
    use: str, database: Database, tmp_path: Path
) -> None:
    store = FileStore(tmp_path)
    store.mark(uuid.uuid4())
    path = put(tmp_path, "2026/01/01")
    with pytest.raises(ForeignStore, match="another installation"):
        USES[use](OwnStore(database, store))
    assert path.read_bytes() == MAIL


def test_retention_looks_anew_whose_the_store_is(database: Database, tmp_path: Path) -> None:
    """Another volume was mounted in its place a moment ago."""
    store = OwnStore(database, FileStore(tmp_path))
    store.check()
    path = put(tmp_path, f"{utc_now() - timedelta(days=100):%Y/%m/%d}")
    FileStore(tmp_path).mark(uuid.uuid4())
    with pytest.raises(ForeignStore, match="another installation"):
        housekeeping(database, store, utc_now(), 30)
    assert path.exists()


class _Dies(FileStore):
    """Its service is killed as it marks the store."""

    def mark(self, identity: uuid.UUID) -> None:
        super().mark(identity)
        raise SystemExit(9)


def test_a_service_that_dies_as_it_marks_an_empty_store_leaves_it_to_the_next(
    database: Database, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        OwnStore(database, _Dies(tmp_path)).check()
    OwnStore(database, FileStore(tmp_path)).check()
