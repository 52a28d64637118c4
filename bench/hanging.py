"""A thousand healthy endpoints beside one that never answers: how long their mails are on the way.

`make bench NAME=hanging`. One forwarder; 1,000 handlers that are forwarded to endpoints that answer
at once, and one to an endpoint that reads and never answers, with more in its queue than can be
tried. Events are published at an even rate to the healthy ones in turn; measured is the time from
the publication to the request at the endpoint. Spells with and without the handler that hangs
(paused) take turns in one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from bench import report
from bench.stand import Stand
from posthouse.signing import sign
from posthouse.testing import make_event
from shared.queueing.output import Output, Publication
from shared.queueing.output.open import open_output
from tests.rig.stack import SIGNING_KEY
from tests.servers.processes import free_port

_HANGING = "hanging"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench hanging", description=__doc__)
    parser.add_argument("--handlers", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=50, help="events a second over all")
    parser.add_argument("--seconds", type=float, default=20, help="of each spell")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    port, silent = free_port(), free_port()
    log = Path(tempfile.mkstemp(prefix="posthouse-bench-")[1])
    endpoint = multiprocessing.Process(target=_serve, args=(port, silent, log), daemon=True)
    endpoint.start()
    with Stand("scheduler") as stand:
        stack, output = stand.stack, open_output(stand.redis.url)
        names = [f"healthy-{number}" for number in range(chosen.handlers)]
        for name in (*names, _HANGING):
            output.ensure(name, "g")
            where = silent if name == _HANGING else port
            stack.forward(stack.add_handler(name), f"http://127.0.0.1:{where}/{name}")
        events = _Events()
        hang = "UPDATE forward SET paused_at = {} WHERE place LIKE '%:" + f"{silent}'"
        stack.execute(hang.format("now()"))
        events.publish(output, [_HANGING] * 2000)
        stack.start("forwarder")
        for name in names:  # each lane has been used once
            events.publish(output, [name])
        stack.wait(lambda: _lines(log) >= chosen.handlers, "every endpoint was reached", 300)
        sent: dict[bool, dict[str, float]] = {False: {}, True: {}}
        for turn in range(2 * chosen.turns):
            hangs = turn % 2 == 1
            stack.execute(hang.format("NULL" if hangs else "now()"))
            time.sleep(8)  # the forwarder looks every two seconds; a first attempt is on its way
            sent[hangs] |= _spell(output, events, names, chosen.rate, chosen.seconds)
        time.sleep(5)
        tried = stack.query("SELECT count(*) FROM forward_attempt WHERE outcome = 'failed'")[0][0]
        output.close()
    endpoint.terminate()
    came = dict(line.split() for line in log.read_text().splitlines())
    log.unlink()
    took = {
        hangs: sorted(float(came[one]) - at for one, at in spell.items() if one in came)
        for hangs, spell in sent.items()
    }
    lines = [
        f"# One endpoint that never answers beside {chosen.handlers:,} healthy ones",
        "",
        f"One forwarder, {chosen.rate:g} events a second, {chosen.turns} spells of "
        f"{chosen.seconds:g} s each way in turn. {report.machine()}",
        "",
        "| | events | lost | p50 ms | p95 ms | p99 ms |",
        "|---|---|---|---|---|---|",
    ]
    for hangs, times in took.items():
        cuts = statistics.quantiles(times, n=100)
        shown = " | ".join(f"{1000 * cuts[n - 1]:.1f}" for n in (50, 95, 99))
        lost = len(sent[hangs]) - len(times)
        lines.append(
            f"| {'one hangs' if hangs else 'none hangs'} | {len(times)} | {lost} | {shown} |"
        )
    p95 = {hangs: statistics.quantiles(times, n=100)[94] for hangs, times in took.items()}
    lines += ["", f"p95 with it / without it: **{p95[True] / p95[False]:.2f}** "
              f"({tried} attempts at the one that hangs).", ""]  # fmt: skip
    report.write("hanging", lines, {}, keep=not chosen.no_write)
    return 0


class _Events:
    """Signed events, each with an id of its own."""

    def __init__(self) -> None:
        self._fields = json.loads(make_event(subject="Mail").to_json())

    def publish(self, output: Output, names: Sequence[str]) -> dict[str, float]:
        """One to each of `names`; when, by id."""
        batch = []
        for name in names:
            self._fields["id"] = str(uuid.uuid4())
            body = json.dumps(self._fields).encode()
            signature = sign(name, body, [SIGNING_KEY])
            batch.append(Publication(name, body, self._fields["id"], signature))
        at = time.time()
        output.publish(batch)
        return {one.message_id: at for one in batch}


def _spell(
    output: Output, events: _Events, names: Sequence[str], rate: float, seconds: float
) -> dict[str, float]:
    started, count = time.monotonic(), 0
    sent: dict[str, float] = {}
    while count < rate * seconds:
        if count <= (time.monotonic() - started) * rate:
            sent |= events.publish(output, [names[(7 * count) % len(names)]])
            count += 1
        else:
            time.sleep(0.001)
    time.sleep(2)
    return sent


def _lines(log: Path) -> int:
    return log.read_text().count("\n")


def _serve(port: int, silent: int, log: Path) -> None:
    asyncio.run(_served(port, silent, log))


async def _served(port: int, silent: int, log: Path) -> None:
    with log.open("a", buffering=1) as out:

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    at = time.time()
                    fields = head.lower()
                    size = int(fields.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
                    await reader.readexactly(size)
                    name = fields.split(b"webhook-id:", 1)[1].split(b"\r\n", 1)[0].strip()
                    out.write(f"{name.decode()} {at}\n")
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(65_536):
                pass
            writer.close()

        async with (
            await asyncio.start_server(talk, "127.0.0.1", port, backlog=2000) as healthy,
            await asyncio.start_server(listen, "127.0.0.1", silent),
        ):
            await healthy.serve_forever()
