"""What was said on a connection, taken apart into requests and their answers.

IMAP (RFC 3501 section 2.2): commands have tags, and may be under way at once. POP3 (RFC 1939
section 3): answers come in the order of the commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.mailbox.traffic_observer import ObservedStream

_LITERAL: Final = re.compile(rb"\{(\d{1,20})\+?\}\r?\n\Z")
_TAGGED: Final = re.compile(rb"(P\d+) ")
_STATUS: Final = re.compile(rb"(\S+) +(OK|NO|BAD)\b *(.*)", re.I | re.S)
_MULTI_LINE: Final = re.compile(rb"(CAPA|UIDL|LIST|TOP \d+ \d+|RETR \d+)\r?\n\Z", re.I)


@dataclass(slots=True)
class RecordedExchange:
    """A request and what belongs to it, in order: (whether we sent it, octets).

    Each piece is a line with the literals in it, line ends and all. `ok` is None where no answer
    came. `words` are the server's last ones, `ended` the moment of them (monotonic).
    """

    request: bytes
    started: float
    said: list[tuple[bool, bytes]] = field(default_factory=list)
    ok: bool | None = None
    words: bytes = b""
    ended: float = 0.0

    @property
    def milliseconds(self) -> int:
        return max(0, round((self.ended - self.started) * 1000)) if self.ended else 0


@dataclass(slots=True)
class Session:
    """One connection: what the server said first, then request by request."""

    greeting: bytes = b""
    exchanges: list[RecordedExchange] = field(default_factory=list)


@dataclass(slots=True)
class _Half:
    """One direction of a connection, of which whole pieces are taken."""

    literals: bool
    held: bytearray = field(default_factory=bytearray)

    def pieces(self, octets: bytes) -> Iterator[bytes]:
        self.held += octets
        while (end := self._end()) > 0:
            piece = bytes(self.held[:end])
            del self.held[:end]
            yield piece

    def _end(self) -> int:
        """Behind the first whole line, with the literals in it; 0 where it is not all there."""
        start = 0
        while True:
            at = self.held.find(b"\n", start) + 1
            if not at:
                return 0
            literal = _LITERAL.search(self.held, start, at) if self.literals else None
            if literal is None:
                return at
            start = at + int(literal[1])
            if start > len(self.held):
                return 0


def imap_session(stream: ObservedStream) -> Session:
    """An IMAP connection, command by command."""
    session = Session()
    ours, theirs = _Half(literals=True), _Half(literals=True)
    under_way: dict[bytes, RecordedExchange] = {}
    for moment, sent, octets in stream.events:
        for piece in (ours if sent else theirs).pieces(octets):
            oldest = next(iter(under_way.values()), None)
            if sent:
                tag = _TAGGED.match(piece)
                if tag is not None:
                    exchange = RecordedExchange(piece[tag.end() :], moment)
                    under_way[tag[1]] = exchange
                    session.exchanges.append(exchange)
                elif oldest is not None:  # an answer to a challenge, or the end of IDLE
                    oldest.said.append((True, piece))
                continue
            status = _STATUS.match(piece)
            finished = under_way.pop(status[1], None) if status is not None else None
            if finished is not None and status is not None:
                finished.said.append((False, b"TAG " + piece[len(status[1]) :].lstrip()))
                finished.ok, finished.words = status[2].upper() == b"OK", status[3].strip()
                finished.ended = moment
            elif not session.exchanges and not session.greeting:
                session.greeting = piece
            elif oldest is not None:
                oldest.said.append((False, piece))
    return session


def pop3_session(stream: ObservedStream) -> Session:
    """A POP3 connection, command by command."""
    session = Session()
    ours, theirs = _Half(literals=False), _Half(literals=False)
    waiting: list[RecordedExchange] = []
    listing = False
    for moment, sent, octets in stream.events:
        for piece in (ours if sent else theirs).pieces(octets):
            if sent:
                if waiting and waiting[0].request[:5].upper() == b"AUTH " and waiting[0].said:
                    waiting[0].said.append((True, piece))
                else:
                    exchange = RecordedExchange(piece, moment)
                    waiting.append(exchange)
                    session.exchanges.append(exchange)
                continue
            if not session.exchanges and not session.greeting:
                session.greeting = piece
                continue
            if not waiting:
                continue
            first = waiting[0]
            first.said.append((False, piece))
            if listing:
                done = piece.rstrip(b"\r\n") == b"."
                listing = not done
            elif piece.startswith(b"+ ") or piece.rstrip() == b"+":
                continue
            else:
                first.ok = piece[:3].upper() == b"+OK"
                first.words = piece.partition(b" ")[2].strip()
                listing = first.ok and _MULTI_LINE.match(first.request) is not None
                done = not listing
            if done:
                waiting.pop(0).ended = moment
    return session


def sessions_of(protocol: str, streams: Sequence[ObservedStream]) -> list[Session]:
    """Every connection of one protocol; empty for one that does not speak in lines."""
    split = _SPLITS.get(protocol)
    return [split(stream) for stream in streams] if split else []


_SPLITS: Final = {"imap": imap_session, "pop3": pop3_session}
