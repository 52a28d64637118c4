"""The streaming reader of bodies: `UID FETCH … (UID BODY.PEEK[])`, straight from the socket.

A parser that builds every response costs several times what the transfer costs and holds whole
mails in memory. Here a literal goes to the sink piece by piece as it comes; several commands are
under way at once, so that a far server costs no round trip a mail. Nothing the server declares is
trusted: not the order of items, not sizes, not that it answers what was asked.
"""

from __future__ import annotations

import re
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from shared.mailbox.base import MailRef, Sink
from shared.mailbox.errors.refused_mails import MailRefused, RefusedMails
from shared.mailbox.failures import mail_too_large, mail_vanished
from shared.mailbox.imap.search import search
from shared.mailbox.imap.session import ImapSession, Reply, uid_sets
from shared.mailbox.net.stream import LARGE_BUFFER, SMALL_BUFFER

#: What nearly every response looks like; anything else takes the patient path.
_BODY = re.compile(rb"\* \d{1,10} FETCH \(UID (\d{1,10}) BODY\[\] \{(\d{1,10})\}\r\n")
_FETCH = re.compile(rb"\* +\d{1,10} +FETCH +\(", re.I)
_NAME = re.compile(rb" *([A-Za-z0-9.\-]+(?:\[[^\]]*\])?(?:<\d*>)?) +")
_LITERAL = re.compile(rb"~?\{(\d{1,20})\+?\}\Z")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.S)
_ATOM = re.compile(rb"[^\s()\"{]+")
_WHOLE_BODY = {b"BODY[]", b"RFC822", b"BODY[]<0>"}
#: Octets and mails of one command, and how many commands are under way.
_BATCH_OCTETS = 4 << 20
_BATCH_MAILS = 512
_AHEAD = 4
_SPOOL = 1 << 20
#: What is read and dropped (mails nobody asked for, too large ones) before the session is given up.
_PATIENCE = 1 << 30


@dataclass(slots=True)
class _Command:
    """A FETCH under way: its tag and the mails it asks for."""

    tag: bytes
    refs: Sequence[MailRef]


class _Malformed(Exception):
    """A FETCH response that does not keep to the grammar; `text` is the line read last."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.text = text


def fetch_bodies(session: ImapSession, refs: Sequence[MailRef], sink: Sink, limit: int) -> None:
    """Streams every mail of `refs` into `sink`; those over `limit` octets are abandoned.

    Raises SessionLost; whatever `sink` raises comes through. In both cases the session is out of
    step and must be closed. What the server refuses is abandoned, and the session goes on.
    """
    wanted: list[MailRef] = []
    for ref in refs:
        if ref.size > limit:
            sink.abandon(ref, mail_too_large(ref.size, limit))
        else:
            wanted.append(ref)
    session.stream.resize(LARGE_BUFFER)
    try:
        _Bodies(session, sink, limit).run(wanted)
    except BaseException:
        session.stream.broken = True
        raise
    finally:
        session.stream.resize(SMALL_BUFFER)
        session.stream.rest()


class _Bodies:
    """One download: what is still expected, and what was said about it."""

    def __init__(self, session: ImapSession, sink: Sink, limit: int) -> None:
        self._session = session
        self._wire = session.stream
        self._sink = sink
        self._limit = limit
        self._expected: dict[int, MailRef] = {}
        self._ended = 0
        self._dropped = 0
        self._missing: list[MailRef] = []
        self._refusals = RefusedMails(sink)
        #: Why a whole command was refused, where that is no single mail's fault.
        self._throttled: MailRefused | None = None
        #: Bodies of the command being read that came without a UID.
        self._unnamed = 0
        #: A response of that command that made no sense, shortened; empty: there was none.
        self._malformed = ""
        #: The only mail asked for, while mails are asked for one by one.
        self._alone: MailRef | None = None

    def run(self, refs: Sequence[MailRef]) -> None:
        again: list[MailRef] = []
        not_asked: list[MailRef] = []
        under_way: deque[_Command] = deque()
        for batch in _batches(refs):
            for octets, members in uid_sets([int(ref.key) for ref in batch]):
                if len(under_way) >= _AHEAD:
                    again += self._finish(under_way.popleft())
                if self._throttled is None:
                    under_way.append(self._ask(octets, members, batch))
                else:
                    chosen = set(members)
                    not_asked += [ref for ref in batch if int(ref.key) in chosen]
        while under_way:
            again += self._finish(under_way.popleft())
        self._one_by_one(again)
        self._explain_missing()
        self._refusals.not_asked(not_asked)

    def _ask(self, octets: bytes, members: Sequence[int], batch: Sequence[MailRef]) -> _Command:
        by_uid = {int(ref.key): ref for ref in batch}
        chosen = [by_uid[uid] for uid in members]
        for ref in chosen:
            self._expected[int(ref.key)] = ref
        return _Command(self._session.send(b"UID FETCH " + octets + b" (UID BODY.PEEK[])"), chosen)

    def _finish(self, command: _Command) -> list[MailRef]:
        """Reads up to the command's end; returns the mails to be asked for one by one."""
        before = self._ended
        reply = self._read(command.tag)
        self._wire.transcript.note(f"{self._ended - before} mails read")
        missing = [ref for ref in command.refs if int(ref.key) in self._expected]
        if reply.ok and not self._unnamed and not self._malformed:
            self._missing += missing
            return []
        if not reply.ok and (reason := _refusal(reply)).throttled:
            self._throttled = reason
        return missing

    def _one_by_one(self, refs: Sequence[MailRef]) -> None:
        """The server refused a whole command, perhaps because of a single mail: find out which."""
        for position, ref in enumerate(refs):
            if self._throttled is not None and not self._refusals.enough:
                self._refuse(ref, self._throttled)
                continue
            if self._refusals.enough:
                for left_out in refs[position:]:
                    self._forget(left_out)
                self._refusals.not_asked(refs[position:])
                break
            self._alone, before = ref, self._ended
            tag = self._session.send(b"UID FETCH %d (UID BODY.PEEK[])" % int(ref.key))
            reply = self._read(tag)
            if self._ended > before:
                self._refusals.given()
            elif int(ref.key) not in self._expected:
                continue  # abandoned: too large, or without content
            elif not reply.ok:
                self._refuse(ref, _refusal(reply))
            elif self._malformed:
                self._refuse(ref, MailRefused(f"its answer is malformed ({self._malformed})"))
            else:
                self._missing.append(ref)
        self._alone = None

    def _refuse(self, ref: MailRef, reason: MailRefused) -> None:
        self._forget(ref)
        self._refusals.refused(ref, reason)

    def _explain_missing(self) -> None:
        """The server said OK and gave no mail: it is gone, or the server only says so."""
        if not self._missing:
            return
        sets = uid_sets(sorted(int(ref.key) for ref in self._missing))
        there = {uid for octets, _ in sets for uid in search(self._session, b"UID " + octets)}
        for ref in self._missing:
            if int(ref.key) in there:
                self._refuse(ref, MailRefused("it lists it, and gives nothing"))
            else:
                self._forget(ref)
                self._sink.abandon(ref, mail_vanished())

    def _forget(self, ref: MailRef) -> None:
        self._expected.pop(int(ref.key), None)

    # ---- reading

    def _read(self, tag: bytes) -> Reply:
        """The hot loop. Whole mails in the buffer go to the sink without a copy."""
        stream, sink, expected, limit = self._wire, self._sink, self._expected, self._limit
        buffer, view, match_body = stream.buffer, stream.view, _BODY.match
        self._unnamed, self._malformed = 0, ""
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
                    size <= limit
                    and uid in expected
                    and stop + 3 <= stream.end
                    and buffer.startswith(b")\r\n", stop)
                ):
                    sink.begin(expected.pop(uid))
                    if size:
                        sink.write(view[start:stop])
                    sink.end()
                    stream.pos = stop + 3
                    self._ended += 1
                    continue
                # The literal is still on its way, or this is no mail to take as it comes.
                del match
                stream.pos = start
                self._literal(uid, size)
                self._items(stream.line(), uid)
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

        A response that makes no sense is left out whole: its mail is asked for again, alone.
        """
        try:
            self._understand(text, uid)
        except _Malformed as error:
            self._malformed = self._malformed or self._wire.transcript.clean(error.text[:80])
            self._wire.transcript.note(f"malformed: {self._malformed}")
            text = error.text
            while (literal := _LITERAL.search(text)) is not None:
                self._drop(int(literal[1]), read=True)
                text = self._wire.line()
                self._drop(len(text))

    def _understand(self, text: bytes, uid: int | None) -> None:
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
                    text, at = self._wire.line(), 0
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
                        self._nothing(uid)
                else:
                    raise _Malformed(text)
            if spooled is not None:
                self._replay(uid, iter(lambda: spooled.read(65536), b""))
            elif body is not None:
                self._replay(uid, [body])
        finally:
            if spooled is not None:
                spooled.close()

    def _literal(self, uid: int | None, size: int) -> None:
        """A body whose mail is known, octet for octet from the stream."""
        ref = self._expected.get(uid) if uid is not None else None
        if ref is None:
            self._drop(size, read=True)
        elif size > self._limit:
            self._forget(ref)
            self._sink.abandon(ref, mail_too_large(size, self._limit))
            self._drop(size, read=True)
        else:
            self._forget(ref)
            self._sink.begin(ref)
            self._wire.copy(size, self._sink.write)
            self._sink.end()
            self._ended += 1

    def _spool(self, size: int) -> IO[bytes] | None:
        """A body that comes before we are told whose it is."""
        if size > self._limit:
            if self._alone is not None:
                self._literal(int(self._alone.key), size)
            else:
                self._unnamed += 1
                self._drop(size, read=True)
            return None
        spooled: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115
        self._wire.copy(size, spooled.write)
        spooled.seek(0)
        return spooled

    def _replay(self, uid: int | None, pieces: Iterable[bytes]) -> None:
        if uid is None and self._alone is not None:
            uid = int(self._alone.key)  # asked for alone: it can be no other
        if uid is None:
            self._unnamed += 1
            return
        ref = self._expected.pop(uid, None)
        if ref is None:
            return
        self._sink.begin(ref)
        for piece in pieces:
            if piece:
                self._sink.write(piece)
        self._sink.end()
        self._ended += 1

    def _nothing(self, uid: int | None) -> None:
        if uid is None and self._alone is not None:
            uid = int(self._alone.key)
        ref = self._expected.pop(uid, None) if uid is not None else None
        if ref is not None:
            self._refusals.refused(ref, MailRefused("it has no content for it"))

    def _skip_list(self, text: bytes, at: int) -> tuple[bytes, int]:
        """Past a parenthesised value, whatever is in it."""
        depth = 0
        while True:
            if (literal := _LITERAL.match(text, at)) is not None:
                self._drop(int(literal[1]), read=True)
                text, at = self._wire.line(), 0
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
        if self._dropped > _PATIENCE:
            raise self._wire.nonsense(f"{size} octets that nobody asked for or can take")
        if read:
            self._wire.copy(size, None)


def _batches(refs: Sequence[MailRef]) -> Iterator[list[MailRef]]:
    batch: list[MailRef] = []
    octets = 0
    for ref in sorted(refs, key=lambda ref: int(ref.key)):
        if batch and (len(batch) >= _BATCH_MAILS or octets + ref.size > _BATCH_OCTETS):
            yield batch
            batch, octets = [], 0
        batch.append(ref)
        octets += ref.size
    if batch:
        yield batch


def _close(text: bytes, at: int) -> int | None:
    """Where the closing parenthesis ends, if it is next."""
    while text[at : at + 1] == b" ":
        at += 1
    return at + 1 if text[at : at + 1] == b")" else None


def _refusal(reply: Reply) -> MailRefused:
    code = f"[{reply.code}] " if reply.code else ""
    return MailRefused(f"{code}{reply.text or reply.status}")
