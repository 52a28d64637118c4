"""Runs jobs inside a service's own process: no command line, no forks, no global broker."""

from __future__ import annotations

import functools
import heapq
import logging
import queue as queues
import threading
from collections.abc import Callable, Mapping
from typing import Any

import dramatiq
import dramatiq.worker
import structlog

from shared.errors import PosthouseError
from shared.queueing.broker import RabbitmqJobs, RedisJobs
from shared.queueing.job_context import Pulse, restored_context
from shared.telemetry.threads import ThreadEnded

#: How long an idle worker waits at a Redis queue before it looks after itself, in milliseconds.
_IDLE_MS = 500

_log = structlog.get_logger(__name__)


class _TakenJobs(queues.PriorityQueue[Any]):
    """Jobs that a worker's threads wait for until it is `close`d.

    The library's own threads wake up each time that a worker looks after itself, which eight of
    them in an idle decryptor did thirty times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_closed = False

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Raises Empty where nothing is left of a closed queue, whatever `timeout` is."""
        with self.not_empty:
            if block:
                self.not_empty.wait_for(lambda: self.queue or self._is_closed)
            if not self.queue:
                raise queues.Empty
            return heapq.heappop(self.queue)

    def close(self) -> None:
        """Nobody waits any more."""
        with self.not_empty:
            self._is_closed = True
            self.not_empty.notify_all()


def run_worker(
    broker: dramatiq.Broker,
    actors: Mapping[str, Callable[..., None]],
    *,
    queue: str,
    threads: int,
    stop: threading.Event,
    shutdown_timeout_s: float = 25.0,
) -> bool:
    """Works off `queue` with `threads` threads until `stop` is set; True after a clean stop.

    `actors` says which callable runs a job of which name. A job that raises is logged and done
    with: the scheduler finds in Postgres what it left behind. At most `threads` jobs are held at
    a time. The broker may restart or lose everything meanwhile; the worker goes on once it is
    back.

    On `stop` no further job is begun, jobs held but not begun go back to the queue, running ones
    have `shutdown_timeout_s` seconds to end (False where one did not: its broker redelivers it).
    Raises ThreadEnded where a thread that takes or runs jobs died.

    Several queues in one process are several brokers, each with a call of this in its thread.
    """
    assert isinstance(broker, RedisJobs | RabbitmqJobs)
    logging.getLogger("dramatiq").setLevel(logging.ERROR)  # it tells of every single job
    broker.declare_queue(queue)
    for name, function in actors.items():
        declare = dramatiq.actor(actor_name=name, queue_name=queue, broker=broker)
        declare(_guarded(name, function, broker.pulse))
    worker = dramatiq.worker.Worker(
        broker, queues={queue}, worker_threads=threads, worker_timeout=_IDLE_MS
    )
    worker.queue_prefetch = threads
    worker.work_queue = taken = _TakenJobs()
    worker.start()
    _log.info("worker started", queue=queue, threads=threads)
    while not (ended := _ended(worker)) and not stop.wait(1.0):
        pass
    taken.close()
    worker.stop(timeout=int(shutdown_timeout_s * 1000))
    if ended:
        raise ThreadEnded(f"{ended} of the queue {queue} ended; nothing is taken from it any more")
    left = broker.pulse.running_jobs
    _log.info("worker stopped", queue=queue, unfinished=left)
    return not left


def _ended(worker: dramatiq.worker.Worker) -> str:
    """Which kind of thread died, empty where all live."""
    if not all(thread.is_alive() for thread in worker.consumers.values()):
        return "The consumer"
    return "" if all(thread.is_alive() for thread in worker.workers) else "A worker"


def pulse_of(broker: dramatiq.Broker) -> Pulse:
    """The heartbeats of the worker that runs on `broker`."""
    assert isinstance(broker, RedisJobs | RabbitmqJobs)
    return broker.pulse


def _guarded(name: str, function: Callable[..., None], pulse: Pulse) -> Callable[..., None]:
    @functools.wraps(function)
    def run(*args: Any) -> None:
        pulse.job_started()
        try:
            with restored_context(name):
                function(*args)
        except PosthouseError as error:
            _log.warning("job failed", job=name, code=error.code, error=str(error))
        except Exception:  # the job is a hint; the thread goes on
            _log.exception("job failed unexpectedly", job=name)
        finally:
            pulse.job_ended()

    return run
