"""A run that is interrupted at a named step, and the exact state that is expected afterwards."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from hashlib import sha256
from pathlib import Path

from shared.messages import RawRef
from shared.store import FileStore
from tests.rig.faults import Fault, prepare
from tests.rig.forkserver import Child
from tests.rig.mails import digests, mail
from tests.rig.queue_events import Queue, open_queue
from tests.rig.server_kinds import ServerKind
from tests.rig.stack import Stack
from tests.servers.mail_server import MailServer
from tests.servers.redis import RedisServer

MAILS = [mail(number, 2000 + 700 * number, seed=3) for number in range(5)]
#: Two mails a batch: three batches. One thread: what another one does when it is killed is open.
SETTINGS = {"batch_mails": "2", "tick_seconds": "0.05", "decrypt_threads": "1"}

#: Between these two the event is out and Postgres does not know it yet: it may come once more.
MAY_REPEAT = {"published"}


@dataclass
class Scenario:
    """One mailbox with five mails on a server, in a stack that watches it."""

    stack: Stack
    kind: ServerKind
    server: MailServer
    user: str
    broker_url: str
    after_download: str

    def kill(self, service: str, step: str) -> None:
        """`service` dies at `step` (`step:2` is the second time) and another one goes on."""
        stack, queue = self.stack, self._begin()
        other = "decryptor" if service == "fetcher" else "fetcher"
        stack.start("scheduler", other)
        (victim,) = stack.start(service, die_at=step)
        connection = self._watch()
        stack.wait(lambda: victim.poll() is not None, f"{service} dies at {step}")
        stack.processes.remove(victim)
        stack.hasten()
        stack.start(service)
        self._end(queue, connection, step in MAY_REPEAT)

    def fail(self, fault: Fault, step: str, redis: RedisServer) -> None:
        """One of our own servers fails from `step` on until the run has ended, then it is back."""
        stack, queue = self.stack, self._begin()
        prepare(stack)
        stack.start("scheduler", "decryptor")
        (fetcher,) = stack.start("fetcher", stall_at=step)
        connection = self._watch()
        stack.wait(lambda: stopped(fetcher), f"the fetcher is at {step}")
        log = stack.log_of("fetcher")
        with fault(stack, redis):
            # What is settled with the end of its run is settled when that is told.
            before = 0 if step == "settled" else log.stat().st_size
            fetcher.send_signal(signal.SIGCONT)
            stack.wait(lambda: run_ended(log, before), "the run ends, well or not")
        stack.hasten()
        self._end(queue, connection, may_repeat=True)

    def _begin(self) -> Queue:
        self.server.deliver(self.user, MAILS)
        queue = open_queue(self.broker_url, "archive")
        self.stack.add_handler()
        return queue

    def _watch(self) -> int:
        return self.stack.watch(
            self.server, self.user, mode=self.kind.mode, after_download=self.after_download
        )

    def _end(self, queue: Queue, connection: int, may_repeat: bool) -> None:
        """Everything comes to rest, is as it should be, and stays so over one more run."""
        stack = self.stack
        stack.wait(self._over, "everything published and settled", 60)
        self._check(queue, may_repeat)
        stack.run_once(connection)
        stack.stop()
        self._check(queue, may_repeat)

    def _over(self) -> bool:
        self.stack.hurry()
        (row,) = self.stack.query(
            "SELECT (SELECT count(*) FROM message WHERE published_at IS NOT NULL),"
            " (SELECT count(*) FROM outbox), (SELECT count(*) FROM settlement)"
        )
        return row == (len(MAILS), 0, 0)

    def _check(self, queue: Queue, may_repeat: bool) -> None:
        stack = self.stack
        # The handler's queue.
        events = queue.events()
        times = Counter(event["id"] for event in events)
        assert max(times.values()) <= (2 if may_repeat else 1)
        # The ledger.
        rows = stack.query(
            "SELECT sequence, sha256, size, raw_key, raw_offset, settled_at IS NOT NULL"
            " FROM message"
        )
        assert sorted(row[0] for row in rows) == [1, 2, 3, 4, 5]
        assert all(row[5] for row in rows)
        assert stack.count("delivery") == len(MAILS)
        assert stack.count("quarantine") == 0
        # The store.
        store = FileStore(stack.store)
        raws = []
        for _, digest, size, key, offset, _ in rows:
            raws.append(store.read(RawRef(key, offset, size)))
            assert sha256(raws[-1]).digest() == digest
        if self.kind.alters_mails:
            assert sorted(map(message_id, raws)) == sorted(map(message_id, MAILS))
        else:
            assert sorted(sha256(raw).hexdigest() for raw in raws) == digests(MAILS)
        told = {event["id"]: event["data"]["sha256"] for event in events}
        assert sorted(told.values()) == sorted(row[1].hex() for row in rows)
        # The mailbox.
        self.kind.check_left(self.server, self.user, len(MAILS), self.after_download)


def message_id(raw: bytes) -> str:
    """How a mail is told from others where the server adds fields to its header."""
    return str(BytesHeaderParser().parsebytes(raw)["Message-ID"])


def stopped(process: Child) -> bool:
    """Whether it has been stalled (SIGSTOP)."""
    state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"


#: What a fetcher logs when a run is over, in whatever way.
_ENDS = (b'"run finished"', b'"run failed"', b"lease lost", b"failed unexpectedly")


def run_ended(log: Path, since: int) -> bool:
    """Whether a run has ended since the log had so many octets."""
    with log.open("rb") as lines:
        lines.seek(since)
        told = lines.read()
    return any(words in told for words in _ENDS)
