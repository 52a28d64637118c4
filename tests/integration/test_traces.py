"""A mail's way through all services is one trace; a collector that is away is nobody's trouble."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.request import urlopen

import pytest

from tests.rig.mails import mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.collector import collector
from tests.servers.dovecot import Dovecot
from tests.servers.processes import free_port

STEPS = {
    "posthouse-scheduler": {"schedule"},
    "posthouse-fetcher": {
        "fetch job",
        "session",
        "list",
        "download",
        "keep",
        "store",
        "commit",
        "settle",
    },
    "posthouse-decryptor": {"decrypt job", "claim", "decrypt", "publish"},
}


def test_a_mails_way_is_one_trace_from_the_scheduler_to_the_event(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mails = [mail(number, 3000) for number in range(3)]
    dovecot.deliver(mail_user, mails)
    with collector() as told:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", told.address)
        stack = build_stack(redis_url)
        stack.add_handler()
        stack.start("scheduler", "fetcher", "decryptor")
        connection = stack.watch(dovecot, mail_user, after_download="mark-read")
        stack.wait_settled(len(mails))
        stack.stop()
    events = open_queue(redis_url, "archive").events()
    (trace,) = {event["traceparent"].split("-")[1] for event in events}
    spans = [span for span in told.spans if span.trace == trace]
    found: dict[str, set[str]] = {}
    for span in spans:
        found.setdefault(span.service, set()).add(span.name)
    assert found == STEPS
    (root,) = [span for span in spans if not span.parent]
    assert root.name == "schedule"
    assert {span.parent for span in spans} - {""} <= {span.id for span in spans}
    by_name = {span.name: span.attributes for span in spans}
    octets = sum(len(one) for one in mails)
    for name in ("download", "store", "commit", "settle"):
        assert by_name[name]["posthouse.connection"] == connection
        assert by_name[name]["posthouse.mails"] == len(mails)
    assert by_name["store"]["posthouse.octets"] == by_name["decrypt"]["posthouse.octets"] == octets
    (parent,) = {event["traceparent"].split("-")[2] for event in events}
    assert [span.name for span in spans if span.id == parent] == ["publish"]
    for service, words in (("fetcher", "run finished"), ("decryptor", "events published")):
        lines = [json.loads(line) for line in stack.log_of(service).read_text().splitlines()]
        assert trace in {line.get("trace_id") for line in lines if line["message"] == words}


def test_probes_and_scrapes_make_no_trace(
    redis_url: str, build_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with collector() as told:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", told.address)
        stack = build_stack(redis_url, health_port=str(port))
        stack.start("decryptor")

        def is_ready() -> bool:
            try:
                return all(
                    urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).status == 200
                    for path in ("/healthz", "/readyz", "/metrics")
                )
            except OSError:
                return False

        stack.wait(is_ready, "the decryptor is ready")
        stack.stop()
    assert told.spans == []


def test_a_collector_that_hangs_delays_no_stop(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It never answers, and the exporter would wait for ten minutes."""
    dovecot.deliver(mail_user, [mail(1, 2000)])
    with collector() as told:
        told.answers.clear()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", told.address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
        stack = build_stack(redis_url)
        stack.add_handler()
        stack.start("scheduler", "fetcher", "decryptor")
        stack.watch(dovecot, mail_user)
        stack.wait_settled(1)
        assert told.asked.wait(60)
        for process in stack.processes:
            process.terminate()
        for process in stack.processes:
            process.wait(20)  # the exporter itself would wait half a minute
        assert not told.answers.is_set()
