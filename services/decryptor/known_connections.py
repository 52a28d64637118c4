"""Connections as they were edited last: what was not edited since is not read again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from shared.connections import Connection
from shared.storage import connections
from shared.storage.outbox_claims import Claimed
from shared.storage.pool import Session

#: Connections that are kept, those that had no mail for longest going first: some 2 kB each.
_MOST: Final = 5000


class KnownConnections:
    """Thread-safe."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Connection] = OrderedDict()

    def of(self, session: Session, mails: Sequence[Claimed]) -> dict[int, Connection]:
        """The connections of these mails, by id, as they were when the mails were claimed or are
        by now; without those that are gone."""
        versions = {mail.connection_id: mail.connection_version for mail in mails}
        found: dict[int, Connection] = {}
        with self._lock:
            for number, version in versions.items():
                kept = self._kept.get(number)
                if kept is not None and kept.updated_at == version:
                    self._kept.move_to_end(number)
                    found[number] = kept
        unknown = sorted(
            number for number, version in versions.items() if version and number not in found
        )
        if unknown:
            read = {one.id: one for one in connections.get_many(session, unknown)}
            found |= read
            with self._lock:
                self._kept |= read
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        return found
