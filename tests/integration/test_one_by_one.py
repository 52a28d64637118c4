"""Servers that cannot take commands before they have answered the ones before.

POP3 servers announce PIPELINING and hang up at it, every IMAP server is to take several commands,
and filters on the way read one command a packet.

For an administrator: the first run fails with `connection-lost`, the protocol log says that the
server is asked one by one from then on, and all mails come with the next run.
"""

from __future__ import annotations

from select import select

import pytest

from shared.mailbox.imap import download
from shared.mailbox.net import pipelining
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.pop3_rules import RuledPop3
from tests.servers.scripted import Conversation, ScriptedServer, imap

pytestmark = pytest.mark.promise("H4", "I5")

MAILS = [mail(number, 600, seed=64) for number in range(8)]
#: Runs that may fail until it is known of every kind of command.
MOST = 4


class OnePacketOneCommand:
    """What such a server reads of its client: it hangs up where a packet holds more."""

    def __init__(self, talk: Conversation) -> None:
        self._socket = talk._socket
        self._read = b""

    def readline(self) -> bytes:
        while b"\n" not in self._read:
            packet = self._socket.recv(65536)
            if not packet:
                return b""
            self._read += packet
        line, _, more = self._read.partition(b"\n")
        # What is sent ahead in packets of its own comes while this one is looked at.
        if more or select([self._socket], [], [], 0.05)[0]:
            raise ConnectionAbortedError
        self._read = b""
        return line + b"\n"


class HangingUp(RuledPop3):
    def _play(self, talk: Conversation) -> None:
        talk._lines = OnePacketOneCommand(talk)  # type: ignore[assignment]
        super()._play(talk)


def run_until_all_came(here: FetcherHere, connection: int, mails: list[bytes]) -> None:
    for _ in range(MOST):
        here.run(connection)
        if here.had() == digests(mails) and not here.stack.count("settlement"):
            break
    assert here.had() == digests(mails)
    assert here.stack.count("quarantine") == 0
    assert here.stack.count("settlement") == 0


@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
def test_a_pop3_server_that_hangs_up_at_what_it_announces(
    after_download: str, here: FetcherHere
) -> None:
    with HangingUp(pipelining=True) as server:
        server.deliver("alice", MAILS[:6])
        connection = watch(here, server, after_download)
        run_until_all_came(here, connection, MAILS[:6])
        server.deliver("alice", MAILS[6:])
        here.run(connection)
        assert here.had() == digests(MAILS)
        assert server.left("alice") == ([] if after_download == "delete" else MAILS)


@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
def test_an_imap_server_that_hangs_up_at_several_commands(
    after_download: str, here: FetcherHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_BATCH_MAILS", 2)  # several commands for bodies
    live = dict(enumerate(MAILS[:6], 1))
    script = imap(live=live, settles=True)

    def play(talk: Conversation) -> None:
        talk._lines = OnePacketOneCommand(talk)  # type: ignore[assignment]
        script(talk)

    with ScriptedServer(play) as server:
        connection = here.stack.add_connection(
            name="one by one",
            mode="imap",
            host=server.host,
            port=server.port,
            security="none",
            username="alice",
            after_download=after_download,
        )
        run_until_all_came(here, connection, MAILS[:6])
        live.update(enumerate(MAILS[6:], 7))
        here.run(connection)
        assert here.had() == digests(MAILS)
        assert (live == {}) is (after_download == "delete")


def test_a_server_that_answers_several_is_believed_whatever_breaks_later(
    here: FetcherHere,
) -> None:
    with RuledPop3(pipelining=True) as server:
        server.deliver("alice", MAILS[:4])
        connection = watch(here, server, "mark-read")
        here.run(connection)
        server.breaks = lambda stored: stored.raw == MAILS[5]
        server.deliver("alice", MAILS[4:])
        here.run(connection)
        assert pipelining.KNOWN[server.host, server.pop3_port].one_by_one_until == 0
