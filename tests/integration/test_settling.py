"""What is safe here and still to be told to its server is told until the server agrees."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.rig.house import House
from tests.servers.scripted import MAILS, Conversation, ScriptedServer, pop3


@pytest.mark.promise("M7")
def test_a_deletion_that_the_server_refused_is_asked_for_again(
    redis_url: str, build_house: Callable[..., House]
) -> None:
    asked: list[bytes] = []

    def refuse_at_first(talk: Conversation, _: bytes, number: bytes) -> None:
        asked.append(number)
        talk.send(b"-ERR not now\r\n" if len(asked) <= len(MAILS) else b"+OK\r\n")

    house = build_house(redis_url)
    house.add_handler()
    with ScriptedServer(pop3({"DELE": refuse_at_first})) as server:
        house.start("scheduler", "fetcher", "decryptor")
        connection = house.add_connection(
            name="poor",
            mode="pop3",
            host="127.0.0.1",
            port=server.port,
            security="none",
            username="alice",
            after_download="delete",
        )
        house.wait(lambda: house.count("delivery") == len(MAILS), "every mail is delivered")
        house.wait(
            lambda: house.query("SELECT failures FROM connection_state") == [(1,)], "it was refused"
        )
        assert house.count("settlement") == len(MAILS)
        house.run_once(connection)
        house.wait_settled(len(MAILS))
        house.stop()
    assert house.count("delivery") == len(MAILS)
    assert set(asked[len(MAILS) :]) == {b"%d" % number for number in MAILS}
