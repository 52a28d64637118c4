"""The progress of work at a mail server, for somebody who waits for it and may give up.

watch = Watch()
with watched(watch):
    …  # the work calls say("Logged in.")
watch.give_up()  # from another thread
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from shared.context_values import ContextValue
from shared.mailbox.interrupting import Interruption


class Watch:
    """One who waits. Thread-safe."""

    def __init__(self) -> None:
        self._say: Callable[[str], None] | None = None
        self._mutex = threading.Lock()
        self._works: list[Interruption] = []
        self._given_up = False

    def listen(self, say: Callable[[str], None]) -> None:
        """`say` gets what is said from now on, in whichever thread."""
        self._say = say

    @property
    def is_watched(self) -> bool:
        """Whether they see how far it is: then they wait longer than who sees nothing."""
        return self._say is not None

    @property
    def given_up(self) -> bool:
        return self._given_up

    def say(self, text: str) -> None:
        if self._say is not None and not self._given_up:
            self._say(text)

    def begin(self, work: Interruption) -> None:
        """`work` ends when they give up; at once where they have."""
        with self._mutex:
            self._works.append(work)
            given_up = self._given_up
        if given_up:
            work.interrupt()

    def end(self, work: Interruption) -> None:
        with self._mutex:
            self._works.remove(work)

    def give_up(self) -> None:
        with self._mutex:
            self._given_up = True
            works = list(self._works)
        for work in works:
            work.interrupt()


_CURRENT: Final = ContextValue[Watch]("watch")


def current() -> Watch | None:
    """Who waits for what is done now, as far as it is known."""
    return _CURRENT.get()


def say(text: str) -> None:
    """Tells who waits how far the work is."""
    watch = _CURRENT.get()
    if watch is not None:
        watch.say(text)


def watched(watch: Watch) -> AbstractContextManager[Watch]:
    """What is done inside the block is waited for by `watch`."""
    return _CURRENT.bound(watch)
