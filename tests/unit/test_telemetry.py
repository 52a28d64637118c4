"""Logs keep their secrets, health tells the truth, and traces cross the queues."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from structlog.contextvars import bound_contextvars

from shared.errors import InvalidInput, NeedsPerson, TryAgain
from shared.mail.facts import read_facts
from shared.mail.region import region
from shared.telemetry import logs, metrics, traces
from shared.telemetry.health import HealthServer, Heartbeat, Readiness


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a service would write; the test session's own logging is put back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("fetcher", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


def _entries(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_no_secret_reaches_a_log_line(lines: io.StringIO) -> None:
    log = structlog.get_logger("services.fetcher")
    log.info(
        "connecting",
        password="hunter2",
        nested={"refresh_token": "hunter2", "list": [{"client_secret": "hunter2"}]},
        url="postgresql://posthouse:hunter2@db/posthouse",
        header="Authorization: Bearer hunter2hunter2",
    )
    logging.getLogger("some.library").warning("dial %s", "amqp://guest:hunter2@broker/")
    try:
        try:
            raise OSError("cannot reach redis://:hunter2@broker")
        except OSError as error:
            raise TryAgain("The broker is away.", hint="Start it.") from error
    except TryAgain:
        log.exception("failed")
    assert "hunter2" not in lines.getvalue()
    assert "posthouse" in lines.getvalue() and "broker" in lines.getvalue()


@pytest.mark.promise("T1")
@pytest.mark.parametrize("form", ["json", "console"])
def test_no_control_of_a_stranger_reaches_a_terminal_by_a_log(form: str) -> None:
    """What a server answers is logged, and a log is read in a terminal."""
    said = "".join(map(chr, (0x1B, 0x07, 0x9B, 0x85, 0x061C, 0x200F, 0x202E, 0x2066)))
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        logs.configure("fetcher", stream=stream, format=form)
        log = structlog.get_logger("services.fetcher")
        log.warning(f"refused{said}!", error=f"NO{said}!", nested={"a": [f"x{said}!"]})
        logging.getLogger("some.library").warning("it said %s", f"y{said}!")
        try:
            raise OSError(f"z{said}!")
        except OSError:
            log.exception("failed")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.captureWarnings(False)
    assert not set(said) & set(stream.getvalue())
    if form == "json":
        (first, _, last) = _entries(stream)
        assert first["error"] == f"NO{said}!", "programs have it as it was"
        assert f"z{said}!" in str(last["exception"])


def test_no_bounce_of_a_stranger_writes_an_error(lines: io.StringIO) -> None:
    """A library looks for the forms of servers, in steps, and fails at what it does not expect."""
    bounce = (
        b"Return-Path: <>\r\nFrom: MAILER-DAEMON@example.org\r\nSubject: failure notice\r\n"
        b"Content-Type: text/plain; charset*=us-ascii''us-ascii\r\n\r\n"
        b"Hi. This is the qmail-send program at example.org.\r\n<a@example.org>:\r\nN\xc3\xb3\r\n"
    )
    facts = read_facts(region(bounce), trusted=(), text_limit=100)
    assert facts.kind == "bounce"
    assert _entries(lines) == []


def test_a_failure_tells_its_whole_chain_its_code_and_its_hint(lines: io.StringIO) -> None:
    try:
        try:
            raise ConnectionResetError("peer hung up")
        except OSError as error:
            raise NeedsPerson("Login refused.", hint="New password.", code="login") from error
    except NeedsPerson:
        structlog.get_logger("x").exception("run failed", connection=7)
    (entry,) = _entries(lines)
    assert entry["code"] == "login" and entry["hint"] == "New password."
    assert "peer hung up" in str(entry["exception"]) and "Login refused" in str(entry["exception"])
    assert entry["service"] == "fetcher" and entry["connection"] == 7


def test_everything_below_a_job_carries_its_correlation_id(lines: io.StringIO) -> None:
    with bound_contextvars(correlation_id=(identifier := logs.correlation_id()), connection=7):
        structlog.get_logger("ours").info("a")
        logging.getLogger("library").error("b")
        with bound_contextvars(correlation_id=logs.correlation_id()):
            structlog.get_logger("ours").info("c")
    structlog.get_logger("ours").info("d")
    *inside, outside = _entries(lines)
    assert [entry["correlation_id"] for entry in inside] == [identifier] * 3
    assert {entry["connection"] for entry in inside} == {7}
    assert "correlation_id" not in outside


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_health_says_stuck_when_the_loop_stops_beating() -> None:
    heartbeat = Heartbeat(stale_after=30)
    with HealthServer("127.0.0.1", 0, heartbeat=heartbeat) as server:
        assert _get(server.port, "/healthz")[0] == 200
        heartbeat._last -= 31
        assert _get(server.port, "/healthz")[0] == 503
        heartbeat.beat()
        assert _get(server.port, "/healthz")[0] == 200


def test_ready_names_the_check_that_fails_and_recovers() -> None:
    broken = True

    def database() -> None:
        if broken:
            raise TryAgain("postgresql://u:hunter2@db does not answer")

    checks = {"database": database, "store": lambda: None}
    with HealthServer("127.0.0.1", 0, checks=checks) as server:
        status, body = _get(server.port, "/readyz")
        assert status == 503
        # No reason and no address: whoever reaches the port may be a stranger.
        assert json.loads(body)["checks"] == {"database": "failing", "store": "ok"}
        broken = False
        assert _get(server.port, "/readyz")[0] == 200


def test_people_are_told_why_a_check_fails_and_what_to_do() -> None:
    def store() -> None:
        raise TryAgain("The store is full.", hint="Make room at s3://k:hunter2@bucket.")

    readiness = Readiness({"store": store})
    (told,) = readiness.failures().values()
    assert told.startswith("The store is full. Make room at ") and "hunter2" not in told
    readiness.close()


def test_a_check_that_hangs_makes_not_ready_and_is_not_piled_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.telemetry.health._CHECK_SECONDS", 0.05)
    release, calls = threading.Event(), []

    def hangs() -> None:
        calls.append(1)
        release.wait(30)

    with HealthServer("127.0.0.1", 0, checks={"broker": hangs}) as server:
        for _ in range(3):
            status, body = _get(server.port, "/readyz")
            assert status == 503 and json.loads(body)["checks"] == {"broker": "failing"}
        assert len(calls) == 1
        release.set()
        assert _get(server.port, "/readyz")[0] == 200


def test_metrics_are_served_and_unknown_paths_are_not() -> None:
    with HealthServer("127.0.0.1", 0) as server:
        metrics.DOWNLOADED_MESSAGES.labels(mode="imap").inc(3)
        status, body = _get(server.port, "/metrics")
        assert status == 200
        assert re.search(r'^posthouse_downloaded_messages_total{mode="imap"} \d+', body, re.M)
        assert _get(server.port, "/elsewhere")[0] == 404


def test_a_taken_health_port_is_a_clear_error() -> None:
    with HealthServer("127.0.0.1", 0) as server, pytest.raises(InvalidInput) as caught:
        HealthServer("127.0.0.1", server.port)
    assert str(server.port) in str(caught.value) and caught.value.field == "health_port"


def test_every_metric_is_described_once_and_has_no_unbounded_label() -> None:
    described = metrics.described()
    names = [metric.name for metric in described]
    assert len(names) == len(set(names))
    assert isinstance(metrics.REGISTRY, CollectorRegistry)
    unbounded = {"connection", "connection_id", "handler", "handler_id", "message", "mailbox"}
    for metric in described:
        assert metric.text.endswith("."), metric
        assert not unbounded & set(metric.labels), metric


def test_a_span_continues_in_the_next_process() -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    with (
        trace.use_span(provider.get_tracer("t").start_span("scheduler"), end_on_exit=True) as first,
    ):
        headers = traces.inject()
    assert f"{first.get_span_context().trace_id:032x}" in headers["traceparent"]
    with traces.span("fetch", headers=headers, connection=7) as second:
        assert second.get_span_context().trace_id == first.get_span_context().trace_id
        with traces.span("store"):  # recorded by nobody here, and handed on all the same
            handed_on = traces.inject()["traceparent"]
        assert handed_on.split("-")[1] == headers["traceparent"].split("-")[1]


def test_a_job_without_a_trace_is_not_searched_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job has a correlation id; where nobody records, a span for it cost 8 µs."""
    from opentelemetry import propagate

    monkeypatch.setattr(propagate, "extract", None)
    with traces.span("decrypt job", headers={"correlation_id": "c-17"}) as span:
        assert not span.get_span_context().is_valid


def test_every_metric_is_counted_somewhere() -> None:
    """A name that nothing counts would be a promise on a dashboard that stays empty."""
    root = Path(__file__).parents[2]
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("services", "shared", "cli")
        for path in (root / folder).rglob("*.py")
        if path != root / "shared" / "telemetry" / "metrics.py"
    )
    defined = [
        name
        for name, value in vars(metrics).items()
        if isinstance(value, (Counter, Gauge, Histogram, Info))
    ]
    assert [n for n in defined if not re.search(rf"metrics\.{n}\b", code)] == []
