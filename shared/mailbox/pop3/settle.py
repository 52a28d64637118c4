"""What makes a POP3 server let go of mails that are safe here. Nothing of it counts before QUIT."""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import PosthouseError
from shared.mailbox.base import MailRef
from shared.mailbox.errors import server_answers
from shared.mailbox.failures import StepFailed
from shared.mailbox.pop3.retrieve import retrieve
from shared.mailbox.pop3.session import Pop3Session

#: No mail is too large to be dropped.
_ANY_SIZE = 1 << 62


def mark_deleted(session: Pop3Session, numbered: Sequence[tuple[int, MailRef]]) -> list[MailRef]:
    """DELE for each; those that the server took. Raises StepFailed with the server's words where it
    took none."""
    answers = list(session.commands([b"DELE %d" % number for number, _ in numbered]))
    marked = [ref for (_, ref), answer in zip(numbered, answers, strict=True) if answer.ok]
    if answers and not marked:
        raise server_answers.of_settling(answers[0].text)
    return marked


def retrieve_again(session: Pop3Session, numbered: Sequence[tuple[int, MailRef]]) -> list[MailRef]:
    """RETR for those not retrieved in this session, for a server that lets go of what was (EXPIRE
    0): an earlier session was closed without QUIT, so they are still listed, and on Gmail they
    stand before the new ones. Deleting them could do more than was asked for. Returns those that
    QUIT will confirm.
    """
    done = {ref.key for _, ref in numbered if ref.key in session.retrieved}
    again = [(number, ref) for number, ref in numbered if ref.key not in done]
    dropping = _Dropping()
    retrieve(session, again, dropping, _ANY_SIZE)
    return [ref for _, ref in numbered if ref.key in done or ref.key in dropping.ended]


def confirm(session: Pop3Session) -> StepFailed | None:
    """QUIT, which lets the server carry out what it was told. What it means where the server says
    that it did not, with some or all, nobody knows which (RFC 1939 section 6)."""
    ended = session.command(b"QUIT")
    return None if ended.ok else server_answers.of_settling(ended.text)


class _Dropping:
    """A sink for mails that are had already."""

    def __init__(self) -> None:
        self.ended: set[object] = set()
        self._ref: MailRef | None = None

    def begin(self, ref: MailRef) -> None:
        self._ref = ref

    def write(self, chunk: bytes | memoryview) -> None:
        pass

    def end(self) -> None:
        if self._ref is not None:
            self.ended.add(self._ref.key)

    def abandon(self, ref: MailRef, reason: PosthouseError) -> None:
        pass
