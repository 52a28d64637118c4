"""Absent mails, which servers list and do not have: those that a run had no time to pass.

The next run goes on behind them: at a server that lists more of them than one run can ask for, what
lies behind would never come. This process forgets them once a run came to the end of the folder, so
that they are asked for again: a damaged index may have them by then.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Set
from typing import Final

from shared.messages import Key
from shared.storage.folder_ref import FolderRef

#: Keys that are remembered at most, some 100 octets each: then folders are forgotten, that which
#: was asked last the last.
_MOST: Final = 500_000


class AbsentMails:
    """By folder. Thread-safe."""

    def __init__(self, most: int = _MOST) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._keys: OrderedDict[FolderRef, frozenset[Key]] = OrderedDict()

    def of(self, folder_ref: FolderRef) -> Set[Key]:
        with self._lock:
            return self._keys.get(folder_ref, frozenset())

    def remember(self, folder_ref: FolderRef, keys: Set[Key]) -> None:
        """All that are to be passed in this folder."""
        with self._lock:
            self._keys.pop(folder_ref, None)
            if keys:
                self._keys[folder_ref] = frozenset(keys)
            while sum(map(len, self._keys.values())) > self._most:
                self._keys.popitem(last=False)

    def forget(self, folder_ref: FolderRef) -> None:
        with self._lock:
            self._keys.pop(folder_ref, None)
