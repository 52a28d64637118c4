"""The facts of a mail for its event: read of the form that handlers get, once, and bounded."""

from __future__ import annotations

import mmap
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from services.decryptor.private_folder import PrivateFolder
from shared.connections import Connection
from shared.mail.facts import read_facts
from shared.mail.region import Region, region
from shared.mail.structure import Entity
from shared.mail.summary import findings_to_json

_log = structlog.get_logger(__name__)

#: Large mails whose facts are remembered: some 20 kB each, mostly their text.
_KEPT: Final = 200


@dataclass(frozen=True, slots=True)
class MailFactsReader:
    """`text_limit`: octets of text that go into the event; large mails are read in `folder`."""

    text_limit: int
    folder: PrivateFolder
    _known: dict[tuple[bytes, tuple[str, ...]], dict[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of_bytes(
        self, content: bytes, connection: Connection | None, read: Entity | None = None
    ) -> dict[str, Any]:
        """Of a mail in memory. `read`: what its header says, where that is known."""
        return self._read(region(content), connection, read)

    def of_stored(
        self,
        digest: bytes,
        stream: Callable[[], Iterator[bytes]],
        connection: Connection | None,
    ) -> dict[str, Any]:
        """Of a large mail with this SHA-256, which `stream` gives in pieces.

        Where its event was not taken it is asked for again every few seconds, and not read again.
        """
        key = (digest, _trusted(connection))
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = self._of_chunks(stream(), connection)
            with self._lock:
                if len(self._known) >= _KEPT:
                    del self._known[next(iter(self._known))]  # the oldest
                self._known[key] = known
        return known

    def _of_chunks(self, chunks: Iterator[bytes], connection: Connection | None) -> dict[str, Any]:
        """Of a mail that comes in pieces, by way of a file without a name."""
        with tempfile.TemporaryFile(dir=self.folder.path) as copy:
            for chunk in chunks:
                copy.write(chunk)
            copy.flush()
            return self._of_file(copy.fileno(), connection)

    def _of_file(self, descriptor: int, connection: Connection | None) -> dict[str, Any]:
        mapping = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        try:
            return self._read(region(mapping), connection)
        finally:
            mapping.close()

    def _read(
        self, whole: Region, connection: Connection | None, read: Entity | None = None
    ) -> dict[str, Any]:
        trusted = _trusted(connection)
        try:
            facts = read_facts(whole, trusted=trusted, text_limit=self.text_limit, read=read)
        except Exception:
            # Not foreseen, hence a bug of ours; but a mail must not be lost or retried for it.
            _log.exception("facts of a mail not read")
            return {"problem": "The facts of this mail could not be read."}
        found = facts.to_json()
        found["findings"] = findings_to_json(facts.findings)
        return found


def _trusted(connection: Connection | None) -> tuple[str, ...]:
    return () if connection is None else connection.believed_servers
