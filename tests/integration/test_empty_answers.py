"""An answer that is in order and empty, in place of a mail: the original stays, also with delete.

Servers do so whose file of a mail, or its conversion, is empty, and whose storage is away.

For an administrator: as for every mail that a server does not give, the quarantine page, the alert
`mail-quarantined` and `posthouse_quarantined_total{code="mail-refused"}`; where it gives none at
all the connection is failing (test_what_is_told.py looks at both).
"""

from __future__ import annotations

from collections.abc import Callable, Set
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.pop3_rules import RuledPop3, gmail_rules
from tests.servers.scripted import Conversation, ScriptedServer, body_response, imap, read_set

MAILS = [mail(number, 600, seed=41) for number in range(6)]
BY_NUMBER = dict(enumerate(MAILS, 1))


def over_imap(
    empty: Set[int], live: dict[int, bytes] | None = None, nothing: bytes = b""
) -> ScriptedServer:
    live = dict(BY_NUMBER) if live is None else live

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], len(MAILS)) & live.keys()):
            talk.send(body_response(uid, nothing if uid in empty else live[uid]))
        talk.ok(tag)

    return ScriptedServer(imap({"UID FETCH": fetch}, live=live))


def over_pop3(server: RuledPop3, empty: Set[int]) -> RuledPop3:
    server.gives_empty = lambda stored: stored.raw in [BY_NUMBER[number] for number in empty]
    server.deliver("alice", MAILS)
    return server


SERVERS: dict[str, Callable[[Set[int]], AbstractContextManager[Any]]] = {
    "imap": over_imap,
    "line ends over imap": lambda empty: over_imap(empty, nothing=b"\r\n\r\n"),
    "pop3": lambda empty: over_pop3(RuledPop3(pipelining=True), empty),
    "gmail": lambda empty: over_pop3(gmail_rules(), empty),
}


def watch(here: FetcherHere, server: Any, after_download: str = "delete") -> int:
    is_pop3 = isinstance(server, RuledPop3)
    return here.stack.add_connection(
        name="empty",
        mode="pop3" if is_pop3 else "imap",
        host="127.0.0.1",
        port=server.pop3_port if is_pop3 else server.port,
        security="none",
        username="alice",
        after_download=after_download,
    )


@pytest.mark.promise("H4", "M7", "M27")
@pytest.mark.parametrize("kind", SERVERS)
def test_a_mail_that_comes_empty_is_quarantined_and_stays_on_its_server(
    kind: str, here: FetcherHere
) -> None:
    others = [raw for number, raw in BY_NUMBER.items() if number not in {2, 3}]
    with SERVERS[kind]({2, 3}) as server:
        here.run_until_idle(watch(here, server))
        assert here.had() == digests(others)
        if isinstance(server, RuledPop3):
            assert [BY_NUMBER[number] for number in (2, 3)] == server.left("alice")
        else:
            removed = [line for line in server.heard if b"EXPUNGE" in line]
            assert [line.rpartition(b" ")[2] for line in removed] == [b"1,4:6"]
    found = here.stack.query("SELECT code, reason FROM quarantine")
    assert [code for code, _ in found] == ["mail-refused"] * 2
    assert all("gives an empty one" in reason for _, reason in found)


@pytest.mark.promise("M27", "M19")
@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_that_gives_only_empty_mails_is_failing_and_none_is_quarantined(
    kind: str, here: FetcherHere
) -> None:
    with SERVERS[kind](BY_NUMBER.keys()) as server:
        connection = watch(here, server)
        here.run(connection)
        here.run(connection)
        assert here.had() == []
        assert here.stack.count("quarantine") == 0
        ((health, error),) = here.stack.query(
            "SELECT health, error ->> 'message' FROM connection_state"
        )
    assert health == "failing"
    assert "gives an empty one" in error


@pytest.mark.promise("M27", "M19")
@pytest.mark.parametrize("nothing", [b"", b"\r\n\r\n"], ids=["no octet", "line ends"])
def test_an_earlier_mail_that_comes_empty_proves_no_new_one_bad(
    nothing: bytes, here: FetcherHere
) -> None:
    """The storage of the server is away: none is quarantined, and all come once it is back."""
    empty: set[int] = set()
    live = dict(list(BY_NUMBER.items())[:2])
    with over_imap(empty, live, nothing) as server:
        connection = watch(here, server, "mark-read")
        here.run(connection)
        assert here.had() == digests(MAILS[:2])
        live.update(BY_NUMBER)
        empty.update(BY_NUMBER)
        here.run(connection)
        here.run(connection)
        assert here.stack.count("quarantine") == 0
        assert here.stack.query("SELECT health FROM connection_state") == [("failing",)]
        empty.clear()
        here.run_until_idle(connection)
    assert here.had() == digests(MAILS)
