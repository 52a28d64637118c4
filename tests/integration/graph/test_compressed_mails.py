"""A mail that comes compressed and is cut, or is no such stream, is not taken for the mail."""

from __future__ import annotations

import gzip

import pytest

from shared.errors import TryAgain
from shared.mailbox.graph.http import judged
from tests.integration.test_slow_answers import asked, graph_over
from tests.servers.certificates import Authority
from tests.servers.scripted import Conversation

MAIL = b"Subject: whole\r\n\r\n" + b"".join(b"line %d\r\n" % n for n in range(20_000))
PACKED = gzip.compress(MAIL)
BROKEN = PACKED[: len(PACKED) // 2] + b"\0" * 40 + PACKED[len(PACKED) // 2 + 40 :]


@pytest.mark.promise("I1")
@pytest.mark.parametrize(
    ("sent", "whole"),
    [(PACKED, True), (PACKED[:-9], False), (PACKED[:5], False), (BROKEN, False)],
    ids=["whole", "cut at its end", "cut in its head", "broken"],
)
def test_what_is_no_whole_stream_is_no_mail(sent: bytes, whole: bool, authority: Authority) -> None:
    """Its original would be deleted after it. The length that is announced is what came."""

    def script(talk: Conversation) -> None:
        while asked(talk):
            head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
            talk.send(head % len(sent) + sent)

    with graph_over(script, authority, read_timeout=5.0) as graph:
        if whole:
            with graph.stream("/x/$value") as chunks:
                assert b"".join(chunks) == MAIL
            return
        with pytest.raises(TryAgain) as gone, judged(), graph.stream("/x/$value") as chunks:
            for _ in chunks:
                pass
        assert gone.value.code == "broken-off"
