"""Mailboxes that only exist as a rule, and the real services in front of them.

A mailbox is a function of time: which mails have arrived is computed, which of them were marked
read is one number in memory that all processes share. So 100,000 of them cost nothing, and what a
simulation measures is Posthouse.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import mmap
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.fetcher.session_pool import SessionPool
from shared.connections import AfterDownload, Connection, Selection
from shared.mailbox.base import (
    Capabilities,
    Cursor,
    Folder,
    FolderStatus,
    Known,
    Listing,
    Mailbox,
    MailRef,
    Sink,
)
from shared.messages import Key

UID_VALIDITY = 1


@dataclass(frozen=True, slots=True)
class World:
    """What every process of one simulation shares.

    Every `busy_every`-th mailbox gets mail, `mails_per_minute` each, from `epoch` (Unix seconds)
    on; the others get none, as most mailboxes do in most minutes. `octets`: the size of a mail.
    """

    folder: Path
    connections: int
    busy_every: int
    mails_per_minute: float
    octets: int
    epoch: float
    settings: dict[str, str]
    processes: dict[str, int]

    def save(self) -> Path:
        path = self.folder / "world.json"
        values: dict[str, Any] = {n: getattr(self, n) for n in self.__dataclass_fields__}
        path.write_text(json.dumps({**values, "folder": str(self.folder)}))
        (self.folder / "read").write_bytes(bytes(8 * (self.connections + 1)))
        return path

    @classmethod
    def load(cls, path: Path) -> World:
        values = json.loads(path.read_text())
        return cls(**{**values, "folder": Path(values["folder"])})

    def arrived(self, connection_id: int) -> int:
        """How many mails this mailbox has had by now: the highest UID."""
        if connection_id % self.busy_every:
            return 0
        phase = (connection_id * 2654435761 % 2**32) / 2**32
        minutes = (time.time() - self.epoch) / 60
        return max(0, int(minutes * self.mails_per_minute + phase))

    def arrival(self, connection_id: int, uid: int) -> datetime:
        phase = (connection_id * 2654435761 % 2**32) / 2**32
        at = self.epoch + 60 * (uid - phase) / self.mails_per_minute
        return datetime.fromtimestamp(at, UTC)


class SimulatedMailboxes:
    """Opens mailboxes for the fetcher, which costs nothing here."""

    def __init__(self, world: World) -> None:
        self._world = world
        with (world.folder / "read").open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._read = memoryview(self._map).cast("q")
        self._body = b"x" * 76 + b"\r\n"
        self._body *= max(1, world.octets // len(self._body))

    def open(self, connection: Connection) -> Mailbox:
        return SimulatedMailbox(self._world, self._read, self._body, connection.id)

    def sessions(self) -> SessionPool:
        """The fetcher's own pool, which keeps nothing: each poll opens its mailbox."""
        limits = _first_of(
            "services.fetcher.session_limits:PoolLimits", "services.fetcher.session_pool:Limits"
        )(kept=0, listening=0, per_host=1 << 30, per_mailbox=1 << 30)
        return SessionPool(self.open, limits, on_push=lambda _: None, on_lost=lambda *_: None)


class SimulatedMailbox:
    """One mailbox folder of IMAP's kind: unread mails above the last one that was marked."""

    capabilities = Capabilities(read_flag=True, folders=True)
    server = "simulated"
    transcript: Sequence[str] = ()

    def __init__(self, world: World, read: memoryview, body: bytes, connection_id: int) -> None:
        self._world = world
        self._read = read
        self._body = body
        self._id = connection_id

    def folders(self) -> list[Folder]:
        return [Folder("INBOX")]

    def changed_since(self, folder: str, cursor: Cursor | None) -> FolderStatus | None:
        highest = self._world.arrived(self._id)
        if cursor is not None and cursor["uid"] == highest:
            return None
        return self.open(folder)

    def open(self, folder: str) -> FolderStatus:
        highest = self._world.arrived(self._id)
        return FolderStatus(
            folder=folder,
            total=highest,
            unread=highest - self._read[self._id],
            uid_validity=UID_VALIDITY,
            cursor={"uid": highest},
        )

    def list_new(
        self,
        known: Known,
        selection: Selection,
        *,
        since: datetime | None = None,
        limit: int | None = None,
        cursor: Cursor | None = None,
        count_known: bool = False,
    ) -> Listing:
        highest = self._world.arrived(self._id)
        unread = range(self._read[self._id] + 1, highest + 1)
        missing = known.missing(list(unread)) if unread else []
        new = tuple(
            MailRef(uid, len(self._body), self._world.arrival(self._id, int(uid)))
            for uid in missing[:limit]
        )
        return Listing(
            new=new,
            known=len(unread) - len(missing),
            reset_keys=(),
            total=highest,
            unread=len(unread),
            cursor={"uid": highest},
            complete=len(new) == len(missing),
            more=len(missing) - len(new),
        )

    def keys(self) -> Sequence[Key]:
        return range(1, self._world.arrived(self._id) + 1)

    def cursor_after(
        self, cursor: Cursor, settled: Sequence[MailRef], action: AfterDownload
    ) -> Cursor:
        return cursor

    def headers(self, refs: Sequence[MailRef]) -> Iterator[tuple[MailRef, bytes]]:
        for ref in refs:
            yield ref, self._header(ref)

    def download(self, refs: Sequence[MailRef], sink: Sink, *, limit: int) -> None:
        for ref in refs:
            sink.begin(ref)
            sink.write(self._header(ref))
            sink.write(self._body)
            sink.end()

    def settle(self, refs: Sequence[MailRef], action: AfterDownload) -> list[MailRef]:
        self._read[self._id] = max(int(ref.key) for ref in refs)
        return list(refs)

    def leave(self) -> None: ...

    def is_alive(self) -> bool:
        return True

    def close(self) -> None: ...

    def _header(self, ref: MailRef) -> bytes:
        return (
            f"Message-ID: <{self._id}.{ref.key}@simulated.example>\r\n"
            f"From: sender{int(ref.key) % 97}@example.org\r\n"
            f"To: box{self._id}@simulated.example\r\n"
            f"Subject: Simulated mail {ref.key}\r\n\r\n"
        ).encode()


def run(service: str, world_file: str, out: str) -> None:
    """One service of the simulation in this process, until SIGTERM; numbers go to `out`."""
    from services.decryptor import main as decryptor
    from services.decryptor.settings import DecryptorSettings
    from services.fetcher import main as fetcher
    from services.fetcher.settings import FetcherSettings
    from services.scheduler import main as scheduler
    from services.scheduler.settings import SchedulerSettings
    from shared.settings import load
    from shared.telemetry import logs, metrics

    world = World.load(Path(world_file))
    os.environ.update(world.settings)
    logs.configure(service, level="ERROR", format="json")
    stop = _first_of(
        "shared.telemetry.service_lifecycle:stop_on_signals",
        "shared.telemetry.process:stop_on_signals",
    )()
    numbers = Numbers()
    if service == "scheduler":
        metrics.SCHEDULING_LAG.observe = numbers.lag  # type: ignore[method-assign, assignment]
        scheduler.build(load(SchedulerSettings)).run(stop)
    elif service == "fetcher":
        built = fetcher.build(load(FetcherSettings))
        ends: Any = getattr(built.dispatcher, "ends", built.dispatcher)
        ends.sessions = SimulatedMailboxes(world).sessions()
        ends.observe = numbers.polled
        built.run(stop)
    else:
        decryptor.build(load(DecryptorSettings)).run(stop)
    Path(out).write_text(json.dumps(numbers.told()))


def _first_of(*places: str) -> Any:
    """The first of these (`module:name`) that there is: the code of before has other names."""
    for module, _, name in (place.partition(":") for place in places):
        if importlib.util.find_spec(module):
            found = getattr(importlib.import_module(module), name, None)
            if found is not None:
                return found
    raise ImportError(f"none of {', '.join(places)}")


class Numbers:
    """What one process saw, by the second in which it saw it."""

    def __init__(self) -> None:
        self._lags: list[tuple[float, float]] = []
        self._polls: dict[int, int] = {}
        self._failures: list[str] = []

    def lag(self, seconds: float) -> None:
        self._lags.append((time.time(), seconds))

    def polled(self, connection: Connection, outcome: object) -> None:
        second = int(time.time())
        self._polls[second] = self._polls.get(second, 0) + 1
        if isinstance(outcome, Exception):
            self._failures.append(str(outcome))

    def told(self) -> dict[str, Any]:
        return {
            "lags": self._lags,
            "polls": sorted(self._polls.items()),
            "failures": self._failures,
        }


if __name__ == "__main__":
    import sys

    run(*sys.argv[1:4])
