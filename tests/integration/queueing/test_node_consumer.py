"""The example consumer in Node, on both brokers: it settles as the SDK's consumer does."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posthouse.testing import make_event
from shared.queueing.output import Output, Publication
from tests.integration.queueing.conftest import (
    SIGNING_KEY,
    Consumers,
    Server,
    eventually,
    make_queue,
    signed,
)
from tests.integration.queueing.test_consumer import send
from tests.servers.node import beside_packages, start

_PROGRAM = """
import { appendFileSync } from "node:fs";
import { consume, Reject, Retry } from "./node_consumer.mjs";
const [url, handler, log] = process.argv.slice(2);
let later = 0;
const callback = async (event) => {
  const { subject } = event.data.headers;
  appendFileSync(log, JSON.stringify(subject) + "\\n");
  if (subject === "never") throw new Reject("kein Kunde: 日本");
  if (subject === "later" && ++later < 5) throw new Retry(1);
  if (subject === "broken") throw new Error("boom");
  if (subject === "hangs") await new Promise((resolve) => setTimeout(resolve, 600_000));
};
await consume(url, handler, callback, { deliveries: 3, staleMs: 1500, againMs: 100 });
"""
Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "handled"


@pytest.fixture
def node(tmp_path: Path, server: Server, handler: str, log: Path) -> Iterator[Start]:
    """Starts the program; what runs at the end is killed."""
    program = beside_packages(tmp_path) / "program.mjs"
    program.write_text(_PROGRAM)
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        started.append(start(program, server.url, handler, log, POSTHOUSE_SIGNING_KEY=SIGNING_KEY))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def handled(log: Path) -> list[str]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_it_settles_as_it_should_and_ends_when_it_is_told(
    output: Output, handler: str, node: Start, log: Path
) -> None:
    process = node()  # before there is a queue: it waits
    make_queue(output, handler)
    send(output, handler, *(make_event(subject=one) for one in ("Grüße", "never", "broken", "b")))
    forged = make_event(subject="forged").to_json()
    output.publish(
        [Publication(handler, forged, "x", signed(handler, forged, "x", "other").signature)]
    )
    eventually(lambda: output.inspect(handler).dead == 3, seconds=60)
    eventually(lambda: output.inspect(handler).drained)
    assert sorted(handled(log)) == ["Grüße", "b", "broken", "broken", "broken", "never"]
    reasons = sorted(letter.reason for letter in output.dead(handler))
    assert reasons[0] == "gave up after 3 deliveries: boom"
    assert reasons[1] == "kein Kunde: 日本"
    assert reasons[2].startswith("not verified: its signature is by no key")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0, process.communicate()[0]


def test_not_now_is_no_failure_and_holds_up_nobody(
    output: Output, handler: str, node: Start, log: Path
) -> None:
    make_queue(output, handler)
    send(output, handler, *(make_event(subject=one) for one in ("later", "a", "b")))
    node()
    eventually(lambda: len(handled(log)) >= 7, seconds=60)
    eventually(lambda: output.inspect(handler).drained)
    assert handled(log) == ["later", "a", "b", *["later"] * 4]
    assert output.inspect(handler).dead == 0


def test_what_it_had_when_it_was_killed_comes_to_another(
    output: Output, handler: str, server: Server, consumers: Consumers, node: Start, log: Path
) -> None:
    make_queue(output, handler)
    process = node()
    send(output, handler, make_event(subject="hangs"))
    eventually(lambda: handled(log) == ["hangs"])
    process.kill()
    got: list[str] = []
    consumers.start(server.url, handler, lambda event: got.append(event.headers.subject))
    eventually(lambda: got == ["hangs"])
    eventually(lambda: output.inspect(handler).drained)


def test_a_refused_password_ends_it_with_the_reason(
    server: Server, handler: str, tmp_path: Path, log: Path
) -> None:
    program = beside_packages(tmp_path) / "program.mjs"
    program.write_text(_PROGRAM)
    scheme, _, rest = server.url.partition("://")
    url = f"{scheme}://nobody:wrong@{rest.rpartition('@')[2]}"
    process = start(program, url, handler, log, POSTHOUSE_SIGNING_KEY=SIGNING_KEY)
    said, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert any(word in said for word in ("WRONGPASS", "ACCESS_REFUSED", "ACCESS-REFUSED"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://127.0.0.1:1", "Cannot find package 'redis'"),
        ("amqp://127.0.0.1:1", "Cannot find package 'amqplib'"),
    ],
)
def test_a_package_that_is_missing_ends_it(url: str, why: str, tmp_path: Path, log: Path) -> None:
    program = beside_packages(tmp_path) / "program.mjs"
    (tmp_path / "node_modules").unlink()
    program.write_text(_PROGRAM)
    process = start(program, url, "tickets", log, POSTHOUSE_SIGNING_KEY=SIGNING_KEY)
    said, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert why in said
