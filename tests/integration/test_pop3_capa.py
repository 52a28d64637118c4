"""POP3 servers that refuse CAPA, or whose sessions end at it (RFC 2449)."""

from __future__ import annotations

import pytest

from shared.connections import AfterDownload, Mode
from shared.mailbox.base import MailRef
from shared.mailbox.failures import SessionLost
from shared.mailbox.pop3 import capa_breaks
from tests.contract.recorders import Collector
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.scripted import MAILS, Conversation, ScriptedServer, pop3

REFS = [MailRef(f"uidl-{number}", len(raw)) for number, raw in MAILS.items()]
WHOLE = {f"uidl-{number}": raw for number, raw in MAILS.items()}


@pytest.mark.parametrize("refusal", [b"-ERR what?\r\n", b"-ERR what?\r\n.\r\n"])
def test_a_server_that_knows_no_capa(refusal: bytes) -> None:
    """Some end even what they refuse with a dot."""
    sink = Collector()
    with (
        ScriptedServer(pop3({"CAPA": refusal})) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
    ):
        mailbox.open("")
        mailbox.download(REFS, sink, limit=1 << 20)
    assert sink.mails == WHOLE


def hang_up(talk: Conversation, _: bytes, __: bytes) -> None:
    talk.hang_up()


@pytest.mark.promise("H4", "I1")
def test_a_server_whose_sessions_end_at_capa_is_asked_no_more() -> None:
    """What its QUIT confirms is not known then: none is said behind a header that was read."""
    sink = Collector()
    with ScriptedServer(pop3({"CAPA": hang_up})) as server:
        connection = connection_to(server.port, Mode.POP3)
        for _ in range(capa_breaks.BREAKS - 1):
            with pytest.raises(SessionLost), opened(connection):
                pass
        with opened(connection) as mailbox:
            mailbox.open("")
            mailbox.download(REFS, sink, limit=1 << 20)
            mailbox.settle(REFS, AfterDownload.DELETE)
        assert b"QUIT" in server.heard
        server.heard.clear()
        with opened(connection) as mailbox:
            assert len(list(mailbox.headers(REFS))) == len(REFS)
        assert sink.mails == WHOLE
        assert not {b"CAPA", b"QUIT"} & set(server.heard)


def test_a_server_that_ever_answered_capa_is_always_asked() -> None:
    """Of one that says EXPIRE 0 that has to be known."""
    asked: list[Conversation] = []

    def answer_once(talk: Conversation, _: bytes, __: bytes) -> None:
        asked.append(talk)
        if len(asked) > 1:
            talk.hang_up()
        talk.send(b"+OK\r\nEXPIRE 0\r\n.\r\n")

    with ScriptedServer(pop3({"CAPA": answer_once})) as server:
        connection = connection_to(server.port, Mode.POP3)
        with opened(connection):
            pass
        for _ in range(capa_breaks.BREAKS + 1):
            with pytest.raises(SessionLost), opened(connection):
                pass
