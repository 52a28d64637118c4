"""Header blocks of many mails, without their bodies: for finding known mails by their content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from shared.mailbox.base import HEADER_LIMIT, MailRef
from shared.mailbox.errors.throttling import is_passing, is_throttled
from shared.mailbox.imap.search import refusal
from shared.mailbox.imap.sequence_sets import uid_sets
from shared.mailbox.imap.session import ImapSession, Reply, Untagged

#: Mails of one command.
_BATCH_HEADERS = 100


def fetch_headers(session: ImapSession, refs: Sequence[MailRef]) -> Iterator[tuple[MailRef, bytes]]:
    """The header block of each mail that exists, at most HEADER_LIMIT octets of it.

    What a server refuses together is asked for one by one. Raises StepFailed where it throttles, or
    gives none and says that this passes: mails without a header would be taken for new ones.
    """
    items = b" (UID BODY.PEEK[HEADER]<0.%d>)" % HEADER_LIMIT
    for start in range(0, len(refs), _BATCH_HEADERS):
        by_uid = {int(ref.key): ref for ref in refs[start : start + _BATCH_HEADERS]}
        found: list[tuple[MailRef, bytes]] = []

        def take(line: Untagged, by_uid=by_uid, found=found) -> bool:  # type: ignore[no-untyped-def]
            pair = _header_of(line, by_uid) if line.keyword == b"FETCH" else None
            if pair is not None:
                found.append(pair)
                del by_uid[int(pair[0].key)]
            return line.keyword == b"FETCH"

        refused = False
        for octets, _ in uid_sets(sorted(by_uid)):
            refused |= not _ask(session, octets + items, take).ok
        # A server that cuts an answer (RFC 9738) leaves some out: they are asked for by themselves.
        passing: Reply | None = None
        for uid in sorted(by_uid) if found or refused else ():
            reply = _ask(session, b"%d" % uid + items, take)
            words = "" if reply.ok else f"[{reply.code}] {reply.text}"
            if is_throttled(words):
                raise refusal(reply, "list")
            passing = reply if is_passing(words) else passing
        if passing is not None and not found:
            raise refusal(passing, "list")
        yield from found


def _ask(session: ImapSession, asked: bytes, take: Callable[[Untagged], bool]) -> Reply:
    session.stream.start_clock()
    return session.reply(session.send(b"UID FETCH " + asked), on_untagged=take)


def _header_of(line: Untagged, wanted: Mapping[int, MailRef]) -> tuple[MailRef, bytes] | None:
    """The mail and its header block from a FETCH response; None for one about anything else."""
    values = line.values()
    items = values[0] if values and isinstance(values[0], tuple) else ()
    pairs = dict(zip(items[::2], items[1::2], strict=False))
    ref = wanted.get(pairs.get(b"UID", 0))
    names = [name for name in pairs if isinstance(name, bytes) and name[:5].upper() == b"BODY["]
    block = pairs[names[0]] if names else None
    if ref is None or not isinstance(block, bytes):
        return None
    return ref, block[:HEADER_LIMIT]
