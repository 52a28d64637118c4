"""RETR, streamed into a sink, with many commands under way where the server pipelines."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from shared.mailbox.base import MailRef, Sink, mail_too_large
from shared.mailbox.pop3_session import Pop3Session
from shared.mailbox.pop3_text import DOT, read_text
from shared.mailbox.refused_mails import MailRefused, RefusedMails
from shared.mailbox.wire import LARGE_BUFFER, SMALL_BUFFER

_END = b"\r\n.\r\n"
#: How far ahead mails are asked for: octets (as claimed) and commands.
_AHEAD_OCTETS = 4 << 20
_AHEAD_MAILS = 256
#: What is read and dropped of a mail over the limit before the session is given up.
_PATIENCE = 1 << 30


def retrieve(
    session: Pop3Session,
    numbered: Sequence[tuple[int, MailRef]],
    sink: Sink,
    limit: int,
) -> None:
    """Streams the mails with these session numbers into `sink`; abandons those over `limit`."""
    wire = session.wire
    wire.resize(LARGE_BUFFER)
    try:
        _retrieve(session, numbered, sink, limit)
    except BaseException:
        wire.broken = True
        raise
    finally:
        wire.resize(SMALL_BUFFER)
        wire.rest()


def _retrieve(
    session: Pop3Session, numbered: Sequence[tuple[int, MailRef]], sink: Sink, limit: int
) -> None:
    wanted: deque[tuple[int, MailRef]] = deque()
    for number, ref in numbered:
        if ref.size > limit:
            sink.abandon(ref, mail_too_large(ref.size, limit))
        else:
            wanted.append((number, ref))
    under_way: deque[MailRef] = deque()
    ahead = 0
    refusals = RefusedMails(sink)
    while under_way or (wanted and not refusals.enough):
        commands: list[bytes] = []
        most = _AHEAD_MAILS if session.pipelining else 1
        # Refilled in halves, so that commands share packets.
        if len(under_way) <= most // 2 and ahead <= _AHEAD_OCTETS // 2 and not refusals.enough:
            while wanted and len(under_way) < most and (ahead <= _AHEAD_OCTETS or not under_way):
                number, ref = wanted.popleft()
                under_way.append(ref)
                ahead += ref.size
                commands.append(b"RETR %d" % number)
        if commands:
            session.wire.transcript.note(f"RETR of {len(commands)} mails, {commands[0].decode()} …")
            session.wire.send(b"".join(command + b"\r\n" for command in commands))
        ref = under_way.popleft()
        ahead -= ref.size
        session.wire.start_clock()
        first = session.wire.line()
        if first[:3].upper() == b"+OK":
            _body(session, ref, sink, limit)
            refusals.given()
        elif first[:4].upper() == b"-ERR":
            session.wire.transcript.received(first)
            text = session.wire.transcript.clean(first[4:]).strip()
            refusals.refused(ref, MailRefused(text or "-ERR"))
        else:
            raise session.wire.nonsense(f"{session.wire.transcript.clean(first[:80])!r}")
    refusals.not_asked(ref for _, ref in wanted)


def _body(session: Pop3Session, ref: MailRef, sink: Sink, limit: int) -> None:
    """One mail, from behind its +OK line to behind its final dot."""
    wire = session.wire
    start = wire.pos
    stop = wire.buffer.find(_END, start, wire.end)
    if (
        0 <= stop <= start + limit - 2
        and wire.buffer[start] != DOT
        and wire.buffer.find(b"\r\n.", start, stop) < 0
    ):
        # The usual small mail: all of it is here, and nothing in it is stuffed.
        sink.begin(ref)
        sink.write(wire.view[start : stop + 2])
        sink.end()
        wire.pos = stop + 5
        return
    sink.begin(ref)
    left = limit
    dropped = 0

    def give(piece: memoryview) -> None:
        nonlocal left, dropped
        if left < 0:
            dropped += len(piece)
            if dropped > _PATIENCE:
                raise wire.nonsense("a mail without an end")
            return
        left -= len(piece)
        if left < 0:
            sink.abandon(ref, mail_too_large(ref.size, limit))
        else:
            sink.write(piece)

    read_text(wire, give)
    if left >= 0:
        sink.end()
