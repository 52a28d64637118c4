"""What a server says over HTTP has a time for all of it, however the octets are spread over it."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from shared.errors import TryAgain
from shared.mailbox.graph.http import GraphHttp, judged
from shared.mailbox.net import https
from shared.mailbox.net.request_limits import ProcessLimiter
from shared.mailbox.net.transcript import Transcript
from tests.servers.certificates import Authority
from tests.servers.scripted import Conversation, Script, ScriptedServer

#: Where an answer comes to a halt: everything before it comes at once.
HALTS = {
    "in the status line": b"HTTP/1.1 20",
    "in a header field": b"HTTP/1.1 200 OK\r\nX-Long: ",
    "in a body of known length": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    "in a body until the end": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    "in the size of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
    "in a trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Long: ",
    "in the words of an error": b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n",
}


def asked(talk: Conversation) -> bool:
    """Takes a request; False where there is none any more."""
    while line := talk.line():
        if line.lower().startswith(b"host:"):
            while talk.line():
                pass
            return True
    return False


def trickling(begun: bytes) -> Script:
    """Each octet comes in time; all of them together never would."""

    def script(talk: Conversation) -> None:
        if not asked(talk):
            return
        talk.send(begun)
        for _ in itertools.count():
            talk.send(b"1")
            if talk._stopping.wait(0.02):
                return

    return script


@contextmanager
def graph_over(script: Script, authority: Authority, read_timeout: float) -> Iterator[GraphHttp]:
    """Requests to a Graph that plays a script."""
    identity = authority.issue("localhost", "127.0.0.1")
    with ScriptedServer(script, tls=identity) as server:
        graph = GraphHttp(
            ("localhost", server.port),
            "alice@example.org",
            lambda renew: "token",
            limiter=ProcessLimiter(),
            transcript=Transcript(),
            ca_certificate=authority.pem,
            read_timeout=read_timeout,
            pause_budget=0.0,
        )
        yield graph
        graph.close()


@pytest.fixture
def graph(authority: Authority, request: pytest.FixtureRequest) -> Iterator[GraphHttp]:
    """Over a server that plays the script given as parameter."""
    with graph_over(request.param, authority, read_timeout=0.2) as graph:
        yield graph


@pytest.mark.parametrize("begun", HALTS.values(), ids=list(HALTS))
def test_an_answer_that_trickles_is_given_up(begun: bytes) -> None:
    """With the client that providers, Graph, the login, webhooks and authorities are asked with."""
    with (
        ScriptedServer(trickling(begun)) as server,
        https.client(read=0.2) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.get(f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize(
    "graph", [trickling(begun) for begun in HALTS.values()], ids=list(HALTS), indirect=True
)
def test_a_mail_of_graph_that_trickles_is_given_up(graph: GraphHttp) -> None:
    with pytest.raises(TryAgain) as gone, judged(), graph.stream("/x/$value") as chunks:
        for _ in chunks:
            pass
    assert gone.value.code in ("timeout", "graph-unavailable")


def slow_but_steady(talk: Conversation) -> None:
    """8 KiB in small pieces over more than the time for an answer."""
    assert asked(talk)
    talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8192\r\n\r\n")
    for _ in range(32):
        talk.send(b"m" * 256)
        talk._stopping.wait(0.025)


@pytest.mark.parametrize("graph", [slow_but_steady], indirect=True)
def test_a_large_mail_of_graph_may_take_longer(graph: GraphHttp) -> None:
    with graph.stream("/x/$value") as chunks:
        assert sum(map(len, chunks)) == 8192


BOMB = gzip.compress(b"0" * (100 << 20))


def bomb(status: bytes) -> Script:
    def script(talk: Conversation) -> None:
        while asked(talk):
            talk.send(
                b"HTTP/1.1 " + status + b"\r\nContent-Encoding: gzip\r\n"
                b"Content-Length: %d\r\n\r\n" % len(BOMB) + BOMB
            )

    return script


@pytest.mark.parametrize(
    "graph", [bomb(status) for status in (b"500 No", b"404 No", b"302 Found")], indirect=True
)
def test_an_error_in_place_of_a_mail_is_counted_as_it_unfolds(graph: GraphHttp) -> None:
    """Only what is a mail is streamed to disk; why there is none is read into memory."""
    tracemalloc.start()
    try:
        with pytest.raises(TryAgain), judged(), graph.stream("/x/$value") as chunks:
            for _ in chunks:
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * https.ANSWER_LIMIT
