"""The streaming reader of FETCH responses: a literal goes to the sink piece by piece as it comes.

A parser that builds every response costs several times what the transfer costs and holds whole
mails in memory. Nothing the server declares is trusted: not the order of items, not sizes, not
that it answers what was asked (RFC 9051 section 7.5.2).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from typing import IO

from shared.mailbox.base import MailRef, Sink
from shared.mailbox.errors.refused_mails import MailRefused
from shared.mailbox.failures import mail_too_large
from shared.mailbox.imap.session import ImapSession, Reply

#: What nearly every response looks like; anything else takes the slower way.
_BODY = re.compile(rb"\* \d{1,10} FETCH \(UID (\d{1,10}) BODY\[\] \{(\d{1,10})\}\r\n")
_FETCH = re.compile(rb"\* +\d{1,10} +FETCH +\(", re.I)
_NAME = re.compile(rb" *([A-Za-z0-9.\-]+(?:\[[^\]]*\])?(?:<\d*>)?) +")
_LITERAL = re.compile(rb"~?\{(\d{1,20})\+?\}\Z")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.S)
_ATOM = re.compile(rb"[^\s()\"{]+")
_WHOLE_BODY = {b"BODY[]", b"RFC822", b"BODY[]<0>"}
_SPOOL = 1 << 20
#: What is read and dropped (mails nobody asked for, too large ones) before the session is given up.
_MOST_DROPPED = 1 << 30


class _Malformed(Exception):
    """A FETCH response that does not keep to the grammar; `text` is the line read last."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.text = text


class BodyReader:
    """Reads the responses to one command after the other.

    `expected` are the mails that were asked for and not given yet, by UID. `ended` counts the
    mails that were given. `alone` is the only mail asked for, while mails are asked for one by one:
    a body without a UID can be no other's. `empty` are those that came with nothing in them, each
    with the reason to abandon it, None where its content is in order: what another client removed
    is answered so, too (RFC 2180 section 4.1.3), and has to be looked for.
    """

    def __init__(self, session: ImapSession, sink: Sink, limit: int) -> None:
        self._session = session
        self._stream = session.stream
        self._sink = sink
        self._limit = limit
        self._dropped = 0
        self.expected: dict[int, MailRef] = {}
        self.empty: list[tuple[MailRef, MailRefused | None]] = []
        self.ended = 0
        self.alone: MailRef | None = None
        #: Bodies of the command being read that came without a UID.
        self.unnamed = 0
        #: A response of that command that made no sense, shortened; empty: there was none.
        self.malformed = ""
        #: Its octets came, and what stands behind them is still to come.
        self._unclosed: MailRef | None = None

    def forget(self, ref: MailRef) -> None:
        self.expected.pop(int(ref.key), None)

    def read(self, tag: bytes) -> Reply:
        """The hot loop. Whole mails in the buffer go to the sink without a copy."""
        stream, sink, expected, limit = self._stream, self._sink, self.expected, self._limit
        buffer, view, match_body = stream.buffer, stream.view, _BODY.match
        self.unnamed, self.malformed = 0, ""
        stream.start_clock()
        if (early := self._session.take_finished(tag)) is not None:
            return early
        while True:
            match = match_body(buffer, stream.pos, stream.end)
            if match is not None:
                size = int(match[2])
                start = match.end()
                stop = start + size
                uid = int(match[1])
                if (
                    0 < size <= limit
                    and uid in expected
                    and stop + 3 <= stream.end
                    and buffer.startswith(b")\r\n", stop)
                ):
                    sink.begin(expected.pop(uid))
                    sink.write(view[start:stop])
                    sink.end()
                    stream.pos = stop + 3
                    self.ended += 1
                    continue
                # The literal is still on its way, or this is no mail to take as it comes.
                del match
                stream.pos = start
                self._literal(uid, size)
                self._items(self._line_behind_literal(size), uid)
                continue
            del match
            line = stream.line()
            if line.startswith(b"*"):
                fetch = _FETCH.match(line)
                if fetch is not None:
                    self._items(line[fetch.end() :], None)
                else:
                    self._session.note(self._session.parse(line))
                    self._drop(len(line))
                    stream.transcript.received(line)
            elif not line.startswith(b"+"):
                stream.transcript.received(line)
                self._session.finished(line)
                if (reply := self._session.take_finished(tag)) is not None:
                    return reply

    def _items(self, text: bytes, uid: int | None) -> None:
        """The items of one FETCH response, in any order, from `text` and the lines after it.

        A response that makes no sense is left out whole: its mail is asked for again, alone. So it
        is behind a body: where the server counted fewer octets than it sends, the rest of the mail
        stands there.
        """
        before = len(self.empty)
        try:
            self._msg_att(text, uid)
            if self._unclosed is not None:
                self._unclosed = None
                self._sink.end()
                self.ended += 1
        except _Malformed as error:
            if self._unclosed is not None:
                self.expected[int(self._unclosed.key)] = self._unclosed
                self._unclosed = None
            while len(self.empty) > before:
                ref, _ = self.empty.pop()
                self.expected[int(ref.key)] = ref
            self.malformed = self.malformed or self._stream.transcript.clean(error.text[:80])
            self._stream.transcript.note(f"malformed: {self.malformed}")
            text = error.text
            while (literal := _LITERAL.search(text)) is not None:
                self._drop(int(literal[1]), read=True)
                text = self._stream.line()
                self._drop(len(text))

    def _msg_att(self, text: bytes, uid: int | None) -> None:
        """What stands between the parentheses (`msg-att`, RFC 9051 section 9)."""
        spooled: IO[bytes] | None = None
        body: bytes | None = None
        at = 0
        try:
            while True:
                if (close := _close(text, at)) is not None:
                    if text[close:].strip(b" )"):  # parentheses too many do no harm
                        raise _Malformed(text)
                    break
                name = _NAME.match(text, at)
                if name is None:
                    raise _Malformed(text)
                item, at = name[1].upper(), name.end()
                if (literal := _LITERAL.match(text, at)) is not None:
                    size = int(literal[1])
                    if item in _WHOLE_BODY and uid is None:
                        spooled = self._spool(size)
                    elif item in _WHOLE_BODY:
                        self._literal(uid, size)
                    else:
                        self._drop(size, read=True)
                    text, at = self._line_behind_literal(size), 0
                elif text[at : at + 1] == b"(":
                    text, at = self._skip_list(text, at)
                elif (quoted := _QUOTED.match(text, at)) is not None:
                    at = quoted.end()
                    if item in _WHOLE_BODY:
                        body = re.sub(rb"\\(.)", rb"\1", quoted[1], flags=re.S)
                elif (atom := _ATOM.match(text, at)) is not None:
                    at = atom.end()
                    if item == b"UID" and atom[0].isdigit():
                        uid = int(atom[0][:11])
                    elif item in _WHOLE_BODY and atom[0].upper() == b"NIL":
                        self._nothing(uid, MailRefused("it has no content for it"))
                else:
                    raise _Malformed(text)
            if spooled is not None:
                self._replay(uid, iter(lambda: spooled.read(65536), b""))
            elif body is not None:
                self._replay(uid, [body])
        finally:
            if spooled is not None:
                spooled.close()

    def _line_behind_literal(self, size: int) -> bytes:
        """Some servers send an empty line there (CPython #88574). Where a body of `size` octets is
        shorter than its mail by just that, it is the mail's last line end that was not counted."""
        line = self._stream.line()
        if line:
            return line
        missing = self._unclosed.size - size if self._unclosed is not None else 0
        if missing in (1, 2):
            self._sink.write(b"\r\n"[-missing:])
        return self._stream.line()

    def _literal(self, uid: int | None, size: int) -> None:
        """A body whose mail is known, octet for octet from the stream."""
        ref = self.expected.get(uid) if uid is not None else None
        if ref is None:
            self._drop(size, read=True)
        elif size > self._limit:
            self.forget(ref)
            self._sink.abandon(ref, mail_too_large(size, self._limit))
            self._drop(size, read=True)
        elif not size:
            self._nothing(uid, None)
        else:
            self.forget(ref)
            self._sink.begin(ref)
            self._stream.copy(size, self._sink.write)
            self._unclosed = ref

    def _spool(self, size: int) -> IO[bytes] | None:
        """A body that comes before we are told whose it is."""
        if size > self._limit:
            if self.alone is not None:
                self._literal(int(self.alone.key), size)  # over the limit: it is abandoned
            else:
                self.unnamed += 1
                self._drop(size, read=True)
            return None
        spooled: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115
        self._stream.copy(size, spooled.write)
        spooled.seek(0)
        return spooled

    def _replay(self, uid: int | None, pieces: Iterable[bytes]) -> None:
        if uid is None and self.alone is not None:
            uid = int(self.alone.key)  # asked for alone: it can be no other
        if uid is None:
            self.unnamed += 1
            return
        rest = iter(pieces)
        if not (first := next(rest, b"")):
            self._nothing(uid, None)
            return
        ref = self.expected.pop(uid, None)
        if ref is None:
            return
        self._sink.begin(ref)
        for piece in (first, *rest):
            self._sink.write(piece)
        self._sink.end()
        self.ended += 1

    def _nothing(self, uid: int | None, reason: MailRefused | None) -> None:
        if uid is None and self.alone is not None:
            uid = int(self.alone.key)
        ref = self.expected.pop(uid, None) if uid is not None else None
        if ref is not None:
            self.empty.append((ref, reason))

    def _skip_list(self, text: bytes, at: int) -> tuple[bytes, int]:
        """Past a parenthesised value, whatever is in it."""
        depth = 0
        while True:
            if (literal := _LITERAL.match(text, at)) is not None:
                self._drop(int(literal[1]), read=True)
                text, at = self._stream.line(), 0
                continue
            sign = text[at : at + 1]
            if sign == b'"' and (quoted := _QUOTED.match(text, at)) is not None:
                at = quoted.end()
                continue
            if not sign:
                raise _Malformed(text)
            depth += (sign == b"(") - (sign == b")")
            at += 1
            if depth == 0:
                return text, at

    def _drop(self, size: int, *, read: bool = False) -> None:
        """Octets that nobody wants, up to a bound."""
        self._dropped += size
        if self._dropped > _MOST_DROPPED:
            raise self._stream.nonsense(f"{size} octets that nobody asked for or can take")
        if read:
            self._stream.copy(size, None)


def _close(text: bytes, at: int) -> int | None:
    """Where the closing parenthesis ends, if it is next."""
    while text[at : at + 1] == b" ":
        at += 1
    return at + 1 if text[at : at + 1] == b")" else None
