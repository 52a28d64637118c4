"""UID SEARCH, with compact answers where the server has ESEARCH (RFC 4731, RFC 9051)."""

from __future__ import annotations

from collections.abc import Sequence

from shared.mailbox.base import Unreachable
from shared.mailbox.imap_session import ImapSession, Reply, Untagged, read_set

#: A SEARCH answer is one line with every UID: two million of them fit here.
_LONGEST_ANSWER = 16 << 20


def search(session: ImapSession, *criteria: bytes) -> list[int]:
    """The UIDs that match `criteria`, rising."""
    return searches(session, [b" ".join(criteria)])[0]


def searches(session: ImapSession, queries: Sequence[bytes]) -> list[list[int]]:
    """Several searches in one round trip."""
    extended = bool({"ESEARCH", "IMAP4REV2"} & session.capabilities)
    command = b"UID SEARCH RETURN (ALL) " if extended else b"UID SEARCH "
    session.wire.start_clock()
    tags = [session.send(command + query) for query in queries]
    return [_answer(session, tag) for tag in tags]


def _answer(session: ImapSession, tag: bytes) -> list[int]:
    found: set[int] = set()

    def take(line: Untagged) -> bool:
        if line.keyword not in (b"SEARCH", b"ESEARCH"):
            return False
        rest = line.rest.partition(b"(MODSEQ")[0] if line.keyword == b"SEARCH" else line.rest
        session.wire.transcript.received(b"* " + line.keyword + b" " + rest[:200])
        try:
            if line.keyword == b"SEARCH":
                found.update(int(word) for word in rest.split())
            else:
                words = rest.split()
                upper = [word.upper() for word in words]
                if b"ALL" in upper:
                    found.update(read_set(words[upper.index(b"ALL") + 1]))
        except (ValueError, IndexError) as error:
            raise session.wire.nonsense("a search result that is none") from error
        return True

    session.wire.start_clock()
    reply = session.reply(tag, line_limit=_LONGEST_ANSWER, on_untagged=take)
    if not reply.ok:
        raise refusal(reply, "list")
    return sorted(found)


def refusal(reply: Reply, step: str) -> Unreachable:
    """The error for a command that has no reason to be refused: worth another attempt."""
    text = reply.text or reply.status
    if "authenticated but not connected" in text.lower():
        return Unreachable(
            f"The mail server let us log in, but not to the mailbox: {text}.",
            step="authorisation",
            code="authenticated-not-connected",
            hint="Check that the account may open this mailbox and that IMAP is on for it.",
        )
    return Unreachable(
        f"The mail server refuses: {text}.",
        step=step,
        code="server-refused",
        hint="If this stays, look at the protocol log and ask those who run the server.",
    )
