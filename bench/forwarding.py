"""One forwarder to one local HTTP endpoint, beside the bare client: events a second.

`make bench NAME=forwarding`. The endpoint is a process that reads each request and answers 204.
The bare client posts the same bodies over as many kept connections, unsigned, from a process of its
own: no queue, no log, no acknowledgement.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import multiprocessing
import threading
import time
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from bench import report
from bench.report import Series
from bench.stand import HANDLER, Stand
from posthouse.signing import sign
from posthouse.testing import make_event
from shared.queueing.output import Publication
from shared.queueing.output.open import open_output
from tests.rig.stack import SIGNING_KEY
from tests.servers.processes import free_port

_OURS = "posthouse forwarder"
_BARE = "http.client, unsigned"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench forwarding", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    ours, bare = Series(_OURS), Series(_BARE)
    port = free_port()
    count: Synchronized[int] = multiprocessing.Value("q", 0)
    endpoint = multiprocessing.Process(target=_serve, args=(port, count), daemon=True)
    endpoint.start()
    with Stand("scheduler") as stand:
        events = [make_event(subject=f"Mail {n}") for n in range(chosen.events)]
        bodies = [event.to_json() for event in events]
        (handler_id,) = stand.stack.query("SELECT id FROM handler WHERE name = %s", HANDLER)[0]
        stand.stack.forward(handler_id, f"http://127.0.0.1:{port}/", concurrency=chosen.connections)
        output = open_output(stand.redis.url)
        for _ in range(chosen.turns):
            before = count.value
            batch = [
                Publication(HANDLER, body, event.id, sign(HANDLER, body, [SIGNING_KEY]))
                for event, body in zip(events, bodies, strict=True)
            ]
            for start in range(0, len(batch), 500):
                output.publish(batch[start : start + 500])
            (process,) = stand.stack.start("forwarder")
            ours.values.append(_rate(count, before, chosen.events))
            process.terminate()
            process.wait()
            stand.stack.processes.remove(process)
            before = count.value
            client = multiprocessing.Process(
                target=_post, args=(port, bodies, chosen.connections), daemon=True
            )
            client.start()
            bare.values.append(_rate(count, before, chosen.events))
            client.join()
        output.close()
    endpoint.terminate()
    lines = [
        "# One forwarder to one local endpoint",
        "",
        f"{chosen.events:,} events of {len(bodies[0]):,} octets over {chosen.connections} "
        f"connections, {chosen.turns} turns in turn. {report.machine()}",
        "",
        *report.table([ours, bare], "events/s", _OURS),
    ]
    report.write("forwarding", lines, {}, keep=not chosen.no_write)
    return 0


def _rate(count: Synchronized[int], before: int, events: int) -> float:
    """From the first request of a turn to its last."""
    while count.value == before:
        time.sleep(0.001)
    started = time.perf_counter()
    while count.value < before + events:
        time.sleep(0.001)
    return events / (time.perf_counter() - started)


def _serve(port: int, count: Synchronized[int]) -> None:
    asyncio.run(_served(port, count))


async def _served(port: int, count: Synchronized[int]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = head.lower().split(b"content-length:", 1)[1]
                await reader.readexactly(int(fields.split(b"\r\n", 1)[0]))
                count.value += 1
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port)
    await server.serve_forever()


def _post(port: int, bodies: Sequence[bytes], connections: int) -> None:
    def work(part: Sequence[Any]) -> None:
        client = http.client.HTTPConnection("127.0.0.1", port)
        for body in part:
            client.request("POST", "/", body, {"content-type": "application/cloudevents+json"})
            client.getresponse().read()
        client.close()

    threads = [
        threading.Thread(target=work, args=(bodies[n::connections],)) for n in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
