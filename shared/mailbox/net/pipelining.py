"""Which mail servers answer commands that come before the ones before them are answered.

RFC 9051 section 5.5 has every IMAP server do so, RFC 2449 section 6.6 each POP3 server that
announces PIPELINING. Some close the connection then (POP3 of o2.pl, MailKit #174), mix up their
answers (WildDuck before #950, Twisted #9282), or sit behind a filter that reads one command a
packet. Where a session broke as several commands were under way, and the server never answered such
a command in that situation, it is asked one by one for a while. What it did answer so is believed,
whatever breaks later.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

#: Seconds that a server is asked one by one.
ONE_BY_ONE_S: Final = 3600.0


@dataclass(slots=True)
class _PipelinedServer:
    """Until when (monotonic clock) it is asked one by one, and which commands it answered that were
    sent while others were under way."""

    one_by_one_until: float = 0.0
    answers: set[bytes] = field(default_factory=set)


#: By host and port, for this process.
KNOWN: Final[dict[tuple[str, int], _PipelinedServer]] = {}


class Pipelining:
    """What one session may send ahead, and what it finds out about its server (None: nothing is
    kept in mind)."""

    def __init__(self, server: tuple[str, int] | None = None) -> None:
        self._server = (
            _PipelinedServer() if server is None else KNOWN.setdefault(server, _PipelinedServer())
        )
        #: Commands under way: the word of each that was sent while others were, else nothing.
        self._under_way: dict[Hashable, bytes] = {}
        self.allowed = self._server.one_by_one_until <= time.monotonic()

    def sent(self, tag: Hashable, command: bytes) -> None:
        self._under_way[tag] = _word(command) if self._under_way else b""

    def answered(self, tag: Hashable, *, ok: bool) -> None:
        word = self._under_way.pop(tag, b"")
        if word and ok:
            self._server.answers.add(word)

    def broke(self) -> bool:
        """The session broke; whether its server is asked one by one from now on."""
        unproved = {word for word in self._under_way.values() if word} - self._server.answers
        self._under_way.clear()
        if unproved:
            self._server.one_by_one_until = time.monotonic() + ONE_BY_ONE_S
        return bool(unproved)


def _word(command: bytes) -> bytes:
    """`RETR`, `STATUS`, `UID FETCH`."""
    first, _, rest = command.partition(b" ")
    return first if first != b"UID" else first + b" " + rest.partition(b" ")[0]
