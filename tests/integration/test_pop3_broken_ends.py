"""A session that breaks right behind a mail: what of the mail is believed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.mailbox.base import MailRef
from shared.mailbox.failures import SessionLost
from tests.integration.test_hostile_pop3 import downloaded
from tests.servers.scripted import Conversation, pop3

#: What came of a mail up to a line of a dot alone.
CAME = b"Subject: one\r\n\r\nbefore\r\n"
REST = b"the rest of it\r\n"


def hang_up(talk: Conversation) -> None:
    talk.hang_up()


def say_the_rest(talk: Conversation) -> None:
    talk.send(REST)
    talk.say_nothing()


@pytest.mark.promise("I1", "H4")
@pytest.mark.parametrize(
    ("listed", "end", "taken"),
    [
        (len(CAME), hang_up, "whole"),
        (len(CAME), say_the_rest, "whole"),
        # Sizes are often counted with other line ends.
        (len(CAME) - CAME.count(b"\r\n"), hang_up, "whole"),
        (len(CAME) - CAME.count(b"\r\n"), say_the_rest, "nothing"),
        # As much is missing as the mail behind the dot would have.
        (len(CAME) + 40, hang_up, "nothing"),
        (len(CAME) + 40, say_the_rest, "mail-cut"),
    ],
)
def test_what_is_believed_of_a_mail_behind_which_the_session_broke(
    listed: int, end: Callable[[Conversation], None], taken: str
) -> None:
    """A mail that was cut is neither handed on, nor is its original deleted after it."""

    def retrieve(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"+OK\r\n" + CAME + b".\r\n")
        end(talk)

    script = pop3({"RETR": retrieve}, mails={1: CAME})
    sink, error = downloaded(script, [MailRef("uidl-1", listed)])
    assert isinstance(error, SessionLost)
    assert sink.mails == ({"uidl-1": CAME} if taken == "whole" else {})
    codes = [reason.code for reason in sink.abandoned.values()]
    assert codes == (["mail-cut"] if taken == "mail-cut" else [])
