"""Downloading bodies: `UID FETCH … (UID BODY.PEEK[])`, several commands under way at once.

So a far server costs no round trip a mail. What a server refuses, does not give or garbles is asked
for again alone, so that one bad mail costs no other. The responses are read by
`shared.mailbox.imap.fetch_responses`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.mailbox.base import MailRef, Sink
from shared.mailbox.errors.refused_mails import MailRefused, RefusedMails
from shared.mailbox.failures import SessionLost, StepFailed, mail_too_large, mail_vanished
from shared.mailbox.imap.fetch_responses import BodyReader
from shared.mailbox.imap.search import search
from shared.mailbox.imap.sequence_sets import uid_sets
from shared.mailbox.imap.session import ImapSession, Reply
from shared.mailbox.net.stream import LARGE_BUFFER, SMALL_BUFFER
from shared.quantities import counted

#: Octets and mails of one command, and how many commands are under way.
_BATCH_OCTETS = 4 << 20
_BATCH_MAILS = 512
_AHEAD = 4


@dataclass(slots=True)
class _Command:
    """A FETCH under way: its tag and the mails it asks for."""

    tag: bytes
    refs: Sequence[MailRef]


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
        _Download(session, sink, limit).run(wanted)
    except BaseException:
        session.stream.broken = True
        raise
    finally:
        session.stream.resize(SMALL_BUFFER)
        session.stream.shrink()


class _Download:
    """One download: what is asked for, and what becomes of the mails that were not given."""

    def __init__(self, session: ImapSession, sink: Sink, limit: int) -> None:
        self._session = session
        self._sink = sink
        self._refusals = RefusedMails(sink)
        self._reader = BodyReader(session, sink, limit)
        self._missing: list[MailRef] = []
        #: Why a whole command was refused, where that is no single mail's fault.
        self._throttled: MailRefused | None = None

    def run(self, refs: Sequence[MailRef]) -> None:
        again: list[MailRef] = []
        not_asked: list[MailRef] = []
        under_way: deque[_Command] = deque()
        most = 1 if self._session.one_by_one else _AHEAD
        for batch in _batches(refs):
            for octets, members in uid_sets([int(ref.key) for ref in batch]):
                if len(under_way) >= most:
                    again += self._finish(under_way.popleft())
                if self._throttled is None:
                    under_way.append(self._send(octets, members, batch))
                else:
                    chosen = set(members)
                    not_asked += [ref for ref in batch if int(ref.key) in chosen]
        while under_way:
            again += self._finish(under_way.popleft())
        self._explain_empty()
        self._one_by_one(again)
        self._explain_missing()
        self._refusals.not_asked(not_asked)

    def _send(self, octets: bytes, members: Sequence[int], batch: Sequence[MailRef]) -> _Command:
        by_uid = {int(ref.key): ref for ref in batch}
        chosen = [by_uid[uid] for uid in members]
        for ref in chosen:
            self._reader.expected[int(ref.key)] = ref
        return _Command(self._session.send(b"UID FETCH " + octets + b" (UID BODY.PEEK[])"), chosen)

    def _finish(self, command: _Command) -> list[MailRef]:
        """Reads up to the command's end; returns the mails to be asked for one by one."""
        before = self._reader.ended
        reply = self._reader.read(command.tag)
        self._session.stream.transcript.note(f"{counted(self._reader.ended - before, 'mail')} read")
        missing = [ref for ref in command.refs if int(ref.key) in self._reader.expected]
        if reply.ok and not self._reader.unnamed and not self._reader.malformed:
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
                    self._reader.forget(left_out)
                self._refusals.not_asked(refs[position:])
                break
            self._reader.alone, before = ref, self._reader.ended
            tag = self._session.send(b"UID FETCH %d (UID BODY.PEEK[])" % int(ref.key))
            reply = self._reader.read(tag)
            self._explain_empty()
            if self._reader.ended > before:
                self._refusals.mail_came()
            elif int(ref.key) not in self._reader.expected:
                continue  # abandoned: too large, or without content
            elif not reply.ok:
                reason = _refusal(reply)
                if reason.throttled or self._listed_if_known([ref]):
                    self._refuse(ref, reason)
                else:
                    self._vanish(ref)
            elif self._reader.malformed:
                self._refuse(
                    ref, MailRefused(f"its answer is malformed ({self._reader.malformed})")
                )
            else:
                self._missing.append(ref)
        self._reader.alone = None

    def _refuse(self, ref: MailRef, reason: MailRefused) -> None:
        self._reader.forget(ref)
        self._refusals.refused(ref, reason)

    def _listed(self, refs: Sequence[MailRef]) -> set[int]:
        """The UIDs of those that the folder still has. A server may keep a mail that somebody else
        removed in its answers until it can say so, as it can to NOOP (RFC 2180 section 4.1)."""
        self._session.command(b"NOOP")
        sets = uid_sets(sorted(int(ref.key) for ref in refs))
        return {uid for octets, _ in sets for uid in search(self._session, b"UID " + octets)}

    def _listed_if_known(self, refs: Sequence[MailRef]) -> set[int]:
        """The same of mails that were refused: so is one by some servers that somebody has just
        removed (RFC 2180 section 4.1.2; RFC 5530: EXPUNGEISSUED)."""
        try:
            return self._listed(refs)
        except SessionLost:
            raise
        except StepFailed:  # refused as well: nothing is known of them
            return {int(ref.key) for ref in refs}

    def _vanish(self, ref: MailRef) -> None:
        self._reader.forget(ref)
        self._sink.abandon(ref, mail_vanished())

    def _explain_empty(self) -> None:
        """The server gave mails with nothing in them: they are gone, or it has them like that."""
        if not (empty := self._reader.empty):
            return
        self._reader.empty = []
        there = self._listed_if_known([ref for ref, _ in empty])
        for ref, reason in empty:
            if int(ref.key) not in there:
                self._vanish(ref)
            elif reason is not None:
                self._refuse(ref, reason)
            else:
                self._sink.begin(ref)
                self._sink.end()
                self._reader.ended += 1

    def _explain_missing(self) -> None:
        """The server said OK and gave no mail: it is gone, or the server only says so."""
        if not self._missing:
            return
        there = self._listed(self._missing)
        for ref in self._missing:
            if int(ref.key) in there:
                self._refuse(ref, MailRefused("it lists it, and gives nothing"))
            else:
                self._vanish(ref)


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


def _refusal(reply: Reply) -> MailRefused:
    code = f"[{reply.code}] " if reply.code else ""
    return MailRefused(f"{code}{reply.text or reply.status}")
