"""What breaks and answers say of a server that is asked several things at once."""

from __future__ import annotations

import pytest

from shared.mailbox.net import pipelining
from shared.mailbox.net.pipelining import ONE_BY_ONE_S, Pipelining

SERVER = ("mail.example.org", 993)


def test_a_break_with_several_under_way_has_the_next_session_ask_one_by_one() -> None:
    session = Pipelining(SERVER)
    session.sent(1, b"STATUS INBOX (MESSAGES)")
    session.sent(2, b"EXAMINE INBOX")
    session.answered(1, ok=True)
    assert session.broke()
    assert not Pipelining(SERVER).allowed
    assert Pipelining(("other.example.org", 993)).allowed


def test_a_break_with_one_command_under_way_says_nothing() -> None:
    session = Pipelining(SERVER)
    for number in range(3):
        session.sent(number, b"NOOP")
        session.answered(number, ok=True)
    session.sent(3, b"NOOP")
    assert not session.broke()
    assert Pipelining(SERVER).allowed


@pytest.mark.parametrize(("word", "believed"), [(b"UID FETCH 2", True), (b"UID STORE 2", False)])
def test_what_a_server_answered_so_before_is_believed(word: bytes, believed: bool) -> None:
    session = Pipelining(SERVER)
    session.sent(1, b"UID FETCH 1")
    session.sent(2, b"UID FETCH 2")
    session.answered(1, ok=True)
    session.answered(2, ok=True)
    session.sent(3, word)
    session.sent(4, word)
    assert session.broke() is not believed
    assert Pipelining(SERVER).allowed is believed


def test_a_refusal_proves_nothing() -> None:
    session = Pipelining(SERVER)
    session.sent(1, b"RETR 1")
    session.sent(2, b"RETR 2")
    session.answered(1, ok=True)
    session.answered(2, ok=False)
    session.sent(3, b"RETR 3")
    session.sent(4, b"RETR 4")
    assert session.broke()


def test_it_is_tried_again_after_a_while() -> None:
    session = Pipelining(SERVER)
    session.sent(1, b"RETR 1")
    session.sent(2, b"RETR 2")
    session.broke()
    pipelining.KNOWN[SERVER].one_by_one_until -= ONE_BY_ONE_S
    assert Pipelining(SERVER).allowed
