"""A service one of whose threads ended ends too, so that it is started anew: it looked alive.

For an administrator: `threads` fails in readiness, on the overview and in the alert
`service-failing` (test_what_is_told_of_us.py); here the process ends by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from shared.queueing.job_context import Pulse
from shared.telemetry.threads import ThreadEnded
from tests.rig.stack import Stack
from tests.servers.processes import free_port

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

#: Seconds after which a service that did not end by itself is told to.
LONG = 60.0


class Deadly(Pulse):
    """Ends the thread that takes jobs, as no `except Exception` would notice."""

    def beat(self) -> None:
        raise SystemExit


def build(stack: Stack, service: str) -> Any:
    """As `posthouse run` does."""
    values = {
        name.removeprefix("POSTHOUSE_").lower(): value
        for name, value in stack.environment_of(service).items()
        if name.startswith("POSTHOUSE_")
    }
    kind = getattr(import_module(f"services.{service}.settings"), f"{service.title()}Settings")
    values |= {"health_port": str(free_port()), "port": str(free_port())}
    settings = kind(**{k: v for k, v in values.items() if k in kind.model_fields})
    return import_module(f"services.{service}.main").build(settings)


def run(service: Any) -> None:
    """Raises what the service ends with, unless it has to be told to end."""
    stop = threading.Event()
    told = threading.Timer(LONG, stop.set)
    told.start()
    try:
        service.run(stop)
    finally:
        told.cancel()


@pytest.mark.parametrize(
    ("service", "jobs", "queue"),
    [("decryptor", "jobs", "decrypt"), ("fetcher", "own_jobs", "fetch")],
)
def test_a_consumer_that_ended_ends_its_service(
    service: str, jobs: str, queue: str, broker_url: str, build_stack: Callable[..., Stack]
) -> None:
    built = build(build_stack(broker_url), service)
    getattr(built, jobs).pulse = Deadly()
    with pytest.raises(ThreadEnded, match=rf"The thread {queue}.* ended; nothing is taken"):
        run(built)


def ends(*_: object) -> None:
    raise SystemExit


@pytest.mark.parametrize(
    ("service", "work", "thread"),
    [
        ("decryptor", "services.decryptor.decrypt_job.Claims.run", "claims"),
        ("fetcher", "services.fetcher.lease_renewer.LeaseRenewer.run", "leases"),
        ("fetcher", "shared.mailbox.push_loop.PushLoop._run", "that waits for pushed mails"),
        ("scheduler", "services.scheduler.main.Scheduler._emit", "emit"),
        ("forwarder", "services.forwarder.forward_workers.ForwardWorkers.run", "workers"),
        ("admin", "uvicorn.Server.run", "http"),
        ("admin", "shared.storage.request_limits.PostgresLimiter.run", "requests"),
    ],
)
def test_a_thread_of_its_own_that_ended_ends_the_service(
    service: str,
    work: str,
    thread: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, ends)
    built = build(build_stack(redis_url), service)
    with pytest.raises(ThreadEnded, match=f"The thread {thread} "):
        run(built)
