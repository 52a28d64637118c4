"""From the arrival of a mail to its event, with push: how long does a handler wait?

`make bench NAME=push`. 200 mailboxes with `push` at each of two Dovecots, one as it comes and one
that hibernates idle sessions, as large sites run it. Mails come over LMTP to random mailboxes at
random times. The delay is from Dovecot's acceptance (the answer to DATA) to the event on the
Redis stream. The limit beside it: when Dovecot tells a bare client that does nothing but listen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import before, report
from bench.arrivals import Watch
from bench.corpora import small
from bench.idle import polls
from bench.peers import PASSWORD
from bench.report import Series
from bench.stand import HANDLER, Stand
from tests.servers.dovecot import Dovecot

#: Dovecot tells an idle client 500 ms after a change, to tell of several at once; a session that it
#: has put to sleep is woken and told at once.
HIBERNATES = """
imap_hibernate_timeout = 1s
service imap {
 unix_listener imap-master {
  user = nobody
  mode = 0666
 }
}
service imap-hibernate {
 unix_listener imap-hibernate {
  user = nobody
  mode = 0666
 }
}
"""
#: What measures the code of before, too: the same servers with the same settings.
_MEASURING = (
    "bench/before.py",
    "bench/push.py",
    "bench/idle.py",
    "bench/stand.py",
    "tests/rig/forkserver.py",
)
#: Server → who → milliseconds of each mail.
Delays = dict[str, dict[str, list[float]]]
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench push", description=__doc__)
    parser.add_argument("--mailboxes", type=int, default=200)
    parser.add_argument("--bare", type=int, default=50, help="mailboxes of the bare client")
    parser.add_argument("--mails", type=int, default=200, help="to each server")
    parser.add_argument("--no-write", action="store_true", help="only print")
    parser.add_argument("--before", default="", help="a commit to measure beside this code")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.one:
        chosen.one.write_text(json.dumps(_measure(chosen)))
        return 0
    found: dict[str, Delays] = {}
    told = ["--mailboxes", str(chosen.mailboxes), "--bare", str(chosen.bare)]
    told += ["--mails", str(chosen.mails)]
    with before.codes(chosen.before, _MEASURING) as codes:
        for name, tree in before.in_turn(codes, 0):
            found[name] = before.measured(tree, "push", told)
    _report(chosen, found)
    return 0


def _measure(chosen: argparse.Namespace) -> Delays:
    with (
        room_to_listen(),
        Dovecot(lmtp=True) as usual,
        Dovecot(lmtp=True, extra=HIBERNATES) as sleepy,
        Stand(dovecot=usual) as stand,
    ):
        return {
            name: _delays(stand, server, chosen)
            for name, server in (("as it comes", usual), ("hibernates", sleepy))
        }


def _report(chosen: argparse.Namespace, found: dict[str, Delays]) -> None:
    lines = [
        "# From arrival to event, with push",
        "",
        f"{chosen.mailboxes} mailboxes with push at each of two Dovecots, {chosen.mails} mails to "
        "random ones of each; the bare client listens to others and gets half as many. The second "
        "Dovecot hibernates sessions that idle for a second: the first one always waits 500 ms "
        "before it tells an idle client. The second one forgets to tell of a mail that comes in "
        "the half second before a session falls asleep (its rawlog shows it): the interval finds "
        f"those, so that the most is up to a minute. {report.machine()}",
        "",
        "| Dovecot | who | p50, ms | p95, ms | least – most |",
        "|---|---|---|---|---|",
    ]
    rows: list[tuple[str, float, str, float]] = []
    for server in found[before.THIS]:
        bare = Series("bare client, told", found[before.THIS][server]["bare"])
        ours = {
            code: Series("Posthouse, event" if code == before.THIS else code, told[server]["event"])
            for code, told in found.items()
        }
        for one in (bare, *ours.values()):
            lines.append(
                f"| {server} | {one.name} | {report.figure(one.median)} "
                f"| {report.figure(_p95(one))} | {one.spread} |"
            )
        this = ours.pop(before.THIS)
        rows += [
            (f"{server}: p50, ms", this.median, "≤", 150.0),
            (f"{server}: p95, ms", _p95(this), "≤", 500.0),
            (f"{server}: p50 but the bare client's, ms", this.median - bare.median, "≤", 150.0),
        ]
        rows += [
            (f"{server}: p50, times {code}", this.median / earlier.median, "≤", 1.05)
            for code, earlier in ours.items()
        ]
    lines += ["", *report.verdicts(rows)]
    report.write("push", lines, {}, keep=not chosen.no_write)


def _delays(stand: Stand, server: Dovecot, chosen: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds until the bare client was told, and until Posthouse's events were there."""
    rng = random.Random(7)
    users = [f"u{number}" for number in range(chosen.mailboxes)]
    named = [f"{user} at {server.imap_port}" for user in users]
    watched = [
        stand.stack.watch(server, user, name=name, push=True)
        for user, name in zip(users, named, strict=True)
    ]
    polls(stand, watched)
    others = [f"bare{number}" for number in range(chosen.bare)]
    watch = Watch(stand.redis.url, HANDLER)
    accepted: dict[str, float] = {}
    with _Listener(server.imap_port, others) as listener:
        time.sleep(5)  # every session listens
        for number, content in enumerate(small(chosen.mails, 4096, seed=server.imap_port)):
            identity = content.split(b"Message-ID: ", 1)[1].split(b"\r\n", 1)[0].decode()
            server.deliver_lmtp([rng.choice(users)], [content])
            accepted[identity] = time.time()
            time.sleep(rng.uniform(0.05, 0.2))
            if number % 2 == 0:
                user = others[number // 2 % len(others)]
                server.deliver_lmtp([user], [content])
                listener.accepted[user].append(time.time())
                time.sleep(rng.uniform(0.05, 0.2))
        deadline = time.monotonic() + 90
        while set(accepted) - set(watch.arrived) and time.monotonic() < deadline:
            time.sleep(0.1)
        bare = listener.delays()
    ours = [1000 * (watch.arrived[identity] - at) for identity, at in accepted.items()]
    return {"bare": bare, "event": ours}


def _p95(series: Series) -> float:
    return statistics.quantiles(series.values, n=20)[-1]


class _Listener:
    """A client that opens INBOX, sends IDLE, and notes when it is told of each mail."""

    def __init__(self, port: int, users: Sequence[str]) -> None:
        self.accepted: dict[str, list[float]] = {user: [] for user in users}
        self._told: dict[str, list[float]] = {user: [] for user in users}
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        for user in users:
            session = socket.create_connection(("127.0.0.1", port))
            with session.makefile("rb") as answers:
                for command, end in (
                    (b"a LOGIN %s %s" % (user.encode(), PASSWORD.encode()), b"a "),
                    (b"b SELECT INBOX", b"b "),
                    (b"c IDLE", b"+"),
                ):
                    session.sendall(command + b"\r\n")
                    while not answers.readline().startswith(end):
                        pass
            self._selector.register(session, selectors.EVENT_READ, user)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def delays(self) -> list[float]:
        """Milliseconds from each acceptance until the client was told."""
        return [
            1000 * (told - accepted)
            for user, all_of_them in self.accepted.items()
            for accepted, told in zip(all_of_them, self._told[user], strict=True)
        ]

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.2):
                assert isinstance(key.fileobj, socket.socket)
                if b" EXISTS" in key.fileobj.recv(65536):
                    self._told[key.data].append(time.time())


@contextlib.contextmanager
def room_to_listen() -> Iterator[None]:
    """Each listening session costs Dovecot an inotify instance, of which a user has 128 on many
    systems; without one it looks only every 30 s. Root may allow more, for as long as this runs."""
    before = INSTANCES.read_text()
    try:
        INSTANCES.write_text("8192")
    except OSError as error:
        raise SystemExit(f"{INSTANCES} must be 1024 or more for this: {error}") from error
    try:
        yield
    finally:
        INSTANCES.write_text(before)
