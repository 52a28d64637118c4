"""UID SEARCH, with compact answers where the server has ESEARCH (RFC 4731, RFC 9051)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shared.mailbox import diagnosis
from shared.mailbox.base import StepFailed, Unreachable
from shared.mailbox.imap_session import ImapSession, Reply, Untagged, read_set
from shared.mailbox.throttling import stated_delay

_TAG = re.compile(rb'\(TAG "([^"]*)"\)', re.I)
_ALL = re.compile(rb"\bALL ([0-9:,]+)", re.I)
#: A SEARCH answer is one line with every UID: a million of them fit here.
_LONGEST_ANSWER = 8 << 20


def search(session: ImapSession, *criteria: bytes) -> list[int]:
    """The UIDs that match `criteria`, rising."""
    return searches(session, [b" ".join(criteria)])[0]


def searches(session: ImapSession, queries: Sequence[bytes]) -> list[list[int]]:
    """Several searches, in one round trip where answers say what they answer (ESEARCH)."""
    if not {"ESEARCH", "IMAP4REV2"} & session.capabilities:
        # `* SEARCH` names no command, and commands may be answered in any order.
        return [_results(session, [session.send(b"UID SEARCH " + query)])[0] for query in queries]
    session.wire.start_clock()
    return _results(
        session, [session.send(b"UID SEARCH RETURN (ALL) " + query) for query in queries]
    )


def _results(session: ImapSession, tags: Sequence[bytes]) -> list[list[int]]:
    found: dict[bytes, set[int]] = {tag: set() for tag in tags}

    def take(line: Untagged) -> bool:
        if line.keyword not in (b"SEARCH", b"ESEARCH"):
            return False
        session.wire.transcript.received(b"* " + line.keyword + b" " + line.rest[:200])
        try:
            if line.keyword == b"SEARCH":
                words = line.rest.partition(b"(")[0].split()  # (MODSEQ n) may follow
                found[tags[0]].update(map(int, words))
            elif (tag := _TAG.search(line.rest)) is None or tag[1] in found:
                every = _ALL.search(line.rest)
                uids = read_set(every[1]) if every is not None else []
                found[tag[1] if tag is not None else tags[0]].update(uids)
        except ValueError as error:
            raise session.wire.nonsense("a search result that is none") from error
        return True

    for tag in tags:
        session.wire.start_clock()
        reply = session.reply(tag, line_limit=_LONGEST_ANSWER, on_untagged=take)
        if not reply.ok:
            raise refusal(reply, "list")
    return [sorted(found[tag]) for tag in tags]


def refusal(reply: Reply, step: str) -> StepFailed:
    """The error for a command that has no reason to be refused: worth another attempt."""
    text = reply.text or reply.status
    understood = diagnosis.of_command(text, step)
    if understood is not None:
        return understood
    return Unreachable(
        f"The mail server refuses: {text}.",
        step=step,
        code="server-refused",
        retry_after=stated_delay(text),
        hint="If this stays, look at the protocol log and ask those who run the server.",
    )
