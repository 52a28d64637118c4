"""Commands that are made here are those that the library makes."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from shared.queueing.output.base import Publication
from shared.queueing.output.redis_publishing import command, stream_key


@pytest.mark.parametrize("event", [b"", b"{}", b'{"raw":"\r\n$5\r\n"}' * 2000])
@pytest.mark.parametrize("signature", ["", "t=1,v1=ab"])
def test_the_library_makes_the_same_command(event: bytes, signature: str) -> None:
    made = b"".join(command(Publication("archive", event, "1", signature)))
    library: Any = redis.Connection
    wanted = library().pack_command(
        "XADD", stream_key("archive"), "NOMKSTREAM", "*", b"event", event, b"signature", signature
    )
    assert made == b"".join(wanted)
