"""One IMAP session: commands out, responses in (RFC 3501, RFC 9051).

Bounded in every direction, so that a hostile server can neither fill the memory nor hold a worker.
Knows the protocol's grammar; what the commands mean for a mailbox is in `imap` and its siblings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from imapclient.exceptions import ProtocolError
from imapclient.response_parser import parse_response

from shared.mailbox.errors.throttling import is_passing, is_throttled, stated_delay
from shared.mailbox.failures import SessionLost
from shared.mailbox.net.stream import LINE_LIMIT, Stream
from shared.mailbox.net.transcript import Transcript

_TAGGED = re.compile(rb"(\S+) +(OK|NO|BAD)\b *(?:\[([^\]\r\n]*)\])? *(.*)", re.I | re.S)
_UNTAGGED = re.compile(rb"\* +(?:(\d{1,10}) +)?([A-Za-z][A-Za-z0-9._-]*) *", re.I)
_LITERAL = re.compile(rb"\{(\d{1,20})\+?\}\Z")
_PLAIN = re.compile(rb"[ !#-\[\]-~]*\Z")
_QUOTABLE = re.compile(rb"[ -~]*\Z")
#: Small literals (folder names) are read into memory up to this; all of one command: _REPLY.
_SMALL_LITERAL = 1 << 20
_REPLY = 48 << 20
_EARLY = 1000
_FREE_TEXT = {b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"}

#: A response that held literals: (line up to the marker, literal)…, rest; as imapclient takes it.
Parts = tuple[Any, ...]


@dataclass(slots=True)
class Untagged:
    """`* number KEYWORD rest`; `parts` is `rest`, with literals where there are any."""

    number: int | None
    keyword: bytes
    parts: Parts

    @property
    def rest(self) -> bytes:
        """The text after the keyword where there is no literal in it."""
        last = self.parts[-1]
        return last if isinstance(last, bytes) else b""

    def values(self) -> tuple[Any, ...]:
        """The rest as nested tuples of bytes, ints and None; empty where it makes no sense."""
        try:
            return tuple(parse_response(list(self.parts)))
        except (ProtocolError, ValueError, RecursionError, AssertionError, StopIteration):
            return ()


@dataclass(slots=True)
class Reply:
    """How a command ended: `status` is OK, NO or BAD; `code` what stood in brackets."""

    status: str
    code: str
    words: bytes
    transcript: Transcript
    untagged: list[Untagged] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What the server says to people."""
        return self.transcript.clean(self.words)

    @property
    def ok(self) -> bool:
        return self.status == "OK"

    def of(self, keyword: bytes) -> list[Untagged]:
        return [line for line in self.untagged if line.keyword == keyword]

    def codes(self) -> dict[str, str]:
        """Every response code of this reply, `UIDVALIDITY` → `17`; the tagged one last."""
        found: dict[str, str] = {}
        for line in self.untagged:
            if line.keyword == b"OK" and line.rest.startswith(b"["):
                inside = line.rest[1:].partition(b"]")[0].decode("ascii", "replace")
                found[inside.partition(" ")[0].upper()] = inside.partition(" ")[2]
        if self.code:
            found[self.code.partition(" ")[0].upper()] = self.code.partition(" ")[2]
        return found


class ImapSession:
    """Sends commands and reads their replies, in order; several may be under way at once."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.capabilities: frozenset[str] = frozenset()
        self.greeting = ""
        self.farewell = ""
        #: How a password could be given before the login, the best way first.
        self.login_ways: tuple[str, ...] = ()
        #: False once answers to searches did not say to which, though the server announces that.
        self.names_searches = True
        self._count = 0
        #: A server may finish commands in another order (RFC 3501 section 5.5).
        self._under_way: set[bytes] = set()
        self._finished: dict[bytes, Reply] = {}
        #: Untagged responses that came while a command waited for leave to send a literal, and are
        #: of no command that has ended.
        self._early: list[Untagged] = []

    # ---- sending

    def next_tag(self) -> bytes:
        self._count += 1
        tag = b"P%d" % self._count
        self._under_way.add(tag)
        return tag

    def send(self, command: bytes, *, shown: bytes | None = None, more: bool = False) -> bytes:
        """Sends one command without literals; returns its tag. `shown` replaces secrets; it goes
        with what is sent next where `more` comes at once."""
        tag = self.next_tag()
        self._begin(tag, command)
        self.stream.transcript.sent(tag + b" " + (shown or command))
        self.stream.send(tag + b" " + command + b"\r\n", more=more and not self.one_by_one)
        return tag

    @property
    def one_by_one(self) -> bool:
        """Whether the server is to have answered each command before the next one is sent."""
        return not self.stream.pipelining.allowed

    def _begin(self, tag: bytes, command: bytes) -> None:
        """Before a command is sent: where it may not overlap with others, these are waited for."""
        for other in self._under_way - {tag} if self.one_by_one else ():
            self.stream.start_clock()
            self._finished[other] = self.reply(other)
        self.stream.pipelining.sent(tag, command)

    def send_all(self, commands: Sequence[bytes]) -> list[bytes]:
        """Sends several commands in one go; returns their tags."""
        last = len(commands) - 1
        return [self.send(command, more=n < last) for n, command in enumerate(commands)]

    def command(
        self,
        *pieces: bytes | Literal,
        shown: bytes | None = None,
        line_limit: int = LINE_LIMIT,
        tag: bytes | None = None,
    ) -> Reply:
        """Sends a command, with literals where needed, and waits for its end."""
        self.stream.start_clock()
        tag = self.begin(*pieces, shown=shown, tag=tag)
        return self.reply(tag, line_limit=line_limit)

    def waits_for(self, piece: bytes | Literal) -> bool:
        """Whether the server has to ask for it before it is sent (RFC 7888: LITERAL+, LITERAL-)."""
        if not isinstance(piece, Literal) or "LITERAL+" in self.capabilities:
            return False
        return "LITERAL-" not in self.capabilities or len(piece.octets) > 4096

    def begin(
        self,
        *pieces: bytes | Literal,
        shown: bytes | None = None,
        tag: bytes | None = None,
        more: bool = False,
    ) -> bytes:
        """Sends a command, with literals where needed; returns its tag. `more` as of `send`.

        Others may be under way: what the server says of them before it wants a literal is kept.
        """
        tag = tag or self.next_tag()
        plain = b"".join(
            piece.for_transcript() if isinstance(piece, Literal) else piece for piece in pieces
        )
        self._begin(tag, plain)
        self.stream.transcript.sent(tag + b" " + (shown or plain))
        out = bytearray(tag + b" ")
        for piece in pieces:
            if not isinstance(piece, Literal):
                out += piece
            elif not self.waits_for(piece):
                out += b"{%d+}\r\n" % len(piece.octets) + piece.octets
            else:
                out += b"{%d}\r\n" % len(piece.octets)
                self.stream.send(bytes(out))
                if not self._await_continuation(tag):
                    return tag  # refused: its reply is there already
                out = bytearray(piece.octets)
        self.stream.send(bytes(out) + b"\r\n", more=more and not self.one_by_one)
        return tag

    def _await_continuation(self, tag: bytes) -> bool:
        """False where the command ended in place of being continued."""
        while True:
            line = self.stream.line()
            if line.startswith(b"*"):
                self._early.append(self._taken(line))
                if len(self._early) > _EARLY:
                    raise self.stream.nonsense("an answer without an end")
                continue
            self.stream.transcript.received(line)
            if line.startswith(b"+"):
                return True
            ended = self.finished(line)
            self._finished[ended].untagged, self._early = self._early, []
            if ended == tag:
                return False

    # ---- receiving

    def reply(
        self,
        tag: bytes,
        *,
        line_limit: int = LINE_LIMIT,
        on_untagged: Callable[[Untagged], bool] | None = None,
    ) -> Reply:
        """Reads up to the end of the command `tag`.

        `on_untagged` sees each untagged response first and says whether it took it.
        """
        ended = self._finished.get(tag)
        if ended is not None:
            early = ended.untagged
        else:
            early, self._early = self._early, []
        kept = [line for line in early if on_untagged is None or not on_untagged(line)]
        size = 0
        while (reply := self._finished.pop(tag, None)) is None:
            line = self.stream.line(line_limit)
            size += len(line) + 1
            if size > _REPLY:
                raise self.stream.nonsense("an answer without an end")
            if not line.startswith(b"*"):
                self.stream.transcript.received(line)
                if not line.startswith(b"+"):
                    self.finished(line)
                continue
            untagged = self.parse(line)
            if len(untagged.parts) > 1:
                size += sum(len(part[1]) for part in untagged.parts[:-1])
            if on_untagged is not None and on_untagged(untagged):
                continue
            self.stream.transcript.received(line)
            self.note(untagged)
            kept.append(untagged)
        reply.untagged = kept
        return reply

    def _taken(self, line: bytes) -> Untagged:
        self.stream.transcript.received(line)
        untagged = self.parse(line)
        self.note(untagged)
        return untagged

    def finished(self, line: bytes) -> bytes:
        """Takes the tagged line that ends a command; returns the tag."""
        match = _TAGGED.match(line)
        if match is None or match[1] not in self._under_way:
            raise self.stream.nonsense(f"{self.stream.transcript.clean(line[:80])!r} out of place")
        self._under_way.discard(match[1])
        self.stream.pipelining.answered(match[1], ok=match[2].upper() == b"OK")
        self._finished[match[1]] = Reply(
            match[2].decode().upper(),
            (match[3] or b"").decode("ascii", "replace").strip(),
            match[4],
            self.stream.transcript,
        )
        return match[1]

    def take_finished(self, tag: bytes) -> Reply | None:
        """The reply to `tag` if its end was read already."""
        return self._finished.pop(tag, None)

    def tagged(self, line: bytes, tag: bytes) -> Reply:
        """The reply from the tagged line of `tag`, while nothing else is under way."""
        if self.finished(line) != tag:
            raise self.stream.nonsense(f"{self.stream.transcript.clean(line[:80])!r} out of place")
        return self._finished.pop(tag)

    def parse(self, line: bytes) -> Untagged:
        """An untagged line, with the literals that follow it read from the stream."""
        match = _UNTAGGED.match(line)
        if match is None:
            raise self.stream.nonsense(f"{self.stream.transcript.clean(line[:80])!r}")
        keyword = match[2].upper()
        rest = line[match.end() :]
        number = int(match[1]) if match[1] else None
        if keyword in _FREE_TEXT or rest[-1:] != b"}":  # the end of a literal's announcement
            return Untagged(number, keyword, (rest,))
        parts: list[Any] = []
        held = 0
        while (literal := _LITERAL.search(rest)) is not None:
            size = int(literal[1])
            held += size
            if held > _SMALL_LITERAL or len(parts) > 1000:
                raise self.stream.nonsense(f"a literal of {size} octets out of place")
            parts.append((rest, self.stream.take(size)))
            rest = self.stream.line()
            if not rest and keyword == b"FETCH" and parts[0][0].startswith(b"("):
                rest = self.stream.line()  # as behind a body (`fetch_responses`)
        return Untagged(number, keyword, (*parts, rest))

    def note(self, untagged: Untagged) -> None:
        """Keeps what any response may tell at any time."""
        if untagged.keyword == b"CAPABILITY":
            self.learn(untagged.rest)
        elif untagged.keyword == b"BYE":
            self.farewell = self.stream.transcript.clean(untagged.rest)

    def learn(self, words: bytes) -> None:
        """Takes the words of a CAPABILITY response."""
        self.capabilities = _capabilities(words)

    def lost(self, error: SessionLost) -> SessionLost:
        """The same error with the server's own last words, where it had any."""
        if self.farewell and error.code == "connection-lost":
            lost = SessionLost(
                f"The mail server ended the session: {self.farewell}",
                retry_after=stated_delay(self.farewell),
                by_server=True,
                throttled=is_throttled(self.farewell),
                passing=is_passing(self.farewell),
            )
            lost.__cause__ = error
            return lost
        return error


@lru_cache(maxsize=64)
def _capabilities(words: bytes) -> frozenset[str]:
    """One set for all sessions at a server: each is 4 kB, and thousands are kept open."""
    names = words.decode("ascii", "replace").upper().split()
    return frozenset(name[:60] for name in names[:300])


@dataclass(frozen=True, slots=True)
class Literal:
    """A string that cannot be quoted (8-bit, line breaks, NUL)."""

    octets: bytes
    secret: bool = False

    def for_transcript(self) -> bytes:
        return b"***" if self.secret else self.octets


def string(text: str | bytes) -> bytes | Literal:
    """An IMAP string: quoted where the grammar allows it, else a literal."""
    octets = text.encode() if isinstance(text, str) else text
    if _PLAIN.match(octets):
        return b'"' + octets + b'"'
    if _QUOTABLE.match(octets):
        return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return Literal(octets)
