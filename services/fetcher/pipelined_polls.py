"""Asks many mailboxes at once whether anything has changed: all questions, then all answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import TypeVar

from shared.errors import PosthouseError
from shared.mailbox import wait_budget
from shared.mailbox.base import Cursor, Mailbox, Pollable
from shared.mailbox.wait_budget import WaitBudget

T = TypeVar("T")

#: Seconds for all answers together: a server that takes longer keeps nobody else waiting.
ANSWERS_WITHIN_S = 2.0
#: Seconds for an answer once that is over. All were asked at the start, so most are there by then.
_GLANCE = 0.01
#: Seconds in which a question has to be put: some servers have to be asked something else before.
_ASKING = 0.5


class PollAnswer(Enum):
    UNCHANGED = "nothing has changed since the cursor"
    CHANGED = "something has changed"
    UNASKED = "this kind of mailbox has to be asked in another way"
    BROKEN = "the session broke, or its server keeps us waiting"


def poll_all(
    sessions: Sequence[tuple[T, Mailbox, str, Cursor | None]], within_s: float = ANSWERS_WITHIN_S
) -> Iterator[tuple[T, Mailbox, PollAnswer]]:
    """Each of (whatever, session, folder, cursor) with its answer, in at most `within_s` seconds.

    Never raises; a session that is BROKEN is to be closed.
    """
    asked: list[tuple[T, Mailbox, bool]] = []
    for item, mailbox, folder, cursor in sessions:
        if not isinstance(mailbox, Pollable):
            yield item, mailbox, PollAnswer.UNASKED
            continue
        try:
            with wait_budget.bounded(WaitBudget(_ASKING, octets_a_second=0)):
                mailbox.poll_send(folder, cursor)
            asked.append((item, mailbox, True))
        except PosthouseError:
            asked.append((item, mailbox, False))
    deadline = time.monotonic() + within_s
    for item, mailbox, sent in asked:
        answer = PollAnswer.BROKEN
        if sent and isinstance(mailbox, Pollable):
            try:
                status = mailbox.poll_receive(within=max(deadline - time.monotonic(), _GLANCE))
                answer = PollAnswer.UNCHANGED if status is None else PollAnswer.CHANGED
            except PosthouseError:
                pass  # whoever runs this mailbox next finds out what it is, and tells
        yield item, mailbox, answer
