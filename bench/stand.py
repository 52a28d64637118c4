"""What every question about the whole pipeline stands on: all services, with nothing tuned.

Postgres with fsync and synchronous commits, Redis with its append-only file as `posthouse up`
starts it, the file store on the same disk, Dovecot on loopback, and the services at their default
settings, each in a process of its own. A turn of Posthouse begins
when the connection becomes due, as it does every minute, and ends when the last event is on the
handler's queue.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from bench.peers import quiet_disk
from shared.storage.migrate import migrate
from tests.rig.forkserver import Forkserver
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

HANDLER = "archive"
_QUEUE = f"posthouse:handler:{HANDLER}"
#: `cli/local/broker.py`; `docs/operations.md` asks for it.
_AS_UP_HAS_IT = ("--rdbcompression", "no", "--auto-aof-rewrite-min-size", "256mb")
_TICKS = os.sysconf("SC_CLK_TCK")


class Stand:
    """Starts everything; use as a context manager."""

    def __init__(
        self,
        *services: str,
        dovecot: Dovecot | None = None,
        settings: Mapping[str, str] | None = None,
        forkserver: Path | None = None,
    ) -> None:
        """`forkserver`: a program to start services in place of the rig's own."""
        self._forkserver = forkserver
        self._services = services or ("scheduler", "fetcher", "decryptor")
        self._settings = settings or {}
        self.dovecot = dovecot or Dovecot()
        self.folder = Path(tempfile.mkdtemp(prefix="posthouse-bench-"))
        self._resources = ExitStack()

    def __enter__(self) -> Stand:
        with ExitStack() as resources:
            resources.callback(shutil.rmtree, self.folder, ignore_errors=True)
            forkserver = Forkserver(program=self._forkserver)
            resources.callback(forkserver.close)
            self.postgres = resources.enter_context(PostgresServer(durable=True))
            self.redis = resources.enter_context(RedisServer(options=_AS_UP_HAS_IT))
            resources.enter_context(self.dovecot)
            url = self.postgres.create_database()
            migrate(url)
            self.stack = resources.enter_context(
                Stack(
                    url,
                    self.redis.url,
                    self.folder,
                    forkserver=forkserver,
                    settings={"handler_check_seconds": "5", **self._settings},
                )
            )
            self.queue = redis.Redis.from_url(self.redis.url)
            resources.callback(self.queue.close)
            self.stack.add_handler(HANDLER)
            self.stack.start(*self._services)
            self.stack.wait(lambda: bool(self.queue.exists(_QUEUE)), "the handler's queue")
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._resources.close()

    def events(self) -> int:
        """How many events the handler's queue holds."""
        return int(self.queue.xlen(_QUEUE))

    def watch(self, user: str, **fields: Any) -> int:
        """A connection that is there and not due: `turn` says when."""
        identifier = self.stack.watch(self.dovecot, user, **fields)
        self.rest([identifier])
        return identifier

    def rest(self, connections: Sequence[int] | None = None) -> None:
        """Nothing (of these) is due until it is said to be."""
        self._put_off(connections)  # else the next minute begins before thousands have ended
        self.stack.wait(self._quiet, "the end of what runs")
        self._put_off(connections)  # what ran is due by its interval

    def _put_off(self, connections: Sequence[int] | None) -> None:
        with self.stack.database.transaction() as session:
            session.execute(
                "UPDATE connection_state SET due_at = now() + interval '1 hour'"
                " WHERE %(ids)s::bigint[] IS NULL OR connection_id = ANY(%(ids)s)",
                {"ids": None if connections is None else list(connections)},
            )

    def _quiet(self) -> bool:
        (row,) = self.stack.query("SELECT count(*) FROM lease WHERE until > now()")
        return bool(row[0] == 0)

    def turn(self, connections: Sequence[int], mails: int, seconds: float = 120) -> float:
        """Seconds from the moment at which these are due until so many more events are there."""
        wanted = self.events() + mails
        quiet_disk()
        started = time.perf_counter()
        for identifier in connections:
            self.stack.fetch_now(identifier)
        deadline = started + seconds
        while self.events() < wanted:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{self.events()} of {wanted} events\n{self.stack.tails()}")
            time.sleep(0.005)
        took = time.perf_counter() - started
        self.stack.wait_settled(self.stack.count("message"))
        self.rest()
        return took

    def processor_time(self) -> dict[str, float]:
        """Seconds of processor time that each part has used so far, children included."""
        used: dict[str, float] = {}
        families = [
            ("Dovecot", self.dovecot.pid),
            ("Postgres", self.postgres.pid),
            ("Redis", self.redis.process.pid),
            *((str(child.args), child.pid) for child in self.stack.processes),
        ]
        parents = _parents()
        for name, root in families:
            used[name] = used.get(name, 0.0) + _family_seconds(root, parents)
        return used

    def resident(self, service: str) -> int:
        """Octets of memory of a service's process that are resident and its own."""
        child = next(c for c in self.stack.processes if c.args == service)
        text = Path(f"/proc/{child.pid}/status").read_text()
        return 1024 * int(text.split("VmRSS:")[1].split()[0])


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Seconds of processor time between two looks."""
    return {name: after[name] - before.get(name, 0.0) for name in after}


def _parents() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    return children


def _family_seconds(pid: int, children: Mapping[int, list[int]]) -> float:
    """User and system time of a process, of its reaped children, and of those that live."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    own = sum(int(field) for field in fields[11:15]) / _TICKS
    return own + sum(_family_seconds(child, children) for child in children.get(pid, []))
