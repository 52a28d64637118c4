"""Every answer by which a Redis or Valkey says that it is not the one to write to any more.

The words are those of the servers' sources, Redis 6.2 to 8 and Valkey 7.2 to 9, in full. The server
here gives each to whoever stays connected, and takes commands of whoever connects anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from posthouse.redis_connection import open_moving_client
from shared.queueing.output import Publication
from shared.queueing.output.open import open_output
from tests.integration.queueing.conftest import event
from tests.servers.scripted import Conversation, ScriptedServer

MOVED_ON = [
    "READONLY You can't write against a read only replica.",
    # Redis 7 names the script behind it, Redis 6 what the script was told.
    "READONLY You can't write against a read only replica. script: 5bc1a1f7, on @user_script:1.",
    "ERR Error running script (call to f_5bc1a1f7): @user_script:1: @user_script: 1: "
    "-READONLY You can't write against a read only replica.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "LOADING Redis is loading the dataset in memory",
    "LOADING Valkey is loading the dataset in memory",
    "CLUSTERDOWN The cluster is down",
    "NOREPLICAS Not enough good replicas to write.",
    "ERR Error running script (call to f_5bc1a1f7): @user_script:1: @user_script: 1: "
    "-NOREPLICAS Not enough good replicas to write.",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
]
#: What is no reason to connect anew.
STAYED = [
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "NOGROUP No such key 'inbox' or consumer group 'handler' in XREADGROUP with GROUP option",
    "OOM command not allowed when used memory > 'maxmemory'.",
]


@contextmanager
def answering(first: str) -> Iterator[tuple[ScriptedServer, list[int]]]:
    """A server whose first connection hears `first` for every write, and whose others do not."""
    connections: list[int] = []

    def script(talk: Conversation) -> None:
        connections.append(len(connections) + 1)
        number = len(connections)
        while header := talk.line():
            words = []
            for _ in range(int(header[1:])):
                words.append(talk.octets(int(talk.line()[1:])))
                talk.octets(2)
            if words[0].upper() == b"HELLO":
                talk.send(b"%1\r\n$5\r\nproto\r\n:" + words[1] + b"\r\n")
            elif words[0].upper() == b"PING":
                talk.send(b"+PONG\r\n")
            elif words[0].upper() == b"CLIENT":
                talk.send(b"+OK\r\n")
            elif number == 1:
                talk.send(b"-" + first.encode() + b"\r\n")
            else:
                talk.send(b"$3\r\n1-1\r\n")

    with ScriptedServer(script) as server:
        yield server, connections


def written(answer: str) -> tuple[bool, int]:
    """Whether the second write succeeds, and over how many connections."""
    with answering(answer) as (server, connections):
        client = open_moving_client(f"redis://127.0.0.1:{server.port}/0", retry=None)
        try:
            with pytest.raises(redis.exceptions.RedisError):
                client.xadd("inbox", {"event": "first"})
            return client.xadd("inbox", {"event": "second"}) == b"1-1", len(connections)
        except redis.exceptions.RedisError:
            return False, len(connections)
        finally:
            client.close()


@pytest.mark.promise("I2")
@pytest.mark.parametrize("answer", MOVED_ON)
def test_who_is_told_that_the_server_moved_on_writes_to_the_new_one(answer: str) -> None:
    assert written(answer) == (True, 2)


@pytest.mark.promise("I2")
@pytest.mark.parametrize("answer", MOVED_ON)
def test_what_is_told_of_it_is_that_the_broker_fails_over(answer: str) -> None:
    with answering(answer) as (server, _):
        output = open_output(f"redis://127.0.0.1:{server.port}/0")
        identifier, body = event()
        (told,) = output.publish([Publication("archive", body, identifier)])
        output.close()
    assert "failed over or is not ready" in str(told)


@pytest.mark.promise("I2")
@pytest.mark.parametrize("answer", STAYED)
def test_any_other_error_costs_no_connection(answer: str) -> None:
    assert written(answer) == (False, 1)
