"""A folder of a connection: what known mails, settlements and failures are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
