"""The threads that a service consists of: none of them may end unnoticed.

A service whose consumer or renewal thread died looks alive and does nothing. So whoever runs
threads here asks `ended` in its loop: the service is then not ready, stops what is left in order,
and fails, so that whatever runs it starts it anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from shared.errors import PosthouseError, TryAgain

_log = structlog.get_logger(__name__)


class ThreadEnded(TryAgain):
    """A thread that has to run as long as its service does not run any more."""

    code = "thread-ended"


class ServiceThreads:
    """Named threads, started together."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._failures: dict[str, str] = {}

    def add(
        self, name: str, work: Callable[..., object], *args: Any, **options: Any
    ) -> threading.Thread:
        """`work` runs until the service is told to stop; whatever it raises is logged."""

        def run() -> None:
            try:
                work(*args, **options)
            except PosthouseError as error:
                self._failures[name] = str(error)
                _log.critical("thread failed", thread=name, error=str(error))
            except BaseException as error:  # the service ends by it
                self._failures[name] = f"{type(error).__name__}: {error}"
                _log.critical("thread failed", thread=name, exc_info=True)

        thread = threading.Thread(target=run, name=name)
        self._threads.append(thread)
        return thread

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, names: Sequence[str] = ()) -> None:
        """Waits for these, or for all."""
        for thread in self._threads:
            if not names or thread.name in names:
                thread.join()

    def ended(self, stop: threading.Event) -> ThreadEnded | None:
        """Says which thread ended before `stop` was set, if one did."""
        found = self._first_ended()
        return None if stop.is_set() else found

    def check(self) -> None:
        """For readiness: raises ThreadEnded."""
        found = self._first_ended()
        if found is not None:
            raise found

    def _first_ended(self) -> ThreadEnded | None:
        for thread in self._threads:
            if thread.ident is not None and not thread.is_alive():
                why = self._failures.get(thread.name, "it returned")
                return ThreadEnded(
                    f"The thread {thread.name} of this service ended: {why}.",
                    hint="The service ends, to be started anew. Its log has the cause.",
                )
        return None
