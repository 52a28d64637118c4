"""UID SEARCH, with compact answers where the server has ESEARCH (RFC 4731, RFC 9051).

Servers cut long answers: at a number of results, at a length of the line, or as RFC 9738 has it
(MESSAGELIMIT, which begins with the highest UIDs). So after a long answer, or one that holds less
than the folder's counts promise, it is asked once more below and above what came, until nothing
more comes.

What answers to several searches at once and does not say to which, or counts mails in place of
naming them, is believed in nothing: iCloud announces ESEARCH and does both (MailKit #863, horde's
Imap_Client #17), and Cyrus 2.4 the first. Such a server is asked one by one, without ESEARCH.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from shared.mailbox.errors import server_answers
from shared.mailbox.errors.throttling import stated_delay
from shared.mailbox.failures import Refused, StepFailed, Unreachable
from shared.mailbox.imap.sequence_sets import read_set
from shared.mailbox.imap.session import ImapSession, Reply, Untagged
from shared.quantities import counted

_TAG = re.compile(rb'\(TAG "([^"]*)"\)', re.I)
_ALL = re.compile(rb"\bALL ([0-9:,]+)", re.I)
#: That something was found, in another form than the one that was asked for.
_COUNTED = re.compile(rb"\b(?:COUNT|MIN|MAX) 0*[1-9]", re.I)
#: Cyrus says it without the code of RFC 5530.
_NO_RIGHT = re.compile(r"^permission denied\b", re.I)
#: Shorter answers are cut by no server that is known.
_LONG = 100
#: Seconds that a search may go on while the server tells of its progress.
_LONGEST_SEARCH = 1800.0
#: A SEARCH answer is one line with every UID: a million of them fit here.
_LONGEST_ANSWER = 8 << 20


class Beside(NamedTuple):
    """A command that goes out with searches, where these are sent all at once. What is answered to
    it is `take`n or not, as of `ImapSession.reply`; that it is refused means nothing."""

    command: bytes
    take: Callable[[Untagged], bool]


class _Searched(NamedTuple):
    """The UIDs that were found, by the tag of the search, and how each search ended. Where it does
    not say which are whose, it is not `usable`."""

    uids: Mapping[bytes, set[int]]
    replies: Sequence[Reply]
    usable: bool


def search(session: ImapSession, query: bytes) -> list[int]:
    """The UIDs that match, rising, whatever of the answer the server cuts: for what is decided by
    their absence, such as whether mails of others would be removed together with ours."""
    ((found, cut),) = _answers(session, [query])
    return completed(session, query, found) if found or cut else found


def searches(
    session: ImapSession,
    queries: Sequence[bytes],
    promised: Mapping[bytes, int] | None = None,
    beside: Beside | None = None,
    found: Sequence[list[int]] | None = None,
) -> list[list[int]]:
    """Several searches, in one round trip where answers say what they answer (ESEARCH).

    `promised`: of a query, how many mails there must be, or a few less. `found`: what was answered
    already (`found_ahead`).
    """
    promised = promised or {}
    if found is None:
        answers = _answers(session, queries, beside)
    else:
        answers = [(uids, False) for uids in found]
    return [
        completed(session, query, found)
        if len(found) >= _LONG or cut or len(found) < promised.get(query, 0)
        else found
        for query, (found, cut) in zip(queries, answers, strict=True)
    ]


def send_ahead(
    session: ImapSession, queries: Sequence[bytes], beside: Beside | None
) -> list[bytes]:
    """Sends such searches, where a server has ESEARCH, behind what opens the folder; their tags."""
    return session.send_all([*map(_with_esearch, queries), *([beside.command] if beside else [])])


def found_ahead(
    session: ImapSession, tags: Sequence[bytes], beside: Beside | None
) -> list[list[int]] | None:
    """What was answered to `send_ahead`; None where a search was refused, shortened or answered in
    another form."""
    found = _read(session, tags, beside)
    whole = found.usable and all(reply.ok and not is_limited(reply) for reply in found.replies)
    return [sorted(uids) for uids in found.uids.values()] if whole else None


def names_answers(session: ImapSession) -> bool:
    """Whether each answer says which search it is to, so that several may be under way."""
    return session.names_searches and bool({"ESEARCH", "IMAP4REV2"} & session.capabilities)


def completed(session: ImapSession, query: bytes, found: list[int]) -> list[int]:
    """`found`, and what the server left out below and above it."""
    every = set(found)
    low, high = (min(found), max(found)) if found else (1, 0)
    while True:
        # `*` stands for the last mail, also where that is below the range.
        answers = _answers(session, around(query, low, high))
        more = {uid for part, _ in answers for uid in part} - every
        if not more:
            return sorted(every)
        session.stream.transcript.note(f"a search was cut: {counted(len(more), 'mail')} more")
        every |= more
        low, high = min(every), max(every)


def around(query: bytes, low: int, high: int) -> list[bytes]:
    """The same search above and below the UIDs `low` to `high`."""
    above = b"UID %d:* " % (high + 1) + query
    return [above, b"UID 1:%d " % (low - 1) + query] if low > 1 else [above]


def _answers(
    session: ImapSession, queries: Sequence[bytes], beside: Beside | None = None
) -> list[tuple[list[int], bool]]:
    """What the server answers to each, and whether it says itself that this is not all."""
    if not names_answers(session):
        # `* SEARCH` names no command, and commands may be answered in any order.
        return [_alone(session, query) for query in queries]
    session.stream.start_clock()
    tags = send_ahead(session, queries, beside)
    found = _read(session, tags, beside)
    return _results(found) if found.usable else _answers(session, queries)


def _alone(session: ImapSession, query: bytes) -> tuple[list[int], bool]:
    found = _read(session, [session.send(b"UID SEARCH " + query)])
    if not found.usable:
        raise session.stream.nonsense("how many mails it found in place of which")
    return _results(found)[0]


def _results(found: _Searched) -> list[tuple[list[int], bool]]:
    results = list(zip(found.uids.values(), found.replies, strict=True))
    for uids, reply in results:
        if not reply.ok and not (is_limited(reply) and uids):
            raise refusal(reply, "list")
    return [(sorted(uids), is_limited(reply)) for uids, reply in results]


def _with_esearch(query: bytes) -> bytes:
    return b"UID SEARCH RETURN (ALL) " + query


def _read(session: ImapSession, tags: Sequence[bytes], beside: Beside | None = None) -> _Searched:
    """The answers to searches with these tags, and to what is `beside` them, whose tag is the last.

    Some servers carry them out at the same time: that may be answered between the searches.
    """
    searched = tags[:-1] if beside else tags
    found: dict[bytes, set[int]] = {tag: set() for tag in searched}
    replies: list[Reply] = []
    usable = True
    deadline = time.monotonic() + _LONGEST_SEARCH

    def take(line: Untagged) -> bool:
        nonlocal usable
        if line.keyword == b"OK" and time.monotonic() < deadline:
            session.stream.start_clock()  # `* OK still searching`: it is at work
        if line.keyword not in (b"SEARCH", b"ESEARCH"):
            return beside is not None and beside.take(line)
        session.stream.transcript.received(b"* " + line.keyword + b" " + line.rest[:200])
        named = _TAG.search(line.rest) if line.keyword == b"ESEARCH" else None
        if named is not None and named[1] not in found:
            return True
        uids = _named_by(session, line)
        if uids is None or (named is None and len(searched) > 1):
            session.names_searches = usable = False
        else:
            found[named[1] if named is not None else searched[0]].update(uids)
        return True

    for tag in searched:
        session.stream.start_clock()
        replies.append(session.reply(tag, line_limit=_LONGEST_ANSWER, on_untagged=take))
    if beside is not None:
        session.stream.start_clock()
        session.reply(tags[-1], on_untagged=beside.take)
    return _Searched(found, replies, usable)


def _named_by(session: ImapSession, line: Untagged) -> Sequence[int] | None:
    """The UIDs in an answer; None where it only says that there are some."""
    try:
        if line.keyword == b"SEARCH":
            named = map(int, line.rest.partition(b"(")[0].split())  # (MODSEQ n) may follow
            return [uid for uid in named if uid]  # 0 is no mail's (RFC 9051 section 2.3.1.1)
        every = _ALL.search(line.rest)
        if every is None:
            return None if _COUNTED.search(line.rest) else []
        return read_set(every[1])
    except ValueError as error:
        raise session.stream.nonsense("a search result that is none") from error


def is_limited(reply: Reply) -> bool:
    """Whether the server carried out a command for some of its mails only (RFC 9738)."""
    return reply.code.partition(" ")[0].upper() == "MESSAGELIMIT"


def refusal(reply: Reply, step: str) -> StepFailed:
    """The error for a command that has no reason to be refused: worth another attempt."""
    text = reply.text or reply.status
    understood = server_answers.of_command(text, step)
    if understood is not None:
        return understood
    if reply.code.upper().startswith("NOPERM") or _NO_RIGHT.search(text) is not None:
        return Refused(
            f"The mail server does not let this account do that: {text}.",
            step=step,
            code="no-right",
            hint="The owner of the folder, or an administrator, gives this account the rights to "
            "see it, to read it and to flag mails in it (RFC 4314: l, r, s, w and, to delete, "
            "t and e). It is tried again by itself.",
        )
    return Unreachable(
        f"The mail server refuses: {text}.",
        step=step,
        code="server-refused",
        retry_after=stated_delay(text),
        hint="If this stays, look at the protocol log and ask those who run the server.",
    )
