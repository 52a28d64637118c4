"""IMAP servers that count fewer octets of a mail than they send.

So one does that counts lines to end with one octet and sends two. What it counted is not the mail:
the rest stands where its answer should end. It is left on the server whole.

For an administrator: as in test_breaking_mails.py, where one mail is so; where all are, the
connection is failing.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.scripted import Conversation, Script, ScriptedServer, imap, read_set

pytestmark = pytest.mark.promise("M7", "H4")

MAILS = {uid: mail(uid, 600, seed=65) for uid in range(1, 7)}


def one_octet_a_line_end(raw: bytes) -> int:
    return len(raw.replace(b"\r\n", b"\n"))


def all_but_its_last_lines(raw: bytes) -> int:
    return raw.rindex(b"\r\n", 0, len(raw) - 60) + 2


def miscounting(bad: set[int], count: Callable[[bytes], int], live: dict[int, bytes]) -> Script:
    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], max(MAILS)) & live.keys()):
            size = count(live[uid]) if uid in bad else len(live[uid])
            answer = b"* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n"
            talk.send(answer % (uid, uid, size, live[uid]))
        talk.ok(tag)

    return imap({"UID FETCH": fetch}, live=live)


def watch(here: FetcherHere, server: ScriptedServer) -> int:
    return here.stack.add_connection(
        name="miscounting",
        mode="imap",
        host=server.host,
        port=server.port,
        security="none",
        username="alice",
        after_download="delete",
    )


@pytest.mark.parametrize("count", [one_octet_a_line_end, all_but_its_last_lines])
@pytest.mark.parametrize("bad", [3, 6])
def test_a_mail_is_not_cut_and_deleted(
    bad: int, count: Callable[[bytes], int], here: FetcherHere
) -> None:
    live = dict(MAILS)
    with ScriptedServer(miscounting({bad}, count, live)) as server:
        connection = watch(here, server)
        for _ in range(6):
            here.run(connection)
    assert here.had() == digests([raw for uid, raw in MAILS.items() if uid != bad])
    assert live == {bad: MAILS[bad]}
    ((code,),) = here.stack.query("SELECT code FROM quarantine")
    assert code == "breaks-session"


@pytest.mark.parametrize("octets", [1, 2])
def test_a_last_line_end_that_was_not_counted_is_part_of_the_mail(
    octets: int, here: FetcherHere
) -> None:
    live = dict(MAILS)
    with ScriptedServer(miscounting({*MAILS}, lambda raw: len(raw) - octets, live)) as server:
        connection = watch(here, server)
        here.run(connection)
    assert (here.had(), live) == (digests([*MAILS.values()]), {})


@pytest.mark.parametrize("order", ["UID first", "UID behind"])
def test_an_empty_line_behind_a_mail_is_no_part_of_it(order: str, here: FetcherHere) -> None:
    """Some servers send one behind each literal (CPython #88574)."""
    live = dict(MAILS)

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], max(MAILS)) & live.keys()):
            named, body = b"UID %d" % uid, b"BODY[] {%d}\r\n%s\r\n" % (len(live[uid]), live[uid])
            items = named + b" " + body if order == "UID first" else body + b" " + named
            talk.send(b"* %d FETCH (%s)\r\n" % (uid, items))
        talk.ok(tag)

    with ScriptedServer(imap({"UID FETCH": fetch}, live=live)) as server:
        connection = watch(here, server)
        here.run(connection)
    assert (here.had(), live) == (digests([*MAILS.values()]), {})


def test_a_server_that_miscounts_all_mails_is_failing(here: FetcherHere) -> None:
    live = dict(MAILS)
    with ScriptedServer(miscounting({*MAILS}, one_octet_a_line_end, live)) as server:
        connection = watch(here, server)
        for _ in range(4):
            here.run(connection)
    assert (here.had(), live) == ([], MAILS)
    ((health,),) = here.stack.query("SELECT health FROM connection_state")
    assert health == "failing"
