"""The storm: everything breaks at random while mails keep arriving; nothing may be lost.

`python -m tests.rig.storm --minutes 10 --broker redis`. Real Dovecot, Postgres and Redis or
RabbitMQ, several of each service, a misbehaving proxy before every mail server and a store on a
small disk (where this machine lets us mount one). The last line reads
`storm: sent N delivered N lost N repeated N seed N`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from shared.errors import PosthouseError
from shared.storage.migrate import migrate
from tests.rig.forkserver import Child, Forkserver
from tests.rig.mails import mail
from tests.rig.proxy import Proxy
from tests.rig.queue_depth import queue_depth
from tests.rig.stack import Stack
from tests.rig.storm_endpoints import HttpEndpoint, NatsEndpoint
from tests.rig.storm_handlers import Recorder
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

SERVICES = (
    "scheduler", "scheduler", "fetcher", "fetcher", "fetcher", "decryptor", "decryptor",
    "forwarder", "forwarder",
)  # fmt: skip
#: The first consumes its queue, the others are forwarded: by HTTP, and to NATS.
HANDLERS = ("archive", "crm", "desk")
SETTINGS = {
    "lease_seconds": "8",
    "claim_seconds": "10",
    "read_timeout_seconds": "5",
    "batch_mails": "50",
    "forward_check_seconds": "0.5",
    "forward_stale_seconds": "3",
}


class Storm:
    def __init__(self, broker: str, connections: int, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.folder = folder
        self.forkserver = Forkserver()
        self.postgres = PostgresServer(durable=True).__enter__()
        self.broker: RedisServer | RabbitServer = (
            RedisServer() if broker == "redis" else RabbitServer()
        ).__enter__()
        self.dovecot = Dovecot().__enter__()
        self.disk = SmallDisk(folder / "stack")
        url = self.postgres.create_database()
        migrate(url)
        self.stack = Stack(
            url, self.broker.url, folder / "stack", forkserver=self.forkserver, settings=SETTINGS
        ).__enter__()
        queue, http, nats = HANDLERS
        self.endpoints = (HttpEndpoint(http, seed), NatsEndpoint(nats))
        self.recorders: list[Recorder | HttpEndpoint | NatsEndpoint] = [
            Recorder(self.broker.url, queue),
            *self.endpoints,
        ]
        self.proxies: list[Proxy] = []
        self.boxes: list[tuple[str, str, str]] = []
        self.sent: list[str] = []
        self.faults: Counter[str] = Counter()
        self.calm = threading.Event()
        self.connections = connections

    # ---- setting up

    def build(self) -> None:
        ids = {name: self.stack.add_handler(name) for name in HANDLERS}
        for endpoint in self.endpoints:
            self.stack.forward(ids[endpoint.name], endpoint.url, **endpoint.options)
        for number in range(self.connections):
            mode = "pop3" if number % 4 == 3 else "imap"
            after = "delete" if number % 2 else "mark-read"
            user = f"storm{number}"
            port = self.dovecot.pop3_port if mode == "pop3" else self.dovecot.imap_port
            proxy = Proxy(port, self.seed + number)
            self.dovecot.deliver(user, [])
            self.proxies.append(proxy)
            self.boxes.append((user, mode, after))
            self.stack.add_plain_connection(
                proxy.port,
                name=user,
                mode=mode,
                username=user,
                after_download=after,
                timeout_ms=3000,
            )
        self.stack.start(*SERVICES)
        for recorder in self.recorders:
            recorder.start()

    def send(self, until: float, rate: float) -> None:
        """Mails to all mailboxes in turn, in small bursts, about `rate` a second."""
        started = time.monotonic()
        number = 0
        while time.monotonic() < until:
            if number < (time.monotonic() - started) * rate:
                user, _, _ = self.boxes[self.rng.randrange(len(self.boxes))]
                burst = [
                    mail(number + i, int(random.lognormvariate(7.8, 1.0)), self.seed)
                    for i in range(20)
                ]
                self.dovecot.deliver(user, burst)
                self.sent += [sha256(item).hexdigest() for item in burst]
                number += len(burst)
            else:
                time.sleep(0.02)

    # ---- faults

    def rage(self, until: float) -> None:
        faults: list[tuple[int, Callable[[], None]]] = [
            (6, self.kill_service),
            (1, self.restart_postgres),
            (1, self.restart_broker),
            (2, self.lose_broker),
            (2, self.purge_jobs),
            (8, self.worry_a_link),
            (2, self.drop_links),
            (1, self.fill_disk),
            (2, self.restart_nats),
        ]
        weights = [weight for weight, _ in faults]
        while time.monotonic() < until:
            time.sleep(self.rng.uniform(0.3, 2.0))
            (fault,) = self.rng.choices([fault for _, fault in faults], weights)
            self.faults[fault.__name__] += 1
            try:
                fault()
            except Exception as error:
                print(f"storm: {fault.__name__} did not come off: {error}", file=sys.stderr)

    def kill_service(self) -> None:
        victim: Child = self.rng.choice(self.stack.processes)
        self.stack.kill(victim)
        self.stack.start(victim.args)

    def restart_postgres(self) -> None:
        self.postgres.kill()
        time.sleep(self.rng.uniform(0, 1.5))
        self.postgres.start()

    def restart_broker(self) -> None:
        self.broker.kill()
        time.sleep(self.rng.uniform(0, 1.5))
        self.broker.start()

    def lose_broker(self) -> None:
        """Everything the broker holds is gone: jobs, handlers' queues, what was unacknowledged."""
        self.broker.wipe()

    def purge_jobs(self) -> None:
        if isinstance(self.broker, RedisServer):
            import redis

            with redis.Redis.from_url(self.broker.url) as client:
                names = list(client.scan_iter("dramatiq:*"))
                if names:
                    client.delete(*names)
            return
        import pika

        with contextlib.closing(
            pika.BlockingConnection(pika.URLParameters(self.broker.url))
        ) as session:
            for queue in ("fetch", "fetch-slow", "decrypt"):
                with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):
                    session.channel().queue_purge(queue)

    def worry_a_link(self) -> None:
        proxy = self.rng.choice(self.proxies)
        proxy.mood = self.rng.choice(("cut", "hang", "slow", "refuse", "no", "bad", "pass"))
        threading.Timer(self.rng.uniform(2, 12), setattr, (proxy, "mood", "pass")).start()

    def drop_links(self) -> None:
        for proxy in self.rng.sample(self.proxies, k=max(1, len(self.proxies) // 3)):
            proxy.drop()

    def restart_nats(self) -> None:
        for endpoint in self.endpoints:
            endpoint.disturb(self.rng)

    def fill_disk(self) -> None:
        with self.disk.full():
            time.sleep(self.rng.uniform(1, 4))

    # ---- the end

    def hurry(self) -> None:
        """Minutes of waiting become seconds: an administrator who presses "fetch now"."""
        while not self.calm.wait(3):
            with contextlib.suppress(PosthouseError):
                self.stack.hurry()

    def is_over(self) -> bool:
        wanted = set(self.sent)
        if any(wanted - set(recorder.digests.values()) for recorder in self.recorders):
            return False
        try:
            (row,) = self.stack.query(
                "SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM settlement),"
                " (SELECT count(*) FROM message), (SELECT count(*) FROM lease WHERE until > now())"
            )
        except PosthouseError:
            return False
        return bool(row == (0, 0, len(wanted), 0)) and not self.jobs_left()

    def jobs_left(self) -> int:
        try:
            return sum(
                queue_depth(self.broker.url, queue) for queue in ("fetch", "fetch-slow", "decrypt")
            )
        except PosthouseError:
            return -1

    def settle(self, seconds: float) -> bool:
        """Fair weather until everything is delivered and settled; False where it never is."""
        for proxy in self.proxies:
            proxy.mood = "pass"
            proxy.drop()
        for endpoint in self.endpoints:
            endpoint.calm()
        deadline = time.monotonic() + seconds
        again_at = 0.0
        while time.monotonic() < deadline:
            everything = set(self.sent)
            missing = any(everything - set(r.digests.values()) for r in self.recorders)
            if missing:
                with contextlib.suppress(PosthouseError):
                    self.stack.hurry()
                    if time.monotonic() > again_at:
                        self.forward_now()
                        again_at = time.monotonic() + 20
            elif not self.calm.is_set():
                self.calm.set()  # let the last jobs end: no more fetches on demand
            if self.is_over():
                return True
            time.sleep(1)
        return False

    def forward_now(self) -> None:
        """Lets the pauses of events that were not taken pass; a forwarder that runs knows them."""
        self.stack.execute("UPDATE forward_retry SET next_attempt_at = now()")
        for child in [one for one in self.stack.processes if one.args == "forwarder"]:
            self.stack.kill(child)
            self.stack.start("forwarder")

    def unsettled(self) -> list[str]:
        """Mailboxes whose mails are not all read or gone."""
        wrong = []
        for user, mode, after in self.boxes:
            flags = self.dovecot.flags(user)
            if after == "delete" and flags:
                wrong.append(f"{user}: {len(flags)} not deleted")
            elif after == "mark-read" and mode == "imap":
                unread = sum("\\Seen" not in f for f in flags.values())
                if unread:
                    wrong.append(f"{user}: {unread} unread")
        return wrong

    def report(self, settled: bool) -> bool:
        wanted = set(self.sent)
        lost = sum(len(wanted - set(r.digests.values())) for r in self.recorders)
        delivered = sum(len(wanted & set(r.digests.values())) for r in self.recorders)
        repeats = sum(sum(r.seen.values()) - len(r.seen) for r in self.recorders)
        by_broker = sum(sum(r.redelivered.values()) for r in self.recorders)
        refilled = int(self.stack.query("SELECT coalesce(sum(repeats), 0) FROM delivery")[0][0])
        twice = sum(len(r.seen) - len(set(r.digests.values())) for r in self.recorders)
        wrong = self.unsettled()
        quarantined = self.stack.count("quarantine")
        leases = self.stack.query("SELECT count(*) FROM lease WHERE until > now()")[0][0]
        print("faults:", ", ".join(f"{name} {n}" for name, n in sorted(self.faults.items())))
        print(f"mails: {len(wanted)} to {len(self.boxes)} mailboxes, {len(HANDLERS)} handlers")
        print(
            f"repeats: {repeats} with the same event id: {by_broker} given again by the broker "
            f"after a lost acknowledgement; {refilled} were published again into lost queues (what "
            "is lost there once more repeats nothing); the rest was published right before a crash "
            "that came before the record"
        )
        print(f"mails with two event ids: {twice}")
        for one in self.recorders:
            print(f"{one.name}: {len(wanted & set(one.digests.values()))} of {len(wanted)}")
        print(f"quarantined: {quarantined}; leases held: {leases}; jobs left: {self.jobs_left()}")
        print("mailboxes:", "all settled" if not wrong else "; ".join(wrong))
        if not settled:
            print(self.stack.tails())
        print(
            f"storm: sent {len(wanted) * len(HANDLERS)} delivered {delivered} lost {lost} "
            f"repeated {repeats} seed {self.seed}"
        )
        return settled and not lost and not wrong and not twice and not quarantined

    def close(self) -> None:
        for recorder in self.recorders:
            recorder.stop()
        with contextlib.suppress(AssertionError):
            self.stack.__exit__()
        for proxy in self.proxies:
            proxy.close()
        self.dovecot.__exit__(None, None, None)
        self.broker.__exit__()
        self.postgres.__exit__()
        self.forkserver.close()
        self.disk.close()


class SmallDisk:
    """A file system of its own for the store, so that it can be full without harm to others."""

    SIZE_MB = 1024

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE_MB}m", "posthouse", str(folder)]
        self.mounted = os.getuid() == 0 and subprocess.run(mount, check=False).returncode == 0
        if not self.mounted:
            print("storm: no disk of its own for the store: it will not be filled")

    @contextlib.contextmanager
    def full(self):  # type: ignore[no-untyped-def]
        ballast = self.folder / "ballast"
        if self.mounted:
            with contextlib.suppress(OSError), ballast.open("wb") as file:
                while True:
                    file.write(bytes(1 << 20))
        try:
            yield
        finally:
            ballast.unlink(missing_ok=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--broker", choices=("redis", "rabbitmq"), default="redis")
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--rate", type=float, default=40, help="mails a second")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="posthouse-storm-"))
    storm = Storm(chosen.broker, chosen.connections, chosen.seed, folder)
    try:
        storm.build()
        until = time.monotonic() + 60 * chosen.minutes
        sending = threading.Thread(target=storm.send, args=(until, chosen.rate))
        hurrying = threading.Thread(target=storm.hurry)
        sending.start()
        hurrying.start()
        # In this thread: a server ends with the thread that started it.
        storm.rage(until)
        sending.join()
        settled = storm.settle(300)
        storm.calm.set()
        hurrying.join()
        return 0 if storm.report(settled) else 1
    finally:
        storm.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
