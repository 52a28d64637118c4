"""How a service starts and stops: signals become an event, and the first line says who runs."""

from __future__ import annotations

import os
import platform
import signal
import threading
from importlib.metadata import PackageNotFoundError, version
from types import FrameType
from typing import Any, Final

import structlog

from shared.telemetry import metrics

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set. A second one ends the process at once.

    For the main thread. Work in hand is finished or given back by whoever waits on the event.
    """
    stop = threading.Event()
    asked = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        # From a thread of its own: this handler interrupts the main thread, which may hold the
        # event's lock at that very moment (it waits on it), and would then wait for itself.
        threading.Thread(target=stop.set, name="stop").start()

    for number in _STOPPING:
        signal.signal(number, on_signal)
    return stop


def banner(service: str, **facts: Any) -> None:
    """Logs that a service has started, its version and what it talks to."""
    metrics.BUILD.info({"version": release(), "service": service})
    log = structlog.get_logger(service)
    log.info(
        "started",
        version=release(),
        python=platform.python_version(),
        pid=os.getpid(),
        **facts,
    )


def release() -> str:
    """The version of Posthouse that runs."""
    try:
        return version("posthouse-server")
    except PackageNotFoundError:
        return "unknown"
