"""Where a consumer's events come from: the seam between the consumer and the two brokers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from posthouse.errors import PosthouseError


class SourceLost(PosthouseError):
    """The broker is away, or the queue is missing; try again after `pause_s` seconds."""

    def __init__(self, message: str, pause_s: float = 1.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class AccessRefused(PosthouseError):
    """The broker does not let us in, or not do what a consumer does; waiting does not help."""


@dataclass(frozen=True, slots=True)
class Held:
    """An event that the broker gave us and that is not settled yet.

    `attempt` counts deliveries from 1; `token` is what the broker knows it by; `signature` came
    beside the event (see `posthouse.signing`), empty where none did.
    """

    token: Any
    body: bytes
    attempt: int
    signature: str = ""


class Source(Protocol):
    """One handler's queue. Used by one thread. Every method may raise SourceLost; unless
    `keeps_held`, the broker then gives out again whatever was held."""

    #: The longest that an event may be put off here, in seconds.
    longest_delay_s: float
    #: Whether what is held stays ours when the connection is lost.
    keeps_held: bool

    def receive(self, room: int, wait_s: float) -> list[Held]:
        """Up to `room` events, waiting at most `wait_s` seconds for the first. Call it often,
        with a `room` of 0 too: this is where heartbeats are answered."""
        ...

    def acknowledge(self, done: Sequence[Held]) -> None: ...

    def again(self, held: Held, *, counts: bool) -> Held | None:
        """A delayed event once more, one attempt later if that `counts`; None where the broker
        will give it, and count it."""
        ...

    def dead_letter(self, held: Held, reason: str) -> None:
        """Moves an event to the dead letters."""
        ...

    def keep(self, held: Sequence[Held]) -> None:
        """These are still being worked on."""
        ...

    def give_back(self, held: Sequence[Held]) -> None:
        """These are for another consumer, at once, which begins with their `attempt`."""
        ...

    def close(self) -> None: ...
