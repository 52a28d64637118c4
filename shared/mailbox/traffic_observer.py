"""Observes every octet that is sent to servers and comes from them: for the doctor.

    with observed(Observer()) as observer:
        mailbox = open_mailbox(…)
    observer.streams, observer.requests

What is opened inside the block is observed for as long as it lives, in whichever thread. Nothing of
it is ever logged: the octets hold passwords, tokens and mails.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from shared.context_values import ContextValue

#: Octets that are kept of one stream or one answer; what comes behind is counted only.
MOST: Final = 32 << 20


@dataclass(slots=True)
class ObservedStream:
    """One connection in a line protocol: (moment, whether we sent it, octets), in their order.

    Moments are of the monotonic clock. `whole` is False where not all of it was kept.
    """

    events: list[tuple[float, bool, bytes]] = field(default_factory=list)
    octets: int = 0

    @property
    def whole(self) -> bool:
        return self.octets <= MOST

    def sent(self, octets: bytes) -> None:
        self._note(True, octets)

    def received(self, octets: bytes | memoryview) -> None:
        self._note(False, bytes(octets))

    def _note(self, ours: bool, octets: bytes) -> None:
        self.octets += len(octets)
        if self.whole:
            self.events.append((time.monotonic(), ours, octets))


@dataclass(slots=True)
class HttpRequest:
    """A request and its answer; `status` is 0 while none came. Moments are monotonic."""

    method: str
    url: str
    body: bytes
    started: float
    ended: float = 0.0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    answer: bytearray = field(default_factory=bytearray)

    def received(self, octets: bytes) -> None:
        self.ended = time.monotonic()
        if len(self.answer) < MOST:
            self.answer += octets


class Observer:
    """Keeps what was said. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self.streams: list[ObservedStream] = []
        self.requests: list[HttpRequest] = []

    def stream(self) -> ObservedStream:
        """A new connection."""
        stream = ObservedStream()
        with self._mutex:
            self.streams.append(stream)
        return stream

    def request(self, method: str, url: str, body: bytes) -> HttpRequest:
        """A request that goes out now."""
        request = HttpRequest(method, url, body, time.monotonic())
        with self._mutex:
            self.requests.append(request)
        return request


_CURRENT: Final = ContextValue[Observer]("observer")


def current() -> Observer | None:
    """Who observes what is opened now; nobody, as a rule."""
    return _CURRENT.get()


def observed(observer: Observer) -> AbstractContextManager[Observer]:
    """What is opened inside the block is observed."""
    return _CURRENT.bound(observer)
