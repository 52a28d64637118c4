"""A folder of a connection: what known mails, settlements and failures are of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.storage.arrays import array, text_array


@dataclass(frozen=True, slots=True)
class FolderRef:
    """A folder of a connection, as it is now."""

    connection_id: int
    folder: str
    uid_validity: int | None

    def columns(self) -> dict[str, Any]:
        return {
            "connection_id": self.connection_id,
            "folder": self.folder,
            "uid_validity": self.uid_validity or 0,
        }


def columns_of_all(folders: Iterable[FolderRef]) -> dict[str, str]:
    """The columns of several, an array each."""
    found = list(folders)
    return {
        "connections": array(str(one.connection_id) for one in found),
        "folders": text_array(one.folder for one in found),
        "uid_validities": array(str(one.uid_validity or 0) for one in found),
    }
