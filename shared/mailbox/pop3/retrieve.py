"""RETR, streamed into a sink, with many commands under way where the server pipelines.

A mail counts as read once the server's next answer is one. RFC 1939 section 3 ends a mail with a
line of a dot alone; a server that does not stuff the dots of a mail ends it at its first such line
and sends the rest where an answer belongs. Its other lines that begin with a dot lose that, which
shows where a second dot is missing, or where exactly the dots removed are missing from the listed
size. Sizes alone prove nothing else: servers list them with other line ends, or rounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.errors import MailFailure
from shared.mailbox.base import MailRef, Sink
from shared.mailbox.errors.refused_mails import MailRefused, RefusedMails
from shared.mailbox.failures import SessionLost, mail_too_large
from shared.mailbox.net.stream import LARGE_BUFFER, SMALL_BUFFER, Stream
from shared.mailbox.pop3.session import Pop3Answer, Pop3Session
from shared.mailbox.pop3.text import DOT, Dots, read_text
from shared.messages import Key
from shared.quantities import counted

_END = b"\r\n.\r\n"
#: How far ahead mails are asked for: octets (as claimed) and commands.
_AHEAD_OCTETS = 4 << 20
_AHEAD_MAILS = 256
#: What is read and dropped of a mail over the limit before the session is given up.
_MOST_DROPPED = 1 << 30


def retrieve(
    session: Pop3Session,
    numbered: Sequence[tuple[int, MailRef]],
    sink: Sink,
    limit: int,
) -> None:
    """Streams the mails with these session numbers into `sink`; abandons those over `limit`."""
    stream = session.stream
    stream.resize(LARGE_BUFFER)
    try:
        _Retrieval(session, sink, limit).run(numbered)
    except BaseException:
        stream.broken = True
        raise
    finally:
        stream.resize(SMALL_BUFFER)
        stream.shrink()


@dataclass(slots=True)
class _Read:
    """A mail of which everything came, up to what the server takes for its end."""

    ref: MailRef
    octets: int
    dots: Dots


class _Retrieval:
    def __init__(self, session: Pop3Session, sink: Sink, limit: int) -> None:
        self._session = session
        self._stream = session.stream
        self._sink = sink
        self._limit = limit
        self._read: _Read | None = None
        self._refusals = RefusedMails(sink)
        #: Asked for by this retrieval and by none before in the session.
        self._first_asked: set[Key] = set()

    def run(self, numbered: Iterable[tuple[int, MailRef]]) -> None:
        wanted: deque[tuple[int, MailRef]] = deque()
        for number, ref in numbered:
            if ref.size > self._limit:
                self._sink.abandon(ref, mail_too_large(ref.size, self._limit))
            else:
                wanted.append((number, ref))
        if not wanted:
            return
        under_way: deque[MailRef] = deque()
        ahead = 0
        pipelining = self._session.pipelining
        most = _AHEAD_MAILS if pipelining else 1
        noop_sent = False
        refusals = self._refusals
        while under_way or (wanted and not refusals.enough):
            commands: list[bytes] = []
            # Refilled in halves, so that commands share packets.
            refill = len(under_way) <= most // 2 and ahead <= _AHEAD_OCTETS // 2
            if refill and not refusals.enough:
                while (
                    wanted and len(under_way) < most and (ahead <= _AHEAD_OCTETS or not under_way)
                ):
                    number, ref = wanted.popleft()
                    under_way.append(ref)
                    ahead += ref.size
                    commands.append(b"RETR %d" % number)
                    # From here on QUIT may confirm that we have it.
                    if ref.key not in self._session.retrieved:
                        self._first_asked.add(ref.key)
                        self._session.retrieved.add(ref.key)
            if commands:
                self._stream.transcript.note(
                    f"RETR of {counted(len(commands), 'mail')}, {commands[0].decode()} …"
                )
                if pipelining and not wanted:
                    commands.append(b"NOOP")  # shows that the last mail ended where it seemed to
                    noop_sent = True
                self._session.send_unnoted(commands)
            ref = under_way.popleft()
            ahead -= ref.size
            self._read_answer(ref)
        if not noop_sent:
            self._session.send_unnoted([b"NOOP"])
        self._stream.start_clock()
        self._next_answer()
        refusals.not_asked(ref for _, ref in wanted)

    def _read_answer(self, ref: MailRef) -> None:
        self._stream.start_clock()
        answer = self._next_answer()
        if answer.ok:
            self._read = self._body(ref)
            self._refusals.mail_came()
            return
        if ref.key in self._first_asked:
            self._session.retrieved.discard(ref.key)
        self._stream.transcript.received(b"-ERR " + answer.words)
        self._refusals.refused(ref, MailRefused(answer.text.strip() or "-ERR"))

    def _next_answer(self) -> Pop3Answer:
        """The next first line, which also tells whether the mail before it was whole."""
        read, self._read = self._read, None
        try:
            answer = self._session.understood(self._session.first_line())
        except SessionLost as error:
            if read is not None:
                self._end_broken(read, error)
            raise
        if read is not None:
            self._end(read)
        return answer

    def _end(self, read: _Read) -> None:
        """A mail of which all came: whole, unless dots were removed that were its own."""
        dots, missing = read.dots, read.ref.size - read.octets
        self._session.stuffs = self._session.stuffs and not dots.single
        if dots.removed and (not self._session.stuffs or missing == dots.removed):
            self._sink.abandon(read.ref, _not_stuffed(dots))
        else:
            self._sink.end()

    def _end_broken(self, read: _Read, error: SessionLost) -> None:
        """The session broke behind a mail: what of the mail is to be believed.

        Of exactly its listed size it is whole. Otherwise it is only where the connection broke, and
        not the protocol, and where nothing is missing. What is neither ended nor abandoned is void.
        """
        size = read.ref.size
        if read.octets == size or (error.code != "protocol-error" and read.octets > size):
            self._end(read)
        elif error.code == "protocol-error" and read.octets < size:
            self._sink.abandon(read.ref, _cut(read))

    def _body(self, ref: MailRef) -> _Read | None:
        """One mail, from behind its +OK line to behind its final dot; None where it is over the
        limit and was abandoned."""
        stream, sink, limit = self._stream, self._sink, self._limit
        sink.begin(ref)
        if _is_answer(stream):
            raise stream.nonsense("an answer where a mail begins")
        start = stream.pos
        stop = stream.buffer.find(_END, start, stream.end)
        if (
            0 <= stop <= start + limit - 2
            and stream.buffer[start] != DOT
            and stream.buffer.find(b"\r\n.", start, stop) < 0
        ):
            # The usual small mail: all of it is here, and nothing in it is stuffed.
            sink.write(stream.view[start : stop + 2])
            stream.pos = stop + 5
            return _Read(ref, stop + 2 - start, Dots())
        left = limit
        dropped = 0

        def give(piece: memoryview) -> None:
            nonlocal left, dropped
            if left < 0:
                dropped += len(piece)
                if dropped > _MOST_DROPPED:
                    raise stream.nonsense("a mail without an end")
                return
            left -= len(piece)
            if left < 0:
                sink.abandon(ref, mail_too_large(ref.size, limit))
            else:
                sink.write(piece)

        dots = read_text(stream, give)
        return _Read(ref, limit - left, dots) if left >= 0 else None


def _is_answer(stream: Stream) -> bool:
    """Whether the mail begins as an answer does, which no header field can (RFC 5322, section 2.2).

    The server, or a proxy in front of it, sent one too many before: it was taken for that of this
    mail, and its own would become the mail's first line.
    """
    while stream.pos == stream.end or (
        stream.end - stream.pos < 4
        and b"+OK".startswith(bytes(stream.view[stream.pos : stream.end]))
    ):
        stream.fill()
    return stream.buffer.startswith((b"+OK ", b"+OK\r"), stream.pos, stream.end)


def _cut(read: _Read) -> MailFailure:
    """The reason to quarantine a mail whose end the server made up."""
    return MailFailure(
        f"The mail server ended this mail after {read.octets} of {read.ref.size} octets and sent "
        "the rest where an answer belongs.",
        code="mail-cut",
        hint="The server does not mark the lines of a mail that are a dot alone (RFC 1939, "
        "section 3). The mail is untouched there: read it with IMAP, or have the server repaired.",
    )


def _not_stuffed(dots: Dots) -> MailFailure:
    """The reason to quarantine a mail whose lines came without the dots that they begin with."""
    return MailFailure(
        "The mail server sends lines that begin with a dot as they are: "
        f"{dots.removed} of this mail would lose it.",
        code="mail-altered",
        hint="The server does not double such dots (RFC 1939, section 3), or counts the second "
        "ones in the size that it lists. The mail is untouched there: read it with IMAP, or have "
        "the server repaired.",
    )
