"""Ending the work at a mail server from another thread, when nobody waits for it any more.

    with interruptible(Interruption()) as interruption:
        mailbox = open_mailbox(…)
    interruption.interrupt()  # from whichever thread

Every connection that is opened inside the block is shut down by it: what waits for the server
raises SessionLost at once, and the server sees the session end.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from shared.context_values import ContextValue


class Interruption:
    """The open connections of some work. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._interrupted = False

    @property
    def interrupted(self) -> bool:
        return self._interrupted

    def watch(self, connected: socket.socket) -> None:
        """A new connection; ended at once where the work was interrupted already."""
        with self._mutex:
            # A copy, as TLS takes the socket over. A connection lasts until its copy is closed.
            self._sockets.append(connected.dup())
            if self._interrupted:
                self._shut_down()

    def interrupt(self) -> None:
        with self._mutex:
            self._interrupted = True
            self._shut_down()

    def close(self) -> None:
        """The work is over: lets go of its connections."""
        with self._mutex:
            for one in self._sockets:
                one.close()
            self._sockets.clear()

    def _shut_down(self) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):  # the server has closed it
                one.shutdown(socket.SHUT_RDWR)


_CURRENT: Final = ContextValue[Interruption]("interruption")


def watch(connected: socket.socket) -> None:
    """Says that a connection was opened, where somebody may interrupt what it is for."""
    current = _CURRENT.get()
    if current is not None:
        current.watch(connected)


@contextmanager
def interruptible(interruption: Interruption) -> Iterator[Interruption]:
    """What is opened inside the block can be interrupted until its end."""
    with contextlib.closing(interruption), _CURRENT.bound(interruption):
        yield interruption
