"""Servers that end sessions by a rule of their own, at whatever mail: none of the mails is bad.

For an administrator: runs fail with the server's words as long as it ends sessions where only such
mails are left; nothing is in quarantine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.scripted import Conversation, ScriptedServer, body_response, imap, read_set

BOX = {uid: mail(uid, 600, seed=99) for uid in range(1, 10)}


@pytest.mark.promise("M27", "M1")
@pytest.mark.parametrize("most", [1, 2])
def test_a_server_that_gives_few_mails_a_session_makes_no_mail_a_bad_one(
    most: int, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Each breaks a session once, alone, and comes in another one. So the next that breaks one
    twice proves nothing yet."""
    asked: Counter[Conversation] = Counter()

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        asked[talk] += 1
        if asked[talk] > most:
            talk.send(b"* BYE Autologout; idle for too long\r\n")
            talk.hang_up()
        for uid in sorted(read_set(rest.split(b" ")[0], max(BOX)) & BOX.keys()):
            talk.send(body_response(uid, BOX[uid]))
        talk.ok(tag)

    stack = build_stack(redis_url, batch_mails="2")
    stack.add_handler()
    with (
        ScriptedServer(imap({"UID FETCH": fetch}, mails=BOX)) as server,
        FetcherHere(stack).working() as here,
    ):
        connection = stack.add_plain_connection(server.port, name="few", mode="imap")
        for _ in range(8):
            here.run(connection)
        assert stack.query("SELECT reason FROM quarantine") == []
        assert here.had() == digests([*BOX.values()])
