"""Mails that another client removed while an IMAP server is asked for them, and that it cannot yet
say are gone (RFC 2180 section 4.1.3).

For an administrator: nothing is told, as of any mail that vanished before it was fetched.
"""

from __future__ import annotations

import pytest

from tests.integration.test_hostile_imap import downloaded
from tests.servers.scripted import MAILS, Answer, Conversation, body_response, imap


@pytest.mark.promise("H4")
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("nothing", [b"NIL", b"{0}\r\n", b'""'])
@pytest.mark.parametrize("first", [b"UID 2 BODY[] %s", b"BODY[] %s UID 2"])
def test_a_mail_that_another_client_removed_comes_with_nothing_in_it_and_is_gone(
    first: bytes, nothing: bytes, alone: bool
) -> None:
    """RFC 2180 section 4.1.3: until a server can say that it is gone, it is there and empty."""
    told: list[bytes] = []

    def give(talk: Conversation, tag: bytes, rest: bytes) -> None:
        wanted = [1, 2, 3] if rest.startswith(b"1:3") else [int(rest.split(b" ")[0])]
        if alone and len(wanted) > 1:
            talk.send(tag + b" NO Not all of them\r\n")
            return
        for uid in wanted:
            if uid == 2:
                talk.send(b"* 2 FETCH (" + first % nothing + b")\r\n")
            else:
                talk.send(body_response(uid, MAILS[uid]))
        talk.ok(tag)

    def look(talk: Conversation, tag: bytes, rest: bytes) -> None:
        told.append(rest)
        talk.send(b"* 2 EXPUNGE\r\n")
        talk.ok(tag)

    def find(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* SEARCH\r\n" if told else b"* SEARCH 2\r\n")
        talk.ok(tag)

    answers: dict[str, Answer] = {"UID FETCH": give, "NOOP": look, "UID SEARCH": find}
    sink, error = downloaded(imap(answers))
    assert error is None
    assert set(sink.mails) == {1, 3}
    assert sink.abandoned[2].code == "mail-vanished"
